"""The exception for invalid user input, and the checks that many flags and functions share."""

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
            is_finite = isinstance(value, int) or math.isfinite(value)
            limit = f"at least {least:g}" if is_finite else f"finite and at least {least:g}"
            raise UserError(f"--{name} is {value}; it must be {limit}")


def check_at_least_one(**sizes: int) -> None:
    """Raise UserError, naming the argument, unless all sizes are 1 or more."""
    for name, size in sizes.items():
        if size < 1:
            raise UserError(f"{name} must be at least 1, not {size}")


def check_sequences(x: Any, embed_dim: int) -> None:
    """Raise UserError unless the tensor `x` is (batch, time, embed_dim)."""
    if x.ndim != 3 or x.shape[-1] != embed_dim:
        raise UserError(f"x must be (batch, time, {embed_dim}), not {tuple(x.shape)}")
