"""How fast our GPT-2 trains beside a plain loop over the `transformers` library's.

Both sides have the same weights at the start, the same batches, the same optimizer (AdamW: Muon would not know the
library's matrices as such) and threads, and take turns. The activation is GPT-2's own, which the presets do without.
"""

import copy
import dataclasses
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
import transformers

import lab.projects  # noqa: F401 - lets the projects' modules be found
from lab.errors import require_at_least
from lab.files import ROOT, portable, writable_folder, write_json
from lab.launch import launch
from lab.record import circumstances
from language_data import Windows
from language_presets import PRESETS
from language_training import LanguageConfig, Learner, new_model
from optimization import Optimization

BAR = 1.2
VOCABULARY = {"shakespeare": 67, "books": PRESETS["books"].vocab_size}
Side = Callable[[], float]  # makes some steps, gives the last loss


@dataclass
class Config:
    """Compare our training with a plain loop over the transformers library's model."""

    output: Path = ROOT / "benchmarks/results/training.json"
    """File for the figures."""
    repetitions: int = 25
    """Times that every side is measured."""
    steps: int = 2
    """Optimizer steps a time: few, so that a machine that others use is as slow for both sides."""
    threads: int = 2
    """Threads that PyTorch computes with, on both sides."""


def sides(config: LanguageConfig, vocabulary: int, steps: int) -> dict[str, Side]:
    """The two loops; their losses are the same as long as they compute the same."""
    torch.manual_seed(config.seed)
    model = new_model(config, vocabulary)
    ids = torch.randint(vocabulary, (100 * config.context + 1,))
    with tempfile.TemporaryDirectory() as folder:
        model.save_pretrained(Path(folder))
        theirs = transformers.GPT2LMHeadModel.from_pretrained(folder).train()
    learner = Learner(config, copy.deepcopy(model), ids, ids[: config.context + 1], "cpu")
    windows = Windows(ids, config.context, config.batch_size, config.seed)
    optimization = Optimization(theirs, config.optimization())

    def plain_loop() -> float:
        loss = torch.tensor(0.0)
        for _ in range(steps):
            inputs, targets = windows.next()
            logits = theirs(inputs).logits  # (B, T) -> (B, T, V)
            loss = F.cross_entropy(logits.flatten(0, 1), targets.flatten())
            loss.backward()
            optimization.step()
        return loss.item()

    return {"transformers": plain_loop, "ours": lambda: [learner.iterate().loss for _ in range(steps)][-1]}


def measure(preset: str, config: Config) -> dict[str, Any]:
    """Tokens a second of both sides, the ratio of every repetition, and how far their losses are apart at first."""
    settings = dataclasses.replace(
        PRESETS[preset].model,
        optimizer="adamw",
        activation="gelu_new",
        dropout=0.0,
        num_steps=10_000,
        evaluate_every=10_000,
    )
    both = sides(settings, VOCABULARY[preset], config.steps)
    seconds: dict[str, list[float]] = {name: [] for name in both}
    losses = {name: side() for name, side in both.items()}  # warms up
    for _ in range(config.repetitions):
        for name, side in both.items():
            begin = time.perf_counter()
            side()
            seconds[name].append(time.perf_counter() - begin)
    ratios = [theirs / ours for theirs, ours in zip(seconds["transformers"], seconds["ours"], strict=True)]
    tokens = config.steps * settings.batch_size * settings.context
    return {
        "tokens_per_second": {name: round(tokens / statistics.median(times)) for name, times in seconds.items()},
        "median_ratio": round(statistics.median(ratios), 2),
        "lowest_ratio": round(min(ratios), 2),
        "highest_ratio": round(max(ratios), 2),
        "loss_difference": abs(losses["ours"] - losses["transformers"]),
    }


def main(config: Config) -> None:
    """Measure, print, write."""
    require_at_least(1, config, "repetitions", "steps", "threads")
    writable_folder(config.output.parent)
    torch.set_num_threads(config.threads)
    before = circumstances(("torch", "transformers"))
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    found = {}
    for preset in PRESETS:
        found[preset] = measure(preset, config)
        ratio = found[preset]["median_ratio"]
        print(f"{preset}: {ratio} times transformers, {'met' if ratio >= BAR else 'missed'} (bar {BAR})", flush=True)
    settings = {name: getattr(config, name) for name in ("repetitions", "steps", "threads")}
    write_json(config.output, {"presets": found, "least_ratio": BAR, "settings": settings, "circumstances": before})
    print(f"wrote {portable(config.output)}")


if __name__ == "__main__":
    launch(Config, main)
