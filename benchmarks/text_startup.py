"""Time from the command to the first output of the text scripts: the pipeline, and both forms of our own models.

Every start is a new process; the sides are interleaved, so that other load on the machine affects all.
"""

if __name__ == "__main__":
    import lab.startup  # noqa: F401 - first: Ctrl-C works while the libraries load

import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lab.errors import require_at_least
from lab.files import ROOT, display_path, writable_folder
from lab.launch import launch
from lab.record import environment_info
from lab.results import new_record, ratio_statistics, write_results

PROJECT, MODELS = ROOT / "02_transformer_basics", ROOT / "assets/models"
SCRIPTS = {
    "first token": (PROJECT / "text_generation.py", MODELS / "language", ("--max_new_tokens", "1")),
    "first label": (PROJECT / "sentiment_analysis.py", MODELS / "sentiment", ()),
}
REFERENCE = "pipeline"
SIDES = {  # name to the flags of the text scripts
    REFERENCE: ("--engine", "pipeline"),
    "plain": ("--engine", "scratch"),
    "accelerated": ("--engine", "scratch", "--accelerate"),
}
TARGET = 0.7  # of the pipeline's time, at most


@dataclass
class Config:
    """Compare the time to the first output of the pipeline and of both forms of our own models."""

    output: Path = ROOT / "benchmarks/results/text_startup.json"
    """Results file."""
    repetitions: int = 5
    """Starts per side."""

    def __post_init__(self) -> None:
        require_at_least(1, self, "repetitions")


def seconds_to_first_output(script: Path, model: Path, flags: tuple[str, ...], folder: Path) -> float:
    """Return the seconds from the start of the script to the first byte on its standard output."""
    arguments = ("One prompt", "--model", str(model), "--output_dir", str(folder), *flags)
    started = time.perf_counter()
    with subprocess.Popen([sys.executable, "-u", str(script), *arguments], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        first = process.stdout.read(1)
        seconds = time.perf_counter() - started
        process.stdout.read()
    if not first or process.returncode:
        raise RuntimeError(f"{script.name} exited with status {process.returncode}")
    return seconds


def main(config: Config) -> None:
    """Start all sides in interleaved rounds, print and write the times and their ratios."""
    writable_folder(config.output.parent)
    environment = environment_info()
    folder = ROOT / "runs/text_startup"
    records = []
    for what, (script, model, flags) in SCRIPTS.items():
        times: dict[str, list[float]] = {side: [] for side in SIDES}
        for _ in range(config.repetitions + 1):
            for side, engine in SIDES.items():
                times[side].append(seconds_to_first_output(script, model, (*engine, *flags), folder))
        for side, (_, *seconds) in times.items():  # the first start reads files from disk
            values: dict[str, Any] = {"seconds": seconds}
            if side != REFERENCE:
                values |= ratio_statistics(seconds, times[REFERENCE][1:]) | {"target": TARGET}
                print(f"{what}, {side}: median ratio {values['median_ratio']:.2f} (target: at most {TARGET})")
            records.append(new_record(what, side, environment, **values))
    write_results(
        config.output,
        "text_startup",
        records,
        settings={"repetitions": config.repetitions},
        environment=environment,
        ratio="time to the first output relative to the `transformers` pipeline",
    )
    print(f"wrote {display_path(config.output)}")


if __name__ == "__main__":
    launch(Config, main)
