"""Entry point of every script: flags from one dataclass, invalid input reported in one line."""

import dataclasses
import difflib
import functools
import io
import os
import re
import signal
import sys
import threading
import typing
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

import tyro
from tyro import _errors as tyro_errors  # private, but tyro is pinned; its public output is a box drawn for a terminal

from lab.errors import UserError
from lab.exercises import own
from lab.interrupts import exit_at_once
from lab.texts import printable

RENAMED_SETTINGS = {"final_learning_rate": "min_lr_ratio"}  # former name -> present name, of flags and in checkpoints
MAX_SHOWN = 60  # characters of an invalid argument that a message repeats


def parse_arguments(config_class: Any, arguments: Sequence[str] | None = None) -> Any:
    """Build `config_class`, a dataclass, from command-line flags (`--field_name value`), by default from `sys.argv`.

    If the class has presets, its class method `default_for(arguments)` returns the instance that holds the defaults.
    Raises UserError, one line, for unknown flags and invalid values. `--help` prints the fields and exits.
    """
    arguments = [_current_flag(each) for each in (sys.argv[1:] if arguments is None else arguments)]
    preset = {"default": config_class.default_for(arguments)} if hasattr(config_class, "default_for") else {}

    def refuse(event: tyro_errors.ParseErrorEvent) -> NoReturn:
        raise UserError(f"{_describe(event, config_class)}; see --help")

    with tyro_errors.on_parse_error(refuse):
        config = tyro.cli(
            config_class,
            args=arguments,
            **preset,
            prog=_program_name(),
            use_underscores=True,
            config=(tyro.conf.FlagCreatePairsOff, tyro.conf.OmitArgPrefixes),
        )
    _check_encoding(config)
    return config


def _check_encoding(config: Any) -> None:
    """Raise UserError for a path with bytes that could not be decoded, which several libraries cannot open.

    This happens with a name that is not UTF-8, and with most names but English ones in a locale without UTF-8.
    """
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        if dataclasses.is_dataclass(value):
            _check_encoding(value)
        for each in value if isinstance(value, tuple) else (value,):
            if isinstance(each, Path) or (
                isinstance(each, str) and each is value
            ):  # a tuple of texts has its own check
                _check_text(field.name, str(each))


def _check_text(name: str, value: str) -> None:
    try:
        value.encode("utf-8")
    except UnicodeEncodeError:
        raise UserError(f"--{name} {value}: not UTF-8 text; rename the file or folder, or set PYTHONUTF8=1") from None


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


def _describe(event: tyro_errors.ParseErrorEvent, config_class: Any) -> str:
    """Return one short line that says what is wrong with the command line."""
    match event:
        case (
            tyro_errors.UnrecognizedArgs(tokens=tokens) | tyro_errors.MissingArgs(unrecognized_tokens=[_, *_] as tokens)
        ):
            return _describe_unknown(tokens, config_class)
        case tyro_errors.MissingArgs(missing_arguments=missing):
            return "missing: " + ", ".join(f"{each.arg.display_name()} {_kind(each.arg)}" for each in missing)
        case tyro_errors.MissingSubcommand(subcommand_spec=commands):
            return f"a command is missing; choose from {', '.join(commands.parser_from_name)}"
        case tyro_errors.InvalidChoice(argument=argument, value=value, choices=choices):
            return f"{argument.display_name()} is {_shorten(value)!r}; choose from {', '.join(choices)}"
        case tyro_errors.BadValue(argument=argument):
            return f"{argument.display_name()} needs a value: {_kind(argument)}"
        case tyro_errors.InstantiationFailure(message=message, argument=argument):
            if argument is None:
                return message
            reason = message.split("\n")[0].rstrip(".")
            reason = re.sub(r"^no type matching .* could be instantiated from ", "not ", reason)
            return f"{argument.display_name()} must be {_kind(argument)}: {_shorten(reason)}"
    return "invalid arguments"


def _kind(argument: Any) -> str:
    """Return the kind of value that an argument of the parser takes, such as INT."""
    return (argument.lowered.metavar or "").replace("{None}|", "")


def _describe_unknown(tokens: Sequence[str], config_class: Any) -> str:
    """Return a line that names the unknown flags, with a similar known one; without flags, the stray arguments."""
    flags = [token.partition("=")[0] for token in tokens if token.startswith("--")]
    if not flags:
        return f"unknown argument: {_shorten(' '.join(tokens))}"
    message = f"unknown option: {_shorten(', '.join(flags))}"
    name = flags[0].removeprefix("--").replace("-", "_")
    similar = difflib.get_close_matches(name, _field_names(config_class) - {name}, n=1)
    return message + (f" (did you mean --{similar[0]}?)" if similar else "")


def _field_names(kind: Any) -> set[str]:
    """Return the names of the fields of a dataclass, of the groups of options in it, and of each class of a union."""
    if isinstance(kind, type) and dataclasses.is_dataclass(kind):
        hints = typing.get_type_hints(kind)
        return set(hints).union(*map(_field_names, hints.values()))
    arguments = typing.get_args(kind)
    is_annotated = typing.get_origin(kind) is typing.Annotated
    return set().union(*map(_field_names, arguments[:1] if is_annotated else arguments))


def _shorten(text: str) -> str:
    return text if len(text) <= MAX_SHOWN else text[:MAX_SHOWN] + "..."


def launch(config_class: Any, main: Callable[[Any], None], arguments: Sequence[str] | None = None) -> None:
    """Run `main` on the configuration parsed from `arguments` (default: `sys.argv`).

    Errors that the user can fix are printed in one line, without a traceback.

    Exit status: 0 success, 1 system error (a file that cannot be read or written), 2 invalid input, 130 interrupted by
    Ctrl-C.
    """
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # do not fail on characters that the terminal lacks
    try:
        with _interrupts_raise():
            try:
                _run(config_class, main, list(sys.argv[1:] if arguments is None else arguments))
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
    except KeyboardInterrupt as interrupt:
        fail(f"interrupted; {str(interrupt) or _state_of_files()}", status=130)


def _state_of_files() -> str:
    """Return in words which results an interrupted run has written already: some may be of an earlier run."""
    record = sys.modules.get("lab.record")  # importing it would take longer than the user wants to wait
    unsaved = record.RunRecord.unsaved if record else None
    if unsaved is None or not unsaved.written():
        return "existing files were left unchanged"
    names = ", ".join(path.name for path in unsaved.written())
    return f"{unsaved.output_dir} has new {names}; other files may be of an earlier run: run the same command again"


def _run(config_class: Any, main: Callable[[Any], None], arguments: list[str]) -> None:
    """Run `main` on the parsed configuration, with a learner's own functions if there is `--with FILE`."""
    is_used = own.value_of(arguments, own.FLAG) is not None
    script = own.script_of(main) if is_used or {"--help", "-h"} & set(arguments) else None
    if script is None:
        main(parse_arguments(config_class, arguments))
        return
    config = parse_arguments(script.with_flag(config_class), script.complete(arguments))
    with script.in_use(config.own_functions) as functions:
        _notes([script.implied(arguments), *own.notes(functions)])
        main(config)
        _notes(own.unused(functions))


def _notes(lines: Sequence[str]) -> None:
    for line in lines if own.is_first_process() else ():
        if line:
            warn_once(line)


@contextmanager
def _interrupts_raise() -> Iterator[None]:
    """Let Ctrl-C raise KeyboardInterrupt in the block if it exits at once outside of it (see `lab.interrupts`)."""
    exits_outside = signal.getsignal(signal.SIGINT) is exit_at_once
    if not (exits_outside and threading.current_thread() is threading.main_thread()):
        yield
        return
    try:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        yield
    finally:
        signal.signal(signal.SIGINT, exit_at_once)


@functools.cache
def warn_once(message: str) -> None:
    """Print a one-line note on standard error, only once per message; the script continues."""
    print("note: " + _line(message), file=sys.stderr)


def fail(message: str, status: int) -> NoReturn:
    """Print one line on standard error and exit."""
    print("error: " + _line(message), file=sys.stderr)
    sys.exit(status)


def _line(message: str) -> str:
    """Return a message as one line; what it quotes from files and arguments cannot control the terminal."""
    return printable(" ".join(message.split()))
