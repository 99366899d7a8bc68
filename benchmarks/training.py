"""How fast our GPT-2 trains beside a plain loop over the `transformers` library's.

All sides have the same weights at the start, the same batches, the same optimizer (AdamW: Muon would not know the
library's matrices as such) and threads. Each has a process of its own, as it would have anywhere else, and they take
turns. The activation is GPT-2's own, which the presets do without. Our training keeps the memory that a step frees;
a plain loop does not by itself, so there is a third side, the plain loop with that one line added.
"""

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

import lab.projects  # noqa: F401 - lets the projects' modules be found
from lab.errors import require_at_least
from lab.files import ROOT, display_path, writable_folder, write_json
from lab.launch import launch
from lab.memory import keep_freed_memory
from lab.record import environment_info
from language_model.data import Windows
from language_model.presets import PRESETS
from language_model.training import LanguageConfig, Trainer, new_model
from optimization import OptimizerGroup

BAR = 1.2
VOCABULARY = {"shakespeare": 67, "books": PRESETS["books"].vocab_size}
STEPS_FOR_ONE = {"shakespeare": 5, "books": 1}  # so that turns last about as long as those of the books
Step = Callable[[], float]  # makes an optimizer step, gives the loss before it
step: Step  # of the side whose process this is


@dataclass
class Config:
    """Compare our training with a plain loop over the transformers library's model."""

    output: Path = ROOT / "benchmarks/results/training.json"
    """File for the figures."""
    repetitions: int = 25
    """Times that every side is measured."""
    steps: int = 2
    """Optimizer steps a time at the books' sizes, five times as many at Shakespeare's: few, so that a machine that
    others use is as slow for both sides."""
    threads: int = 2
    """Threads that PyTorch computes with, on both sides."""


def random_ids(config: LanguageConfig, vocabulary: int) -> torch.Tensor:
    """A text of a hundred windows, (N,), that is the same in every process."""
    return torch.randint(vocabulary, (100 * config.context + 1,), generator=torch.Generator().manual_seed(config.seed))


def ours(config: LanguageConfig, vocabulary: int) -> Step:
    """The lab's training, with what `train_language_model.py` does before it."""
    keep_freed_memory()
    torch.manual_seed(config.seed)
    ids = random_ids(config, vocabulary)
    trainer = Trainer(config, new_model(config, vocabulary), ids, ids[: config.context + 1], "cpu")
    return lambda: trainer.train_step().loss


def plain(config: LanguageConfig, vocabulary: int) -> Step:
    """A loop as anyone would write it for the library's model."""
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
    """The same after one more line."""
    keep_freed_memory()
    return plain(config, vocabulary)


PLAIN, KEPT = "transformers", "transformers, freed memory kept"
SIDES = {"ours": ours, PLAIN: plain, KEPT: plain_with_kept_memory}


def begin(name: str, config: LanguageConfig, vocabulary: int, threads: int) -> None:
    """Make this process the one of a side."""
    global step
    torch.set_num_threads(threads)
    step = SIDES[name](config, vocabulary)


def turn(steps: int) -> tuple[float, float]:
    """Make some steps; the seconds that one took in the mean, and the last loss."""
    start = time.perf_counter()
    losses = [step() for _ in range(steps)]
    return (time.perf_counter() - start) / steps, losses[-1]


def measure(preset: str, config: Config) -> dict[str, Any]:
    """Tokens a second of all sides, the ratios to ours of every repetition, and how far losses are apart at first."""
    settings = dataclasses.replace(
        PRESETS[preset].training(),
        optimizer="adamw",
        activation="gelu_new",
        dropout=0.0,
        num_steps=10_000,
        evaluate_every=10_000,
    )
    steps = config.steps * STEPS_FOR_ONE[preset]
    fresh = multiprocessing.get_context("spawn")
    start = (settings, VOCABULARY[preset], config.threads)
    processes = {name: ProcessPoolExecutor(1, fresh, begin, (name, *start)) for name in SIDES}
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)  # what starts now leaves Ctrl-C to this process
    first = {name: process.submit(turn, config.steps) for name, process in processes.items()}  # warms up
    signal.signal(signal.SIGINT, before)
    try:
        losses = {name: future.result()[1] for name, future in first.items()}
        seconds: dict[str, list[float]] = {name: [] for name in SIDES}
        for _ in range(config.repetitions):
            for name, process in processes.items():
                seconds[name].append(process.submit(turn, steps).result()[0])
    finally:
        for process in processes.values():
            process.shutdown()
    tokens = settings.batch_size * settings.context
    rate = {name: round(tokens / statistics.median(times)) for name, times in seconds.items()}
    apart = max(abs(losses["ours"] - loss) for loss in losses.values())
    to_plain, to_kept = (ratios(seconds[name], seconds["ours"]) for name in (PLAIN, KEPT))
    return {"tokens_per_second": rate, **to_plain, "freed_memory_kept": to_kept, "loss_difference": apart}


def ratios(theirs: list[float], ours: list[float]) -> dict[str, float]:
    """How many times as long one side took as the other, turn by turn."""
    each = [their / own for their, own in zip(theirs, ours, strict=True)]
    named = {"median_ratio": statistics.median(each), "lowest_ratio": min(each), "highest_ratio": max(each)}
    return {name: round(value, 2) for name, value in named.items()}


def main(config: Config) -> None:
    """Measure, print, write."""
    require_at_least(1, config, "repetitions", "steps", "threads")
    writable_folder(config.output.parent)
    torch.set_num_threads(config.threads)  # for the record; the sides do so themselves
    before = environment_info(("torch", "transformers"))
    found = {}
    for preset in PRESETS:
        found[preset] = measure(preset, config)
        ratio, kept = found[preset]["median_ratio"], found[preset]["freed_memory_kept"]["median_ratio"]
        met = "met" if ratio >= BAR else "missed"
        print(f"{preset}: {ratio} times a plain loop, {met} (bar {BAR}); {kept} times one that keeps freed memory")
    settings = {name: getattr(config, name) for name in ("repetitions", "steps", "threads")}
    write_json(config.output, {"presets": found, "least_ratio": BAR, "settings": settings, "circumstances": before})
    print(f"wrote {display_path(config.output)}")


if __name__ == "__main__":
    launch(Config, main)
