"""Entry point of every script: flags from one dataclass, invalid input reported in one line."""

import contextlib
import functools
import io
import os
import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn

import tyro

from lab.errors import UserError

RENAMED_SETTINGS = {"final_learning_rate": "min_lr_ratio"}  # former name -> present name, of flags and in checkpoints


def parse_arguments(config_class: Any, arguments: Sequence[str] | None = None) -> Any:
    """Build `config_class`, a dataclass, from command-line flags (`--field_name value`), by default from `sys.argv`.

    If the class has presets, its class method `default_for(arguments)` returns the instance that holds the defaults.
    Raises UserError, one line, for unknown flags and invalid values. `--help` prints the fields and exits.
    """
    arguments = [_current_flag(each) for each in (sys.argv[1:] if arguments is None else arguments)]
    preset = {"default": config_class.default_for(arguments)} if hasattr(config_class, "default_for") else {}
    stderr = io.StringIO()
    try:
        with contextlib.redirect_stderr(stderr):
            return tyro.cli(
                config_class,
                args=arguments,
                **preset,
                prog=_program_name(),
                use_underscores=True,
                config=(tyro.conf.FlagCreatePairsOff, tyro.conf.OmitArgPrefixes),
            )
    except SystemExit as stop:
        if not stop.code:
            raise  # --help
        raise UserError(_one_line(stderr.getvalue())) from None


def _program_name() -> str:
    """Return the name of the running script for the usage line: `train.py`, or `lab` for `python -m lab`."""
    script = Path(sys.argv[0])
    return script.parent.name if script.name == "__main__.py" else script.name


def _current_flag(argument: str) -> str:
    """Return a command-line argument with a flag's former name replaced by its present one."""
    flag, equals, value = argument.partition("=")
    name = flag.removeprefix("--").replace("-", "_")
    if not flag.startswith("--") or name not in RENAMED_SETTINGS:
        return argument
    return f"--{RENAMED_SETTINGS[name]}{equals}{value}"


def _one_line(box: str) -> str:
    """Return the message and the first suggestion from the box that the parser prints on standard error."""
    lines = [line.strip("│ \t") for line in re.sub(r"\x1b\[[0-9;]*m", "", box).splitlines()]
    paragraphs = re.split(r"─{4,}", " ".join(line for line in lines if line and line[0] not in "╭╰"))
    message = re.sub(r"^Error parsing \w+: ", "", paragraphs[0].strip()).rstrip(".")
    if len(paragraphs) > 1 and paragraphs[1].strip().startswith("Perhaps you meant"):
        flags = re.findall(r"--\w+", paragraphs[1])
        message += f" (did you mean {' or '.join(dict.fromkeys(flags))}?)" if flags else ""
    return f"{message}; see --help"


def launch(config_class: Any, main: Callable[[Any], None], arguments: Sequence[str] | None = None) -> None:
    """Run `main` on the configuration parsed from `arguments` (default: `sys.argv`).

    Errors that the user can fix are printed in one line, without a traceback.

    Exit status: 0 success, 1 system error (a file that cannot be read or written), 2 invalid input, 130 interrupted by
    Ctrl-C.
    """
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # do not fail on characters that the terminal lacks
    try:
        try:
            main(parse_arguments(config_class, arguments))
        finally:
            if sys.stdout is not None:
                sys.stdout.flush()  # here, so that a closed pipe is noticed
    except UserError as error:
        fail(str(error), status=2)
    except BrokenPipeError:  # the reader closed the pipe (`| head`): exit quietly
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        sys.exit(1)
    except OSError as error:
        reason = error.strerror or str(error)
        fail(f"{error.filename}: {reason}" if error.filename else reason, status=1)
    except KeyboardInterrupt:
        fail("interrupted; existing files were left unchanged", status=130)


@functools.cache
def warn_once(message: str) -> None:
    """Print a one-line note on standard error, only once per message; the script continues."""
    print("note: " + " ".join(message.split()), file=sys.stderr)


def fail(message: str, status: int) -> NoReturn:
    """Print one line on standard error and exit."""
    print("error: " + " ".join(message.split()), file=sys.stderr)
    sys.exit(status)
