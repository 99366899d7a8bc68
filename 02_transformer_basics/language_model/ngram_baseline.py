"""A 5-gram model of bytes, the baseline of the language model: it predicts a byte from the four before it.

It counts how often every sequence of five bytes (5-gram) occurs in the training text, and smooths the counts by
interpolated Kneser-Ney: a discount is taken off every count, and the probability that this frees goes to the next
shorter n-gram. Shorter n-grams are counted by the number of different bytes that precede them.

Shapes: N bytes of a text, K different n-grams, H different histories (n-grams without their last byte).

Source: Chen and Goodman 1999, "An empirical study of smoothing techniques for language modeling", section 2.7.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Integers = NDArray[np.int64]


def ngrams(text: bytes, order: int) -> Integers:
    """Return the n-gram of `order` bytes that ends at each byte, as a number: (N,); before the text come zeros."""
    values = np.frombuffer(text, dtype=np.uint8)  # (N,)
    numbers = np.zeros((len(values), 8), np.uint8)  # (N, 8): the bytes of each number, the lowest first
    for back in range(order):
        numbers[back:, back] = values[: max(len(values) - back, 0)]
    return numbers.view("<i8").ravel()  # (N, 8) -> (N,)


@dataclass(frozen=True)
class NGramCounts:
    """Counts of the n-grams of one order, and of their histories."""

    ngrams: Integers  # (K,), sorted
    counts: Integers  # (K,)
    histories: Integers  # (H,), sorted
    totals: Integers  # (H,), sum of the counts with this history
    followers: Integers  # (H,), number of different bytes that follow this history

    @classmethod
    def of(cls, occurrences: Integers) -> "NGramCounts":
        """Count n-grams (N,) from `ngrams`, which are sorted in place: of a long text a copy takes much memory."""
        occurrences.sort()
        changes = np.flatnonzero(occurrences[1:] != occurrences[:-1])  # (K - 1,)
        starts = np.append(0, changes + 1)  # (K - 1,) -> (K,)
        numbers = occurrences[starts]  # (N,) -> (K,)
        counts = np.diff(starts, append=len(occurrences))  # (K,)
        histories, first = np.unique(numbers >> 8, return_index=True)  # (H,), (H,)
        followers = np.diff(np.append(first, len(numbers)))  # (H,)
        totals = np.add.reduceat(counts, first)  # (K,) -> (H,)
        return cls(numbers, counts, histories, totals, followers)

    def discount(self) -> float:
        """Return the discount, estimated from the numbers of n-grams that occur once and twice."""
        once = (self.counts == 1).sum()
        twice = (self.counts == 2).sum()
        return float(once / (once + 2 * twice)) if once else 0.5


def look_up(keys: Integers, values: Integers, queries: Integers) -> Integers:
    """Return the value (N,) of each query (N,) in sorted keys (K,) with values (K,); 0 where there is no such key."""
    positions = np.searchsorted(keys, queries).clip(max=len(keys) - 1)  # (N,)
    return np.where(keys[positions] == queries, values[positions], 0)


def kneser_ney_bits(training: bytes, texts: list[bytes], order: int = 5) -> list[float]:
    """Return the bits that an n-gram model of `training` needs for each of `texts`, none of them empty."""
    levels = [NGramCounts.of(ngrams(training, order))]
    for length in range(order - 1, 0, -1):  # eq. 24: a shorter n-gram counts once per different byte before it
        suffixes = levels[-1].ngrams & ((1 << 8 * length) - 1)
        levels.append(NGramCounts.of(suffixes))
    probabilities = [np.full(len(text), 1 / 256) for text in texts]  # (N,) each: of the byte that occurs
    for length, level in enumerate(reversed(levels), 1):
        discount = level.discount()
        for index, text in enumerate(texts):
            queries = ngrams(text, length)  # (N,)
            counts = look_up(level.ngrams, level.counts, queries)
            totals = look_up(level.histories, level.totals, queries >> 8)
            freed = discount * look_up(level.histories, level.followers, queries >> 8)
            smoothed = np.maximum(counts - discount, 0) + freed * probabilities[index]
            interpolated = smoothed / np.maximum(totals, 1)  # eq. 23
            probabilities[index] = np.where(totals > 0, interpolated, probabilities[index])
    return [float(-np.log(each).sum() / math.log(2)) for each in probabilities]
