"""Probes of the exercises on losses: inputs chosen so that every known mistake shows.

All numbers are halves and quarters in float64, so that no mistake hides in rounding.

# B transitions of a batch, M transitions of a minibatch
"""

from typing import Any

import torch
from torch import Tensor

from lab.exercises.probes import Answer, Changed, Invariant, Probe, call, noting_changes

POINTS = torch.tensor(
    [
        [0.5, 2.0, -1.0], [0.875, 1.0, -2.0], [1.0, 0.5, -0.5], [1.125, 4.0, -3.0], [1.5, 2.0, -1.5],
        [0.5, -1.0, -2.5], [0.875, -2.0, -1.0], [1.0, -4.0, -0.25], [1.125, -0.5, -2.0], [1.5, -2.0, -4.0],
        [0.5, 0.25, -1.5], [1.5, 0.125, -0.5], [0.5, -0.125, -1.0], [1.5, -0.25, -2.0], [1.5, 0.0, -1.0],
    ],
    dtype=torch.float64,
)  # (15, 3)  # fmt: skip
RATIOS, ADVANTAGES, OLD_LOG_PROBS = POINTS.T  # (M,) each


def loss_and_gradients(function: Any, given: dict[str, Tensor], *names: str) -> dict[str, Any]:
    """Return a function's loss and its gradients with respect to the given arguments, which require them."""
    loss = function(*given.values())
    if not isinstance(loss, Tensor) or loss.ndim:
        return {"loss": loss} | {f"gradient of {name}": None for name in names}
    if loss.requires_grad:  # else it is a constant
        loss.backward()
    gradients = {name: given[name].grad for name in names}
    return {"loss": loss} | {
        f"gradient of {name}": torch.zeros_like(given[name]) if gradient is None else gradient
        for name, gradient in gradients.items()
    }


def _loss_probe(name: str, chosen: list[int], clip_ratio: float = 0.25, dtype: torch.dtype = torch.float64) -> Probe:
    """Return a probe of `policy_loss` at some of the points: the loss, and its gradient."""

    def arguments() -> dict[str, Any]:
        return {
            "log_probs": (OLD_LOG_PROBS + RATIOS.log())[chosen].to(dtype),
            "old_log_probs": OLD_LOG_PROBS[chosen].to(dtype),
            "advantages": ADVANTAGES[chosen].to(dtype),
            "clip_ratio": clip_ratio,
        }

    def run(answer: Answer) -> Changed:
        given = arguments()
        given["log_probs"].requires_grad_()
        return noting_changes(given, lambda: loss_and_gradients(answer["policy_loss"], given, "log_probs"))

    def shown() -> dict[str, Any]:
        given = arguments()
        ratios = (given["log_probs"] - given["old_log_probs"]).exp()
        return {"ratio": ratios, "advantages": given["advantages"], "clip_ratio": clip_ratio}

    return Probe(name, run, shown, relative=1e-9 if dtype == torch.float64 else 1e-4)


POLICY_LOSS = (
    _loss_probe("a good action, the ratio within the range", [3]),
    _loss_probe("a good action that became much more likely", [4]),
    _loss_probe("a good action that became much less likely", [0]),
    _loss_probe("a bad action that became much more likely", [9]),
    _loss_probe("a bad action that became much less likely", [5]),
    _loss_probe("ten actions", list(range(10))),
    _loss_probe("float32, a wider range", list(range(10)), clip_ratio=0.375, dtype=torch.float32),
)


def _unclipped_without_a_range(answer: Answer) -> bool:
    """Return True if the objective is not clipped where `clip_ratio` is None."""
    loss = answer["policy_loss"]((OLD_LOG_PROBS + RATIOS.log())[:10], OLD_LOG_PROBS[:10], ADVANTAGES[:10], None)
    return torch.allclose(loss, -(RATIOS * ADVANTAGES)[:10].mean())


def _in_proportion(answer: Answer) -> bool:
    """Return True if advantages that are twice as large give twice the loss."""
    given = (OLD_LOG_PROBS + RATIOS.log())[:10], OLD_LOG_PROBS[:10]
    once, twice = (answer["policy_loss"](*given, factor * ADVANTAGES[:10], 0.25) for factor in (1, 2))
    return torch.allclose(2 * once, twice)


def _normalize(name: str, *advantages: float, dtype: torch.dtype = torch.float64) -> Probe:
    def arguments() -> dict[str, Tensor]:
        return {"advantages": torch.tensor(advantages, dtype=dtype)}

    return call("normalize_advantages", name, arguments, relative=1e-4, absolute=1e-5)


SIX = (3.0, -1.0, 0.5, 4.0, -2.5, 2.0)
NORMALIZE_ADVANTAGES = (
    _normalize("two advantages", 3.0, -1.0),
    _normalize("the mean is 0 already", 4.0, -4.0, 2.0, -2.0),
    _normalize("all advantages are equal", 2.5, 2.5, 2.5, 2.5),
    _normalize("a single advantage", 1.5),
    _normalize("far from 0", *(each + 1024 for each in SIX)),
    _normalize("small ones", *(each / 128 for each in SIX)),
    _normalize("float32", *SIX, dtype=torch.float32),
    call(
        "normalize_advantages",
        "a tensor that is not contiguous",
        lambda: {"advantages": torch.tensor([SIX, SIX], dtype=torch.float64).t().contiguous()[:, 0]},
        relative=1e-4,
        absolute=1e-5,
    ),
)


def _normalized(answer: Answer, advantages: Tensor) -> Tensor:
    return answer["normalize_advantages"](advantages.clone())


def _mean_zero(answer: Answer) -> bool:
    return abs(_normalized(answer, torch.tensor(SIX).double()).mean().item()) < 1e-4


def _shift_free(answer: Answer) -> bool:
    six = torch.tensor(SIX).double()
    return torch.allclose(_normalized(answer, six), _normalized(answer, six + 8), rtol=1e-4, atol=1e-5)


def _scale_free(answer: Answer) -> bool:
    six = torch.tensor(SIX).double()
    return torch.allclose(_normalized(answer, six), _normalized(answer, 8 * six), rtol=1e-4, atol=1e-5)


def _deviation_one(answer: Answer) -> bool:
    """Return True if the deviation of the result is 1, whether it is divided by B or by B - 1."""
    result = _normalized(answer, torch.tensor(SIX).double())
    return any(abs(result.std(correction=correction).item() - 1) < 1e-4 for correction in (0, 1))


def _order_kept(answer: Answer) -> bool:
    """Return True if the best advantage stays the best, and the worst the worst."""
    six = torch.tensor(SIX).double()
    return torch.equal(_normalized(answer, six).argsort(), six.argsort())


PREDICTIONS = torch.tensor([1.0, -2.0, 0.5, 4.0, 3.0], dtype=torch.float64)  # (B,)
TARGETS = torch.tensor([3.0, -1.0, -1.0, 1.5, 3.25], dtype=torch.float64)  # (B,)


def _value_probe(name: str, size: slice, column: bool, dtype: torch.dtype = torch.float64) -> Probe:
    """Return a probe of `value_loss`: the loss, and the gradients of predictions and targets."""

    def arguments() -> dict[str, Tensor]:
        predictions = PREDICTIONS[size].to(dtype, copy=True)
        return {
            "predictions": predictions[:, None] if column else predictions,
            "targets": TARGETS[size].to(dtype, copy=True),
        }

    def run(answer: Answer) -> Changed:
        given = {key: value.requires_grad_() for key, value in arguments().items()}
        return noting_changes(given, lambda: loss_and_gradients(answer["value_loss"], given, "predictions", "targets"))

    return Probe(name, run, arguments, relative=1e-9 if dtype == torch.float64 else 1e-4)


VALUE_LOSS = (
    _value_probe("a single prediction", slice(0, 1), column=False),
    _value_probe("a single prediction, (1, 1)", slice(0, 1), column=True),
    _value_probe("two predictions, wrong by 2 and by 1", slice(0, 2), column=False),
    _value_probe("three predictions, (3, 1)", slice(0, 3), column=True),
    _value_probe("float32, (5, 1)", slice(0, 5), column=True, dtype=torch.float32),
)


def _zero_when_right(answer: Answer) -> bool:
    """Return True if the loss is 0 where every prediction is right."""
    return all(answer["value_loss"](TARGETS.view(shape), TARGETS.clone()).item() == 0 for shape in ((5,), (5, 1)))


def _same_for_a_column(answer: Answer) -> bool:
    """Return True if predictions (B, 1) and (B,) give the same loss."""
    column, row = (answer["value_loss"](PREDICTIONS.view(shape), TARGETS.clone()) for shape in ((5, 1), (5,)))
    return torch.allclose(column, row)


def _never_negative(answer: Answer) -> bool:
    """Return True if the loss is positive wherever a prediction is wrong."""
    return all(answer["value_loss"](TARGETS + shift, TARGETS.clone()).item() > 0 for shift in (-1.0, 1.0))


def _quadratic(answer: Answer) -> bool:
    """Return True if errors that are twice as large give four times the loss."""
    errors = PREDICTIONS - TARGETS
    once, twice = (answer["value_loss"](TARGETS + factor * errors, TARGETS.clone()).item() for factor in (1, 2))
    return abs(twice - 4 * once) < 1e-6 * abs(once)


def _same_for_two_copies(answer: Answer) -> bool:
    """Return True if a batch that holds everything twice gives the same loss."""
    once = answer["value_loss"](PREDICTIONS.clone(), TARGETS.clone())
    return torch.allclose(once, answer["value_loss"](PREDICTIONS.repeat(2), TARGETS.repeat(2)))


def _every_error_counts(answer: Answer) -> bool:
    """Return True if any single wrong prediction gives a loss."""
    single = torch.eye(5, dtype=torch.float64)  # (5, B)
    return all(answer["value_loss"](TARGETS + row, TARGETS.clone()).item() > 0 for row in single)


PROBES = {"normalize_advantages": NORMALIZE_ADVANTAGES, "policy_loss": POLICY_LOSS, "value_loss": VALUE_LOSS}
INVARIANTS: dict[str, tuple[Invariant, ...]] = {
    "normalize_advantages": (
        Invariant("mean_zero", _mean_zero, "the mean of the result must be 0; yours is not"),
        Invariant(
            "shift_free", _shift_free, "the same number added to all advantages must change nothing; yours changes"
        ),
        Invariant("deviation_one", _deviation_one, "the deviation of the result must be 1; yours is not"),
        Invariant("order_kept", _order_kept, "a better advantage must stay a better one, in its place; yours does not"),
        Invariant("scale_free", _scale_free, "advantages that are all 8 times as large must give the same result"),
    ),
    "policy_loss": (
        Invariant(
            "in_proportion",
            _in_proportion,
            "advantages twice as large must give twice the loss; yours does not: are they normalized, or clipped?",
        ),
    ),
    "value_loss": (
        Invariant(
            "zero_when_right", _zero_when_right, "where every prediction is right the loss must be 0; yours is not"
        ),
        Invariant("same_for_a_column", _same_for_a_column, "predictions (B, 1) and (B,) must give the same loss"),
        Invariant("quadratic", _quadratic, "errors twice as large must give four times the loss; yours does not"),
        Invariant("same_for_two_copies", _same_for_two_copies, "a batch that holds all twice must give the same loss"),
        Invariant("every_error_counts", _every_error_counts, "one wrong prediction must give a loss; yours does not"),
        Invariant("never_negative", _never_negative, "a wrong prediction must give a positive loss; yours does not"),
    ),
}
REMARKS: dict[str, tuple[Invariant, ...]] = {
    "policy_loss": (
        Invariant(
            "no_clip_ratio",
            _unclipped_without_a_range,
            "in the lab `clip_ratio` may also be None: then the loss is that of eq. 6, which is not clipped",
        ),
    ),
}
