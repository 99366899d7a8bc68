"""Runs the projects' scripts, each in a process of its own, and tells what came of them."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from lab.errors import UserError
from lab.files import ROOT, display_path, writable_folder

SCRIPTS = {
    "maze": ROOT / "01_q_learning_maze/train.py",
    "attention": ROOT / "02_transformer_basics/transformer_block.py",
    "sentiment": ROOT / "02_transformer_basics/sentiment_analysis.py",
    "generate": ROOT / "02_transformer_basics/text_generation.py",
    "reacher": ROOT / "03_ppo_reacher/train.py",
}


@dataclass(frozen=True)
class Step:
    """One script of the whole tour: its title in the table, the file, its arguments beside --output_dir."""

    title: str
    script: Path
    arguments: tuple[str, ...] = ()

    def output_dir(self, root: Path) -> Path:
        """Where under `root` this step writes: a folder a project."""
        return root / self.script.parent.name


def tour(root: Path) -> list[Step]:
    """All steps of `lab run all`, in order. The text models are those that ship: nothing is looked for on a network."""
    models = ROOT / "assets/models"
    reacher = SCRIPTS["reacher"].parent
    trained = root / reacher.name / "trained_model.pth"
    return [
        Step("train a mouse in a maze", SCRIPTS["maze"]),
        Step("build a transformer block", SCRIPTS["attention"]),
        Step("classify sentences", SCRIPTS["sentiment"], ("--model", str(models / "sentiment"))),
        Step("continue a text", SCRIPTS["generate"], ("--model", str(models / "language"))),
        Step("explore the robot arm", reacher / "explore_env.py"),
        Step("train the robot arm", SCRIPTS["reacher"]),
        Step("evaluate the robot arm", reacher / "evaluate.py", ("--model_path", str(trained), "--save_gif")),
    ]


def run_script(script: Path, arguments: Sequence[str]) -> int:
    """Run a script with this Python and the given arguments; return its exit status."""
    with subprocess.Popen([sys.executable, str(script), *arguments]) as process:
        try:
            return process.wait()
        except KeyboardInterrupt:  # the script got it too, and may have work to save
            process.wait()
            return 130


def run_everything(root: Path) -> int:
    """Run the tour into folders under `root` and print a table of what came of it.

    Returns 0 only if every script ended well and every figure is in its range.
    """
    root = writable_folder(root.resolve())
    rows: list[tuple[Step, dict[str, Any] | None, float]] = []
    for number, step in enumerate(tour(root), 1):
        print(f"\n[{number}/{len(tour(root))}] {step.title}: {display_path(step.script)}", flush=True)
        rows.append(run_step(step, root))
        if rows[-1][1] is None and step.script == SCRIPTS["reacher"]:
            break  # nothing to evaluate
    show_table(rows, root)
    return int(not all(record and all(figure["ok"] for figure in record["figures"]) for _, record, _ in rows))


def run_step(step: Step, root: Path) -> tuple[Step, dict[str, Any] | None, float]:
    """Run one step; return it with the record that it wrote (None if it failed) and its wall time in seconds."""
    folder = step.output_dir(root)
    record = folder / f"{step.script.stem}.json"
    record.unlink(missing_ok=True)  # an earlier run's record must not speak for this one
    os.environ["HF_HUB_OFFLINE"] = "1"
    started = time.perf_counter()
    status = run_script(step.script, (*step.arguments, "--output_dir", str(folder)))
    seconds = time.perf_counter() - started
    if status == 130:
        raise KeyboardInterrupt
    return step, read_record(record) if status == 0 else None, seconds


def read_record(path: Path) -> dict[str, Any]:
    """The record that a script wrote. Raises OSError or UserError, naming the file."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        raise UserError(f"{path}: not the record of a run ({error})") from None


def show_table(rows: Sequence[tuple[Step, dict[str, Any] | None, float]], root: Path) -> None:
    """Print what ran, the figure that shows that it worked beside what is expected, the time, the files."""
    table = Table(title="What came of it", show_lines=True)
    for column in ("what", "figure", "expected", "", "seconds", "files"):
        table.add_column(column, overflow="fold", justify="right" if column == "seconds" else "left")
    for step, record, seconds in rows:
        figures = record["figures"] if record else [{"name": "", "value": "failed", "expected": "", "ok": False}]
        table.add_row(
            escape(step.title),
            escape("\n".join(f"{figure['name']}: {figure['value']}".strip(": ") for figure in figures)),
            escape("\n".join(figure["expected"] for figure in figures)),
            "\n".join("[green]ok[/]" if figure["ok"] else "[red]NO[/]" for figure in figures),
            f"{seconds:.1f}",
            escape("\n".join(record["files"])) if record else "",
        )
    console = Console()
    if not console.is_terminal:
        console = Console(width=150)
    console.print(table)
    seconds = sum(s for _, _, s in rows)
    print(f"All files are under {display_path(root)}, a folder for each project. {seconds:.0f} seconds.")
