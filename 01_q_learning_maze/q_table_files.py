"""The file format of a Q-table: an agent's settings and its table as JSON.

An entry is "state,action": Q. A state is a number, as in the maze, a text, or a tuple of such states, and is written
as in Python: `"12,0"`, `"(5, 10, 1),0"`, `"'left',0"`.
"""

import ast
import json
import math
from collections.abc import Hashable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from argument_checks import check_agent_settings
from lab.errors import UserError
from lab.files import read_text, write_json

KIND = "tabular Q-learning agent"  # what a saved file says it holds
SETTINGS = ("n_actions", "learning_rate", "discount", "epsilon", "epsilon_decay", "epsilon_min")

QTable = Mapping[tuple[Any, int], float]  # (state, action) to Q


def write_q_table(path: Path, settings: Mapping[str, float], q_table: QTable) -> None:
    """Write `settings` (the names in SETTINGS) and `q_table`, whole or not at all.

    Raises OSError if the file cannot be written, UserError for a state that cannot be written, or a Q
    that is not finite.
    """
    for (state, action), value in q_table.items():
        if not math.isfinite(value):
            raise UserError(f"Q of state {state!r} and action {action} is {value}; only finite ones can be saved")
    entries = [(_state_as_text(state), int(action), float(value)) for (state, action), value in q_table.items()]
    entries.sort(key=lambda entry: (len(entry[0]), *entry[:2]))  # numbers in ascending order
    table = {f"{state},{action}": value for state, action, value in entries}
    plain_settings = {name: _plain(value) for name, value in settings.items()}
    write_json(path, {"kind": KIND, **plain_settings, "q_table": table})


def _state_as_text(state: Hashable) -> str:
    state = _plain(state)
    if not _is_state(state):
        raise UserError(f"state {state!r} cannot be saved; states must be finite numbers, texts, or tuples of these")
    return repr(state)


def _plain(state: Any) -> Any:
    """Return a state with Python's own numbers and texts in place of NumPy's, and of classes derived from them.

    A derived class, such as an IntEnum, may have another repr. The two are equal, so they are the same key of a table.
    """
    if isinstance(state, tuple):
        return tuple(_plain(part) for part in state)
    if isinstance(state, np.generic):
        return state.item()
    if isinstance(state, str):
        return "".join(state)
    for kind in (bool, int, float):
        if isinstance(state, kind):
            return kind(state)
    return state


def _is_state(value: Any) -> bool:
    if isinstance(value, tuple):
        return all(_is_state(part) for part in value)
    return value is None or isinstance(value, int | str) or (isinstance(value, float) and math.isfinite(value))


def read_q_table(path: Path) -> tuple[dict[str, Any], dict[tuple[Any, int], float]]:
    """Return the settings and the table that `write_q_table` wrote.

    Raises:
        OSError: the file is missing or cannot be read.
        UserError: the file is damaged, or does not hold a table of Q-values; the message names it.
    """
    text = read_text(path)
    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path}: damaged, not JSON ({error})") from None
    if not isinstance(content, dict) or content.get("kind") != KIND:
        raise UserError(f"{path}: not a table of Q-values; give a q_table.json that train.py wrote")
    try:
        settings = {name: content[name] for name in SETTINGS}
        if any(isinstance(value, bool) for value in settings.values()):
            raise TypeError("a setting is true or false, not a number")
        check_agent_settings(**settings)
        q_table = _parse_entries(content["q_table"], settings["n_actions"])
    except (KeyError, TypeError, ValueError, AttributeError, ArithmeticError) as error:
        problem = f"{type(error).__name__}: {error}"
        raise UserError(f"{path}: damaged table of Q-values ({problem})") from None
    return settings, q_table


def _parse_entries(entries: Any, n_actions: int) -> dict[tuple[Any, int], float]:
    q_table: dict[tuple[Any, int], float] = {}
    for key, value in entries.items():
        state, action = _parse_key(key)
        is_number = isinstance(value, float | int) and not isinstance(value, bool) and math.isfinite(value)
        if not (0 <= action < n_actions and is_number):
            raise ValueError(f"entry {key!r} is {value!r}")
        q_table[state, action] = float(value)
    return q_table


def _parse_key(key: str) -> tuple[Any, int]:
    """Return the state and the action of an entry. Raises ValueError unless `write_q_table` would write it so."""
    state_text, _, action_text = key.rpartition(",")
    try:
        state, action = ast.literal_eval(state_text), int(action_text)
    except (SyntaxError, ValueError, TypeError, RecursionError, MemoryError):
        raise ValueError(f"entry {key!r} is not of the form 'state,action'") from None
    if not _is_state(state) or key != f"{state!r},{action}":
        raise ValueError(f"entry {key!r} is not of the form 'state,action'")
    return state, action
