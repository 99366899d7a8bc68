"""Time from the command to the first output of the text scripts, with either engine.

Every start is a new process; the engines are interleaved, so that other load on the machine affects both.
"""

import statistics
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

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
ENGINES = ("pipeline", "scratch")
TARGET = 0.7  # of the pipeline's time, at most
ENGINE_FORM = "accelerated"  # the form that `--engine scratch` runs by default: plain or accelerated


@dataclass
class Config:
    """Compare the time to the first output of both engines."""

    output: Path = ROOT / "benchmarks/results/text_startup.json"
    """Results file."""
    repetitions: int = 5
    """Starts per engine."""

    def __post_init__(self) -> None:
        require_at_least(1, self, "repetitions")


def seconds_to_first_output(script: Path, model: Path, flags: tuple[str, ...], engine: str, folder: Path) -> float:
    """Return the seconds from the start of the script to the first byte on its standard output."""
    arguments = ("One prompt", "--model", str(model), "--engine", engine, "--output_dir", str(folder), *flags)
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
    """Start both engines in interleaved rounds, print and write the times and their ratio."""
    writable_folder(config.output.parent)
    environment = environment_info()
    folder = ROOT / "runs/text_startup"
    records = []
    for what, (script, model, flags) in SCRIPTS.items():
        times: dict[str, list[float]] = {engine: [] for engine in ENGINES}
        for _ in range(config.repetitions + 1):
            for engine in ENGINES:
                times[engine].append(seconds_to_first_output(script, model, flags, engine, folder))
        times = {engine: seconds[1:] for engine, seconds in times.items()}  # the first start reads files from disk
        ours = {
            "engine_form": ENGINE_FORM,
            "seconds": times["scratch"],
            **ratio_statistics(times["scratch"], times["pipeline"]),
            "target": TARGET,
        }
        records.append(new_record(what, "pipeline", environment, seconds=times["pipeline"]))
        records.append(new_record(what, "scratch", environment, **ours))
        line = {engine: f"{statistics.median(seconds):.2f} s" for engine, seconds in times.items()}
        print(f"{what}: {line}, median ratio {ours['median_ratio']:.2f} (target: at most {TARGET})")
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
