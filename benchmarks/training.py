"""Training speed of our GPT-2 compared with a plain loop over the model of the `transformers` library.

All sides have the same initial weights, batches, optimizer (AdamW, since Muon would not recognize the library's
matrices) and number of threads. Each runs in its own process, and they are interleaved. The activation is GPT-2's,
which the presets do not use. Our training script keeps freed memory in the process; a plain loop does not by default,
so a third side is the plain loop with this setting.
"""

if __name__ == "__main__":
    import lab.startup  # first: Ctrl-C works while the libraries load

import dataclasses
import multiprocessing
import signal
import statistics
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
import transformers

import lab.projects  # noqa: F401 - puts the projects on the search path
from lab.errors import require_at_least
from lab.files import ROOT, display_path, writable_folder
from lab.launch import launch
from lab.memory import keep_freed_memory
from lab.record import environment_info
from lab.results import Record, new_record, ratio_statistics, write_results
from language_model.data import Windows
from language_model.presets import PRESETS
from language_model.training import LanguageConfig, Trainer, new_model
from optimization import OptimizerGroup

TARGET = 1.1  # times the speed of the plain loop
VOCABULARY = {"shakespeare": 67, "books": PRESETS["books"].vocab_size}
STEPS_FACTOR = {"shakespeare": 5, "books": 1}  # so that rounds of both presets take about as long
Step = Callable[[], float]  # does one optimizer step, returns the loss before it
step: Step  # of the side that runs in this process


@dataclass
class Config:
    """Compare our training with a plain loop over the model of the transformers library."""

    output: Path = ROOT / "benchmarks/results/training.json"
    """Results file."""
    repetitions: int = 25
    """Rounds per side."""
    steps: int = 2
    """Optimizer steps per round for the books preset, five times as many for Shakespeare: few, so that other load on
    the machine affects all sides equally."""
    threads: int = 2
    """PyTorch threads of every side."""


def random_ids(config: LanguageConfig, vocabulary: int) -> torch.Tensor:
    """Return random token ids of 100 windows, (N,), the same in every process."""
    return torch.randint(vocabulary, (100 * config.context + 1,), generator=torch.Generator().manual_seed(config.seed))


def ours(config: LanguageConfig, vocabulary: int) -> Step:
    """Return a step of the lab's training, set up as in `train_language_model.py`."""
    keep_freed_memory()
    torch.manual_seed(config.seed)
    ids = random_ids(config, vocabulary)
    trainer = Trainer(config, new_model(config, vocabulary), ids, ids[: config.context + 1], "cpu")
    return lambda: trainer.train_step().loss


def plain(config: LanguageConfig, vocabulary: int) -> Step:
    """Return a step of a plain training loop for the library's model."""
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    torch.manual_seed(config.seed)
    with tempfile.TemporaryDirectory() as folder:
        new_model(config, vocabulary).save_pretrained(Path(folder))
        model = transformers.GPT2LMHeadModel.from_pretrained(folder).train()
    windows = Windows(random_ids(config, vocabulary), config.context, config.batch_size, config.seed)
    optimization = OptimizerGroup(model, config)

    def step() -> float:
        inputs, targets = windows.next_batch()
        logits = model(inputs).logits  # (B, T) -> (B, T, V)
        loss = F.cross_entropy(logits.flatten(0, 1), targets.flatten())
        loss.backward()
        optimization.step()
        return loss.item()

    return step


def plain_with_kept_memory(config: LanguageConfig, vocabulary: int) -> Step:
    """Return the same step with freed memory kept in the process."""
    keep_freed_memory()
    return plain(config, vocabulary)


PLAIN, KEPT = "transformers", "transformers, freed memory kept"
SIDES = {"ours": ours, PLAIN: plain, KEPT: plain_with_kept_memory}


def begin(name: str, config: LanguageConfig, vocabulary: int, threads: int) -> None:
    """Set up this process for a side."""
    global step
    torch.set_num_threads(threads)
    step = SIDES[name](config, vocabulary)


def timed_steps(steps: int) -> tuple[float, float]:
    """Run some steps; return the mean seconds per step and the last loss."""
    start = time.perf_counter()
    losses = [step() for _ in range(steps)]
    return (time.perf_counter() - start) / steps, losses[-1]


def measure(preset: str, config: Config) -> tuple[dict[str, list[float]], float, int]:
    """Return the seconds per step of every round and side, the initial loss difference, and the tokens per step."""
    settings = dataclasses.replace(
        PRESETS[preset].training(),
        optimizer="adamw",
        activation="gelu_new",
        dropout=0.0,
        num_steps=10_000,
        evaluate_every=10_000,
    )
    steps = config.steps * STEPS_FACTOR[preset]
    spawn = multiprocessing.get_context("spawn")
    start = (settings, VOCABULARY[preset], config.threads)
    processes = {name: ProcessPoolExecutor(1, spawn, begin, (name, *start)) for name in SIDES}
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)  # the child processes ignore Ctrl-C
    first = {name: process.submit(timed_steps, config.steps) for name, process in processes.items()}  # warm-up
    signal.signal(signal.SIGINT, before)
    try:
        losses = {name: future.result()[1] for name, future in first.items()}
        seconds: dict[str, list[float]] = {name: [] for name in SIDES}
        for _ in range(config.repetitions):
            for name, process in processes.items():
                seconds[name].append(process.submit(timed_steps, steps).result()[0])
    finally:
        for process in processes.values():
            process.shutdown()
    difference = max(abs(losses["ours"] - loss) for loss in losses.values())
    return seconds, difference, settings.batch_size * settings.context


def records_of(preset: str, config: Config, environment: dict[str, Any]) -> list[Record]:
    """Measure a preset; return one record per side."""
    seconds, difference, tokens = measure(preset, config)
    records = []
    for name, times in seconds.items():
        values: dict[str, Any] = {"tokens_per_second": round(tokens / statistics.median(times)), "seconds": times}
        if name == "ours":
            values["loss_difference"] = difference
        else:
            values |= ratio_statistics(times, seconds["ours"]) | {"target": TARGET if name == PLAIN else None}
        records.append(new_record(preset, name, environment, **values))
    return records


def main(config: Config) -> None:
    """Measure, print and write the results."""
    require_at_least(1, config, "repetitions", "steps", "threads")
    writable_folder(config.output.parent)
    torch.set_num_threads(config.threads)  # for the record; the sides set it themselves
    environment = environment_info(("torch", "transformers"))
    records = []
    for preset in VOCABULARY:
        of_preset = records_of(preset, config, environment)
        records += of_preset
        ratio = {record["side"]: record["median_ratio"] for record in of_preset if "median_ratio" in record}
        verdict = f"target {'met' if ratio[PLAIN] >= TARGET else 'missed'} ({TARGET})"
        kept = f"{ratio[KEPT]:.2f} times one that keeps freed memory"
        print(f"{preset}: {ratio[PLAIN]:.2f} times a plain loop, {verdict}; {kept}")
    write_results(
        config.output,
        "training",
        records,
        settings={name: getattr(config, name) for name in ("repetitions", "steps", "threads")},
        environment=environment,
        ratio="our speed relative to this side",
    )
    print(f"wrote {display_path(config.output)}")


if __name__ == "__main__":
    launch(Config, main)
