"""Probes of the exercise on PPO's update: a linear policy and gradient descent, whose parameters are compared.

# B transitions of a rollout, O observation_dim, A action_dim
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from lab.exercises.probes import Answer, Changed, Invariant, Probe, noting_changes

OBSERVATIONS = torch.tensor(
    [[1, 0.5], [-1, 2], [0.5, -1.5], [2, 1], [-0.5, 1], [1.5, -1], [-2, -0.5]], dtype=torch.float64
)  # (B, O)
ACTIONS = torch.tensor([[0.5], [-1], [1.5], [0], [2], [-0.5], [1]], dtype=torch.float64)  # (B, A)
ADVANTAGES = torch.tensor([2, -0.5, 1, -2, 1.5, 0.5, -1.5], dtype=torch.float64)  # (B,)
OLD_SHIFTS = torch.tensor([-0.25, 0.5, 0.75, -0.125, -0.5, 0.25, 0.375], dtype=torch.float64)  # (B,)


class LinearPolicy(nn.Module):
    """A Gaussian policy with deviation 1, whose mean is a linear function of the observation."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.tensor([[0.5], [-0.25]], dtype=torch.float64))  # (O, A)

    def log_prob(self, observations: Tensor, actions: Tensor) -> Tensor:
        """Return the log-density of actions (B, A), without its constant, (B,)."""
        return -0.5 * (actions - observations @ self.weight).square().sum(-1)


class WatchedSGD(torch.optim.Optimizer):
    """Gradient descent with momentum, which counts its steps and remembers the gradient before the first one."""

    def __init__(self, parameters: Iterable[nn.Parameter], lr: float, momentum: float = 0.0) -> None:
        super().__init__(parameters, {"lr": lr})
        self.parameter: nn.Parameter = self.param_groups[0]["params"][0]
        self.momentum = momentum
        self.velocity = torch.zeros_like(self.parameter)
        self.steps = 0
        self.note = "there was no step"

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Note a gradient that is zeroed before the first step."""
        if self.steps == 0 and self.parameter.grad is not None and bool(self.parameter.grad.any()):
            self.note = "the gradient was zeroed before the step"
        super().zero_grad(set_to_none)

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        """Take a step, and note a first one without a gradient."""
        if closure is not None:
            with torch.enable_grad():
                closure()
        gradient = self.parameter.grad
        if self.steps == 0 and self.note == "there was no step":
            self.note = "the step had no gradient" if gradient is None else "the gradient was 0"
        self.steps += 1
        if gradient is not None:
            self.velocity = self.momentum * self.velocity + gradient
            self.parameter.sub_(self.velocity, alpha=self.param_groups[0]["lr"])


def update_arguments(
    size: int,
    orders: Sequence[Sequence[int]],
    num_minibatches: int,
    clip_ratio: float = 0.25,
    shift: float = 1.0,
    **settings: Any,
) -> dict[str, Any]:
    """Return the arguments of `ppo_epochs` for the first transitions."""
    policy = LinearPolicy()
    with torch.no_grad():
        log_probs = policy.log_prob(OBSERVATIONS[:size], ACTIONS[:size])
    return {
        "policy": policy,
        "optimizer": WatchedSGD(policy.parameters(), **{"lr": 0.25} | settings),
        "observations": OBSERVATIONS[:size].clone(),
        "actions": ACTIONS[:size].clone(),
        "old_log_probs": log_probs + shift * OLD_SHIFTS[:size],
        "advantages": ADVANTAGES[:size].clone(),
        "orders": [torch.tensor(order) for order in orders],
        "num_minibatches": num_minibatches,
        "clip_ratio": clip_ratio,
    }


def weight_after(answer: Answer, given: dict[str, Any]) -> dict[str, Any]:
    """Return the policy's weight after the update, and if it is what it was, why."""
    weight = given["policy"].weight
    before = weight.detach().clone()
    answer["ppo_epochs"](*given.values())
    note = given["optimizer"].note if torch.equal(weight, before) else "the weight has changed"
    return {"weight": weight.detach().clone(), "note": note}


def _update(name: str, size: int, orders: Sequence[Sequence[int]], num_minibatches: int, **settings: Any) -> Probe:
    def arguments() -> dict[str, Any]:
        return update_arguments(size, orders, num_minibatches, **settings)

    def run(answer: Answer) -> Changed:
        given = arguments()
        watched = {key: value for key, value in given.items() if key not in ("policy", "optimizer")}
        return noting_changes(watched, lambda: weight_after(answer, given))

    def shown() -> dict[str, Any]:
        return {key: value for key, value in arguments().items() if key not in ("policy", "optimizer")}

    return Probe(name, run, shown, relative=1e-7)


PPO_EPOCHS = (
    _update("one step, one good action whose ratio is in the range", 1, [[0]], 1, shift=0.0),
    _update("one step, two actions, one is clipped", 2, [[1, 0]], 1, clip_ratio=0.375),
    _update("two epochs of one minibatch", 4, [[2, 0, 3, 1], [1, 3, 0, 2]], 1),
    _update(
        "two epochs of two minibatches, the ratio starts at 1",
        4,
        [[3, 0, 1, 2], [1, 3, 2, 0]],
        2,
        shift=0.0,
        lr=0.125,
        momentum=0.5,
    ),
    _update("five transitions, two minibatches", 5, [[4, 1, 3, 0, 2]], 2),
)


class RecordingPolicy(LinearPolicy):
    """A policy that remembers which rows it was asked for."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[tuple[list[int], list[int]]] = []

    def log_prob(self, observations: Tensor, actions: Tensor) -> Tensor:
        """Note the rows of the observations and of the actions."""
        rows = [_rows(observations, OBSERVATIONS), _rows(actions, ACTIONS)]
        self.asked.append((rows[0], rows[1]))
        return super().log_prob(observations, actions)


def _rows(tensor: Tensor, table: Tensor) -> list[int]:
    return [int((table == row).all(-1).nonzero()[0, 0]) for row in tensor]


def _asked(answer: Answer) -> list[tuple[list[int], list[int]]]:
    """Return the rows of observations and actions of every call of the policy, in one epoch of two minibatches."""
    given = update_arguments(4, [[2, 0, 3, 1]], 2)
    given["policy"] = RecordingPolicy()
    given["optimizer"] = WatchedSGD(given["policy"].parameters(), lr=0.25)
    answer["ppo_epochs"](*given.values())
    return given["policy"].asked


def _rows_together(answer: Answer) -> bool:
    return all(observations == actions for observations, actions in _asked(answer))


def _all_rows(answer: Answer) -> bool:
    return {row for observations, _ in _asked(answer) for row in observations} == {0, 1, 2, 3}


def _given_order(answer: Answer) -> bool:
    """Return True if the first of two minibatches holds the first rows of the order, or every second one."""
    asked = _asked(answer)
    if [len(rows) for rows, _ in asked] != [2, 2]:
        return True  # the policy is asked for other rows as well: nothing can be said
    return sorted(asked[0][0]) in ([0, 2], [2, 3])


def _steps(answer: Answer) -> bool:
    """Return True if there is one gradient step for every minibatch of every epoch."""
    given = update_arguments(4, [[2, 0, 3, 1], [1, 3, 2, 0]], 2)
    answer["ppo_epochs"](*given.values())
    return given["optimizer"].steps == 4


def _moved(answer: Answer, change: Callable[[dict[str, Any]], None]) -> float:
    """Return how far the weight moves if the arguments are changed first."""
    given = update_arguments(4, [[2, 0, 3, 1]], 2, shift=0.0)
    before = given["policy"].weight.detach().clone()
    change(given)
    answer["ppo_epochs"](*given.values())
    return float((given["policy"].weight.detach() - before).abs().sum())


def _no_advantage(answer: Answer) -> bool:
    """Return True if nothing changes where all advantages are 0."""
    return _moved(answer, lambda given: given["advantages"].zero_()) < 1e-9


def _no_order(answer: Answer) -> bool:
    """Return True if nothing changes where no order is given."""
    return _moved(answer, lambda given: given["orders"].clear()) < 1e-9


def _uphill(answer: Answer) -> bool:
    """Return True if a good action becomes more probable."""
    given = update_arguments(1, [[0]], 1, shift=0.0)
    answer["ppo_epochs"](*given.values())
    with torch.no_grad():
        after = given["policy"].log_prob(OBSERVATIONS[:1], ACTIONS[:1])
    return bool(after > given["old_log_probs"])


PROBES = {"ppo_epochs": PPO_EPOCHS}
INVARIANTS: dict[str, tuple[Invariant, ...]] = {
    "ppo_epochs": (
        Invariant("uphill", _uphill, "a good action must become more probable; yours does not"),
        Invariant("rows_together", _rows_together, "observations and actions in your minibatch belong to other rows"),
        Invariant("steps", _steps, "two epochs of two minibatches are four gradient steps; yours are not"),
        Invariant("given_order", _given_order, "your first minibatch does not hold the first rows of the order"),
        Invariant("all_rows", _all_rows, "an epoch must visit every transition; yours leaves some out"),
        Invariant("no_order", _no_order, "one epoch for each order: where none is given, nothing may change"),
        Invariant("no_advantage", _no_advantage, "where all advantages are 0 nothing may change; yours changes"),
    ),
}
