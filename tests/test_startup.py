"""The start of every script: Ctrl-C while libraries load, a notebook's settings, terminals without UTF-8."""

import ast
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from lab.files import ROOT

SCRIPTS = sorted(
    path
    for path in [*ROOT.glob("0*/*.py"), *ROOT.glob("benchmarks/*.py")]
    if "launch(Config" in path.read_text("utf-8")
)
COMMANDS = [*([str(path)] for path in SCRIPTS), ["-m", "lab"]]
NAMES = [Path(command[-1]).stem if command[0] != "-m" else "lab" for command in COMMANDS]
FOREIGN_BACKEND = "module://matplotlib_inline.backend_inline"  # of a notebook; not installed in the lab's environment
NO_UTF_8 = {"LC_ALL": "POSIX", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}


def test_scripts_are_found() -> None:
    assert len(SCRIPTS) >= 22


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_every_script_starts_with_the_handler_of_ctrl_c(script: Path) -> None:
    docstring, guard, *_ = ast.parse(script.read_text(encoding="utf-8")).body
    assert isinstance(docstring, ast.Expr)
    assert ast.unparse(guard) == "if __name__ == '__main__':\n    import lab.startup"


def interrupted(command: Sequence[str], imports: int) -> tuple[int, list[str]]:
    """Interrupt a Python command after this many imports; return its exit status and its lines on standard error."""
    process = subprocess.Popen(
        [sys.executable, "-X", "importtime", *command], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )
    assert process.stderr is not None
    with process:
        after_start(process.stderr, imports)
        process.send_signal(signal.SIGINT)
        lines = [line for line in process.stderr if not line.startswith("import time:")]
    return process.returncode, lines


def after_start(lines: Iterator[str], imports: int) -> None:
    """Read lines until the handler is installed and so many imports more have finished."""
    for line in lines:
        if line.rstrip().endswith(" lab.startup"):
            break
    for _ in range(imports):
        next(lines)


@pytest.mark.skipif(os.name == "nt", reason="Windows sends Ctrl-C differently")
@pytest.mark.parametrize("command", COMMANDS, ids=NAMES)
def test_ctrl_c_before_the_libraries_load_prints_one_line(command: list[str]) -> None:
    assert interrupted(command, imports=0) == (130, ["error: interrupted\n"])


@pytest.mark.skipif(os.name == "nt", reason="Windows sends Ctrl-C differently")
@pytest.mark.parametrize("imports", [30, 100, 300, 600])
def test_ctrl_c_while_libraries_load_prints_one_line(imports: int) -> None:
    assert interrupted(COMMANDS[0], imports) == (130, ["error: interrupted\n"])
