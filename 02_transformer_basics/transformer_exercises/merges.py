"""Probes of the exercise on byte-pair encoding. Imports no torch."""

from collections.abc import Mapping, Sequence

from lab.exercises.probes import Answer, Invariant, Probe, call

Pair = tuple[int, int]


def _merge(name: str, ids: Sequence[int], pair: Pair) -> Probe:
    return call("merge_pair", f"merge_pair: {name}", lambda: {"ids": list(ids), "pair": pair, "new_id": 256})


def _learn(name: str, words: Mapping[str, int], num_merges: int) -> Probe:
    """Return a probe with words of letters, whose ids are their bytes."""
    counts = {tuple(word.encode()): count for word, count in words.items()}
    return call(
        "learn_merges", f"learn_merges: {name}", lambda: {"word_counts": dict(counts), "num_merges": num_merges}
    )


def _encode(name: str, ids: Sequence[int], merges: Sequence[Pair]) -> Probe:
    return call("bpe_encode", f"bpe_encode: {name}", lambda: {"ids": list(ids), "merges": list(merges)})


A, B, C, D = b"abcd"
PROBES_OF_MERGES = (
    _merge("one pair in the middle", [3, 1, 2, 4], (1, 2)),
    _merge("at the start and at the end", [1, 2, 5, 1, 2], (1, 2)),
    _merge("three alike: the first two are merged", [5, 5, 5], (5, 5)),
    _merge("the pair does not occur", [1, 3, 2, 1], (1, 2)),
    _merge("11 and 2 are not 1 and 2", [11, 2, 1, 2, 1, 22], (1, 2)),
    _merge("no ids", [], (1, 2)),
    _merge("a single id", [1], (1, 2)),
    _learn("one word", {"abab": 1}, 2),
    _learn("how often a word occurs counts", {"ab": 1, "ac": 3, "abd": 1, "bd": 2}, 2),
    _learn("pairs do not reach from word to word", {"ab": 3, "cab": 1, "ba": 2, "bc": 1}, 4),
    _learn("equally frequent: the pair with the smaller ids", {"cd": 2, "ab": 2, "ad": 2}, 3),
    _learn("a new id is larger than the letters", {"aab": 2, "zaa": 2, "yx": 2}, 5),
    _learn("overlapping neighbors all count", {"aaa": 2, "bc": 3}, 2),
    _learn("a pair twice in one word", {"abxab": 2, "cd": 3}, 1),
    _learn("no merges", {"abc": 2}, 0),
    _learn("no words", {}, 3),
    _encode("two merges", [C, A, B, C, D], [(A, B), (256, C)]),
    _encode("the merge that was learned first goes first", [A, B, C], [(B, C), (A, B)]),
    _encode("another way to the longest piece", [A, B, C], [(A, B), (B, C), (A, 257)]),
    _encode("a merge occurs twice", [A, B, A, B, A], [(A, B)]),
    _encode("no merges", [A, B], []),
)


def _expanded(ids: Sequence[int], merges: Sequence[Pair]) -> list[int]:
    """Return the bytes of ids: the inverse of `bpe_encode`."""
    result = []
    waiting = list(reversed(ids))
    while waiting:
        id = waiting.pop()
        if id < 256:
            result.append(id)
        else:
            waiting += reversed(merges[id - 256])
    return result


def _nothing_is_lost(answer: Answer) -> bool:
    merges = [(A, B), (256, C), (C, D), (257, 258)]
    ids = [A, B, C, C, D, A, A, B, C]
    return _expanded(answer["bpe_encode"](list(ids), list(merges)), merges) == ids


def _learned_pairs_differ(answer: Answer) -> bool:
    merges = answer["learn_merges"]({tuple(b"abcabd"): 3, tuple(b"abc"): 2}, 6)
    return len({tuple(pair) for pair in merges}) == len(merges)


PROBES = {"merge_pair": PROBES_OF_MERGES}
INVARIANTS: dict[str, tuple[Invariant, ...]] = {
    "merge_pair": (
        Invariant("nothing_is_lost", _nothing_is_lost, "the ids must still stand for the same bytes; yours do not"),
        Invariant("learned_pairs_differ", _learned_pairs_differ, "no pair is learned twice: it is gone once merged"),
    ),
}
