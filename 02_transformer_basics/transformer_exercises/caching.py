"""Probes of the exercise on the cache of keys and values.

Shapes: B batch, T new positions, H heads, D head size.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from lab.exercises.probes import Answer, Changed, Invariant, Probe, plain
from transformer_exercises.inputs import not_contiguous, numbered


def _pieces(sizes: Sequence[int], **settings: Any) -> list[list[Tensor]]:
    """Return [key, value] for each of several calls: together `numbered` tensors (B, H, T, D)."""
    key = numbered(2, 3, sum(sizes), 4).to(**settings)
    pieces = zip(key.split(list(sizes), dim=2), (-key - 1).split(list(sizes), dim=2), strict=True)
    return [[key.contiguous(), value.contiguous()] for key, value in pieces]


def _appended(cache: Any, pieces: Sequence[Sequence[Tensor]]) -> Changed:
    """Return the results of several calls, and which of key and value were changed."""
    results, changed = [], set()
    for piece in pieces:
        given = [each.clone() for each in piece]
        results.append(plain(cache.append(*given)))
        names = ("key", "value")
        changed |= {name for name, one, other in zip(names, given, piece, strict=True) if not torch.equal(one, other)}
    return Changed(results, tuple(sorted(changed)))


def _cache(name: str, sizes: Sequence[int], **settings: Any) -> Probe:
    """Return a probe that appends pieces of these sizes to one cache."""
    pieces = _pieces(sizes, **settings)
    return Probe(name, lambda answer: _appended(answer["KVCache"](), pieces), lambda: {"T": list(sizes)})


def _second_text(answer: Answer) -> Changed:
    """Return what a second cache returns, used in turn with the first."""
    pieces = _pieces([2, 1, 1])
    first, second = answer["KVCache"](), answer["KVCache"]()
    first.append(*pieces[0])
    results = [plain(second.append(*pieces[1])), plain(first.append(*pieces[2])), plain(second.append(*pieces[2]))]
    return Changed(results, ())


def _strided(answer: Answer) -> Changed:
    return _appended(answer["KVCache"](), [[not_contiguous(each) for each in piece] for piece in _pieces([2, 1])])


def _repeated(answer: Answer) -> Changed:
    """Return what a cache makes of equal positions, and of positions in descending order."""
    first, second = _pieces([1, 1])
    return _appended(answer["KVCache"](), [second, first, first, first])


def _long_text(answer: Answer) -> Any:
    """Return shapes, sums and last numbers of 3040 positions: no cache of a fixed size is enough."""
    cache = answer["KVCache"]()
    key = torch.arange(3040, dtype=torch.float64).reshape(1, 1, 3040, 1)
    results: Any = ()
    for piece in (*key[:, :, :40].split(1, dim=2), key[:, :, 40:]):
        results = cache.append(piece.clone(), 2 * piece)
    if not isinstance(results, (list, tuple)):
        return plain(results)
    return [[plain(each) for each in (each.shape, each.sum(), each.flatten()[-1])] for each in results]


KV_CACHE = (
    _cache("3 positions, then 1, 1 and 2; B 2, H 3, D 4", [3, 1, 1, 2]),
    Probe("two caches, used in turn", _second_text),
    _cache("a single call", [4]),
    _cache("float32", [2, 1], dtype=torch.float32),
    Probe("tensors that are not contiguous", _strided),
    Probe("the same position three times, after a larger one", _repeated),
    Probe("3040 positions", _long_text),
)


def _all_at_once(answer: Answer) -> bool:
    """Return True if three pieces give the same keys and values as one."""
    pieces = _pieces([2, 1, 3])
    cache = answer["KVCache"]()
    found: Any = [cache.append(*piece) for piece in pieces][-1]
    return all(torch.equal(torch.cat(both, dim=2), each) for both, each in zip(zip(*pieces, strict=True), found))  # noqa: B905


PROBES = {
    "KVCache": KV_CACHE,
}
INVARIANTS: dict[str, tuple[Invariant, ...]] = {
    "KVCache": (Invariant("all_at_once", _all_at_once, "pieces of a text must give the same keys as all at once"),),
}
