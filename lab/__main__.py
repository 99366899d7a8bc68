"""The lab's command line: starts the projects' scripts and says what is installed. `lab --help` lists it."""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from lab.doctor import show_state
from lab.files import ROOT
from lab.launch import launch
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
class Doctor:
    """Say what is installed, whether rendering works, and whether official models are cached."""


Command = Annotated[Run, tyro.conf.subcommand("run")] | Annotated[Doctor, tyro.conf.subcommand("doctor")]


def execute(command: Run | Doctor) -> None:
    """Carry out a command of the command line."""
    if isinstance(command, Doctor):
        show_state()
    elif command.script == "all":
        launch(RunAll, lambda config: sys.exit(run_everything(config.output_dir)), list(command.arguments))
    else:
        sys.exit(run_script(SCRIPTS[command.script], command.arguments))


def main() -> None:
    """Entry point of `lab` and of `python -m lab`."""
    arguments = sys.argv[1:]
    if len(arguments) > 1 and arguments[0] == "run" and not arguments[1].startswith("-"):
        arguments.insert(2, "--")  # what follows the script's name is the script's, flags and --help too
    launch(Command, execute, arguments)


if __name__ == "__main__":
    main()
