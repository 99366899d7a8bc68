"""The documentation is correct: numbers equal their sources, and all commands work in a fresh clone.

The commands run with `-m readme`: they install the lab into a fresh environment and train everything once.
"""

import json
import os
import re
import subprocess
from pathlib import Path

import pytest
from committed import extract_committed, git
from readme_blocks import Block, runnable_blocks

from lab import evidence, results
from lab.errors import UserError
from lab.evidence import quoted, readmes
from lab.files import ROOT


def test_numbers_equal_their_sources(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own_runs = git("diff", "--quiet", "HEAD", "--", ":(glob)**/results/**") is None
    if own_runs and not agree():  # local runs have replaced records: compare the committed files
        patterns = (":(glob)**/*.json", ":(glob)**/README.md", "docs", "benchmarks/results")
        if extract_committed(tmp_path, *patterns) == ROOT:
            pytest.skip("records of own runs have replaced those that the documentation quotes, and there is no git")
        for module in (evidence, results):
            monkeypatch.setattr(module, "ROOT", tmp_path)
        monkeypatch.setattr(results, "RESULTS", tmp_path / "benchmarks/results")
    numbers = quoted()
    assert len(numbers) >= 8
    for where, shown, actual in numbers:
        assert shown == actual, where


def agree() -> bool:
    """Return True if every number and table in the documentation equals the results."""
    try:
        return all(shown == actual for _, shown, actual in quoted())
    except UserError:
        return False


def test_linked_images_and_files_exist() -> None:
    for readme in readmes():
        text = readme.read_text(encoding="utf-8")
        targets = re.findall(r"\]\(([^)#]+?)(?:#[^)]*)?\)", text) + re.findall(r'src="([^"]+)"', text)
        for target in targets:
            if not target.startswith("http"):
                assert (readme.parent / target).exists(), f"{readme.name} of {readme.parent.name} names {target}"


def test_main_commands_are_runnable_blocks() -> None:
    commands = "\n".join(block.commands for block in runnable_blocks())
    for command in (
        "make run",
        "python train.py\n",
        "python transformer_block.py",
        "python bpe_tokenizer.py",
        "python sentiment_analysis.py",
        "python text_generation.py",
        "python explore_env.py",
        "python train.py --num_iterations 200 --steps_per_iter 2048",
        "python evaluate.py --model_path results/trained_model.pth --save_gif",
        "lab doctor",
    ):
        assert command in commands, f"no runnable block holds {command!r}"


@pytest.fixture(scope="session")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A fresh clone of the last commit in a temporary folder."""
    folder = tmp_path_factory.mktemp("fresh") / "lab"
    subprocess.run(["git", "clone", "--quiet", str(ROOT), str(folder)], check=True)
    return folder


@pytest.fixture(scope="session")
def environment(clone: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Environment variables of a new user: the clone's virtual environment first on the path, an empty model cache."""
    cleared = {"VIRTUAL_ENV", "PYTHONPATH", "OMP_NUM_THREADS", "HF_HUB_OFFLINE"}
    kept = {name: value for name, value in os.environ.items() if name not in cleared}
    cache = tmp_path_factory.mktemp("empty_cache")
    return {**kept, "HF_HOME": str(cache), "PATH": f"{clone / '.venv/bin'}{os.pathsep}{os.environ['PATH']}"}


def shell(commands: str, folder: Path, environment: dict[str, str], seconds: int = 1200) -> str:
    """Run commands with bash, stop at the first failure, return their output. Standard input is closed."""
    done = subprocess.run(
        ["bash", "-e", "-c", commands],
        cwd=folder,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=seconds,
    )
    assert done.returncode == 0, f"{commands}\n{done.stdout[-6000:]}"
    return done.stdout


@pytest.fixture(scope="session")
def first_run(clone: Path, environment: dict[str, str]) -> str:
    """Output of `make run` in the fresh clone."""
    return shell("make run", clone, environment)


@pytest.mark.readme
def test_make_run_succeeds_and_leaves_the_clone_clean(clone: Path, environment: dict[str, str], first_run: str) -> None:
    assert "Results" in first_run
    assert shell("git status --porcelain", clone, environment) == ""
    records = sorted((clone / "runs").glob("0*/*.json"))
    checks = [check for path in records for check in json.loads(path.read_text()).get("figures", [])]
    assert len(checks) >= 6
    assert all(check["ok"] for check in checks)
    for name in ("maze_agent.gif", "attention.png", "training_reward_curve.png", "trained_agent.gif"):
        assert list((clone / "runs").glob(f"*/{name}"))


@pytest.mark.readme
def test_second_make_run_installs_nothing(clone: Path, environment: dict[str, str], first_run: str) -> None:
    assert "pip" not in shell("make --dry-run run", clone, environment)


@pytest.mark.readme
@pytest.mark.usefixtures("first_run")
@pytest.mark.parametrize("block", runnable_blocks(), ids=str)
def test_every_runnable_block_works_in_a_fresh_clone(block: Block, clone: Path, environment: dict[str, str]) -> None:
    shell("make .venv/test-installed && make -s --question setup", clone, environment)
    shell(block.commands, clone, environment)
    if "--publish" in block.commands:  # the pages quote results that the previous blocks have replaced
        shell("git checkout --quiet -- docs README.md '0*/README.md'", clone, environment)
    changed = shell("git status --porcelain", clone, environment).splitlines()
    assert all("/results/" in line for line in changed), changed
