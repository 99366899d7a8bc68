"""Probes of the exercises on many agents at once (lesson 1): inputs chosen so that every known mistake shows.

All numbers are multiples of 1/16, mostly in float64, so that no mistake hides in rounding.

Shapes: N agents, S states, A actions.
"""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from lab.exercises.probes import Answer, Invariant, Probe, call, noting_changes


def dyadic(*shape: int, seed: int, dtype: torch.dtype = torch.float64) -> Tensor:
    """Return a tensor of quarters between -4 and 4."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(-16, 17, shape, generator=generator).to(dtype) / 4


def numbers(*values: float, dtype: torch.dtype = torch.float64) -> Tensor:
    """Return a vector."""
    return torch.tensor(values, dtype=dtype)


# --- loops ------------------------------------------------------------------------------------------------------------

TIMES = 8  # as many agents, for which an answer without a loop makes no more calls


class Calls(TorchFunctionMode):
    """Counts the calls of PyTorch in a block, and notes whether a tensor is made into a list."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0
        self.makes_lists = False

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.count += 1
        self.makes_lists = self.makes_lists or func is Tensor.tolist
        return func(*args, **(kwargs or {}))


def _all_at_once(function: str, arguments: Callable[[], dict[str, Any]], dimensions: Mapping[str, int]) -> Invariant:
    """Return the property that a function does not go through the agents one by one.

    `dimensions`: of each argument the dimension of the agents, along which it is repeated.
    """

    def holds(answer: Answer) -> bool:
        few, many = Calls(), Calls()
        given = arguments()
        repeated = {name: torch.cat([given[name]] * TIMES, dimension) for name, dimension in dimensions.items()}
        for calls, tensors in ((few, given), (many, given | repeated)):
            with calls:
                answer[function](*tensors.values())
        return many.count == few.count and not many.makes_lists

    sentence = "it goes through the agents one by one, which is slow where there are many: work on all of them at once"
    return Invariant("all_at_once", holds, sentence)


# --- act --------------------------------------------------------------------------------------------------------------

# five agents with four actions: ties of two, of all, of three, and single best actions
FIVE = torch.tensor(
    [[1, 0, -1, 5, 2], [3, 0, -4, 5, 7], [3, 0, -2, 1, 2], [0, 0, -1, 5, 1]],
    dtype=torch.float64,
)  # (A, N)
EPSILON = numbers(0.5, 0.25, 0.0, 0.75, 0.125)
EXPLOIT = numbers(0.5, 0.875, 0.0, 0.9375, 0.25)
EXPLORE = numbers(0.25, 0.125, 0.5, 0.5, 0.0)
NOTHING = numbers(0, 0, 0, 0, 0)
TIES = numbers(0.5, 0.75, 0.9375, 0.625, 0.25)


def _whole(value: Any) -> Any:
    """Return a tensor of any integer type as int64."""
    if isinstance(value, Tensor) and not (value.is_floating_point() or value.is_complex() or value.dtype == torch.bool):
        return value.long()
    return value


ACT = ("values", "epsilon", "explore_draw", "tie_break_draw")


def _act(name: str, arguments: Callable[[], tuple[Tensor, Tensor, Tensor, Tensor]]) -> Probe:
    return call("batched_act", name, lambda: dict(zip(ACT, arguments(), strict=True)), result=_whole)


def _copies(*tensors: Tensor) -> Callable[[], Any]:
    return lambda: tuple(tensor.clone() for tensor in tensors)


def _draws(actions: int, agents: int, seed: int) -> Any:
    """Return arguments with many ties; a third of the agents explore."""
    generator = torch.Generator().manual_seed(seed)
    values = torch.randint(-2, 2, (actions, agents), generator=generator).double()
    draws = torch.randint(0, 64, (3, agents), generator=generator).double() / 64
    return values, draws[0] / 2, draws[1], draws[2]


def _not_contiguous() -> Any:
    values, epsilon, explore, ties = _draws(4, 12, seed=3)
    return values.t().contiguous().t(), *(torch.stack([x, x + 0.25], 1)[:, 0] for x in (epsilon, explore, ties))


NEAR = torch.tensor([[1.0, 2.0], [1.0 - 2**-40, 2.0 + 2**-40], [1.0, 2.0]], dtype=torch.float64)  # (A, N)
BATCHED_ACT = (
    _act("two agents that do not explore", _copies(FIVE[:, :2], numbers(0, 0), numbers(0.5, 0.5), numbers(0.5, 0.25))),
    _act("five agents, none explores", _copies(FIVE, EPSILON, EXPLOIT, TIES)),
    _act("five agents, the third does not explore", _copies(FIVE, EPSILON, EXPLORE, TIES)),
    _act("all draws are 0", _copies(FIVE, numbers(0, 0.5, 0, 1, 0.25), NOTHING, NOTHING)),
    _act("values that nearly tie", _copies(NEAR, numbers(0, 0), numbers(0.5, 0.5), numbers(0.5, 0.75))),
    _act("as many agents as actions", lambda: _draws(4, 4, seed=1)),
    _act("a single agent with seven actions", lambda: _draws(7, 1, seed=2)),
    _act("tensors that are not contiguous", _not_contiguous),
)


def _own_column(answer: Answer) -> bool:
    """Return True if the action of an agent depends on nothing of the others."""
    values, epsilon, explore, ties = _draws(4, 6, seed=6)
    before = answer["batched_act"](values.clone(), epsilon, explore, ties)
    values[:, 3:] += 8
    return torch.equal(_whole(before)[:3], _whole(answer["batched_act"](values, epsilon, explore, ties))[:3])


def _takes_the_best(answer: Answer) -> bool:
    values, epsilon, _, ties = _draws(4, 30, seed=7)
    action = _whole(answer["batched_act"](values, 0 * epsilon, ties, ties))
    return torch.equal(values[action, torch.arange(30)], values.amax(0))


def _explores_everything(answer: Answer) -> bool:
    values, epsilon, explore, _ = _draws(4, 8, seed=8)
    ties = torch.arange(8).double() / 8
    action = _whole(answer["batched_act"](values, torch.ones_like(epsilon), explore, ties))
    return action.tolist() == [0, 0, 1, 1, 2, 2, 3, 3]


# --- update -----------------------------------------------------------------------------------------------------------


def _step(agents: int, states: int, actions: int, seed: int, flags: torch.dtype = torch.bool) -> dict[str, Any]:
    """Return arguments of `batched_update`; every third agent reached the goal."""
    generator = torch.Generator().manual_seed(seed)
    return {
        "q": dyadic(agents, states, actions, seed=seed),
        "state": torch.randint(0, states, (agents,), generator=generator),
        "action": torch.randint(0, actions, (agents,), generator=generator),
        "reward": dyadic(agents, seed=seed + 100),
        "next_state": torch.randint(0, states, (agents,), generator=generator),
        "nonterminal": (torch.arange(agents) % 3 != 1).to(flags),
        "alpha": 0.25,
        "gamma": 0.75,
    }


def _update(name: str, arguments: Callable[[], dict[str, Any]]) -> Probe:
    """Return a probe that compares the tables after the update."""

    def run(answer: Answer) -> Any:
        given = arguments()
        fixed = {key: value for key, value in given.items() if key != "q"}

        def updated() -> dict[str, Any]:
            result = answer["batched_update"](*given.values())
            return {"q": given["q"], "returns None": result is None}

        return noting_changes(fixed, updated)

    return Probe(name, run, arguments)


def _two_agents() -> dict[str, Any]:
    return {
        "q": torch.tensor([[[1, 4], [8, 2]], [[-2, 3], [6, -1]]], dtype=torch.float64),
        "state": torch.tensor([0, 0]),
        "action": torch.tensor([1, 0]),
        "reward": numbers(-1, 10),
        "next_state": torch.tensor([1, 1]),
        "nonterminal": torch.tensor([1, 0]),
        "alpha": 0.25,
        "gamma": 0.75,
    }


BATCHED_UPDATE = (
    _update("two agents, one at the goal", _two_agents),
    _update("N 4, S 3, A 2", lambda: _step(4, 3, 2, seed=1)),
    _update("two agents in the same cell", lambda: _step(4, 3, 2, seed=3) | {"state": torch.tensor([2, 0, 2, 1])}),
    _update("a single agent", lambda: _step(1, 4, 3, seed=4, flags=torch.int64)),
    _update("alpha is 1, gamma is 1", lambda: _step(4, 3, 2, seed=7) | {"alpha": 1.0, "gamma": 1.0}),
)  # fmt: skip


def _updated(answer: Answer, given: Mapping[str, Any]) -> tuple[Tensor, Tensor]:
    """Return the tables before and after an update."""
    before = given["q"].clone()
    answer["batched_update"](*given.values())
    return before, given["q"]


def _one_entry_each(answer: Answer) -> bool:
    given = _step(12, 5, 4, seed=10)
    before, after = _updated(answer, given)
    allowed = torch.zeros_like(before, dtype=torch.bool)
    allowed[torch.arange(12), given["state"], given["action"]] = True
    return torch.equal(before[~allowed], after[~allowed])


def _alone(answer: Answer) -> bool:
    """Return True if an agent learns the same alone as among others."""
    given = _step(6, 4, 3, seed=11)
    alone = {key: value[2:3].clone() if isinstance(value, Tensor) else value for key, value in given.items()}
    return torch.allclose(_updated(answer, given)[1][2:3], _updated(answer, alone)[1])


def _goal_is_reward(answer: Answer) -> bool:
    given = _step(6, 4, 3, seed=12) | {"nonterminal": torch.zeros(6), "alpha": 1.0}
    after = _updated(answer, given)[1]
    return torch.allclose(after[torch.arange(6), given["state"], given["action"]], given["reward"])


# --- loss -------------------------------------------------------------------------------------------------------------


def _with_gradients(name: str, make: Callable[[], tuple[Tensor, Tensor]], relative: float = 1e-9) -> Probe:
    """Return a probe of the loss, and of its gradients."""

    def run(answer: Answer) -> Any:
        values, targets = (tensor.requires_grad_() for tensor in make())
        given = {"values": values, "targets": targets}

        def loss_and_gradients() -> Any:
            loss = answer["td_loss"](values, targets)
            if isinstance(loss, Tensor) and loss.ndim == 0 and loss.requires_grad:
                loss.backward()
            gradients = {
                f"gradient of {name}": torch.zeros_like(tensor) if tensor.grad is None else tensor.grad
                for name, tensor in given.items()
            }
            return None if loss is None else {"loss": loss} | gradients

        return noting_changes(given, loss_and_gradients)

    return Probe(name, run, lambda: dict(zip(("values", "targets"), make(), strict=True)), relative=relative)


def _pair(*shape: int, seed: int, dtype: torch.dtype = torch.float64) -> Callable[[], tuple[Tensor, Tensor]]:
    return lambda: (dyadic(*shape, seed=seed, dtype=dtype), dyadic(*shape, seed=seed + 50, dtype=dtype))


TD_LOSS = (
    _with_gradients("two errors, 2 and -4", lambda: (numbers(1, 3), numbers(3, -1))),
    _with_gradients("a single error", lambda: (numbers(-2), numbers(3))),
    _with_gradients("errors below 1", lambda: (numbers(0.25, -0.5, 1), numbers(0.5, -0.25, 0.5))),
    _with_gradients("four agents with three values each", _pair(4, 3, seed=15)),
    _with_gradients("float32", _pair(20, seed=16, dtype=torch.float32), relative=1e-4),
)


def _loss(answer: Answer, values: Tensor, targets: Tensor) -> float:
    return float(answer["td_loss"](values, targets).sum())


def _zero_at_the_target(answer: Answer) -> bool:
    return _loss(answer, numbers(1, -3, 2), numbers(1, -3, 2)) == 0.0


def _gradient_is_the_error(answer: Answer) -> bool:
    values, targets = numbers(1, -3, 2).requires_grad_(), numbers(4, -1, 2.5)
    answer["td_loss"](values, targets).sum().backward()
    return values.grad is not None and torch.allclose(values.grad, values.detach() - targets)


def _targets_are_fixed(answer: Answer) -> bool:
    values, targets = numbers(1, -3, 2).requires_grad_(), numbers(4, -1, 2.5).requires_grad_()
    answer["td_loss"](values, targets).sum().backward()
    return targets.grad is None or not targets.grad.any()


PROBES = {"batched_act": BATCHED_ACT, "batched_update": BATCHED_UPDATE, "td_loss": TD_LOSS}
INVARIANTS: dict[str, tuple[Invariant, ...]] = {
    "batched_act": (
        Invariant("own_column", _own_column, "the action of an agent must not depend on the values of the others"),
        Invariant("takes_the_best", _takes_the_best, "an agent that does not explore must take a best action"),
        Invariant("explores_everything", _explores_everything, "draws from 0 to 1 must lead to all actions, in order"),
    ),
    "batched_update": (
        Invariant("one_entry", _one_entry_each, "only one entry of each agent may change; yours changes others"),
        Invariant("goal_is_reward", _goal_is_reward, "at the goal the target is the reward alone; yours is not"),
        Invariant("alone", _alone, "an agent must learn the same alone as among others; yours does not"),
    ),
    "td_loss": (
        Invariant("zero", _zero_at_the_target, "the loss must be 0 where the values are the targets; yours is not"),
        Invariant("targets_fixed", _targets_are_fixed, "a gradient flows to the targets; they must be held fixed"),
        Invariant("gradient", _gradient_is_the_error, "the gradient must be value minus target; yours is not"),
    ),
}
REMARKS: dict[str, tuple[Invariant, ...]] = {
    "batched_act": (
        _all_at_once(
            "batched_act",
            lambda: dict(zip(ACT, (FIVE, EPSILON, EXPLORE, TIES), strict=True)),
            {"values": 1, "epsilon": 0, "explore_draw": 0, "tie_break_draw": 0},
        ),
    ),
    "batched_update": (
        _all_at_once(
            "batched_update",
            lambda: _step(4, 3, 2, seed=8),
            dict.fromkeys(("q", "state", "action", "reward", "next_state", "nonterminal"), 0),
        ),
    ),
}
