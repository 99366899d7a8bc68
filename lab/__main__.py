"""The lab's command line: starts scripts, compares and repeats runs, measures, says what is installed. See `--help`."""

import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

import tyro

from lab.bench import NAMES, Bench, bench
from lab.compare import Compare, compare
from lab.doctor import show_state
from lab.files import ROOT
from lab.launch import launch
from lab.repeat import Repeat, repeat
from lab.runner import SCRIPTS, run_everything, run_script


@dataclass(frozen=True)
class Run:
    """Run a project's script (`lab run maze --help` shows its flags), or `all` of them into one folder."""

    script: tyro.conf.Positional[Literal["maze", "attention", "sentiment", "generate", "reacher", "all"]]
    """What to run."""
    arguments: tyro.conf.Positional[tuple[str, ...]] = ()
    """Passed on to the script as they are."""


@dataclass(frozen=True)
class RunAll:
    """Run all projects end to end, offline, with what ships with the lab, and show what came of it."""

    output_dir: Path = ROOT / "runs"
    """Folder for everything that is written."""


@dataclass(frozen=True)
class CompareRuns:
    """Lay runs side by side: settings that differ, final figures, curves in one plot."""

    runs: tyro.conf.Positional[tuple[Path, ...]]
    """Output folders of runs, or of `lab repeat`; the others are compared with the first."""
    further: Compare = field(default_factory=Compare)


@dataclass(frozen=True)
class RepeatScript:
    """Run N seeds of a script and tell the band: lab repeat 5 -- maze --episodes 100. Goes on where it was stopped."""

    seeds: tyro.conf.Positional[int]
    """How many."""
    command: tyro.conf.Positional[tuple[str, ...]] = ()
    """Behind `--`: a script, by its path or as in `lab run`, and its flags."""
    further: Repeat = field(default_factory=Repeat)


@dataclass(frozen=True)
class MeasureAll:
    """Run benchmarks, publish their figures on the pages, check that they still hold."""

    names: tyro.conf.Positional[tuple[Literal[NAMES], ...]] = ()  # pyright: ignore[reportInvalidTypeForm]
    """Which ones."""
    further: Bench = field(default_factory=Bench)


@dataclass(frozen=True)
class Doctor:
    """Say what is installed, whether rendering works, and whether official models are cached."""


Command = (
    Annotated[Run, tyro.conf.subcommand("run")]
    | Annotated[CompareRuns, tyro.conf.subcommand("compare")]
    | Annotated[RepeatScript, tyro.conf.subcommand("repeat")]
    | Annotated[MeasureAll, tyro.conf.subcommand("bench")]
    | Annotated[Doctor, tyro.conf.subcommand("doctor")]
)


def execute(command: Run | CompareRuns | RepeatScript | MeasureAll | Doctor) -> None:
    """Carry out a command of the command line."""
    match command:
        case Doctor():
            show_state()
        case CompareRuns(runs, options):
            compare(runs, options)
        case RepeatScript(seeds, words, options):
            repeat(seeds, words, options)
        case MeasureAll(names, options):
            sys.exit(bench(names, options))
        case Run("all", arguments):
            launch(RunAll, lambda config: sys.exit(run_everything(config.output_dir)), list(arguments))
        case Run(script, arguments):
            sys.exit(run_script(SCRIPTS[script], arguments))


def main() -> None:
    """Entry point of `lab` and of `python -m lab`."""
    arguments = sys.argv[1:]
    if len(arguments) > 1 and arguments[0] == "run" and not arguments[1].startswith("-"):
        arguments.insert(2, "--")  # what follows the script's name is the script's, flags and --help too
    launch(Command, execute, arguments)


if __name__ == "__main__":
    main()
