"""The notebooks: generated from their sources, and executed from top to bottom without a network."""

import ast
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import nbformat
import pytest
from jupyter_client.kernelspec import KernelSpecManager
from jupyter_client.manager import AsyncKernelManager
from nbclient import NotebookClient
from nbformat import NotebookNode
from notebook_files import generated, read_source, sources

from lab.exercises.catalog import find
from lab.exercises.stubs import solution, stub
from lab.files import ROOT

NAMES = ("00_first_steps", "01_q_learning_maze", "02_transformer_basics", "03_ppo_reacher")
EXERCISES = {
    "00_first_steps": "standardize",
    "01_q_learning_maze": "discounted_return",
    "02_transformer_basics": "softmax",
    "03_ppo_reacher": "log_prob",
}
REDUCED = {  # fewer steps: cells that replace the numbers of the cell tagged "parameters"
    "00_first_steps": "steps = 200",
    "01_q_learning_maze": "episodes = 100\nmice = 100",
    "02_transformer_basics": "new_tokens = 8",
    "03_ppo_reacher": "num_iterations = 10",
}
# Python imports this module when it starts: in the kernel, and in the processes that it starts.
NO_NETWORK = """
import socket

connect = socket.socket.connect

def connect_here(self, address):
    if self.family in (socket.AF_INET, socket.AF_INET6) and address[0] not in ("127.0.0.1", "::1", "localhost"):
        raise RuntimeError(f"the network is blocked: {address}")
    return connect(self, address)

def no_names(*arguments, **settings):
    raise RuntimeError(f"the network is blocked: {arguments}")

socket.socket.connect = socket.socket.connect_ex = connect_here
socket.getaddrinfo = no_names
"""
TRY_NETWORK = """
import socket
import subprocess
import sys

attempt = "import socket; socket.create_connection(('192.0.2.1', 9), timeout=1)"
child = subprocess.run([sys.executable, "-c", attempt], capture_output=True, text=True)
assert "the network is blocked" in child.stderr
try:
    exec(attempt)
except RuntimeError as error:
    assert "the network is blocked" in str(error)
else:
    raise AssertionError("the network is not blocked")
"""


def cells_with(notebook: NotebookNode, tag: str) -> list[int]:
    """Return the numbers of the cells with a tag."""
    return [number for number, cell in enumerate(notebook.cells) if tag in cell.metadata.get("tags", [])]


def code_cells(notebook: NotebookNode) -> list[str]:
    """Return the source of every code cell."""
    return [cell.source for cell in notebook.cells if cell.cell_type == "code"]


def output_of(cell: NotebookNode) -> str:
    """Return what a cell printed."""
    return "".join(output.text for output in cell.outputs if output.output_type == "stream")


def pictures_of(notebook: NotebookNode) -> list[str]:
    """Return the images that the cells show, in base64."""
    bundles = [output.get("data", {}) for cell in notebook.cells for output in cell.get("outputs", [])]
    return [value for bundle in bundles for kind, value in bundle.items() if kind in ("image/png", "image/gif")]


def execute(notebook: NotebookNode, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Execute all cells in a new kernel, in a new folder inside `folder`, without a network and with another HOME."""
    for name in ("current", "home", "temporary", "kernels/lab", "path", "runtime"):
        (folder / name).mkdir(parents=True)
    (folder / "path/sitecustomize.py").write_text(NO_NETWORK, encoding="utf-8")
    kernel = {
        "argv": [sys.executable, "-Xfrozen_modules=off", "-m", "ipykernel_launcher", "-f", "{connection_file}"],
        "display_name": "lab",
        "language": "python",
    }
    (folder / "kernels/lab/kernel.json").write_text(json.dumps(kernel), encoding="utf-8")
    monkeypatch.setenv("JUPYTER_RUNTIME_DIR", str(folder / "runtime"))
    environment = {
        **{name: value for name, value in os.environ.items() if name not in ("MPLBACKEND", "HF_HUB_OFFLINE")},
        "PYTHONPATH": os.pathsep.join([str(folder / "path"), str(ROOT)]),
        "TMPDIR": str(folder / "temporary"),
        **dict.fromkeys(("HOME", "IPYTHONDIR", "HF_HOME", "LAB_CACHE"), str(folder / "home")),
    }
    manager = AsyncKernelManager(
        kernel_name="lab", kernel_spec_manager=KernelSpecManager(kernel_dirs=[str(folder / "kernels")])
    )
    client = NotebookClient(
        notebook,
        km=manager,
        timeout=600,
        startup_timeout=600,
        resources={"metadata": {"path": str(folder / "current")}},
    )
    client.execute(env=environment, cleanup_kc=True)  # which ends the kernel, too
    assert list((folder / "current").iterdir()) == []


def test_there_is_one_notebook_for_each_lesson() -> None:
    assert [path.stem for path in sources()] == list(NAMES)
    assert sorted(path.stem for path in (ROOT / "notebooks").glob("*.ipynb")) == sorted(NAMES)


@pytest.mark.parametrize("source", sources(), ids=lambda path: path.stem)
def test_the_committed_notebook_is_what_its_source_generates(source: Path) -> None:
    committed = source.with_suffix(".ipynb").read_bytes()
    assert committed == generated(source).encode(), "run `make notebooks`"
    notebook: Any = nbformat.reads(committed.decode(), as_version=4)
    assert [cell.source for cell in notebook.cells if cell.get("outputs") or cell.get("execution_count")] == []
    assert len(cells_with(notebook, "parameters")) == 1


def defined_names(text: str) -> set[str]:
    """Return the names of all functions and classes that a module defines, wherever in it."""
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
    return {node.name for node in ast.walk(ast.parse(text)) if isinstance(node, kinds)}


@pytest.mark.parametrize("source", sources(), ids=lambda path: path.stem)
def test_a_notebook_defines_nothing_that_the_lab_defines(source: Path) -> None:
    folders = [ROOT / folder for folder in ("lab", *NAMES)]
    paths = [path for folder in folders for path in folder.rglob("*.py") if "tests" not in path.parts]
    of_the_lab = {name for path in paths for name in defined_names(path.read_text(encoding="utf-8"))}
    assert {"compute_gae", "attention", "QLearningAgent", "standardize"} <= of_the_lab
    assert defined_names(source.read_text(encoding="utf-8")) & of_the_lab == set()


@pytest.mark.parametrize("source", sources(), ids=lambda path: path.stem)
def test_the_last_cells_are_the_first_exercise_of_the_lesson(source: Path) -> None:
    notebook = read_source(source)
    (number,) = cells_with(notebook, "exercise")
    exercise = find(EXERCISES[source.stem])
    assert exercise.number in ("O1", "1.1", "2.1", "3.1")
    assert notebook.cells[number].source + "\n" == f"%%writefile {exercise.name}.py\n" + stub(exercise)
    assert f"lab check {exercise.name} --file {exercise.name}.py" in notebook.cells[number + 1].source
    assert len(notebook.cells) == number + 3


def test_the_first_cell_is_the_same_in_all_notebooks() -> None:
    assert len({code_cells(read_source(source))[0] for source in sources()}) == 1


def test_on_colab_the_first_cell_fetches_the_lab_and_installs_all_but_torch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    commands: list[list[str]] = []

    def run(command: list[Any], check: bool) -> None:
        commands.append([str(part) for part in command])
        if command[0] == "git":
            (tmp_path / "pytorch-learning-lab").mkdir()
            requirements = (ROOT / "requirements.txt").read_text(encoding="utf-8")
            (tmp_path / "pytorch-learning-lab/requirements.txt").write_text(requirements, encoding="utf-8")

    first = code_cells(read_source(sources()[0]))[0]
    monkeypatch.setitem(sys.modules, "google.colab", sys)
    monkeypatch.setattr(subprocess, "run", run)
    monkeypatch.setattr(Path, "home", lambda: tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.chdir(tmp_path)
    with pytest.raises(RuntimeError, match="set REPOSITORY to the address"):
        exec(first, {})
    assert commands == []
    address = "https://example.org/lab.git"
    assert "<this repository>" in first
    assert "git clone <this repository>" in (ROOT / "README.md").read_text(encoding="utf-8")
    for _ in range(2):  # the second time the clone is there
        exec(first.replace("<this repository>", address), {})
    clone = str(tmp_path / "pytorch-learning-lab")
    cloning, installing, again = commands
    assert cloning == ["git", "clone", "--depth", "1", address, clone]
    assert installing == again
    assert installing[:4] == [sys.executable, "-m", "pip", "install"]
    assert installing[-2:] == ["-e", clone]
    packages = [part.split("==")[0] for part in installing if "==" in part]
    assert {"numpy", "gymnasium", "mujoco", "matplotlib"} <= set(packages)
    assert "torch" not in packages
    assert sys.path[0] == clone


@pytest.mark.parametrize("source", sources(), ids=lambda path: path.stem)
def test_a_notebook_runs_from_top_to_bottom_in_a_new_folder_without_a_network(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    notebook = read_source(source)
    exercise = find(EXERCISES[source.stem])
    (number,) = cells_with(notebook, "exercise")
    answered = nbformat.v4.new_code_cell(f"%%writefile {exercise.name}.py\n{solution(exercise)}")
    notebook.cells += [answered, nbformat.v4.new_code_cell(notebook.cells[number + 1].source)]
    (parameters,) = cells_with(notebook, "parameters")
    notebook.cells.insert(parameters + 1, nbformat.v4.new_code_cell(REDUCED[source.stem]))
    notebook.cells.insert(0, nbformat.v4.new_code_cell(TRY_NETWORK))
    execute(notebook, tmp_path, monkeypatch)
    checks = [output_of(cell) for cell in notebook.cells if cell.source.startswith("!")]
    assert len(checks) == 2
    assert "NOT STARTED" in checks[0]
    assert f"Fill in {exercise.name}.py" in checks[0]
    assert "PASSED" in checks[1]
    assert pictures_of(notebook)
