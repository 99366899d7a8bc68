"""The start of every script: Ctrl-C while libraries load, a notebook's settings, terminals without UTF-8."""

import ast
import dataclasses
import importlib.util
import os
import re
import signal
import subprocess
import sys
import typing
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from lab.errors import UserError
from lab.files import ROOT
from lab.launch import parse_arguments
from lab.texts import printable

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


def test_scripts_run_in_threads() -> None:
    """A page or a window calls them there, where Python allows no signal handlers."""
    code = "import lab.startup, threading; from lab.launch import launch; from dataclasses import make_dataclass as m\n"
    code += "thread = threading.Thread(target=launch, args=(m('Config', []), print, [])); thread.start(); thread.join()"
    done = python(code)
    assert (done.returncode, done.stdout, done.stderr) == (0, "Config()\n", "")


# --- settings of the environment --------------------------------------------------------------------------------------


def python(code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", code]
    return subprocess.run(command, capture_output=True, text=True, env={**os.environ, **environment}, timeout=60)


def test_tests_have_one_thread_with_and_without_helper_processes() -> None:
    done = python("import sys, conftest; print('torch' in sys.modules)")  # OMP_NUM_THREADS would come too late
    assert (done.stdout, done.returncode) == ("False\n", 0), done.stderr


def test_plots_are_drawn_to_files_whatever_the_backend_of_a_notebook() -> None:
    done = python("import lab.plots, matplotlib; print(matplotlib.get_backend())", MPLBACKEND=FOREIGN_BACKEND)
    assert (done.returncode, done.stdout.lower()) == (0, "agg\n"), done.stderr
    loaded_before = "import matplotlib; matplotlib.use('svg'); import lab.plots; print(matplotlib.get_backend())"
    assert python(loaded_before).stdout.lower() == "agg\n"


def test_only_the_plots_load_matplotlib() -> None:
    sources = [*ROOT.glob("0*/*.py"), *ROOT.glob("0*/*/*.py"), *ROOT.glob("lab/*.py"), *ROOT.glob("benchmarks/*.py")]
    importing = []
    for path in sources:
        if "tests" not in path.relative_to(ROOT).parts:
            text = re.sub(r"\nif TYPE_CHECKING:\n(?:    .*\n|\n)*", "\n", path.read_text(encoding="utf-8"))
            if re.search(r"^\s*(?:import|from) matplotlib\b", text, re.MULTILINE):
                importing.append(path.relative_to(ROOT).as_posix())
    assert importing == ["lab/plots.py"]
    loaded = "import sys, lab.command_line; print('matplotlib' in sys.modules)"
    assert python(loaded).stdout == "False\n"


PROGRAM = """
from dataclasses import dataclass
from lab.launch import launch

@dataclass
class Config:
    epsilon: float = 1.0
    name: str = "no one"

def main(config):
    print(config.name)

launch(Config, main)
"""


def run_program(tmp_path: Path, *arguments: str, **environment: str) -> tuple[int, bytes, bytes]:
    (tmp_path / "program.py").write_text(PROGRAM)
    command = [sys.executable, str(tmp_path / "program.py"), *arguments]
    done = subprocess.run(command, capture_output=True, env={**os.environ, **environment}, timeout=60)
    return done.returncode, done.stdout, done.stderr


@pytest.mark.parametrize("environment", [{"PYTHONIOENCODING": "cp1252"}, NO_UTF_8, {"COLUMNS": "20"}], ids=str)
def test_messages_do_not_depend_on_the_terminal(tmp_path: Path, environment: dict[str, str]) -> None:
    status, out, err = run_program(tmp_path, "--epsilom", "3", **environment)
    assert (status, out) == (2, b"")
    assert err.decode().splitlines() == ["error: unknown option: --epsilom (did you mean --epsilon?); see --help"]
    assert run_program(tmp_path, "--help", **environment)[0] == 0


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such locale")
def test_characters_that_the_terminal_lacks_are_escaped(tmp_path: Path) -> None:
    assert run_program(tmp_path, "--name", "ü😀", PYTHONIOENCODING="cp1252") == (
        0,
        "ü\\U0001f600\n".encode("cp1252"),
        b"",
    )
    status, out, err = run_program(tmp_path, "--name", "ü", **NO_UTF_8)
    assert (status, out) == (2, b"")
    assert err.startswith(b"error: --name \\udcc3\\udcbc: not UTF-8 text;")


# --- wrong flags ------------------------------------------------------------------------------------------------------


def config_class(script: Path) -> Any:
    """Return the options of a script, without running it."""
    name = f"_options_of_{script.parent.name}_{script.stem}"
    spec = importlib.util.spec_from_file_location(name, script)
    assert spec is not None
    assert spec.loader is not None
    sys.modules[name] = module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.Config


def flags(options: Any) -> Iterator[str]:
    """Yield the flags of a dataclass and of the groups of options in it."""
    for field in dataclasses.fields(options):
        kind = typing.get_type_hints(options)[field.name]
        if dataclasses.is_dataclass(kind):
            yield from flags(kind)
        else:
            yield f"--{field.name}"


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_every_wrong_flag_and_value_gives_one_short_line(script: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(script.parent)
    options = config_class(script)
    absurd = "\x1b[31m\n" + "x" * 90
    known = list(flags(options))
    assert len(known) >= 2
    unknown = [["--no_such_flag", absurd], ["--no_such_flag"], [f"--no_such_flag={absurd}"], ["--" + "y" * 300]]
    cases = [*unknown, *([flag] for flag in known), *([flag, absurd] for flag in known)]
    refused = 0
    for arguments in cases:
        try:
            parse_arguments(options, arguments)  # texts and paths may be absurd
        except UserError as error:
            refused += 1
            line = printable(" ".join(str(error).split()))
            assert len(line) < 200, line
            if arguments in unknown:
                assert f"unknown option: {arguments[0].split('=')[0][:60]}" in line, line
    assert refused > len(known)
