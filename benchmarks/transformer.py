"""Speed of our GPT-2 and DistilBERT compared with the `transformers` library, and the perplexity in every precision.

Both sides have the same random weights at the official sizes and the same threads, and are interleaved in every
repetition. Perplexity is measured with the bundled language model, which is trained, on held-out text.
"""

if __name__ == "__main__":
    import lab.startup  # first: Ctrl-C works while the libraries load

import math
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

import lab.projects  # noqa: F401 - puts the projects on the search path
from lab.errors import UserError, require_at_least
from lab.files import ROOT, display_path, read_text, writable_folder
from lab.launch import launch
from lab.record import environment_info
from lab.results import Record, earlier_run, new_record, ratio_statistics, write_results
from models.distilbert import DistilBertClassifier
from models.generation import generate
from models.gpt2 import GPT2
from speed import PRECISIONS, accelerate

TARGETS = {  # minimum speed relative to `transformers`
    ("one prompt", "float32"): 1.3,
    ("one prompt", "float16"): 3.0,
    ("one prompt", "int8"): 4.0,
    ("batch of 8", "float32"): 1.2,
    ("sentiment", "ours"): 2.0,
}
PROMPT = 16  # tokens
SENTENCES, BOOK = "sentiment/stsa.binary.test", "text/books/austen-persuasion.txt"  # in the folder --data
REFERENCE = "transformers"
MODELS = ROOT / "assets/models"
Sides = dict[str, Callable[[], Any]]


@dataclass
class Config:
    """Compare the speed of our GPT-2 and DistilBERT with that of the transformers library."""

    data: Path
    """Folder with `sentiment/stsa.binary.test` and `text/books/austen-persuasion.txt`."""
    output: Path = ROOT / "benchmarks/results/transformer.json"
    """Results file."""
    repetitions: int = 5
    """Rounds per side."""
    new_tokens: int = 128
    """Tokens to generate."""
    sentences: int = 1821
    """Sentences to classify, from the start of the file."""
    threads: int = 2
    """PyTorch threads of both sides."""
    perplexity_only: bool = False
    """Measure only the perplexities, and keep the other records of the file."""


def randomize(model: nn.Module, folder: str) -> Any:
    """Return `model` with weights so large that a small error would change the tokens; also save it to `folder`."""
    torch.manual_seed(0)
    for name, parameter in model.named_parameters():
        nn.init.normal_(parameter, mean=float("norm.weight" in name.lower() or "ln_" in name), std=0.1)
    model.save_pretrained(folder)  # pyright: ignore[reportCallIssue]
    return model.eval()


def generation_sides(config: Config, folder: str) -> tuple[Sides, Sides]:
    """Return the sides for one prompt and for a batch of 8: name to a function that generates tokens."""
    theirs = randomize(transformers.GPT2LMHeadModel(transformers.GPT2Config(bos_token_id=0, eos_token_id=0)), folder)
    settings = transformers.GenerationConfig(
        max_new_tokens=config.new_tokens, do_sample=False, eos_token_id=None, pad_token_id=0
    )
    single, batch = (torch.randint(1, 50257, (size, PROMPT)) for size in (1, 8))  # (1, T), (8, T)
    plain = GPT2.from_pretrained(folder)
    ours = {"plain": plain, **{precision: accelerate(plain, precision) for precision in PRECISIONS}}

    def sides(ids: torch.Tensor) -> Sides:
        mask = torch.ones_like(ids)
        named: Sides = {REFERENCE: lambda: theirs.generate(ids, attention_mask=mask, generation_config=settings)}
        for name, model in ours.items():
            named[name] = lambda model=model: generate(model, ids, max_new_tokens=config.new_tokens)
        return named

    return sides(single), {name: side for name, side in sides(batch).items() if name != "bfloat16"}


def read_sentences(data: Path, count: int) -> list[str]:
    """Return the first sentences of SST's binary test set."""
    lines = read_text(data / SENTENCES).split("\n")
    return [line.partition(" ")[2] for line in lines if line.strip()][:count]


def sentiment_sides(config: Config, folder: str) -> Sides:
    """Return the sides for sentiment: name to a function that returns labels and scores."""
    theirs = randomize(transformers.DistilBertForSequenceClassification(transformers.DistilBertConfig()), folder)
    tokenizer = transformers.AutoTokenizer.from_pretrained(MODELS / "sentiment")
    pipe = transformers.pipeline("text-classification", model=theirs, tokenizer=tokenizer, device="cpu")
    plain = DistilBertClassifier.from_pretrained(folder)
    forms = {"plain": plain, "ours": accelerate(plain)}
    texts = read_sentences(config.data, config.sentences)

    def classify(model: DistilBertClassifier) -> list[dict[str, Any]]:
        scores, labels = model.predict(tokenizer(texts)["input_ids"]).max(dim=-1)  # (N, C) -> (N,), (N,)
        named = [model.labels[label] for label in labels.tolist()]
        return [{"label": label, "score": score} for label, score in zip(named, scores.tolist(), strict=True)]

    sides: Sides = {REFERENCE: lambda: pipe(texts)}
    for name, model in forms.items():
        sides[name] = lambda model=model: classify(model)
    return sides


def interleave(
    configuration: str, sides: Sides, repetitions: int, environment: dict[str, Any]
) -> tuple[dict[str, Record], dict[str, Any]]:
    """Run all sides in interleaved rounds; return side to its record, and side to its last output."""
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    outputs: dict[str, Any] = {}
    for repetition in range(-1, repetitions):
        for name, side in sides.items():
            begin = time.perf_counter()
            outputs[name] = side()
            if repetition >= 0:  # the first round is a warm-up
                seconds[name].append(time.perf_counter() - begin)
    records: dict[str, Record] = {}
    for name, times in seconds.items():
        values: dict[str, Any] = {"seconds": times, "median_seconds": round(statistics.median(times), 3)}
        if name != REFERENCE:
            values |= ratio_statistics(seconds[REFERENCE], times) | {"target": TARGETS.get((configuration, name))}
        records[name] = new_record(configuration, name, environment, **values)
        ratio = values.get("median_ratio", 1.0)
        print(f"{configuration}, {name}: {values['median_seconds']} s, {ratio:.2f} times", flush=True)
    return records, outputs


@torch.no_grad()
def perplexities(config: Config, environment: dict[str, Any]) -> list[Record]:
    """Return the perplexity per token of the bundled language model, on the start of *Persuasion*, per precision."""
    tokenizer = transformers.AutoTokenizer.from_pretrained(MODELS / "language")
    text = read_text(config.data / BOOK)[:60_000]
    ids = torch.tensor(tokenizer(text, verbose=False)["input_ids"])
    windows = ids[: len(ids) // 256 * 256].view(-1, 256)  # (tokens,) -> (windows, 256)
    targets = windows[:, 1:].numel()
    records = []
    for precision in PRECISIONS:
        model = accelerate(GPT2.from_pretrained(MODELS / "language"), precision)
        total = 0.0
        for batch in windows.split(4):
            logits = model(batch[:, :-1])  # (B, T) -> (B, T, V)
            total += F.cross_entropy(logits.flatten(0, 1), batch[:, 1:].flatten(), reduction="sum").item()
        perplexity = round(math.exp(total / targets), 4)
        print(f"perplexity, {precision}: {perplexity}", flush=True)
        records.append(new_record("perplexity", precision, environment, perplexity=perplexity))
    return records


def measure(config: Config, environment: dict[str, Any]) -> list[Record]:
    """Return the records of all configurations except perplexity."""
    with tempfile.TemporaryDirectory() as folder:
        single, batch = generation_sides(config, folder)
        one, tokens = interleave("one prompt", single, config.repetitions, environment)
        eight, batch_tokens = interleave("batch of 8", batch, config.repetitions, environment)
    with tempfile.TemporaryDirectory() as folder:
        sides = sentiment_sides(config, folder)
        sentiment, labels = interleave("sentiment", sides, config.repetitions, environment)
    for record in one.values():
        record["tokens_per_second"] = round(config.new_tokens / record["median_seconds"], 1)
    one["plain"]["same_tokens"] = bool(tokens["plain"].equal(tokens[REFERENCE]))
    one["float32"]["same_tokens"] = bool(tokens["float32"].equal(tokens[REFERENCE]))
    eight["float32"]["same_tokens"] = bool(batch_tokens["float32"].equal(batch_tokens[REFERENCE]))
    pairs = list(zip(labels["ours"], labels[REFERENCE], strict=True))
    differences = [abs(ours["score"] - theirs["score"]) for ours, theirs in pairs]
    sentiment["ours"]["same_labels"] = all(ours["label"] == theirs["label"] for ours, theirs in pairs)
    sentiment["ours"]["largest_score_difference"] = max(differences)
    return [*one.values(), *eight.values(), *sentiment.values()]


def main(config: Config) -> None:
    """Measure, print and write the results."""
    require_at_least(1, config, "repetitions", "new_tokens", "sentences", "threads")
    writable_folder(config.output.parent)
    for path in (SENTENCES, BOOK):
        read_text(config.data / path)  # a missing file is refused before anything is measured
    torch.set_num_threads(config.threads)
    environment = environment_info(("torch", "transformers"))
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    settings: dict[str, Any] = {
        name: getattr(config, name) for name in ("repetitions", "new_tokens", "sentences", "threads")
    }
    if config.perplexity_only:
        earlier = earlier_run(config.output, "transformer", environment)
        if earlier is None:
            raise UserError(f"{display_path(config.output)} has no run of this processor; omit --perplexity_only")
        settings = earlier["settings"]
        records = [record for record in earlier["records"] if record["configuration"] != "perplexity"]
    else:
        records = measure(config, environment)
        for record in records:
            if record.get("target") is not None:
                verdict = "met" if record["median_ratio"] >= record["target"] else "missed"
                where = f"{record['configuration']}, {record['side']}"
                print(f"{where}: {record['median_ratio']:.2f} times transformers, target {record['target']} {verdict}")
    write_results(
        config.output,
        "transformer",
        records + perplexities(config, environment),
        settings=settings,
        environment=environment,
        ratio="speed relative to `transformers`",
    )
    print(f"wrote {display_path(config.output)}")


if __name__ == "__main__":
    launch(Config, main)
