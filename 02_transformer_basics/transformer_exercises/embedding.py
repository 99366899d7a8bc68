"""Probes of the exercise on embeddings.

Shapes: B batch, T time, E embedding, V vocabulary, P positions of the table.
"""

from typing import Any

import torch

from lab.exercises.gradients import gradients_flow
from lab.exercises.probes import Answer, Invariant, Probe, call
from transformer_exercises.inputs import dyadic


def _arguments(ids: list[list[int]], past: int, positions: int = 20, **settings: Any) -> dict[str, Any]:
    """Return arguments with a vocabulary of 6 tokens and a table of `positions`, E is 3."""
    return {
        "token_ids": torch.tensor(ids),
        "token_table": dyadic(6, 3, seed=1, **settings) + 10 * torch.arange(6)[:, None],
        "position_table": dyadic(positions, 3, seed=2, **settings) + torch.arange(positions)[:, None] * 100,
        "past": past,
    }


def _embed(name: str, ids: list[list[int]], past: int, relative: float = 1e-9, **settings: Any) -> Probe:
    return call("embed", name, lambda: _arguments(ids, past, **settings), relative=relative)


GRADIENT = gradients_flow("embed", lambda: _arguments([[4, 1, 5]], past=2), "token_table", "position_table")
EMBED = (
    _embed("the start of a text", [[4, 1, 1, 5]], past=0),
    _embed("five tokens are in the cache", [[4, 1, 1]], past=5),
    _embed("one new token", [[2]], past=3),
    _embed("two sequences", [[4, 1, 0, 5], [3, 3, 2, 0]], past=0),
    _embed("as many sequences as tokens", [[4, 1, 0], [3, 3, 2], [5, 0, 1]], past=2),
    _embed("up to the last position of the table", [[1, 0, 2, 4]], past=4, positions=8),
    _embed("float32", [[4, 1, 0], [3, 3, 2]], past=2, dtype=torch.float32, relative=1e-4),
)


def _piece_by_piece(answer: Answer) -> bool:
    """Return True if a text has the same embeddings at once and in two pieces."""
    ids = torch.tensor([[4, 1, 0, 5, 2]])
    tables = dyadic(6, 3, seed=1), dyadic(9, 3, seed=2)
    whole = answer["embed"](ids, *tables, 1)
    pieces = [answer["embed"](ids[:, :2], *tables, 1), answer["embed"](ids[:, 2:], *tables, 3)]
    return torch.allclose(whole, torch.cat(pieces, dim=1))


PROBES = {
    "embed": EMBED,
}
INVARIANTS: dict[str, tuple[Invariant, ...]] = {
    "embed": (
        Invariant("piece_by_piece", _piece_by_piece, "a text must have the same embeddings at once and in two pieces"),
    ),
}
REMARKS: dict[str, tuple[Invariant, ...]] = {
    "embed": (GRADIENT,),
}
