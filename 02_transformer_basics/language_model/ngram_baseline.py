"""A 5-gram model of bytes: what can be foretold from the four bytes before, and the least a language model must beat.

It counts how often every sequence of five bytes stands in the training text. What was never seen is left to the
sequences of four, three, two bytes and one, by interpolated Kneser-Ney smoothing: a discount is taken off every count,
and what that frees goes to the next shorter sequence, which is counted by how many different bytes precede it.

Shapes: N bytes of a text, K different sequences.

Source: Chen and Goodman 1999, "An empirical study of smoothing techniques for language modeling", section 2.7.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Integers = NDArray[np.int64]


def sequences(text: bytes, order: int) -> Integers:
    """The `order` bytes that end at every place of `text`, as one number: (N,); before the text there are zeros."""
    values = np.frombuffer(text, dtype=np.uint8).astype(np.int64)  # (N,)
    numbers = values.copy()
    for back in range(1, order):
        numbers[back:] += values[:-back] << (8 * back)
    return numbers


@dataclass(frozen=True)
class Counts:
    """Sequences of one length, sorted (K,), and how often each was found; the same for what stands before their end."""

    sequences: Integers
    counts: Integers
    histories: Integers
    totals: Integers  # of the counts with this history
    followers: Integers  # different bytes that were found after this history

    @classmethod
    def of(cls, found: Integers) -> "Counts":
        """Count numbers from `sequences`."""
        numbers, counts = np.unique(found, return_counts=True)  # (K,), (K,)
        histories, first = np.unique(numbers >> 8, return_index=True)
        followers = np.diff(np.append(first, len(numbers)))
        return cls(numbers, counts, histories, np.add.reduceat(counts, first), followers)

    def discount(self) -> float:
        """What is taken off every count, estimated from those that are 1 and 2."""
        once, twice = ((self.counts == count).sum() for count in (1, 2))
        return float(once / (once + 2 * twice)) if once else 0.5


def look_up(keys: Integers, values: Integers, wanted: Integers) -> Integers:
    """The values (K,) of those of `keys` (K,), sorted, that equal `wanted` (N,), 0 where none does: (N,)."""
    places = np.searchsorted(keys, wanted).clip(max=len(keys) - 1)
    return np.where(keys[places] == wanted, values[places], 0)


def bits_of_texts(training: bytes, texts: list[bytes], order: int = 5) -> list[float]:
    """Bits that a model of `training`, of sequences of `order` bytes, needs for each of `texts`, none of them empty."""
    probabilities = [np.full(len(text), 1 / 256) for text in texts]  # (N,) each: of the byte that is there
    levels = [Counts.of(sequences(training, order))]
    for length in range(order - 1, 0, -1):  # eq. 24: one for each different sequence that is longer by a byte in front
        levels.append(Counts.of(levels[-1].sequences & ((1 << 8 * length) - 1)))
    for length, level in enumerate(reversed(levels), 1):
        discount = level.discount()
        for number, text in enumerate(texts):
            wanted = sequences(text, length)
            counts = look_up(level.sequences, level.counts, wanted)
            totals = look_up(level.histories, level.totals, wanted >> 8)
            freed = discount * look_up(level.histories, level.followers, wanted >> 8)
            mixed = (np.maximum(counts - discount, 0) + freed * probabilities[number]) / np.maximum(totals, 1)  # eq. 23
            probabilities[number] = np.where(totals > 0, mixed, probabilities[number])
    return [float(-np.log(each).sum() / math.log(2)) for each in probabilities]
