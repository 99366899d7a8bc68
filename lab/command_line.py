"""Command line of the lab: run scripts, compare and repeat runs, run benchmarks, show the installation."""

import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

import tyro

from lab.bench import NAMES, Bench, bench
from lab.compare import Compare, compare
from lab.doctor import show_state
from lab.exercises.commands import ExerciseCommand
from lab.files import ROOT
from lab.launch import launch
from lab.play.command import Play
from lab.repeat import Repeat, repeat
from lab.runner import SCRIPTS, run_everything, run_script

RUNNABLE = (*SCRIPTS, "all")


@dataclass(frozen=True)
class Run:
    """Run a project's script (`lab run maze --help` lists its flags), or `all` of them into one folder."""

    script: tyro.conf.Positional[Literal[RUNNABLE]]  # pyright: ignore[reportInvalidTypeForm]
    """Name of the script, or `all`."""
    arguments: tyro.conf.Positional[tuple[str, ...]] = ()
    """Arguments that are passed to the script unchanged."""


@dataclass(frozen=True)
class RunAll:
    """Run all projects end to end, offline, with the bundled models, and print a summary."""

    output_dir: Path = ROOT / "runs"
    """Folder for all output."""


@dataclass(frozen=True)
class CompareRuns:
    """Compare runs: settings that differ, final metrics, curves in one plot."""

    runs: tyro.conf.Positional[tuple[Path, ...]]
    """Output folders of runs or of `lab repeat`; each is compared with the first."""
    options: Annotated[Compare, tyro.conf.arg(name="")] = field(default_factory=Compare)


@dataclass(frozen=True)
class RepeatScript:
    """Run N seeds of a script and report mean and interval: lab repeat 5 -- maze --episodes 100.

    If interrupted, rerun the same command to resume."""

    seeds: Annotated[tyro.conf.Positional[int], tyro.conf.arg(metavar="N")]
    """Number of seeds."""
    command: tyro.conf.Positional[tuple[str, ...]] = ()
    """After `--`: the script, by path or by its name in `lab run`, and its flags."""
    options: Annotated[Repeat, tyro.conf.arg(name="")] = field(default_factory=Repeat)


@dataclass(frozen=True)
class RunBenchmarks:
    """Run benchmarks, update the tables and numbers in the documentation, check committed ratios."""

    names: tyro.conf.Positional[tuple[Literal[NAMES], ...]] = ()  # pyright: ignore[reportInvalidTypeForm]
    """Names of the benchmarks."""
    options: Annotated[Bench, tyro.conf.arg(name="")] = field(default_factory=Bench)


@dataclass(frozen=True)
class Doctor:
    """Show what is installed, whether rendering works, and which official models are cached."""


Command = (
    Annotated[Run, tyro.conf.subcommand("run")]
    | Annotated[CompareRuns, tyro.conf.subcommand("compare")]
    | Annotated[RepeatScript, tyro.conf.subcommand("repeat")]
    | Annotated[RunBenchmarks, tyro.conf.subcommand("bench")]
    | Annotated[Doctor, tyro.conf.subcommand("doctor")]
    | Annotated[Play, tyro.conf.subcommand("play")]
    | ExerciseCommand
)


def execute(command: Run | CompareRuns | RepeatScript | RunBenchmarks | Doctor) -> None:
    """Run a parsed command."""
    match command:
        case Doctor():
            show_state()
        case CompareRuns(runs, options):
            compare(runs, options)
        case RepeatScript(seeds, script_and_flags, options):
            repeat(seeds, script_and_flags, options)
        case RunBenchmarks(names, options):
            sys.exit(bench(names, options))
        case Run("all", arguments):
            launch(RunAll, lambda config: sys.exit(run_everything(config.output_dir)), list(arguments))
        case Run(script, arguments):
            sys.exit(run_script(SCRIPTS[script], arguments))


def main() -> None:
    """Run the command that `sys.argv` holds."""
    arguments = sys.argv[1:]
    if len(arguments) > 1 and arguments[0] == "run" and not arguments[1].startswith("-"):
        arguments.insert(2, "--")  # everything after the script's name goes to the script, also --help
    launch(Command, execute, arguments)
