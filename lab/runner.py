"""Run the projects' scripts in subprocesses and summarize the results."""

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
from lab.files import ROOT, display_path, read_text, writable_folder
from lab.texts import printable

SCRIPTS = {
    "first_steps": ROOT / "00_first_steps/training_loop.py",
    "network": ROOT / "00_first_steps/small_network.py",
    "maze": ROOT / "01_q_learning_maze/train.py",
    "attention": ROOT / "02_transformer_basics/transformer_block.py",
    "sentiment": ROOT / "02_transformer_basics/sentiment_analysis.py",
    "generate": ROOT / "02_transformer_basics/text_generation.py",
    "reacher": ROOT / "03_ppo_reacher/train.py",
}


@dataclass(frozen=True)
class Step:
    """One step of `lab run all`: its title in the table, the script, its arguments besides --output_dir."""

    title: str
    script: Path
    arguments: tuple[str, ...] = ()

    def output_dir(self, root: Path) -> Path:
        """Return the output folder of this step: one folder per project under `root`."""
        return root / self.script.parent.name


def tour(root: Path) -> list[Step]:
    """Return all steps of `lab run all`, in order. The text models are the bundled ones: no network is needed."""
    models = ROOT / "assets/models"
    first_steps, reacher = SCRIPTS["first_steps"].parent, SCRIPTS["reacher"].parent
    trained = root / reacher.name / "trained_model.pth"
    return [
        Step("see how tensors behave", first_steps / "tensors.py"),
        Step("build a network twice", SCRIPTS["network"]),
        Step("train a small network", SCRIPTS["first_steps"]),
        Step("find silent mistakes", first_steps / "debugging.py"),
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
        except KeyboardInterrupt:  # the script received it too and may be saving its work
            process.wait()
            return 130


def takes_flag(script: Path, flag: str) -> bool:
    """Return True if the script's `--help` lists the flag, such as "--resume"."""
    shown = subprocess.run([sys.executable, str(script), "--help"], capture_output=True, text=True, check=False)
    return flag in shown.stdout.split()


def run_everything(root: Path) -> int:
    """Run all steps into folders under `root` and print a table of the results.

    Returns 0 only if every script succeeded and every check passed.
    """
    root = writable_folder(root.resolve())
    rows: list[tuple[Step, dict[str, Any] | None, float]] = []
    for number, step in enumerate(tour(root), 1):
        print(f"\n[{number}/{len(tour(root))}] {step.title}: {display_path(step.script)}", flush=True)
        rows.append(run_step(step, root))
        if rows[-1][1] is None and step.script == SCRIPTS["reacher"]:
            break  # no trained model to evaluate
    show_table(rows, root)
    return int(not all(record and all(check["ok"] for check in record["figures"]) for _, record, _ in rows))


def run_step(step: Step, root: Path) -> tuple[Step, dict[str, Any] | None, float]:
    """Run one step; return it with its record (None if it failed) and its wall time in seconds."""
    folder = step.output_dir(root)
    record = folder / f"{step.script.stem}.json"
    record.unlink(missing_ok=True)  # do not mistake the record of an earlier run for this one
    os.environ["HF_HUB_OFFLINE"] = "1"
    started = time.perf_counter()
    status = run_script(step.script, (*step.arguments, "--output_dir", str(folder)))
    seconds = time.perf_counter() - started
    if status == 130:
        raise KeyboardInterrupt
    return step, read_record(record) if status == 0 else None, seconds


def read_record(path: Path) -> dict[str, Any]:
    """Return the record that a script wrote. Raises OSError or UserError, naming the file."""
    try:
        return json.loads(read_text(path))
    except (json.JSONDecodeError, RecursionError) as error:
        raise UserError(f"{path}: not the record of a run ({error})") from None


def show_table(rows: Sequence[tuple[Step, dict[str, Any] | None, float]], root: Path) -> None:
    """Print one row per step: the measured and the expected value, the time, the files."""
    table = Table(title="Results", show_lines=True)
    for column in ("step", "measured", "expected", "", "seconds", "files"):
        table.add_column(column, overflow="fold", justify="right" if column == "seconds" else "left")
    for step, record, seconds in rows:
        checks = record["figures"] if record else [{"name": "", "value": "failed", "expected": "", "ok": False}]
        table.add_row(
            escape(step.title),
            escape(printable("\n".join(f"{check['name']}: {check['value']}".strip(": ") for check in checks))),
            escape(printable("\n".join(check["expected"] for check in checks))),
            "\n".join("[green]ok[/]" if check["ok"] else "[red]NO[/]" for check in checks),
            f"{seconds:.1f}",
            escape(printable("\n".join(record["files"]))) if record else "",
        )
    console = Console()
    if not console.is_terminal:
        console = Console(width=150)
    console.print(table)
    seconds = sum(s for _, _, s in rows)
    print(f"All files are in {display_path(root)}, one folder per project. Total time: {seconds:.0f} seconds.")
    print("See it live in the browser: lab play")
