"""The file format of a Q-table: an agent's settings and its table as JSON."""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from argument_checks import check_agent_settings
from lab.errors import UserError
from lab.files import read_text, write_json

KIND = "tabular Q-learning agent"  # what a saved file says it holds
SETTINGS = ("n_actions", "learning_rate", "discount", "epsilon", "epsilon_decay", "epsilon_min")

QTable = dict[tuple[int, int], float]  # (state, action) to Q


def write_q_table(path: Path, settings: Mapping[str, float], q_table: QTable) -> None:
    """Write `settings` (the names in SETTINGS) and `q_table`, whole or not at all.

    Raises OSError if the file cannot be written.
    """
    entries = {f"{state},{action}": value for (state, action), value in sorted(q_table.items())}
    write_json(path, {"kind": KIND, **settings, "q_table": entries})


def read_q_table(path: Path) -> tuple[dict[str, Any], QTable]:
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
        check_agent_settings(**settings)
        q_table = _parse_entries(content["q_table"], settings["n_actions"])
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        problem = f"{type(error).__name__}: {error}"
        raise UserError(f"{path}: damaged table of Q-values ({problem})") from None
    return settings, q_table


def _parse_entries(entries: Any, n_actions: int) -> QTable:
    q_table: QTable = {}
    for key, value in entries.items():
        state, action = map(int, key.split(","))
        is_number = isinstance(value, float | int) and math.isfinite(value)
        if not (0 <= action < n_actions and is_number):
            raise ValueError(f"entry {key!r} is {value!r}")
        q_table[state, action] = float(value)
    return q_table
