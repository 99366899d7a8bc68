"""The exception for invalid user input, and a check that many flags share."""

import math
from typing import Any


class UserError(ValueError):
    """Invalid user input: the message is one line that names the file, flag or value and says what would be valid.

    `lab.launch` prints it without a traceback and exits with status 2.
    """


def require_at_least(least: float, config: Any, *names: str) -> None:
    """Raise UserError, naming the flag, unless these fields of `config` are finite numbers of `least` or more."""
    for name in names:
        value = getattr(config, name)
        if not least <= value < math.inf:
            raise UserError(f"--{name} is {value}; it must be at least {least:g}")
