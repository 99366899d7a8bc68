"""How long the text scripts take from the command to the first answer, with either engine.

Every start is a process of its own; the engines take turns, so that what else the machine does slows both.
"""

import statistics
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from lab.errors import require_at_least
from lab.files import ROOT, display_path, writable_folder, write_json
from lab.launch import launch
from lab.record import environment_info

PROJECT, MODELS = ROOT / "02_transformer_basics", ROOT / "assets/models"
SCRIPTS = {
    "first token": (PROJECT / "text_generation.py", MODELS / "language", ("--max_new_tokens", "1")),
    "first label": (PROJECT / "sentiment_analysis.py", MODELS / "sentiment", ()),
}
ENGINES = ("pipeline", "scratch")
BAR = 0.7  # of the pipeline's time, at most


@dataclass
class Config:
    """Compare how long both engines take from the command to the first answer."""

    output: Path = ROOT / "benchmarks/results/text_startup.json"
    """File for the figures."""
    repetitions: int = 5
    """Starts of each engine."""

    def __post_init__(self) -> None:
        require_at_least(1, self, "repetitions")


def seconds_to_first_output(script: Path, model: Path, flags: tuple[str, ...], engine: str, folder: Path) -> float:
    """Start the script and wait for the first byte on its standard output."""
    arguments = ("One prompt", "--model", str(model), "--engine", engine, "--output_dir", str(folder), *flags)
    started = time.perf_counter()
    with subprocess.Popen([sys.executable, "-u", str(script), *arguments], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        first = process.stdout.read(1)
        seconds = time.perf_counter() - started
        process.stdout.read()
    if not first or process.returncode:
        raise RuntimeError(f"{script.name} ended with status {process.returncode}")
    return seconds


def main(config: Config) -> None:
    """Start both engines in turns, print and write the times and their ratio."""
    writable_folder(config.output.parent)
    results = {}
    for what, (script, model, flags) in SCRIPTS.items():
        times: dict[str, list[float]] = {engine: [] for engine in ENGINES}
        for _ in range(config.repetitions + 1):
            for engine in ENGINES:
                folder = ROOT / "runs/text_startup"
                times[engine].append(seconds_to_first_output(script, model, flags, engine, folder))
        times = {engine: seconds[1:] for engine, seconds in times.items()}  # the first start reads files from the disk
        ratios = [ours / theirs for theirs, ours in zip(times["pipeline"], times["scratch"], strict=True)]
        results[what] = {"seconds": times, "median_ratio": statistics.median(ratios), "bar": BAR}
        shown = {engine: f"{min(seconds):.2f} s" for engine, seconds in times.items()}
        print(f"{what}: {shown}, median ratio {results[what]['median_ratio']:.2f} (at most {BAR})")
    write_json(config.output, {"results": results, **environment_info()})
    print(f"wrote {display_path(config.output)}")


if __name__ == "__main__":
    launch(Config, main)
