"""Probes of the exercises of lesson 3: inputs chosen so that every known mistake shows.

All numbers are halves and quarters in float64, so that no mistake hides in rounding.

# T steps of a rollout, N environments, M transitions of a minibatch
"""

from typing import Any

import torch
from torch import Tensor

from lab.exercises.probes import Answer, Invariant, Probe, call

REWARDS = torch.tensor(
    [[1, 2], [-2, 4], [0.5, -1], [3, 0], [-1, 1.5], [2, -3], [0.5, 2.5], [4, 1], [-0.5, 2]],
    dtype=torch.float64,
)  # (T, N) with T = 9, N = 2
VALUES = torch.tensor(
    [[2, -1], [4, 0.5], [-3, 2], [1, 6], [0.5, -2], [-4, 3], [5, 1], [1.5, -0.5], [3, 4]],
    dtype=torch.float64,
)  # (T, N)
NEXT_VALUES = torch.tensor(
    [[4, 0.5], [7, 2], [1, 6], [0.5, 9], [-8, -2], [5, 3], [1.5, 1], [3, -6], [2.5, -1.5]],
    dtype=torch.float64,
)  # (T, N) where an episode ends, not the value of the next row


def gae_arguments(
    steps: slice,
    terminated: tuple[tuple[int, int], ...] = (),
    truncated: tuple[tuple[int, int], ...] = (),
    discount: float = 0.5,
    gae_lambda: float = 0.25,
    envs: int = 2,
    dtype: torch.dtype = torch.float64,
) -> dict[str, Any]:
    """Return arguments of `compute_gae`: some rows of the rollout, and the places where episodes end."""
    rewards, values, next_values = (
        table[steps, :envs].to(dtype, copy=True) for table in (REWARDS, VALUES, NEXT_VALUES)
    )  # (T, N) each
    flags = torch.zeros(2, *rewards.shape, dtype=torch.bool)  # (2, T, N)
    for flag, places in zip(flags, (terminated, truncated), strict=True):
        for t, env in places:
            flag[t, env] = True
    return {
        "rewards": rewards,
        "values": values,
        "next_values": next_values,
        "terminated": flags[0],
        "truncated": flags[1],
        "discount": discount,
        "gae_lambda": gae_lambda,
    }


def _gae(name: str, relative: float = 1e-9, **settings: Any) -> Probe:
    return call("compute_gae", name, lambda: gae_arguments(**settings), relative=relative)


def _not_contiguous() -> dict[str, Any]:
    arguments = gae_arguments(slice(0, 9), terminated=((2, 0),), truncated=((5, 1),))
    return {
        name: value.t().contiguous().t() if isinstance(value, Tensor) else value for name, value in arguments.items()
    }


COMPUTE_GAE = (
    _gae("three steps within an episode", steps=slice(0, 3), envs=1),
    _gae("an episode terminates", steps=slice(0, 4), terminated=((1, 0),), envs=1),
    _gae("a time limit truncates an episode", steps=slice(0, 4), truncated=((1, 0),), envs=1),
    _gae("both flags are set", steps=slice(0, 4), terminated=((1, 0),), truncated=((1, 0),), envs=1),
    _gae("the rollout ends with the end of an episode", steps=slice(0, 3), terminated=((2, 0),), envs=1),
    _gae("a rollout of one step", steps=slice(0, 1)),
    _gae(
        "two environments with ends of both kinds",
        steps=slice(0, 9),
        terminated=((1, 0), (6, 0), (3, 1)),
        truncated=((4, 0), (3, 1), (7, 1)),
    ),
    _gae("lambda is 1", steps=slice(2, 7), truncated=((2, 1),), gae_lambda=1.0),
    _gae("lambda is 0", steps=slice(2, 7), truncated=((2, 1),), gae_lambda=0.0),
    _gae(
        "float32",
        steps=slice(0, 9),
        terminated=((1, 0),),
        truncated=((4, 1),),
        dtype=torch.float32,
        relative=1e-4,
    ),
    call("compute_gae", "tensors that are not contiguous", _not_contiguous),
)


def _advantages(answer: Answer, **settings: Any) -> Tensor:
    return answer["compute_gae"](*gae_arguments(slice(0, 9), **settings).values())[0]


def _no_leak(answer: Answer) -> bool:
    """Return True if nothing after the end of an episode changes the advantages before it."""
    arguments = gae_arguments(slice(0, 9), truncated=((4, 0), (4, 1)))
    before = answer["compute_gae"](*arguments.values())[0]
    arguments["rewards"][5:] += 8.0
    return torch.equal(before[:5], answer["compute_gae"](*arguments.values())[0][:5])


def _lambda_zero(answer: Answer) -> bool:
    deltas = REWARDS + 0.5 * NEXT_VALUES - VALUES
    return torch.allclose(_advantages(answer, gae_lambda=0.0), deltas)


def _gamma_zero(answer: Answer) -> bool:
    return torch.allclose(_advantages(answer, discount=0.0), REWARDS - VALUES)


RATIOS = torch.tensor([0.5, 0.875, 1.0, 1.125, 1.5, 0.5, 0.875, 1.0, 1.125, 1.5], dtype=torch.float64)  # (M,)
ADVANTAGES = torch.tensor([2.0, 1.0, 0.5, 4.0, 2.0, -1.0, -2.0, -4.0, -0.5, -2.0], dtype=torch.float64)  # (M,)
OLD_LOG_PROBS = torch.tensor([-1.0, -2.0, -0.5, -3.0, -1.5, -2.5, -1.0, -0.25, -2.0, -4.0], dtype=torch.float64)  # (M,)


def _loss_probe(name: str, chosen: list[int], clip_ratio: float = 0.25, dtype: torch.dtype = torch.float64) -> Probe:
    """Return a probe of `policy_loss` at some of the points: the loss, and its gradient."""

    def arguments() -> dict[str, Any]:
        return {
            "log_probs": (OLD_LOG_PROBS + RATIOS.log())[chosen].to(dtype),
            "old_log_probs": OLD_LOG_PROBS[chosen].to(dtype),
            "advantages": ADVANTAGES[chosen].to(dtype),
            "clip_ratio": clip_ratio,
        }

    def run(answer: Answer) -> Any:
        given = arguments()
        given["log_probs"].requires_grad_()
        loss = answer["policy_loss"](*given.values())
        if not isinstance(loss, Tensor) or loss.ndim:
            return {"loss": loss, "gradient": None}
        if not loss.requires_grad:  # a constant
            return {"loss": loss, "gradient": torch.zeros_like(given["log_probs"])}
        loss.backward()
        return {"loss": loss, "gradient": given["log_probs"].grad}

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
    _loss_probe("a wider range", list(range(10)), clip_ratio=0.375),
    _loss_probe("float32", list(range(10)), dtype=torch.float32),
)

PROBES = {"compute_gae": COMPUTE_GAE, "policy_loss": POLICY_LOSS}
INVARIANTS: dict[str, tuple[Invariant, ...]] = {
    "compute_gae": (
        Invariant("lambda_zero", _lambda_zero, "with lambda = 0 an advantage is its TD error alone; yours is not"),
        Invariant("gamma_zero", _gamma_zero, "with gamma = 0 an advantage is r - V; yours is not"),
        Invariant("no_leak", _no_leak, "a reward after the end of an episode changes your advantages before it"),
    ),
}
