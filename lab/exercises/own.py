"""`--with FILE`: for one run, a learner's own functions do the work of the lab's. Imports neither torch nor a project.

Each project has a table, `own_functions.py` in its package of exercises. `SCRIPTS` in it maps the name of a script to
what the script takes. The lab's code does not change: its functions are replaced in the modules that hold them, and
put back at the end. `lab.launch` reads the flag, `lab.record` writes down what was in use.
"""

import dataclasses
import functools
import importlib
import os
import sys
import types
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from lab.errors import UserError
from lab.exercises.own_files import Functions, OwnFunction, described, lab_line, names_in, read_functions
from lab.exercises.own_results import Check
from lab.files import ROOT, display_path

FLAG = "with"
FOLDER = ROOT / "runs/own"  # output of runs with --with, one folder per project
IN_USE: list[OwnFunction] = []  # the learner's functions that are at work


def _same(own: Functions, lab: Any) -> Any:
    """Return the learner's function as it is: it has the signature of the lab's."""
    (function,) = own.values()
    return function


@dataclass(frozen=True)
class Place:
    """A function, class or method of the lab, and the learner's functions that can do its work."""

    target: str  # file and name, such as "ppo.py:compute_gae" or "networks.py:PolicyNetwork.log_prob"
    checks: Mapping[str, Check]  # the learner's functions that can go there, with a check of what each returns
    adapt: Callable[[Functions, Any], Any] = _same  # (the learner's functions, the lab's) -> what replaces the lab's
    rivals: frozenset[str] = frozenset()  # functions of which only one can be given
    keeps_state: bool = False  # in objects of the learner's, which a checkpoint cannot hold and processes cannot share


@dataclass(frozen=True)
class Takes:
    """The learner's functions that a script takes, and the flags that go with them."""

    places: Sequence[Place]
    needs: Mapping[str, str] = dataclasses.field(default_factory=dict)  # flag -> the value that it must have
    refuses: Mapping[str, str] = dataclasses.field(default_factory=dict)  # flag -> why it cannot be given

    def checks(self) -> dict[str, Check]:
        """Return the names of all functions that can be given, with their checks."""
        return {name: check for place in self.places for name, check in place.checks.items()}


@dataclass(frozen=True)
class Script:
    """A script that takes `--with`."""

    path: Path
    takes: Takes

    def takes_any(self, file: Path) -> bool:
        """Return True if a learner's file holds a function that this script takes."""
        return not self.takes.checks().keys().isdisjoint(names_in(file))

    def with_flag(self, config_class: Any) -> Any:
        """Return the dataclass of the script's options with one more: `own_functions`, the files of `--with`."""
        import tyro

        names = ", ".join(self.takes.checks())
        help_text = (
            f"Python file with functions of yours that do the work of the lab's; several: repeat it. Of: {names}"
        )
        kind = Annotated[
            tuple[Path, ...], tyro.conf.arg(name=FLAG, help=help_text, metavar="FILE"), tyro.conf.UseAppendAction
        ]
        field = ("own_functions", kind, dataclasses.field(default=()))
        frozen = config_class.__dataclass_params__.frozen
        extended = dataclasses.make_dataclass(config_class.__name__, [field], bases=(config_class,), frozen=frozen)
        extended.__doc__ = config_class.__doc__
        return extended

    def complete(self, arguments: Sequence[str]) -> list[str]:
        """Return the arguments with the flags that `--with` implies. Raises UserError for those it excludes."""
        arguments = list(arguments)
        if value_of(arguments, FLAG) is None:
            return arguments
        for flag, reason in self.takes.refuses.items():
            if value_of(arguments, flag) is not None:
                raise UserError(f"--{flag} does not go with --{FLAG}: {reason}")
        for flag, needed in self.takes.needs.items():
            given = value_of(arguments, flag)
            if given not in (None, needed):
                raise UserError(f"--{FLAG} needs --{flag} {needed}, and --{flag} is {given}")
            arguments += [f"--{flag}", needed] if given is None else []
        folder = value_of(arguments, "output_dir")
        if folder is None:
            return [*arguments, "--output_dir", str(FOLDER / self.path.parent.name)]
        if Path(folder).resolve().is_relative_to(self.path.parent / "results"):
            raise UserError(f"--output_dir {folder}: holds results of the lab's own functions; choose another folder")
        return arguments

    def implied(self, arguments: Sequence[str]) -> str:
        """Return a note on the flags that `complete` adds; "" if there are none."""
        added = self.complete(arguments)[len(arguments) :]
        shown = [display_path(Path(each)) if Path(each).is_absolute() else each for each in added]
        return f"--{FLAG} implies {' '.join(shown)}" if shown else ""

    def read(self, files: Sequence[Path]) -> dict[str, OwnFunction]:
        """Return the functions in a learner's files. Raises UserError, naming the file, or OSError."""
        functions: dict[str, OwnFunction] = {}
        for file in files:
            for name, function in read_functions(file, self.takes.checks(), self.path.name).items():
                if name in functions:
                    raise UserError(f"{function.shown}: {functions[name].shown} holds {name} too; give one of them")
                functions[name] = function
        for place in self.takes.places:
            both = [name for name in place.checks if name in functions and name in place.rivals]
            if len(both) > 1:
                raise UserError(f"{' and '.join(both)} exclude each other: give one of them")
        return functions

    @contextmanager
    def in_use(self, files: Sequence[Path]) -> Iterator[list[OwnFunction]]:
        """Let the functions in a learner's files do the work of the lab's, during the block.

        Raises UserError, one line, for whatever goes wrong in the block because of them.
        """
        functions = self.read(files)
        outer = list(IN_USE)  # those of another script, which waits meanwhile
        IN_USE[:] = functions.values()
        undo: list[tuple[Any, str, Any]] = []
        try:
            for place in self.takes.places:
                undo += self._fill(place, {name: functions[name] for name in place.checks if name in functions})
            yield list(IN_USE)
        except UserError as error:
            called = ", ".join(f"{each.name} of {each.shown}" for each in IN_USE if each.calls)
            if not called or any(each.shown in str(error) for each in IN_USE):
                raise
            raise UserError(f"{error} (with {called})") from error
        except OSError:
            raise
        except Exception as error:  # raised by the lab's code, which got something that it cannot use
            names = " and ".join(dict.fromkeys(f"{each.name} of {each.shown}" for each in IN_USE))
            raise UserError(f"{names}: the lab fails with what it got: {described(error)}{lab_line(error)}") from error
        finally:
            for owner, name, value in reversed(undo):
                setattr(owner, name, value)
            IN_USE[:] = outer

    def _fill(self, place: Place, own: Functions) -> list[tuple[Any, str, Any]]:
        """Put the learner's functions into their place; return what was there, as (owner, name, value)."""
        if not own:
            return []
        for function in own.values():
            function.target = function.target or place.target
            function.keeps_state = place.keeps_state
        _, _, name = place.target.partition(":")
        replaced = []
        for original in originals(self.path.parent, place.target):
            if "." in name:  # a method
                method = name.rpartition(".")[2]
                replaced.append((original, method, vars(original)[method]))
                setattr(original, method, place.adapt(own, vars(original)[method]))
                continue
            replacement = place.adapt(own, original)
            for module in modules_of(self.path.parent):
                for attribute in [key for key, value in vars(module).items() if value is original]:
                    replaced.append((module, attribute, original))
                    setattr(module, attribute, replacement)
        return replaced


def script_of(main: Callable[..., Any]) -> Script | None:
    """Return the script that a main function belongs to; None if it does not take `--with`."""
    module = sys.modules.get(getattr(main, "__module__", ""))
    return script_at(Path(getattr(module, "__file__", None) or "").resolve())


def script_at(path: Path) -> Script | None:
    """Return the script in a file; None if it does not take `--with`."""
    for table in path.parent.glob("*_exercises/own_functions.py"):
        takes = importlib.import_module(f"{table.parent.name}.{table.stem}").SCRIPTS.get(path.name)
        return Script(path, takes) if takes else None
    return None


def value_of(arguments: Sequence[str], name: str) -> str | None:
    """Return the last value of a flag on a command line, "" for one without a value; None if it is not given."""
    return (values_of(arguments, name) or [None])[-1]


def values_of(arguments: Sequence[str], name: str) -> list[str]:
    """Return all values of a flag on a command line."""
    values = []
    for number, argument in enumerate(arguments):
        flag, equals, text = argument.partition("=")
        if flag.startswith("--") and flag.removeprefix("--").replace("-", "_") == name:
            following = "".join(arguments[number + 1 : number + 2])
            values.append(text if equals else ("" if following.startswith("--") else following))
    return values


def originals(project: Path, target: str) -> list[Any]:
    """Return the lab's function or class with this name, or the class of the method.

    There are two of it where the running script is imported, too.
    """
    file, _, name = target.partition(":")
    found = _defined(project, project / file, name.split(".")[0])
    if not found:
        importlib.import_module(".".join(Path(file).with_suffix("").parts))
        found = _defined(project, project / file, name.split(".")[0])
    if not found:
        raise LookupError(f"{target} is not there")
    return found


def _defined(project: Path, path: Path, name: str) -> list[Any]:
    values = [value for module in modules_of(project) for value in vars(module).values()]
    kinds = (types.FunctionType, type)
    named = [value for value in values if isinstance(value, kinds) and value.__qualname__ == name]
    there = [value for value in named if _file_of(sys.modules.get(value.__module__)) == path]
    return list({id(value): value for value in there}.values())


def modules_of(project: Path) -> list[types.ModuleType]:
    """Return the loaded modules of a project, without those of its exercises."""
    files = [(module, _file_of(module)) for module in list(sys.modules.values())]
    return [
        module
        for module, file in files
        if file is not None and project in file.parents and not file.parent.name.endswith("_exercises")
    ]


def _file_of(module: Any) -> Path | None:
    file = getattr(module, "__file__", None)
    return _resolved(file) if isinstance(file, str) else None


@functools.cache
def _resolved(file: str) -> Path:
    return Path(file).resolve()


def notes(functions: Sequence[OwnFunction]) -> list[str]:
    """Return one line for each of the learner's functions that is in use."""
    return [f"{each.name} of {each.shown} does the work of {each.target.replace(':', ', ')}" for each in functions]


def unused(functions: Sequence[OwnFunction]) -> list[str]:
    """Return one line for each of the learner's functions that was never called."""
    return [f"{each.name} of {each.shown} was never called in this run" for each in functions if not each.calls]


def is_first_process() -> bool:
    """Return True in the first process of torchrun, and without torchrun."""
    return os.environ.get("RANK", "0") in ("", "0")


def as_record() -> list[dict[str, Any]]:
    """Return the learner's functions that are in use, for the record of a run."""
    return [
        {"function": each.name, "file": each.shown, "sha256": each.sha256, "calls": each.calls, "target": each.target}
        for each in IN_USE
    ]


def check_run(run: Any, processes: int) -> None:
    """Note the functions in use in a training run (`lab.training.Run`), so that it is resumed with the same ones.

    Raises UserError if it was started with others, and for functions that cannot be resumed or shared by processes.
    """
    present = " ".join(sorted(f"{each.name}:{each.sha256}" for each in IN_USE))
    started = run.inputs.get(FLAG, "")
    if run.state is not None and started != present:
        files = run.paths.get(FLAG, "")
        names = ", ".join(each.partition(":")[0] for each in started.split()) or "the lab's functions"
        how = f"give it again: --{FLAG} {files}, unchanged" if started else f"leave --{FLAG} out"
        raise UserError(f"the run in {run.folder} was started with {names} ({how}), or choose another --output_dir")
    for each in IN_USE:
        if each.keeps_state and (run.state is not None or processes > 1):
            what = f"runs in one process only, not in {processes}" if processes > 1 else "cannot be resumed"
            raise UserError(f"{each.shown}: a training with your own {each.name} {what}; leave it out")
    if present:
        run.inputs[FLAG] = present
        run.paths[FLAG] = f" --{FLAG} ".join(dict.fromkeys(str(each.file) for each in IN_USE))
