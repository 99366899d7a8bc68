"""Probes of the exercises on sampling: which probability each token gets.

Where logits are equal, any choice among them is right: such probes compare how much probability the equal tokens get
together, or how many of them stay.

Shapes: B batch, V vocabulary.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from lab.exercises.probes import Answer, Invariant, Probe, call, plain, same
from transformer_exercises.inputs import dyadic, not_contiguous, reading

LOGITS = torch.tensor([[0.0, 2.0, -1.0, 1.0, 0.5], [-3.0, -2.0, -0.5, -1.0, -4.0]], dtype=torch.float64)
TIED = torch.tensor([[1.0, 3.0, 1.0, 0.0, 1.0]], dtype=torch.float64)


def _sampling(name: str, logits: Tensor, temperature: float, top_k: int | None, relative: float = 1e-9) -> Probe:
    def arguments() -> dict[str, Any]:
        return {"logits": logits.clone(), "temperature": temperature, "top_k": top_k}

    compared = {"result": of_any_precision} if temperature == 0 else {}
    return call("sampling_probabilities", name, arguments, relative=relative, **compared)


def of_any_precision(value: Any) -> Any:
    """Return a tensor of numbers in float64: zeros and ones are exact in every precision."""
    return value.double() if isinstance(value, Tensor) and value.is_floating_point() else value


def _any_of(*accepted: Tensor) -> Callable[[Any], Any]:
    """Return a function that replaces each of the accepted results by the first of them."""
    first, *others = (plain(each) for each in accepted)
    return lambda value: first if any(same(value, other, 1e-9, 1e-12) for other in others) else value


SAMPLING_PROBABILITIES = (
    _sampling("temperature 1, all tokens", LOGITS, 1.0, None),
    _sampling("temperature 2", LOGITS, 2.0, None),
    _sampling("temperature 1/2, the 2 most likely tokens", LOGITS, 0.5, 2),
    _sampling("top_k is more than the vocabulary", LOGITS, 2.0, 8),
    _sampling("temperature 0", LOGITS, 0.0, None),
    _sampling("temperature 0, nearly equal logits", LOGITS[:1] / 1024, 0.0, None),
    _sampling("as many rows as tokens", dyadic(3, 3, seed=4) + torch.tensor([0.0, 0.125, 0.0625]), 0.5, 2),
    _sampling("logits around 1000", LOGITS + 1000, 1.0, None),
    _sampling("a low temperature, nearly equal logits", LOGITS / 1024, 2**-9, 3),
    _sampling("float32", (LOGITS - 100).float(), 0.5, 3, relative=1e-4),
    _sampling("not contiguous", not_contiguous(LOGITS), 2.0, 3),
    reading(
        _sampling("temperature 0, two logits are equal", TIED[:, [0, 2, 3]], 0.0, None),
        _any_of(*(torch.tensor([row], dtype=torch.float64) for row in ([1.0, 0, 0], [0.0, 1, 0], [0.5, 0.5, 0]))),
    ),
)


def _probabilities(answer: Answer) -> list[Tensor]:
    settings = ((1.0, None), (0.5, 3), (2.0, 1), (0.0, None))
    return [answer["sampling_probabilities"](LOGITS.clone(), *each) for each in settings]


def _sum_to_1(answer: Answer) -> bool:
    return all(torch.allclose(each.sum(-1), LOGITS.sum(-1) * 0 + 1) for each in _probabilities(answer))


def _most_likely_stays(answer: Answer) -> bool:
    return all(torch.equal(each.argmax(-1), LOGITS.argmax(-1)) for each in _probabilities(answer))


def _top_p(name: str, logits: Tensor, p: float, relative: float = 1e-9) -> Probe:
    return call("top_p_filter", name, lambda: {"logits": logits.clone(), "p": p}, relative=relative)


def _number_kept(accepted: Mapping[int, int]) -> Callable[[Any], Any]:
    """Return a function that forgets which of equal logits stay; `accepted` maps other counts to the right one."""

    def read(value: Any) -> Any:
        if not hasattr(value, "values") or any(each not in (1.0, -math.inf) for each in value.values):
            return value
        kept = sum(each == 1.0 for each in value.values)
        kept = accepted.get(kept, kept)
        return replace(value, values=tuple(1.0 if i < kept else -math.inf for i in range(len(value.values))))

    return read


# Probabilities of 0.1, 0.4, 0.05, 0.3, 0.15 and of 0.02, 0.9, 0.03, 0.01, 0.04; both rows far from 0.
SHARES = torch.tensor([[0.1, 0.4, 0.05, 0.3, 0.15], [0.02, 0.9, 0.03, 0.01, 0.04]], dtype=torch.float64)
EQUAL = torch.ones(1, 4, dtype=torch.float64)
TOP_P_FILTER = (
    _top_p("p 3/4: the third token reaches it", SHARES.log() + 2, 0.75),
    _top_p("p 3/8: the first token alone", SHARES.log() + 2, 0.375),
    _top_p("p 15/16", SHARES.log() + 2, 0.9375),
    _top_p("p is 1", SHARES.log() + 2, 1.0),
    _top_p("as many rows as tokens", SHARES[:, [1, 3, 0]][[0, 1, 0]].log() + 1, 0.75),
    _top_p("logits around -1000", SHARES.log() - 1000, 0.75),
    _top_p("float32", (SHARES.log() - 100).float(), 0.75, relative=1e-4),
    _top_p("not contiguous", not_contiguous(SHARES.log() + 2), 0.875),
    reading(_top_p("four equal logits, p 1/2: two of them have exactly p", EQUAL, 0.5), _number_kept({4: 2})),
)


def _filtered(answer: Answer) -> list[tuple[Tensor, float]]:
    logits = SHARES.log() + 2
    return [(answer["top_p_filter"](logits.clone(), p), p) for p in (0.25, 0.75, 0.9375)]


def _enough_stays(answer: Answer) -> bool:
    return all(bool(((each > -math.inf) * SHARES).sum(-1).ge(p).all()) for each, p in _filtered(answer))


def _kept_as_they_were(answer: Answer) -> bool:
    logits = SHARES.log() + 2
    return all(bool(((each == -math.inf) | torch.isclose(each, logits)).all()) for each, _ in _filtered(answer))


PROBES = {
    "sampling_probabilities": SAMPLING_PROBABILITIES,
    "top_p_filter": TOP_P_FILTER,
}
INVARIANTS: dict[str, tuple[Invariant, ...]] = {
    "sampling_probabilities": (
        Invariant("sum_to_1", _sum_to_1, "the probabilities of a row must sum to 1; yours do not"),
        Invariant("most_likely_stays", _most_likely_stays, "the most likely token must stay the most likely one"),
    ),
    "top_p_filter": (
        Invariant("enough_stays", _enough_stays, "the tokens that stay must have p together; yours have less"),
        Invariant("kept_as_they_were", _kept_as_they_were, "a logit that stays must not change; yours does"),
    ),
}
