"""Right answers to the exercise on byte-pair encoding in other styles than the lab's. Imports no torch."""

import itertools
from collections import defaultdict
from collections.abc import Mapping, Sequence

Pair = tuple[int, int]


def merge_by_iterator(ids: Sequence[int], pair: Pair, new_id: int) -> list[int]:
    merged: list[int] = []
    skip = False
    for i, id in enumerate(ids):
        if skip:
            skip = False
        elif i + 1 < len(ids) and (id, ids[i + 1]) == pair:
            merged.append(new_id)
            skip = True
        else:
            merged.append(id)
    return merged


def merge_in_a_copy(ids: Sequence[int], pair: Pair, new_id: int) -> list[int]:
    result = list(ids)
    i = 0
    while i < len(result) - 1:
        if result[i] == pair[0] and result[i + 1] == pair[1]:
            result[i : i + 2] = [new_id]
        i += 1
    return result


def merge_by_recursion(ids: Sequence[int], pair: Pair, new_id: int) -> list[int]:
    if len(ids) < 2:
        return list(ids)
    if tuple(ids[:2]) == tuple(pair):
        return [new_id, *merge_by_recursion(ids[2:], pair, new_id)]
    return [ids[0], *merge_by_recursion(ids[1:], pair, new_id)]


def learn_by_sorting(word_counts: Mapping[tuple[int, ...], int], num_merges: int) -> list[Pair]:
    words = dict(word_counts)
    merges: list[Pair] = []
    while len(merges) < num_merges:
        totals: dict[Pair, int] = defaultdict(int)
        for word, count in words.items():
            for left, right in zip(word, word[1:], strict=False):  # noqa: RUF007
                totals[left, right] += count
        if not totals:
            return merges
        best = sorted(totals.items(), key=lambda item: (-item[1], item[0]))[0][0]
        words = {tuple(merge_in_a_copy(word, best, 256 + len(merges))): count for word, count in words.items()}
        merges.append(best)
    return merges


def learn_by_max(word_counts: Mapping[tuple[int, ...], int], num_merges: int) -> list[list[int]]:
    """Pairs as lists; every word as often as it occurs."""
    corpus = [list(word) for word, count in word_counts.items() for _ in range(count)]
    merges = []
    for number in range(num_merges):
        pairs = [pair for word in corpus for pair in itertools.pairwise(word)]
        if len(pairs) == 0:
            break
        most = max(pairs.count(pair) for pair in set(pairs))
        best = min(pair for pair in set(pairs) if pairs.count(pair) == most)
        corpus = [merge_by_iterator(word, best, 256 + number) for word in corpus]
        merges.append(list(best))
    return merges


def learn_by_negated_ids(word_counts: Mapping[tuple[int, ...], int], num_merges: int) -> list[Pair]:
    words = [(word, count) for word, count in word_counts.items()]
    merges: list[Pair] = []
    for new_id in range(256, 256 + num_merges):
        totals: dict[Pair, int] = {}
        for word, count in words:
            for i in range(len(word) - 1):
                pair = (word[i], word[i + 1])
                totals[pair] = totals.get(pair, 0) + count
        if not totals:
            break
        best = max(totals, key=lambda pair: (totals[pair], -pair[0], -pair[1]))
        merges.append(best)
        words = [(tuple(merge_by_recursion(word, best, new_id)), count) for word, count in words]
    return merges


def encode_by_rank(ids: Sequence[int], merges: Sequence[Pair]) -> list[int]:
    """The pair that was learned first, everywhere, until none is left: as GPT-2 does."""
    ranks = {tuple(pair): rank for rank, pair in enumerate(merges)}
    encoded = list(ids)
    while True:
        present = [pair for pair in itertools.pairwise(encoded) if pair in ranks]
        if not present:
            return encoded
        best = min(present, key=lambda pair: ranks[pair])
        encoded = merge_by_iterator(encoded, best, 256 + ranks[best])


def encode_one_at_a_time(ids: Sequence[int], merges: Sequence[Pair]) -> list[int]:
    """The leftmost occurrence of the pair that was learned first, one merge at a time."""
    numbers = {tuple(pair): 256 + i for i, pair in enumerate(merges)}
    encoded = [*ids]
    while len(encoded) > 1:
        token, place = min((numbers.get(pair, 10**9), i) for i, pair in enumerate(itertools.pairwise(encoded)))
        if token == 10**9:
            break
        encoded = [*encoded[:place], token, *encoded[place + 2 :]]
    return encoded


def encode_by_loop(ids: Sequence[int], merges: Sequence[Pair]) -> list[int]:
    for new_id, pair in enumerate(merges, start=256):
        ids = merge_in_a_copy(ids, pair, new_id)
    return list(ids)


RIGHT = {
    "merge_pair": {
        "iterator": {"merge_pair": merge_by_iterator, "learn_merges": learn_by_sorting, "bpe_encode": encode_by_rank},
        "copy": {"merge_pair": merge_in_a_copy, "learn_merges": learn_by_max, "bpe_encode": encode_one_at_a_time},
        "recursion": {
            "merge_pair": merge_by_recursion,
            "learn_merges": learn_by_negated_ids,
            "bpe_encode": encode_by_loop,
        },
    },
}
