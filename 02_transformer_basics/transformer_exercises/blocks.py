"""Probes of the exercises on the parts of a block: layer norm, the block itself, and the embeddings before it.

Shapes: B batch, T time, E embedding, V vocabulary, P positions of the table.
"""

from typing import Any

import torch
from torch import Tensor

from lab.exercises.probes import Answer, Invariant, Probe, call
from transformer_exercises.inputs import Formula, dyadic, not_contiguous

# --- layer norm -------------------------------------------------------------------------------------------------------


def _norm(name: str, x: Tensor, eps: float = 0.25, relative: float = 1e-9) -> Probe:
    """Return a probe whose weight and bias are neither 1 nor 0, nor equal to each other."""

    def arguments() -> dict[str, Any]:
        width = x.shape[-1]
        weight = (torch.arange(width) + 2).to(x.dtype) / 2
        bias = (3 - torch.arange(width)).to(x.dtype) / 4
        return {"x": x.clone(), "weight": weight, "bias": bias, "eps": eps}

    return call("layer_norm", name, arguments, relative=relative)


LAYER_NORM = (
    _norm("one position", torch.tensor([1.0, 3.0, -2.0, 0.5], dtype=torch.float64)),
    _norm("B 2, T 3, E 4", dyadic(2, 3, 4, seed=0)),
    _norm("as many positions as numbers", dyadic(4, 4, seed=1)),
    _norm("as many sequences and positions as numbers", dyadic(3, 3, 3, seed=2)),
    _norm("a small eps", dyadic(2, 3, 4, seed=3), eps=1e-5),
    _norm("a large eps", dyadic(2, 3, 4, seed=3), eps=4.0),
    _norm(
        "all numbers of a position are equal", torch.tensor([[2.0] * 4, [1, 2, 3, 4]], dtype=torch.float64), eps=1e-5
    ),
    _norm("numbers around 256", dyadic(2, 3, 4, seed=4) + 256),
    _norm("a single number per position", dyadic(2, 3, 1, seed=5)),
    _norm("four dimensions", dyadic(2, 1, 3, 5, seed=6)),
    _norm("float32", dyadic(2, 3, 4, seed=7, dtype=torch.float32), relative=1e-4),
    _norm("not contiguous", not_contiguous(dyadic(2, 3, 4, seed=8))),
)


def _positions_are_alone(answer: Answer) -> bool:
    """Return True if a change of one position changes no other."""
    x, ones = dyadic(2, 3, 4, seed=0), torch.ones(4, dtype=torch.float64)
    changed = x.clone()
    changed[0, 1] += torch.arange(4)
    before, after = (answer["layer_norm"](each, ones, 0 * ones, 0.25) for each in (x, changed))
    others = torch.ones(2, 3, dtype=torch.bool)
    others[0, 1] = False
    return torch.allclose(before[others], after[others])


def _mean_is_the_bias(answer: Answer) -> bool:
    ones = torch.ones(4, dtype=torch.float64)
    result = answer["layer_norm"](dyadic(2, 3, 4, seed=0), ones, 2 * ones, 0.25)
    return torch.allclose(result.mean(-1), 2 * torch.ones(2, 3, dtype=torch.float64))


# --- the block --------------------------------------------------------------------------------------------------------


def _standardized(x: Tensor) -> Tensor:
    return (x - x.mean(-1, keepdim=True)) / (x.var(-1, correction=0, keepdim=True) + 0.25).sqrt()


SIMPLE = {
    "attention": Formula("x -> x * x / 2", lambda x: x * x / 2),
    "feed_forward": Formula("x -> |x| + 1", lambda x: x.abs() + 1),
    "norm1": Formula("x -> x / 2 + 1", lambda x: x / 2 + 1),
    "norm2": Formula("x -> 2 x - 3", lambda x: 2 * x - 3),
}
REAL = {
    "attention": Formula("x -> mean over time so far", lambda x: x.cumsum(1) / torch.arange(1, 4)[:, None]),
    "feed_forward": Formula("x -> relu(2 x) - x", lambda x: (2 * x).relu() - x),
    "norm1": Formula("x -> 2 * layer_norm(x) + 1", lambda x: 2 * _standardized(x) + 1),
    "norm2": Formula("x -> layer_norm(x) / 4 - 1", lambda x: _standardized(x) / 4 - 1),
}


def _block(name: str, x: Tensor, norm_first: bool, functions: dict[str, Any], relative: float = 1e-9) -> Probe:
    def arguments() -> dict[str, Any]:
        return {"x": x.clone(), **functions, "norm_first": norm_first}

    return call("transformer_block", name, arguments, relative=relative)


ONE = torch.tensor([[[2.0, -4.0]]], dtype=torch.float64)
TRANSFORMER_BLOCK = (
    _block("pre-norm, one position", ONE, True, SIMPLE),
    _block("post-norm, one position", ONE, False, SIMPLE),
    _block("pre-norm, layer norms", dyadic(2, 3, 4, seed=0), True, REAL),
    _block("post-norm, layer norms", dyadic(2, 3, 4, seed=0), False, REAL),
    _block("pre-norm, float32", dyadic(1, 3, 4, seed=1, dtype=torch.float32), True, REAL, relative=1e-4),
    _block("post-norm, a large x", 100 + dyadic(1, 3, 4, seed=2), False, REAL),
)


def _carries_x(answer: Answer) -> bool:
    """Return True if, with pre-norm, x passes unchanged where both sublayers give 0."""
    x, nothing = dyadic(2, 3, 4, seed=0), Formula("x -> 0", lambda x: 0 * x)
    result = answer["transformer_block"](x.clone(), nothing, nothing, REAL["norm1"], REAL["norm2"], True)
    return torch.allclose(result, x)


def _ends_with_a_norm(answer: Answer) -> bool:
    """Return True if, with post-norm, the second norm comes last."""
    fives = Formula("x -> 5", lambda x: 0 * x + 5)
    given = REAL | {"norm2": fives}
    return torch.allclose(answer["transformer_block"](ONE.expand(1, 3, 2).clone(), *given.values(), False), 5 + 0 * ONE)


# --- embeddings -------------------------------------------------------------------------------------------------------


def _embed(name: str, ids: list[list[int]], past: int, tokens: int = 6, positions: int = 20, **settings: Any) -> Probe:
    """Return a probe with a vocabulary of `tokens` and a table of `positions`, E is 3."""
    relative = settings.pop("relative", 1e-9)

    def arguments() -> dict[str, Any]:
        return {
            "token_ids": torch.tensor(ids),
            "token_table": dyadic(tokens, 3, seed=1, **settings) + 10 * torch.arange(tokens)[:, None],
            "position_table": dyadic(positions, 3, seed=2, **settings) + torch.arange(positions)[:, None] * 100,
            "past": past,
        }

    return call("embed", name, arguments, relative=relative)


EMBED = (
    _embed("the start of a text", [[4, 1, 1, 5]], past=0),
    _embed("five tokens are in the cache", [[4, 1, 1]], past=5),
    _embed("one new token", [[2]], past=3),
    _embed("two sequences", [[4, 1, 0, 5], [3, 3, 2, 0]], past=0),
    _embed("two sequences, seven tokens in the cache", [[4, 1, 0], [3, 3, 2]], past=7),
    _embed("as many sequences as tokens", [[4, 1, 0], [3, 3, 2], [5, 0, 1]], past=2),
    _embed("as many positions as entries of the vocabulary", [[0, 5], [1, 3]], past=1, positions=6),
    _embed("up to the last position of the table", [[1, 0, 2, 4]], past=4, positions=8),
    _embed("fewer positions than entries of the vocabulary", [[9, 0], [7, 8]], past=1, tokens=10, positions=4),
    _embed("one new token for each of three sequences", [[3], [0], [5]], past=8),
    _embed("float32", [[4, 1, 0], [3, 3, 2]], past=2, dtype=torch.float32, relative=1e-4),
)


def _piece_by_piece(answer: Answer) -> bool:
    """Return True if a text has the same embeddings at once and in two pieces."""
    ids = torch.tensor([[4, 1, 0, 5, 2]])
    tables = dyadic(6, 3, seed=1), dyadic(9, 3, seed=2)
    whole = answer["embed"](ids, *tables, 1)
    pieces = [answer["embed"](ids[:, :2], *tables, 1), answer["embed"](ids[:, 2:], *tables, 3)]
    return torch.allclose(whole, torch.cat(pieces, dim=1))


PROBES = {"layer_norm": LAYER_NORM, "transformer_block": TRANSFORMER_BLOCK, "embed": EMBED}
INVARIANTS: dict[str, tuple[Invariant, ...]] = {
    "layer_norm": (
        Invariant(
            "positions_are_alone", _positions_are_alone, "changing one position must change no other; yours changes"
        ),
        Invariant("mean_is_the_bias", _mean_is_the_bias, "with weight 1 the mean of a position must be the bias"),
    ),
    "transformer_block": (
        Invariant("carries_x", _carries_x, "with pre-norm, x must pass unchanged where both sublayers give 0"),
        Invariant("ends_with_a_norm", _ends_with_a_norm, "with post-norm, norm2 must be the last step"),
    ),
    "embed": (
        Invariant("piece_by_piece", _piece_by_piece, "a text must have the same embeddings at once and in two pieces"),
    ),
}
