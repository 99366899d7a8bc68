"""Probes of the exercise on the loss of a language model.

Shapes: B batch, T positions, V vocabulary.
"""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from lab.exercises.gradients import gradients_flow
from lab.exercises.probes import Answer, Invariant, Probe, call
from transformer_exercises.inputs import dyadic, reading


def _arguments(
    mask: Sequence[Sequence[int]], vocabulary: int = 5, seed: int = 0, shift: float = 0.0
) -> dict[str, Tensor]:
    attention_mask = torch.tensor(mask)
    logits = dyadic(*attention_mask.shape, vocabulary, seed=seed) + shift
    generator = torch.Generator().manual_seed(seed)
    ids = torch.randint(0, vocabulary, attention_mask.shape, generator=generator)
    return {"logits": logits, "token_ids": ids, "attention_mask": attention_mask}


def _loss(name: str, mask: Sequence[Sequence[int]], **settings: Any) -> Probe:
    """Return a probe of the loss as a number; another probe tells whether it has a gradient."""
    return reading(call("next_token_loss", name, lambda: _arguments(mask, **settings)), _as_number)


def _as_number(value: Any) -> Any:
    return value.values[0] if getattr(value, "shape", None) == () else value


def _copying_model() -> dict[str, Tensor]:
    """Return a text, and the logits of a model that is sure of the token that it has just read."""
    ids = torch.tensor([[1, 0, 2, 2]])
    return {
        "logits": 4.0 * torch.nn.functional.one_hot(ids, 3).double(),
        "token_ids": ids,
        "attention_mask": torch.ones(1, 4, dtype=torch.long),
    }


GRADIENT = gradients_flow("next_token_loss", lambda: _arguments([[1, 1, 1], [1, 1, 0]], seed=4), "logits")
NEXT_TOKEN_LOSS = (
    _loss("two tokens", [[1, 1]], vocabulary=3),
    reading(call("next_token_loss", "a model that copies the token it reads", _copying_model), _as_number),
    _loss("one text", [[1, 1, 1, 1]]),
    _loss("two texts of the same length", [[1, 1, 1, 1], [1, 1, 1, 1]], seed=1),
    _loss("padding on the right", [[1, 1, 1, 1], [1, 1, 0, 0]], seed=2),
    _loss("padding on the left", [[1, 1, 1, 1, 1], [0, 0, 1, 1, 1]], seed=3),
    _loss("padding in the middle", [[1, 1, 0, 1], [1, 0, 1, 1]], seed=6),
    _loss("logits around 1000", [[1, 1, 1], [0, 1, 1]], seed=8, shift=1000.0),
)


def _uniform(answer: Answer) -> bool:
    """Return True if equal logits give ln V."""
    ids = torch.tensor([[1, 4, 2], [0, 3, 1]])
    loss = answer["next_token_loss"](torch.zeros(2, 3, 5, dtype=torch.float64), ids, torch.ones_like(ids))
    return math.isclose(float(loss), math.log(5), rel_tol=1e-6)


def _padding_is_ignored(answer: Answer) -> bool:
    """Return True if other ids in the padding change nothing."""
    logits, ids = dyadic(1, 4, 5, seed=2), torch.tensor([[1, 2, 0, 0]])
    mask = torch.tensor([[1, 1, 0, 0]])
    losses = [answer["next_token_loss"](logits.clone(), each, mask.clone()) for each in (ids, ids + 2 * (1 - mask))]
    return math.isclose(float(losses[0]), float(losses[1]), rel_tol=1e-6)


PROBES = {
    "next_token_loss": NEXT_TOKEN_LOSS,
}
INVARIANTS: dict[str, tuple[Invariant, ...]] = {
    "next_token_loss": (
        Invariant("uniform", _uniform, "equal logits must give the loss ln V; yours is another"),
        Invariant("padding_is_ignored", _padding_is_ignored, "other ids in the padding must change nothing"),
    ),
}
REMARKS: dict[str, tuple[Invariant, ...]] = {
    "next_token_loss": (GRADIENT,),
}
