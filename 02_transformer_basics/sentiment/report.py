"""What a training run leaves: the calibrated model, its figures, its curve, and a card that says all of it in words."""

import dataclasses
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedTokenizerFast

from lab.distributed import world_size
from lab.files import atomic_folder, display_path, write_json
from lab.metrics import METRICS, write_metrics
from lab.texts import printable
from lab.training import CHECKPOINT
from models.distilbert import DistilBertClassifier
from sentiment.data import SentimentData
from sentiment.metrics import accuracy_interval, best_temperature, confusion, logits_of, measure, worst_mistakes
from sentiment.model_setup import encode, save_classifier
from sentiment.options import Config, Options

SHOWN = 5  # mistakes a part
NO_LICENCE = ("sst2_",)  # parts whose sentences are shown on the terminal alone
TITLES = {
    "scratch": "A sentiment model trained from random weights",
    "finetune": "A sentiment model fine-tuned from MiniLM",
    "average": "A sentiment model, the mean of several fine-tuned from MiniLM",
    "distill": "A small sentiment model distilled from a fine-tuned MiniLM",
}
NAMES = {
    "dev": "held-out part that selected",
    "test": "held-out part that reports",
    "sst2_dev": "SST-2 dev (selected on)",
    "sst2_test": "SST-2 test",
    "uci_amazon": "UCI Amazon sentences",
    "uci_imdb": "UCI IMDb sentences",
}
DATA = (
    "Film-review sentences (sentence polarity data set v1.0, Pang and Lee 2005, CC BY 4.0) and product phrases (pros "
    "and cons data set, Ganapathibhotla and Liu 2008, CC BY 4.0)"
)
RATED = (
    "; mean ratings of the film sentences, other rated sentences (on products, from leading articles, tweets) and "
    'rated words (Hutto and Gilbert 2014, "VADER", MIT)'
)
REVIEWS = (
    "; as text without labels the sentences of 2,000 reviews (polarity data set v2.0, Pang and Lee 2004, CC BY 4.0)"
)
EVALUATED = (
    "Selected on the dev part of SST-2 (Socher et al. 2013), reported on its test part and on the UCI sentences about "
    "Amazon products and IMDb films (Kotzias et al. 2015, CC BY 4.0). None of these sentences, nor a run of 40 letters "
    "of one, is among the texts trained on."
)


def write_report(
    config: Config,
    options: Options,
    data: SentimentData,
    model: DistilBertClassifier,
    tokenizer: PreTrainedTokenizerFast,
    rows: list[dict[str, Any]],
    method: str = "",
) -> dict[str, Any]:
    """Calibrate `model`, measure it as it is stored, write everything to the output folder; gives the figures.

    `rows` are those of the training, none where there was none; `method` is what made it, by default the options'.
    """
    method = method or options.method
    temperature = calibrate(model, tokenizer, data)
    model.half().float()  # as it is stored
    metrics: dict[str, Any] = {
        "method": method,
        "seed": options.seed,
        "labelled_sentences": len(data.train),
        "training_sentences": rows[-1]["texts"] if options.method == "distill" else len(data.train),
        "rated_texts": len(data.ratings),
        "dropped_sentences": data.dropped,
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "temperature": temperature,
        "seconds": sum(row.get("seconds", 0.0) for row in rows),
        "settings": {k: v for k, v in dataclasses.asdict(options).items() if v is not None},
    }
    mistakes = {}
    for name, examples in parts(data).items():
        logits = logits_of(model, encode(tokenizer, [text for text, _ in examples]))
        labels = torch.tensor([label for _, label in examples])
        metrics |= figures(name, logits, labels)
        chosen = worst_mistakes(logits, labels, SHOWN)
        mistakes[name] = [(examples[n][0], data.labels[examples[n][1]], sure) for n, sure in chosen]
    metrics["validation_loss"] = metrics[f"{dev_name(data)}_loss"]
    with atomic_folder(config.output_dir, keep=[CHECKPOINT]) as folder:
        save_classifier(folder, model, tokenizer, torch.float16)
        write_json(folder / "metrics.json", metrics)
        if rows:
            write_metrics(folder / METRICS, [plain_row(row) for row in rows])
            draw_curve(folder / "training_curve.png", rows, options)
        card = model_card(config, data, model, metrics, mistakes)
        (folder / "README.md").write_text(card, encoding="utf-8")
    show(data, metrics, mistakes)
    return metrics


def plain_row(row: dict[str, Any]) -> dict[str, Any]:
    """A row of the training as a line of metrics.csv; what selects is measured after each pass alone."""
    names = ("step", "epoch", "loss", "texts_per_second", "learning_rate")
    loss, accuracy = (row["measures"] or (None, None))[:2]
    return {name: row[name] for name in names} | {"dev_accuracy": accuracy, "dev_loss": loss}


def parts(data: SentimentData) -> dict[str, list[tuple[str, int]]]:
    """What selects and what reports, by name."""
    return {dev_name(data): data.dev, **data.tests}


def dev_name(data: SentimentData) -> str:
    """The name of the part that selects."""
    return "sst2_dev" if data.source == "folder" else "dev"


def calibrate(model: DistilBertClassifier, tokenizer: PreTrainedTokenizerFast, data: SentimentData) -> float:
    """Divide the model's logits by the temperature that suits what selects, in its last layer; gives it."""
    logits = logits_of(model, encode(tokenizer, [text for text, _ in data.dev]))
    temperature = best_temperature(logits, torch.tensor([label for _, label in data.dev]))
    with torch.no_grad():
        for parameter in model.classifier.parameters():
            parameter.div_(temperature)
    return temperature


def figures(name: str, logits: Tensor, labels: Tensor) -> dict[str, Any]:
    """What metrics.json holds of one part: of which text the model was right as well, for intervals over runs."""
    found, right = measure(logits, labels), logits.argmax(dim=-1) == labels
    return {
        f"{name}_accuracy": found.accuracy,
        f"{name}_interval": list(accuracy_interval(right)),
        f"{name}_loss": found.loss,
        f"{name}_calibration_error": found.calibration_error,
        f"{name}_confusion": confusion(logits, labels),
        f"{name}_right": "".join(str(int(each)) for each in right.tolist()),
    }


def draw_curve(path: Path, rows: list[dict[str, Any]], options: Options) -> None:
    """The training loss, and the accuracy on what selects, over the passes."""
    from lab.plots import learning_curve  # here: it takes a second

    passes = [row["epoch"] for row in rows]
    measured = [(row["epoch"], 100 * row["measures"][1]) for row in rows if row["measures"]]
    right = np.interp(passes, *zip(*measured, strict=True), left=np.nan)
    learning_curve(
        path,
        passes,
        [row["loss"] for row in rows],
        title=f"Sentiment, {options.method}",
        x_label="passes over the training texts",
        y_label="training loss (nats)",
        y_name="training loss",
        second=("right on what selects (%)", right),
        legend_location="center right",
    )


def confusion_table(labels: tuple[str, ...], counts: list[list[int]]) -> list[str]:
    """Lines of a Markdown table: rows what the texts are, columns what they were taken for."""
    head = ["| | " + " | ".join(f"taken for {label}" for label in labels) + " |", "|---" * (len(labels) + 1) + "|"]
    return head + [f"| {label} | {' | '.join(map(str, row))} |" for label, row in zip(labels, counts, strict=True)]


def percent(metrics: dict[str, Any], name: str) -> str:
    """A share of right answers with its interval."""
    low, high = metrics[f"{name}_interval"]
    return f"{metrics[f'{name}_accuracy']:.1%} ({low:.1%} to {high:.1%})"


def figures_table(data: SentimentData, metrics: dict[str, Any]) -> list[str]:
    """Lines of a Markdown table: a row a part."""
    lines = ["| sentences | number | right (95% interval) | calibration error |", "|---|---|---|---|"]
    for name, examples in parts(data).items():
        error = metrics[f"{name}_calibration_error"]
        lines.append(f"| {NAMES[name]} | {len(examples):,} | {percent(metrics, name)} | {error:.3f} |")
    return lines


def command(config: Config) -> str:
    """How such a run is started from nothing, without the names of folders that another machine lacks."""
    words = [f"torchrun --nproc_per_node {world_size()}" if world_size() > 1 else "python", Path(sys.argv[0]).name]
    for word in sys.argv[1:]:
        if word == "--resume":
            continue
        path = Path(word)
        data = config.data is not None and not word.startswith("--") and path.exists()
        same = data and config.data is not None and path.resolve() == config.data.resolve()
        named = "DATA_FOLDER" if path.is_dir() else path.name
        words.append(named if same else display_path(path) if path.is_absolute() else word)
    return " ".join(words)


def model_card(
    config: Config,
    data: SentimentData,
    model: DistilBertClassifier,
    metrics: dict[str, Any],
    mistakes: dict[str, list[tuple[str, str, float]]],
) -> str:
    """The README.md of a saved model."""
    sizes, folder = model.config, data.source == "folder"
    licence = "other" if not folder else "mit" if metrics["method"] == "scratch" else "apache-2.0"
    parts_of_it = DATA + (RATED if data.ratings else "") + (REVIEWS if metrics["method"] == "distill" else "")
    trained_on = parts_of_it if folder else f"`{data.source}`"
    start = "" if metrics["method"] == "scratch" else " Its first weights are MiniLM's (Wang et al. 2020, Apache-2.0)."
    last = next(iter(data.tests))
    lines = [
        *("---", f"license: {licence}", "language: en", "pipeline_tag: text-classification", "---", ""),
        *(f"# {TITLES[metrics['method']]}", ""),
        f"DistilBERT architecture: {sizes.n_layers} blocks of width {sizes.dim}, feed-forward networks of "
        f"{sizes.hidden_dim}, {sizes.vocab_size:,} word pieces, {metrics['parameters']:,} parameters, stored in half "
        f"precision. It tells {' from '.join(data.labels)}.{start}",
        "",
        f"- **Data**: {trained_on}. {metrics['labelled_sentences']:,} labelled texts.",
        f"- **Evaluation**: {EVALUATED}" if folder else "- **Evaluation**: on tenths of the same file held out.",
        f"- **Calibration**: logits divided by {metrics['temperature']:.2f}, which is in the weights.",
        "- **Limits**: irony, and topics far from those it was trained on. Reads "
        f"{min(sizes.max_position_embeddings, 256)} tokens at most.",
        *("- **How it was made**:", "", f"      {command(config)}", ""),
        *("## Figures", "", *figures_table(data, metrics), "", f"Confusion, {NAMES[last]}:", ""),
        *(*confusion_table(data.labels, metrics[f"{last}_confusion"]), ""),
        *("## Settings", "", ", ".join(f"`{k}` {v}" for k, v in metrics["settings"].items()) + ".", ""),
        *("## The worst mistakes", "", "Those it was surest about, and wrong.", "", *mistakes_listed(mistakes), ""),
    ]
    return "\n".join(lines)


def mistakes_listed(mistakes: dict[str, list[tuple[str, str, float]]]) -> list[str]:
    """Lines for the card, without sentences whose licence is not stated."""
    return [
        f"- {label}, taken for another with {sure:.0%}: “{printable(text)}” ({NAMES[name]})"
        for name, found in mistakes.items()
        if not name.startswith(NO_LICENCE)
        for text, label, sure in found
    ]


def show(data: SentimentData, metrics: dict[str, Any], mistakes: dict[str, list[tuple[str, str, float]]]) -> None:
    """The figures and the worst mistakes, on the terminal."""
    for name in parts(data):
        error = metrics[f"{name}_calibration_error"]
        print(f"{NAMES[name]}: {percent(metrics, name)} right, calibration error {error:.3f}")
        for row, label in zip(metrics[f"{name}_confusion"], data.labels, strict=True):
            print(f"    {label}: " + ", ".join(f"{n} taken for {c}" for n, c in zip(row, data.labels, strict=True)))
        for text, label, sure in mistakes[name]:
            print(f"    wrong with {sure:.0%}, it is {label}: {printable(text)}")
