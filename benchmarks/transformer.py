"""How fast our GPT-2 and DistilBERT are beside the `transformers` library, and what fewer bits cost.

Both sides have the same random weights at the official sizes, the same threads, and take turns in every repetition.
The cost of fewer bits is measured on the language model that ships, which is trained, on a text that it has not seen.
"""

import json
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
from torch import nn

import lab.projects  # noqa: F401 - lets the projects' modules be found
from lab.errors import require_at_least
from lab.files import ROOT, display_path, read_text, writable_folder, write_json
from lab.launch import launch
from lab.record import environment_info
from models.distilbert import DistilBertClassifier
from models.gpt2 import GPT2
from speed.quantization import PRECISIONS

BARS = {"float32": 1.3, "16 bits": 3.0, "int8": 4.0, "batch of 8, float32": 1.2, "sentiment": 2.0}
PROMPT = 16
SHIPPED = ROOT / "assets/models"
Sides = dict[str, Callable[[], Any]]


@dataclass
class Config:
    """Compare the speed of our GPT-2 and DistilBERT with that of the transformers library."""

    data: Path
    """Folder with `sentiment/stsa.binary.test` and `text/books/austen-persuasion.txt`."""
    output: Path = ROOT / "benchmarks/results/transformer.json"
    """File for the figures."""
    repetitions: int = 5
    """Times that every side is measured."""
    new_tokens: int = 128
    """Tokens that are generated."""
    sentences: int = 1821
    """Sentences that are classified: the first of the file."""
    threads: int = 2
    """Threads that PyTorch computes with, on both sides."""
    perplexity_only: bool = False
    """Measure only the perplexities, and leave the other figures in the file as they are."""


def randomize(model: nn.Module, folder: str) -> Any:
    """Weights so large that a small fault would change the tokens; also written to `folder`."""
    torch.manual_seed(0)
    for name, parameter in model.named_parameters():
        nn.init.normal_(parameter, mean=float("norm.weight" in name.lower() or "ln_" in name), std=0.1)
    model.save_pretrained(folder)  # pyright: ignore[reportCallIssue]
    return model.eval()


def generation_sides(config: Config, folder: str) -> tuple[Sides, Sides]:
    """Side to what it generates: one prompt, and a batch of eight."""
    theirs = randomize(transformers.GPT2LMHeadModel(transformers.GPT2Config(bos_token_id=0, eos_token_id=0)), folder)
    settings = transformers.GenerationConfig(
        max_new_tokens=config.new_tokens, do_sample=False, eos_token_id=None, pad_token_id=0
    )
    single, batch = (torch.randint(1, 50257, (size, PROMPT)) for size in (1, 8))  # (1, T), (8, T)
    ours = {precision: GPT2.from_pretrained(folder, precision) for precision in PRECISIONS}

    def sides(ids: torch.Tensor) -> Sides:
        mask = torch.ones_like(ids)
        found: Sides = {"transformers": lambda: theirs.generate(ids, attention_mask=mask, generation_config=settings)}
        for name, model in ours.items():
            found[name] = lambda model=model: model.generate(ids, max_new_tokens=config.new_tokens)
        return found

    return sides(single), {name: side for name, side in sides(batch).items() if name != "bfloat16"}


def sentiment_sides(config: Config, folder: str) -> Sides:
    """Side to the labels and scores that it gives."""
    theirs = randomize(transformers.DistilBertForSequenceClassification(transformers.DistilBertConfig()), folder)
    tokenizer = transformers.AutoTokenizer.from_pretrained(SHIPPED / "sentiment")
    pipe = transformers.pipeline("text-classification", model=theirs, tokenizer=tokenizer, device="cpu")
    ours = DistilBertClassifier.from_pretrained(folder)
    lines = read_text(config.data / "sentiment/stsa.binary.test").split("\n")
    texts = [line.partition(" ")[2] for line in lines if line.strip()][: config.sentences]

    def scratch() -> list[dict[str, Any]]:
        scores, labels = ours.predict(tokenizer(texts)["input_ids"]).max(dim=-1)  # (N, C) -> (N,), (N,)
        named = [ours.labels[label] for label in labels.tolist()]
        return [{"label": label, "score": score} for label, score in zip(named, scores.tolist(), strict=True)]

    return {"transformers": lambda: pipe(texts), "ours": scratch}


def take_turns(title: str, sides: Sides, repetitions: int) -> tuple[dict[str, Any], dict[str, Any]]:
    """Seconds and ratios to the first side of every repetition, and what each side gave."""
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    given: dict[str, Any] = {}
    for repetition in range(-1, repetitions):
        for name, side in sides.items():
            begin = time.perf_counter()
            given[name] = side()
            if repetition >= 0:  # the first round warms up
                seconds[name].append(time.perf_counter() - begin)
    first = next(iter(sides))
    figures: dict[str, Any] = {}
    for name, times in seconds.items():
        ratios = [theirs / ours for theirs, ours in zip(seconds[first], times, strict=True)]
        figures[name] = {
            "median_seconds": round(statistics.median(times), 3),
            "median_ratio": round(statistics.median(ratios), 2),
            "lowest_ratio": round(min(ratios), 2),
            "highest_ratio": round(max(ratios), 2),
        }
        print(
            f"{title}, {name}: {figures[name]['median_seconds']} s, {figures[name]['median_ratio']} times", flush=True
        )
    return figures, given


@torch.no_grad()
def perplexities(config: Config) -> dict[str, float]:
    """Precision to the perplexity, a token, of the shipped language model on the beginning of *Persuasion*."""
    tokenizer = transformers.AutoTokenizer.from_pretrained(SHIPPED / "language")
    text = read_text(config.data / "text/books/austen-persuasion.txt")[:60_000]
    ids = torch.tensor(tokenizer(text, verbose=False)["input_ids"])
    windows = ids[: len(ids) // 256 * 256].view(-1, 256)  # (tokens,) -> (windows, 256)
    found = {}
    for precision in PRECISIONS:
        model = GPT2.from_pretrained(SHIPPED / "language", precision)
        losses = [
            F.cross_entropy(model(part[:, :-1]).flatten(0, 1), part[:, 1:].flatten(), reduction="sum")
            for part in windows.split(4)
        ]
        found[precision] = round(float((sum(losses) / windows[:, 1:].numel()).exp()), 4)  # pyright: ignore[reportAttributeAccessIssue]
    return found


def measure(config: Config) -> dict[str, Any]:
    """All figures."""
    with tempfile.TemporaryDirectory() as folder:
        single, batch = generation_sides(config, folder)
        one, tokens = take_turns("one prompt", single, config.repetitions)
        eight, many = take_turns("batch of 8", batch, config.repetitions)
    with tempfile.TemporaryDirectory() as folder:
        sentiment, labels = take_turns("sentiment", sentiment_sides(config, folder), config.repetitions)
    pairs = list(zip(labels["ours"], labels["transformers"], strict=True))
    return {
        "one_prompt": one,
        "batch_of_8": eight,
        "sentiment": sentiment,
        "tokens_per_second": {name: round(config.new_tokens / one[name]["median_seconds"], 1) for name in one},
        "same_tokens_float32": bool(tokens["float32"].equal(tokens["transformers"])),
        "same_tokens_float32_batch": bool(many["float32"].equal(many["transformers"])),
        "same_labels": all(ours["label"] == theirs["label"] for ours, theirs in pairs),
        "largest_score_difference": max(abs(ours["score"] - theirs["score"]) for ours, theirs in pairs),
        "perplexity": perplexities(config),
    }


def ratios(found: dict[str, Any]) -> dict[str, float]:
    """What the bars are about."""
    one = {name: figures["median_ratio"] for name, figures in found["one_prompt"].items()}
    return {
        "float32": one["float32"],
        "16 bits": max(one["float16"], one["bfloat16"]),
        "int8": one["int8"],
        "batch of 8, float32": found["batch_of_8"]["float32"]["median_ratio"],
        "sentiment": found["sentiment"]["ours"]["median_ratio"],
    }


def main(config: Config) -> None:
    """Measure, print, write."""
    require_at_least(1, config, "repetitions", "new_tokens", "sentences", "threads")
    writable_folder(config.output.parent)
    torch.set_num_threads(config.threads)
    before = environment_info(("torch", "transformers"))
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    if config.perplexity_only:
        earlier = json.loads(read_text(config.output))
        again = {"perplexity": perplexities(config), "perplexity_circumstances": before}
        write_json(config.output, earlier | again)
        print(f"perplexity: {again['perplexity']}\nwrote {display_path(config.output)}")
        return
    found = measure(config)
    settings = {name: getattr(config, name) for name in ("repetitions", "new_tokens", "sentences", "threads")}
    write_json(
        config.output,
        found | {"median_ratio": ratios(found), "least": BARS, "settings": settings, "circumstances": before},
    )
    for name, ratio in ratios(found).items():
        print(f"{name}: {ratio} times transformers, {'met' if ratio >= BARS[name] else 'missed'} (bar {BARS[name]})")
    print(f"perplexity: {found['perplexity']}")
    print(f"wrote {display_path(config.output)}")


if __name__ == "__main__":
    launch(Config, main)
