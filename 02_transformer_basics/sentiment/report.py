"""Output of a training run: the calibrated model, its metrics, its learning curve and its model card."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedTokenizerFast

from lab.files import write_json, write_text
from lab.metrics import METRICS, write_metrics
from lab.texts import printable
from lab.training import atomic_model
from models.checkpoints import round_to_half
from models.distilbert import DistilBertClassifier
from sentiment.data import Examples, SentimentData
from sentiment.metrics import (
    accuracy_interval,
    best_temperature,
    compute_metrics,
    confusion_matrix,
    logits_of,
    most_confident_errors,
)
from sentiment.model_card import SET_NAMES, Error, accuracy_with_interval, model_card
from sentiment.model_setup import encode, save_classifier
from sentiment.options import Options
from sentiment.training import StepRecord

ERRORS_PER_SET = 5


def record_as_row(record: StepRecord) -> dict[str, Any]:
    """Return a record of the training loop as plain values, as checkpoints store it."""
    row = record._asdict()
    metrics = row.pop("metrics")
    return {**row, "measures": None if metrics is None else list(metrics)}


def write_report(
    output_dir: Path,
    data_path: Path | None,
    options: Options,
    data: SentimentData,
    model: DistilBertClassifier,
    tokenizer: PreTrainedTokenizerFast,
    rows: Sequence[dict[str, Any]] = (),
    method: str = "",
    arguments: Sequence[str] | None = None,
) -> dict[str, Any]:
    """Calibrate `model`, evaluate it as it will be stored, save everything to `output_dir`; return the metrics.

    Args:
        output_dir: folder for the model; its files are put in place when all of them are complete.
        data_path: what --data was, for the command on the model card.
        options: resolved options of the run.
        data: the data.
        model, tokenizer: the trained classifier, on the CPU.
        rows: the records of the training; none if there was none.
        method: what made the model, by default the method of the options.
        arguments: of the command line that started the run, for the model card.
    """
    method = method or options.method
    temperature = calibrate(model, tokenizer, data)
    round_to_half(model)
    metrics = run_metrics(method, options, data, model, rows, temperature)
    errors: dict[str, list[Error]] = {}
    for name, examples in data.evaluation_sets().items():
        labels = torch.tensor([label for _, label in examples])  # (N,)
        logits = logits_of(model, encode(tokenizer, [text for text, _ in examples]))  # (N, C)
        metrics |= set_metrics(name, logits, labels)
        errors[name] = confident_errors(examples, data.labels, logits, labels)
    metrics["validation_loss"] = metrics[f"{data.validation_name}_loss"]
    card = model_card(data_path, data, model, metrics, errors, arguments)
    with atomic_model(output_dir) as folder:
        save_classifier(folder, model, tokenizer, torch.float16)
        write_json(folder / "metrics.json", metrics)
        if rows:
            write_metrics(folder / METRICS, [csv_row(row) for row in rows])
            draw_curve(
                folder / "training_curve.png",
                rows,
                f"Sentiment classifier, --method {options.method}",
            )
        write_text(folder / "README.md", card)
    print_report(data, metrics, errors)
    return metrics


def run_metrics(
    method: str,
    options: Options,
    data: SentimentData,
    model: DistilBertClassifier,
    rows: Sequence[dict[str, Any]],
    temperature: float,
) -> dict[str, Any]:
    """Return the part of metrics.json that describes the run."""
    distilled = options.method == "distill"
    return {
        "method": method,
        "seed": options.seed,
        "labelled_sentences": len(data.train),
        "training_sentences": rows[-1]["texts"] if distilled else len(data.train),
        "rated_texts": len(data.ratings),
        "dropped_sentences": data.dropped,
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "temperature": temperature,
        "seconds": sum(row.get("seconds", 0.0) for row in rows),
        "settings": {name: value for name, value in dataclasses.asdict(options).items() if value is not None},
    }


def calibrate(model: DistilBertClassifier, tokenizer: PreTrainedTokenizerFast, data: SentimentData) -> float:
    """Divide the last layer's weights by the temperature that fits the validation set best; return it."""
    logits = logits_of(model, encode(tokenizer, [text for text, _ in data.dev]))  # (N, C)
    temperature = best_temperature(logits, torch.tensor([label for _, label in data.dev]))
    with torch.no_grad():
        for parameter in model.classifier.parameters():
            parameter.div_(temperature)
    return temperature


def set_metrics(name: str, logits: Tensor, labels: Tensor) -> dict[str, Any]:
    """Return the entries of metrics.json for one set, from logits (N, C) and labels (N,).

    `NAME_right` has one character per text, 1 if the prediction is correct, for intervals over several runs.
    """
    metrics = compute_metrics(logits, labels)
    correct = logits.argmax(dim=-1) == labels  # (N, C) -> (N,)
    return {
        f"{name}_accuracy": metrics.accuracy,
        f"{name}_interval": list(accuracy_interval(correct)),
        f"{name}_loss": metrics.loss,
        f"{name}_calibration_error": metrics.calibration_error,
        f"{name}_confusion": confusion_matrix(logits, labels),
        f"{name}_right": "".join(str(int(each)) for each in correct.tolist()),
    }


def confident_errors(examples: Examples, classes: Sequence[str], logits: Tensor, labels: Tensor) -> list[Error]:
    """Return the most confident wrong predictions of a set."""
    errors = []
    for index, predicted, probability in most_confident_errors(logits, labels, ERRORS_PER_SET):
        text, label = examples[index]
        errors.append(Error(text, classes[label], classes[predicted], probability))
    return errors


def csv_row(row: dict[str, Any]) -> dict[str, Any]:
    """Return a row of the training as a row of metrics.csv; validation columns are empty within an epoch."""
    names = ("step", "epoch", "loss", "texts_per_second", "learning_rate")
    loss, accuracy, _ = row["measures"] or (None, None, None)
    return {name: row[name] for name in names} | {"dev_accuracy": accuracy, "dev_loss": loss}


def draw_curve(path: Path, rows: Sequence[dict[str, Any]], title: str) -> None:
    """Plot training loss and validation accuracy against the epoch."""
    from lab.plots import learning_curve  # here: it takes a second

    epochs = [row["epoch"] for row in rows]
    validated = [row for row in rows if row["measures"]]
    validation_epochs = [row["epoch"] for row in validated]
    accuracies = [100 * row["measures"][1] for row in validated]
    learning_curve(
        path,
        epochs,
        [row["loss"] for row in rows],
        title=title,
        x_label="epoch",
        y_label="training loss (nats)",
        y_name="training loss",
        second=(
            "validation accuracy (%)",
            np.interp(epochs, validation_epochs, accuracies, left=np.nan),
        ),
        legend_location="center right",
    )


def print_report(data: SentimentData, metrics: dict[str, Any], errors: dict[str, list[Error]]) -> None:
    """Print accuracy, confusion matrix and most confident errors of every set."""
    for name in data.evaluation_sets():
        calibration_error = metrics[f"{name}_calibration_error"]
        accuracy = accuracy_with_interval(metrics, name)
        print(f"{SET_NAMES[name]}: accuracy {accuracy}, calibration error {calibration_error:.3f}")
        labels = [printable(label) for label in data.labels]
        for counts, label in zip(metrics[f"{name}_confusion"], labels, strict=True):
            predictions = [f"{count} predicted {other}" for count, other in zip(counts, labels, strict=True)]
            print(f"    {label}: {', '.join(predictions)}")
        for error in errors[name]:
            print(f"    {error.describe()}: {printable(error.text)}")
