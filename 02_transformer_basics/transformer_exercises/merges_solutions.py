"""Byte-pair encoding in its plain form: the right answers of the exercise on merges. Imports no torch.

Tests compare them with `tokenizer/training.py` and `bpe_tokenizer.py`.
"""

import itertools
from collections import Counter
from collections.abc import Mapping, Sequence


def merge_pair(ids: Sequence[int], pair: tuple[int, int], new_id: int) -> list[int]:
    """Return ids in which every occurrence of `pair` is replaced by `new_id`, from left to right."""
    merged = []
    position = 0
    while position < len(ids):
        # A pair needs a neighbor on the right: the last id has none.
        if tuple(ids[position : position + 2]) == tuple(pair):
            merged.append(new_id)
            position += 2
        else:
            merged.append(ids[position])
            position += 1
    return merged


def learn_merges(word_counts: Mapping[tuple[int, ...], int], num_merges: int) -> list[tuple[int, int]]:
    """Return the pairs to merge, in order: each time the most frequent pair of neighbors.

    word_counts: how often each word, a tuple of ids, occurs. Merge number i makes the id 256 + i.
    Of equally frequent pairs the one with the smaller ids is taken. There are fewer than
    `num_merges` pairs where nothing is left to merge.
    """
    words = [list(word) for word in word_counts]
    merges: list[tuple[int, int]] = []
    for new_id in range(256, 256 + num_merges):
        # Count the pairs of neighbors within words; a word counts as often as it occurs.
        counts: Counter[tuple[int, int]] = Counter()
        for word, count in zip(words, word_counts.values(), strict=True):
            for pair in itertools.pairwise(word):
                counts[pair] += count
        if not counts:
            break
        # The most frequent pair, and of equally frequent ones the pair with the smaller ids.
        best = min(counts, key=lambda pair: (-counts[pair], pair))
        merges.append(best)
        words = [merge_pair(word, best, new_id) for word in words]
    return merges


def bpe_encode(ids: Sequence[int], merges: Sequence[tuple[int, int]]) -> list[int]:
    """Return ids with all merges applied, in the order in which they were learned."""
    encoded = list(ids)
    for number, pair in enumerate(merges):
        encoded = merge_pair(encoded, pair, 256 + number)
    return encoded
