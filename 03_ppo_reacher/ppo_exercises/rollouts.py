"""Probes of the exercises on rollouts: inputs chosen so that every known mistake shows.

Some probes leave one term of a formula alone (the action at the mean, a deviation of 1), which tells mistakes apart.

# B batch, A action_dim, N environments, O observation_dim
"""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lab.exercises.gradients import gradients_flow
from lab.exercises.probes import Answer, Changed, Invariant, Probe, call, noting_changes

RELATIVE = 1e-6  # some add a tiny number to the deviation before they divide by it
MEAN = torch.tensor([[1, -2, 0.5], [-1, 0.25, 3], [0, 1.5, -0.5], [2, -1, 1]], dtype=torch.float64)  # (B, A)
ACTION = torch.tensor([[2.5, -1, 2], [-3, 0.5, 1], [1, 4, -1.75], [1.5, 1, 3]], dtype=torch.float64)  # (B, A)
NOISE = torch.tensor([[1.5, -0.5, 2], [-2, 0.25, -1], [0.75, 3, -0.25], [-1, 1.25, 0.5]], dtype=torch.float64)
STD = [0.5, 1.0, 4.0]  # (A,)


def _log(std: Sequence[float]) -> Tensor:
    return torch.tensor(std, dtype=torch.float64).log()


def _log_prob(
    name: str,
    mean: Tensor,
    std: Sequence[float],
    action: Tensor,
    dtype: torch.dtype = torch.float64,
    relative: float = RELATIVE,
) -> Probe:
    def arguments() -> dict[str, Tensor]:
        tensors = {"mean": mean, "log_std": _log(std), "action": action}
        return {key: value.to(dtype, copy=True) for key, value in tensors.items()}

    return call("log_prob", name, arguments, relative=relative)


def _transposed() -> dict[str, Tensor]:
    given = {"mean": MEAN, "log_std": _log(STD), "action": ACTION}
    return {name: value.mT.contiguous().mT if value.ndim == 2 else value for name, value in given.items()}


LOG_PROB_GRADIENT = gradients_flow(
    "log_prob",
    lambda: {"mean": MEAN[:2].clone(), "log_std": _log(STD), "action": ACTION[:2].clone()},
    "mean",
    "log_std",
)
LOG_PROB = (
    _log_prob("one joint, the action is the mean, std 1", MEAN[:1, :1], [1.0], MEAN[:1, :1]),
    _log_prob("three joints, the action is the mean, std 1", MEAN[:2], [1.0] * 3, MEAN[:2]),
    _log_prob("one joint, the action is the mean, std 1/2", MEAN[:1, :1], [0.5], MEAN[:1, :1]),
    _log_prob("three joints, the action is the mean, std 1/2, 1, 4", MEAN[:2], [0.5, 1.0, 4.0], MEAN[:2]),
    _log_prob("one joint, std 1", torch.zeros(1, 1), [1.0], ACTION[:1, :1]),
    _log_prob("one joint, std 2", MEAN[:2, :1], [2.0], ACTION[:2, :1]),
    _log_prob("three joints, std 1/2, 1, 4", MEAN[:2], STD, ACTION[:2]),
    _log_prob("as many actions as joints", MEAN[1:], STD, ACTION[1:]),
    _log_prob("an action 40 standard deviations away", MEAN[:2, :2], [0.5, 1.0], MEAN[:2, :2] + 20.0),
    _log_prob("float32", MEAN, STD, ACTION, dtype=torch.float32, relative=1e-4),
    call("log_prob", "tensors that are not contiguous", _transposed, relative=RELATIVE),
)


def _batch_permutes(answer: Answer) -> bool:
    """Return True if reordered rows give reordered results."""
    order = torch.tensor([1, 2, 0, 3])
    plain_order = answer["log_prob"](MEAN.clone(), _log(STD), ACTION.clone())
    return torch.allclose(plain_order[order], answer["log_prob"](MEAN[order], _log(STD), ACTION[order]))


def _symmetric(answer: Answer) -> bool:
    """Return True if an action as far below the mean is as probable as one above it."""
    above = answer["log_prob"](MEAN.clone(), _log(STD), ACTION.clone())
    return torch.allclose(above, answer["log_prob"](MEAN.clone(), _log(STD), 2 * MEAN - ACTION))


def _density(answer: Answer, mean: Tensor, std: Sequence[float], action: Tensor) -> Tensor:
    return answer["log_prob"](mean.clone(), _log(std), action.clone())


def _differences_count(answer: Answer) -> bool:
    """Return True if mean and action, both moved by the same amount, give the same result."""
    return torch.allclose(_density(answer, MEAN, STD, ACTION), _density(answer, MEAN + 2, STD, ACTION + 2))


def _highest_at_the_mean(answer: Answer) -> bool:
    return bool((_density(answer, MEAN, STD, MEAN) > _density(answer, MEAN, STD, MEAN + 0.5)).all())


def _wider_is_lower(answer: Answer) -> bool:
    """Return True if twice the deviation lowers the density at the mean to half, in each of three joints."""
    narrow, wide = _density(answer, MEAN, STD, MEAN), _density(answer, MEAN, [2 * std for std in STD], MEAN)
    return torch.allclose(narrow - wide, torch.full_like(narrow, 3 * math.log(2)))


def _joints_add_up(answer: Answer) -> bool:
    """Return True if the log-density of three joints is the sum of those of each joint."""
    joints = [
        _density(answer, MEAN[:, joint : joint + 1], STD[joint : joint + 1], ACTION[:, joint : joint + 1])
        for joint in range(3)
    ]
    return torch.allclose(_density(answer, MEAN, STD, ACTION), torch.stack(joints).sum(0))


def _sample(
    name: str,
    low: float | list[float],
    high: float | list[float],
    rows: slice = slice(0, 4),
    std: Sequence[float] = STD,
    noise: Tensor = NOISE,
    dtype: torch.dtype = torch.float64,
) -> Probe:
    size = len(std)

    def bound(value: float | list[float]) -> float | Tensor:
        return torch.tensor(value, dtype=dtype) if isinstance(value, list) else value

    def arguments() -> dict[str, Any]:
        tensors = {"mean": MEAN[rows, :size], "log_std": _log(std), "noise": noise[rows, :size]}
        copies = {key: value.to(dtype, copy=True) for key, value in tensors.items()}
        return {**copies, "low": bound(low), "high": bound(high)}

    return call("sample_action", name, arguments, relative=RELATIVE if dtype == torch.float64 else 1e-4)


LOW, HIGH = [-1.0, -0.5, -2.0], [2.0, 1.0, 0.75]
SAMPLE_ACTION = (
    _sample("one joint, no noise, nothing to clip", -4.0, 4.0, slice(0, 1), [1.0], torch.zeros(4, 3)),
    _sample("one joint, std 1, nothing to clip", -4.0, 4.0, slice(0, 1), [1.0]),
    _sample("one joint, std 2, nothing to clip", -8.0, 9.0, slice(0, 1), [2.0]),
    _sample("one joint, above the bounds", -1.0, 2.0, slice(0, 1), [2.0]),
    _sample("one joint, below the bounds", -1.0, 2.0, slice(1, 2), [2.0]),
    _sample("the mean is out of bounds", -2.0, 0.5, slice(3, 4), [1.0], torch.full((4, 3), 0.25)),
    _sample("the bounds are numbers", -1.0, 1.0, slice(0, 2)),
    _sample("the bounds differ between the joints", LOW, HIGH),
    _sample("as many actions as joints", LOW, HIGH, slice(1, 4)),
    _sample("float32", LOW, HIGH, dtype=torch.float32),
)


def _scores_what_is_stored(answer: Answer) -> bool:
    """Return True if the log-density is that of the returned action: before an update all ratios are 1."""
    log_std = _log(STD)
    action, _, log_prob = answer["sample_action"](MEAN.clone(), log_std.clone(), NOISE.clone(), -1.0, 1.0)
    logs = -0.5 * ((action - MEAN) / log_std.exp()).square() - log_std - 0.5 * math.log(2 * math.pi)
    return torch.allclose(log_prob, logs.sum(-1))


def _uses_the_noise(answer: Answer) -> bool:
    """Return True if the same noise gives the same actions."""
    first, second = (answer["sample_action"](MEAN.clone(), _log(STD), NOISE.clone(), -1.0, 1.0)[0] for _ in range(2))
    return torch.equal(first, second)


def _within_bounds(answer: Answer) -> bool:
    low, high = torch.tensor(LOW).double(), torch.tensor(HIGH).double()
    clipped = answer["sample_action"](MEAN.clone(), _log(STD), NOISE.clone(), low, high)[1]
    return bool(((clipped >= low) & (clipped <= high)).all())


def _mean_without_noise(answer: Answer) -> bool:
    """Return True if the action is the mean where the noise is 0."""
    return torch.allclose(answer["sample_action"](MEAN.clone(), _log(STD), torch.zeros_like(NOISE), -1.0, 1.0)[0], MEAN)


def _inside_unchanged(answer: Answer) -> bool:
    """Return True if an action within the bounds reaches the environment as it was drawn."""
    action, clipped, _ = answer["sample_action"](MEAN.clone(), _log(STD), NOISE.clone(), -64.0, 64.0)
    return torch.allclose(action, clipped)


def _own_noise(answer: Answer) -> bool:
    """Return True if reordered rows give reordered actions."""
    order = torch.tensor([1, 2, 0, 3])
    before = answer["sample_action"](MEAN.clone(), _log(STD), NOISE.clone(), -1.0, 1.0)[0]
    return torch.allclose(before[order], answer["sample_action"](MEAN[order], _log(STD), NOISE[order], -1.0, 1.0)[0])


class Info(dict[str, Any]):
    """The `info` of a step, which remembers the keys that were asked for."""

    def __init__(self, values: dict[str, Any]) -> None:
        super().__init__(values)
        self.asked: set[str] = set()

    def __getitem__(self, key: str) -> Any:
        self.asked.add(key)
        return super().__getitem__(key)

    def __contains__(self, key: object) -> bool:
        self.asked.add(str(key))
        return super().__contains__(key)

    def get(self, key: str, default: Any = None) -> Any:
        """Return the value of a key, or the default."""
        self.asked.add(key)
        return super().get(key, default)


def step_arguments(envs: int, size: int, ended: Sequence[int]) -> dict[str, Any]:
    """Return the arguments of `true_next_observations`: 12.5 is environment 1, number 2; final ones are negative."""
    observations = 10.0 * np.arange(envs)[:, None] + np.arange(size) + 0.5  # (N, O)
    if not ended:
        return {"next_observations": observations, "info": {"reward_dist": np.zeros(envs)}}
    final = np.full(envs, None, dtype=object)  # (N,)
    for env in ended:
        final[env] = observations[env] - 64
    mask = np.isin(np.arange(envs), ended)  # (N,)
    return {"next_observations": observations, "info": {"final_obs": final, "_final_obs": mask}}


def _true_next(name: str, *sizes: int, ended: Sequence[int]) -> Probe:
    def arguments() -> dict[str, Any]:
        return step_arguments(*sizes, ended=ended)

    def run(answer: Answer) -> Changed:
        given = arguments()
        info = Info(given["info"])
        given["info"] = info
        found = noting_changes(given, lambda: answer["true_next_observations"](given["next_observations"], info))
        asks_old_key = any("final_observation" in key for key in info.asked)
        if asks_old_key and not info.asked & {"final_obs", "_final_obs"}:
            return Changed({"result": found.value, "asks for": "final_observation"}, found.names)
        return found

    return Probe(name, run, arguments)


TRUE_NEXT_OBSERVATIONS = (
    _true_next("no episode ended", 2, 3, ended=()),
    _true_next("one of two episodes ended", 2, 3, ended=(1,)),
    _true_next("the first of two episodes ended", 2, 3, ended=(0,)),
    _true_next("all episodes ended", 3, 2, ended=(0, 1, 2)),
    _true_next("as many environments as numbers, two ended", 4, 4, ended=(1, 3)),
    _true_next("one environment", 1, 4, ended=(0,)),
)


def _others_unchanged(answer: Answer) -> bool:
    """Return True if the environments whose episodes go on keep their observations."""
    result = answer["true_next_observations"](*step_arguments(5, 3, (1, 4)).values())
    return bool(np.array_equal(result[[0, 2, 3]], step_arguments(5, 3, ())["next_observations"][[0, 2, 3]]))


def _final_where_ended(answer: Answer) -> bool:
    """Return True if the environments whose episodes ended have their final observations."""
    result = answer["true_next_observations"](*step_arguments(5, 3, (1, 4)).values())
    return bool(np.array_equal(result[[1, 4]], step_arguments(5, 3, ())["next_observations"][[1, 4]] - 64))


PROBES = {
    "log_prob": LOG_PROB,
    "sample_action": SAMPLE_ACTION,
    "true_next_observations": TRUE_NEXT_OBSERVATIONS,
}
INVARIANTS: dict[str, tuple[Invariant, ...]] = {
    "log_prob": (
        Invariant("batch_permutes", _batch_permutes, "reordered rows must give reordered results; yours do not"),
        Invariant("symmetric", _symmetric, "an action as far below the mean as above it must be as probable"),
        Invariant(
            "highest_at_the_mean", _highest_at_the_mean, "the mean must be the most probable action; yours is not"
        ),
        Invariant("differences_count", _differences_count, "mean and action moved together must change nothing"),
        Invariant(
            "wider_is_lower", _wider_is_lower, "twice the deviation must halve the density at the mean, per joint"
        ),
        Invariant("joints_add_up", _joints_add_up, "an action's log-density must be the sum of those of its joints"),
    ),
    "sample_action": (
        Invariant("uses_the_noise", _uses_the_noise, "the same noise gave another action: use the noise that is given"),
        Invariant("mean_without_noise", _mean_without_noise, "where the noise is 0 the action must be the mean"),
        Invariant("own_noise", _own_noise, "reordered rows must give reordered actions; yours do not"),
        Invariant(
            "inside_unchanged", _inside_unchanged, "the environment must get an action within the bounds as it is"
        ),
        Invariant("within_bounds", _within_bounds, "the environment gets actions outside of its bounds"),
        Invariant(
            "scores_what_is_stored",
            _scores_what_is_stored,
            "the log-density is not that of the action that you store: the ratio starts away from 1",
        ),
    ),
    "true_next_observations": (
        Invariant(
            "others_unchanged", _others_unchanged, "an environment whose episode goes on got another observation"
        ),
        Invariant("final_where_ended", _final_where_ended, "where an episode ended, its final observation is expected"),
    ),
}
REMARKS: dict[str, tuple[Invariant, ...]] = {
    "log_prob": (LOG_PROB_GRADIENT,),
}
