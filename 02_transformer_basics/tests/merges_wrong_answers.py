"""Wrong answers to the exercise on byte-pair encoding, each the right one with one mistake. Imports no torch."""

import itertools
from collections import Counter
from collections.abc import Mapping, Sequence, Set
from typing import Any

from lab.exercises.wrong_answers import Wrong, switches

NONE: Set[str] = frozenset()
Pair = tuple[int, int]


def merge_pair(ids: Any, pair: Pair, new_id: int, wrong: Set[str] = NONE) -> Any:
    """Merge a pair with the given mistakes."""
    given, pair = ids, (pair[0], pair[1])
    if "stringly" in wrong:
        text = " ".join(map(str, ids)).replace(f"{pair[0]} {pair[1]}", str(new_id))
        return [int(each) for each in text.split()]
    if "set_of_ids" in wrong:
        return [new_id if each in pair else each for each in ids]
    if "last_of_nothing" in wrong and not ids:
        raise IndexError
    backwards = "from_the_right" in wrong
    ids, pair = (list(ids)[::-1], (pair[1], pair[0])) if backwards else (list(ids), pair)
    merged, position, done = [], 0, False
    last = len(ids) - 1 if "tail_lost" in wrong else len(ids)
    while position < last:
        neighbors = tuple(ids[position : position + 2])
        found = neighbors == pair or ("either_order" in wrong and neighbors == pair[::-1])
        if "past_the_end" in wrong and position + 1 == len(ids):
            raise IndexError
        if "last_pair_missed" in wrong and position + 2 >= len(ids):
            found = False
        if found and not done:
            merged += list(pair) if "not_replaced" in wrong else [new_id]
            if "overlapping" in wrong or "second_kept" in wrong:
                position -= 1
            if "next_skipped" in wrong:
                position += 1
            if "pair_removed" in wrong:
                merged.pop()
            done = "only_once" in wrong
            position += 2
            if "second_kept" in wrong and position < last:
                merged.append(ids[position])
                position += 1
        elif "others_lost" in wrong:
            position += 1
        elif "every_other" in wrong:
            merged += ids[position : position + 2]
            position += 2
        else:
            merged.append(ids[position])
            position += 1
    merged = merged[::-1] if backwards else merged
    if "in_place" in wrong:
        given[:] = merged
    return merged


def learn_merges(word_counts: Mapping[tuple[int, ...], int], num_merges: int, wrong: Set[str] = NONE) -> Any:
    """Learn merges with the given mistakes."""
    words = [list(word) for word in word_counts]
    frequencies = [1 if "frequency_ignored" in wrong else count for count in word_counts.values()]
    if "across_words" in wrong:
        words = [[id for word, count in zip(words, frequencies, strict=True) for id in word * count]]
        frequencies = [1]
    first = 256
    if "first_id" in wrong:
        first = 257
    if "first_id_255" in wrong:
        first = 255
    merges: list[Any] = []
    if "counted_once" in wrong:
        return _ranked(_counts(words, frequencies, wrong), wrong)[:num_merges]
    more = 1 if "one_merge_more" in wrong else 0
    for new_id in range(first, first + num_merges + more):
        counts = _counts(words, frequencies, wrong)
        if not counts and "none_left" not in wrong:
            break
        best = _ranked(counts, wrong)[0]
        if "rare_pairs_left" in wrong and counts[best] < 2:
            break
        merges.append((best, counts[best]) if "counts_returned" in wrong else best)
        if "ids_returned" in wrong:
            merges[-1] = (best, new_id)
        if "words_not_updated" not in wrong:
            words = [merge_pair(word, best, new_id, wrong) for word in words]
    if "one_merge_less" in wrong:
        return merges[:-1]
    if "learned_backwards" in wrong:
        return merges[::-1]
    if "counts_emptied" in wrong:
        word_counts.clear()  # pyright: ignore
    return merges


def _counts(words: Sequence[Sequence[int]], frequencies: Sequence[int], wrong: Set[str]) -> Counter[Pair]:
    counts: Counter[Pair] = Counter()
    for word, count in zip(words, frequencies, strict=True):
        pairs = list(itertools.pairwise(word))
        if "once_per_word" in wrong:
            pairs = list(dict.fromkeys(pairs))
        if "overlaps_not_counted" in wrong:
            pairs = [pair for i, pair in enumerate(pairs) if pair[0] != pair[1] or not _within(pairs, i)]
        if "last_pair_not_counted" in wrong:
            pairs = pairs[:-1]
        for pair in pairs:
            counts[pair] += count
    return counts


def _within(pairs: Sequence[Pair], index: int) -> bool:
    """Return True if the pair at `index` overlaps an equal one that was counted before it."""
    before = sum(1 for _ in itertools.takewhile(lambda pair: pair == pairs[index], reversed(pairs[:index])))
    return before % 2 == 1


def _ranked(counts: Counter[Pair], wrong: Set[str]) -> list[Pair]:
    """Return all pairs, the one to merge first."""
    sign = 1 if "rarest" in wrong else -1
    if "ties" in wrong:
        return sorted(counts, key=lambda pair: (sign * counts[pair], -pair[0], -pair[1]))
    if "ties_first_seen" in wrong:
        return sorted(counts, key=lambda pair: sign * counts[pair])
    if "ties_last_seen" in wrong:
        return sorted(counts, key=lambda pair: (sign * counts[pair], -list(counts).index(pair)))
    if "ties_by_second_id" in wrong:
        return sorted(counts, key=lambda pair: (sign * counts[pair], pair[1], pair[0]))
    if "ties_by_first_id" in wrong:
        return sorted(counts, key=lambda pair: (sign * counts[pair], pair[0], -pair[1]))
    return sorted(counts, key=lambda pair: (sign * counts[pair], pair))


def bpe_encode(ids: Any, merges: Sequence[Pair], wrong: Set[str] = NONE) -> list[int]:
    """Encode with the given mistakes."""
    given, encoded = ids, list(ids)
    numbered = {pair: 256 + number for number, pair in enumerate(merges)}
    if "encode_first_id" in wrong:
        numbered = {pair: id + 1 for pair, id in numbered.items()}
    if "result_only_in_loop" in wrong and not merges:
        raise UnboundLocalError
    if "not_encoded" in wrong:
        return encoded
    if "longest_match" in wrong:
        return _longest_match(encoded, merges)
    if "text_order" in wrong:
        return _text_order(encoded, numbered)
    order = list(numbered.items())
    if "last_merge_first" in wrong:
        order = order[::-1]
    if "last_merge_missing" in wrong:
        order = order[:-1]
    for pair, new_id in order:
        encoded = merge_pair(encoded, pair, new_id, wrong)
        if "first_that_applies" in wrong and new_id in encoded:
            break
        if "each_merge_once" in wrong and new_id in encoded:
            place = encoded.index(new_id) + 1
            encoded[place:] = [each for id in encoded[place:] for each in (pair if id == new_id else (id,))]
    if "sorted_ids" in wrong:
        return sorted(encoded)
    if "one_pass" in wrong:
        encoded = _one_pass(list(given), numbered)
    if "encode_in_place" in wrong:
        given[:] = encoded
    return encoded


def _longest_match(ids: list[int], merges: Sequence[Pair]) -> list[int]:
    """Take the longest token that the remaining ids begin with, again and again."""
    pieces = {256 + i: (*pair,) for i, pair in enumerate(merges)}
    while any(id >= 256 for piece in pieces.values() for id in piece):
        pieces = {
            token: tuple(each for id in piece for each in (pieces[id] if id >= 256 else (id,)))
            for token, piece in pieces.items()
        }
    encoded, position = [], 0
    while position < len(ids):
        fits = [token for token, piece in pieces.items() if tuple(ids[position : position + len(piece)]) == piece]
        token = max(fits, key=lambda token: len(pieces[token]), default=ids[position])
        encoded.append(token)
        position += len(pieces.get(token, (token,)))
    return encoded


def _text_order(ids: list[int], numbered: Mapping[Any, int]) -> list[int]:
    """Merge the first pair from the left that has a rule, again and again."""
    while True:
        places = [i for i, pair in enumerate(itertools.pairwise(ids)) if pair in numbered]
        if not places:
            return ids
        ids[places[0] : places[0] + 2] = [numbered[ids[places[0]], ids[places[0] + 1]]]


def _one_pass(ids: list[int], numbered: Mapping[Any, int]) -> list[int]:
    """Go through the ids once, and merge every pair that has a rule."""
    encoded, position = [], 0
    while position < len(ids):
        pair = tuple(ids[position : position + 2])
        encoded.append(numbered.get(pair, ids[position]))
        position += 2 if pair in numbered else 1
    return encoded


MERGES = {
    "stringly",
    "set_of_ids",
    "from_the_right",
    "tail_lost",
    "either_order",
    "past_the_end",
    "last_pair_missed",
    "not_replaced",
    "overlapping",
    "second_kept",
    "next_skipped",
    "pair_removed",
    "only_once",
    "others_lost",
    "every_other",
}
TIES = {"ties_by_second_id", "ties", "ties_first_seen", "ties_last_seen", "ties_by_first_id"}
LEARNING = {"counted_once", "words_not_updated", "none_left", "rare_pairs_left", "first_id", "first_id_255"}
ENCODING = {
    "longest_match",
    "text_order",
    "one_pass",
    "last_merge_first",
    "last_merge_missing",
    "first_that_applies",
    "each_merge_once",
    "not_encoded",
    "encode_first_id",
}
WRONG = {
    "merge_pair": Wrong(
        {"merge_pair": merge_pair, "learn_merges": learn_merges, "bpe_encode": bpe_encode},
        switches(merge_pair, learn_merges, _counts, _ranked, bpe_encode),
        exclusive=(MERGES, TIES, LEARNING, ENCODING),
    ),
}
