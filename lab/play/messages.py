"""The messages from the page to the worker: which there are, and what each field may hold. Imports no torch.

A message is a JSON object {"pane": ..., "do": ..., fields}. Everything from outside passes through `parse`.
"""

import json
from collections.abc import Callable, Mapping
from typing import Any

MAX_BYTES = 64 * 1024  # of one message
MAX_SIDE = 64  # rows or columns of a maze
MAX_TEXT = 20_000  # characters; what is beyond the model's context is cut off later

Field = Callable[[Any], Any]  # returns the value; raises ValueError if it is not allowed


class BadMessage(ValueError):
    """A message that the page would not send."""


def whole(low: int, high: int) -> Field:
    """Return the check of a whole number between `low` and `high`, both included."""

    def check(value: Any) -> int:
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
            raise ValueError(f"must be a whole number from {low} to {high}")
        return value

    return check


def number(low: float, high: float) -> Field:
    """Return the check of a finite number between `low` and `high`, both included."""

    def check(value: Any) -> float:
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise ValueError("must be a number")
        if not low <= value <= high:  # so is NaN
            raise ValueError(f"must be a number from {low} to {high}")
        return float(value)

    return check


def one_of(*choices: str) -> Field:
    """Return the check of a text that is one of a few."""

    def check(value: Any) -> str:
        if not isinstance(value, str) or value not in choices:
            raise ValueError(f"must be one of {', '.join(choices)}")
        return value

    return check


def boolean(value: Any) -> bool:
    """Check true or false."""
    if not isinstance(value, bool):
        raise ValueError("must be true or false")
    return value


def text(value: Any) -> str:
    """Check a text of a bearable length."""
    if not isinstance(value, str) or len(value) > MAX_TEXT:
        raise ValueError(f"must be a text of at most {MAX_TEXT} characters")
    return value.encode("utf-8", "replace").decode("utf-8")  # without halves of surrogate pairs


def layout(value: Any) -> list[str]:
    """Check the rows of a maze; whether it has a start, a goal and a way is for the maze to say."""
    if not isinstance(value, list) or not 1 <= len(value) <= MAX_SIDE:
        raise ValueError(f"must be a list of 1 to {MAX_SIDE} rows")
    for row in value:
        if not isinstance(row, str) or len(row) != len(value[0]) or not 1 <= len(row) <= MAX_SIDE:
            raise ValueError(f"every row must be a text of the same length, at most {MAX_SIDE}")
        if set(row) - set("S.XG"):
            raise ValueError("rows hold S, ., X and G only")
    return value


def heads(value: Any) -> list[dict[str, Any]]:
    """Check the one or two attention heads to show: of each its layer, its number, with the causal mask or without."""
    if not isinstance(value, list) or not 1 <= len(value) <= 2:
        raise ValueError("must be a list of 1 or 2 heads")
    fields = {"layer": whole(0, 99), "head": whole(0, 99), "causal": boolean}
    if any(not isinstance(head, dict) or head.keys() != fields.keys() for head in value):
        raise ValueError(f"must have exactly the fields {', '.join(fields)} in each")
    return [{name: check(head[name]) for name, check in fields.items()} for head in value]


def optional(field: Field) -> Field:
    """Return the check of a field that may be null."""
    return lambda value: None if value is None else field(value)


Fields = Mapping[str, Field]
SEED = whole(0, 2**31 - 1)
EPSILON: Fields = {"epsilon": number(0, 1)}
SPEED: Fields = {"steps_per_second": number(1, 5000)}
MAZE: Fields = {"layout": layout}
AGENT: Fields = {  # settings of the Q-learning agent and of the maze that can change at any time
    "learning_rate": number(0.001, 1),
    "discount": number(0, 1),
    "epsilon_decay": number(0.001, 1),
    "slip": number(0, 0.5),  # with more, to go straight on is not what the mouse mostly does
}
TEXT: Fields = {"number": whole(0, 2**31 - 1), "sentence": text, "heads": heads}  # the number is in every answer
SAMPLING: Fields = {"temperature": number(0, 5), "top_k": whole(0, 100_000), "top_p": number(0.01, 1)}
PACE: Fields = {"tokens_per_second": number(0.5, 100)}
# Details of PPO that can be left out: options of `PPOConfig` that are true by default.
PPO_DETAILS = (
    "bootstrap_at_time_limit",
    "normalize_observations",
    "scale_rewards",
    "normalize_advantages",
    "orthogonal_initialization",
    "anneal_learning_rate",
    "clip_gradients",
    "use_clipping",
)
ARM_POLICY = one_of("learning", "trained", "controller")
MAZE_START: Fields = {"seed": SEED, "running": boolean, **MAZE, **AGENT, **EPSILON, **SPEED}
MESSAGES: Mapping[str, Mapping[str, Fields]] = {  # pane -> message -> its fields, all of them required
    "": {"ping": {}},  # any worker answers it
    "maze": {
        "start": MAZE_START,
        "return": MAZE_START,  # to the job that was left for another pane; starts one if there is none
        "random": {"rows": whole(1, MAX_SIDE), "columns": whole(1, MAX_SIDE), "seed": SEED},
        "pause": {},
        "resume": {},
        "step": {},
        "speed": SPEED,
        "layout": MAZE,
        "settings": AGENT,
        "epsilon": EPSILON,
        "optimum": {"optimum": boolean},
    },
    "transformer": {
        "generate": {**TEXT, "seed": SEED, "running": boolean, **PACE, **SAMPLING},
        "classify": TEXT,
        "pause": {},
        "resume": {},
        "step": {},
        "take": {"id": whole(0, 1_000_000)},
        "sampling": SAMPLING,
        "heads": {"heads": heads},
        "speed": PACE,
    },
    "arm": {
        "start": {"seed": SEED, "running": boolean, "policy": ARM_POLICY, "without": one_of("", *PPO_DETAILS)},
        "pause": {},
        "resume": {},
        "step": {},
        "target": {"x": number(-0.2, 0.2), "y": number(-0.2, 0.2)},
        "policy": {"policy": ARM_POLICY},
    },
}


def parse(received: str | bytes) -> dict[str, Any]:
    """Return a message of the page with its fields checked. Raises BadMessage."""
    try:
        message = json.loads(received)
    except (ValueError, RecursionError):
        raise BadMessage("not JSON") from None
    if not isinstance(message, dict):
        raise BadMessage("not an object")
    pane, action = message.pop("pane", None), message.pop("do", None)
    fields = MESSAGES.get(pane, {}).get(action) if isinstance(pane, str) and isinstance(action, str) else None
    if fields is None:
        raise BadMessage("there is no such message")
    if message.keys() != fields.keys():
        raise BadMessage(f"{pane} {action} needs exactly the fields {', '.join(fields) or 'pane and do'}")
    checked = {"pane": pane, "do": action}
    for name, check in fields.items():
        try:
            checked[name] = check(message[name])
        except ValueError as error:
            raise BadMessage(f"{name} {error}") from None
    return checked
