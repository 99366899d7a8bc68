"""The model card of a sentiment classifier, README.md of its folder."""

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from lab.distributed import world_size
from lab.files import display_path
from lab.markdown import escape_markdown, inline_code, shell_command
from lab.texts import printable
from models.distilbert import DistilBertClassifier
from sentiment.data import SentimentData
from sentiment.model_setup import MAX_LENGTH

NO_LICENSE = ("sst2_",)  # sets whose sentences are printed on the terminal only
TITLES = {
    "scratch": "A sentiment model trained from scratch",
    "finetune": "A sentiment model fine-tuned from MiniLM",
    "average": "A sentiment model with the averaged weights of several fine-tuned MiniLMs",
    "distill": "A small sentiment model distilled from a fine-tuned MiniLM",
}
SET_NAMES = {
    "dev": "validation set",
    "test": "test set",
    "sst2_dev": "SST-2 dev (validation)",
    "sst2_test": "SST-2 test",
    "uci_amazon": "UCI Amazon sentences",
    "uci_imdb": "UCI IMDb sentences",
}
LABELED_TEXTS = (
    "Film-review sentences (sentence polarity data set v1.0, Pang and Lee 2005, CC BY 4.0) and product phrases (pros "
    "and cons data set, Ganapathibhotla and Liu 2008, CC BY 4.0)"
)
RATED_TEXTS = (
    "; mean ratings of the film sentences, other rated sentences (product reviews, newspaper editorials, tweets) and "
    'rated words (Hutto and Gilbert 2014, "VADER", MIT)'
)
UNLABELED_TEXTS = (
    "; as unlabeled text the sentences of 2,000 reviews (polarity data set v2.0, Pang and Lee 2004, CC BY 4.0)"
)
EVALUATION = (
    "Validated on the dev part of SST-2 (Socher et al. 2013), tested on its test part and on the UCI sentences about "
    "Amazon products and IMDb films (Kotzias et al. 2015, CC BY 4.0). None of these sentences is a training text, and "
    "no training text has 40 consecutive characters in common with one, ignoring spacing and punctuation."
)


class Error(NamedTuple):
    """A wrong prediction and its probability."""

    text: str
    label: str
    predicted: str
    probability: float

    def describe(self) -> str:
        """Return what went wrong, without the text."""
        label, predicted = printable(self.label), printable(self.predicted)
        return f"{label}, predicted {predicted} with p = {self.probability:.2f}"


def model_card(
    data_path: Path | None,
    data: SentimentData,
    model: DistilBertClassifier,
    metrics: dict[str, Any],
    errors: dict[str, list[Error]],
    arguments: Sequence[str] | None = None,
) -> str:
    """Return the model card in Markdown, with the metadata that the Hugging Face hub expects.

    `arguments` are those of the command line that started the run, by default those of this process.
    """
    method = metrics["method"]
    last_set = next(iter(data.tests))
    settings = ", ".join(f"`{name}` {value}" for name, value in metrics["settings"].items())
    lines = [
        *(
            "---",
            f"license: {_license(data, method)}",
            "language: en",
            "pipeline_tag: text-classification",
            "---",
            "",
        ),
        *(f"# {TITLES[method]}", ""),
        *(_description(data, model, metrics), ""),
        f"- **Data**: {_training_data(data, method)}. {metrics['labelled_sentences']:,} labeled texts.",
        f"- **Evaluation**: {EVALUATION if data.source == 'folder' else 'on a tenth of the same data, held out.'}",
        f"- **Calibration**: logits divided by {metrics['temperature']:.2f}, which is part of the weights.",
        "- **Limits**: irony, and topics far from the training data. Reads "
        f"{min(model.config.max_position_embeddings, MAX_LENGTH)} tokens at most.",
        *("- **Command**:", "", f"      {command_line(data_path, arguments)}", ""),
        *("## Metrics", "", *metrics_table(data, metrics), ""),
        *(f"Confusion matrix, {SET_NAMES[last_set]}:", ""),
        *(*confusion_table(data.labels, metrics[f"{last_set}_confusion"]), ""),
        *("## Settings", "", f"{settings}.", ""),
        *("## Most confident errors", "", *error_list(errors), ""),
    ]
    return "\n".join(lines)


def _license(data: SentimentData, method: str) -> str:
    """Return the license: that of MiniLM's weights, if they are in the model."""
    if data.source != "folder":
        return "other"
    return "mit" if method == "scratch" else "apache-2.0"


def _description(data: SentimentData, model: DistilBertClassifier, metrics: dict[str, Any]) -> str:
    """Return a sentence each about sizes, labels and initial weights."""
    sizes = model.config
    initial = "" if metrics["method"] == "scratch" else " Initialized from MiniLM (Wang et al. 2020, Apache-2.0)."
    return (
        f"DistilBERT architecture: {sizes.n_layers} blocks of width {sizes.dim}, feed-forward networks of "
        f"{sizes.hidden_dim}, {sizes.vocab_size:,} word pieces, {metrics['parameters']:,} parameters, stored in half "
        f"precision. Labels: {', '.join(map(escape_markdown, data.labels))}.{initial}"
    )


def _training_data(data: SentimentData, method: str) -> str:
    """Return the sources of the training texts."""
    if data.source != "folder":
        return inline_code(data.source)
    return LABELED_TEXTS + (RATED_TEXTS if data.ratings else "") + (UNLABELED_TEXTS if method == "distill" else "")


def command_line(data_path: Path | None, arguments: Sequence[str] | None = None) -> str:
    """Return the command that starts such a run from the beginning, without folder names of this machine."""
    words = ["torchrun", "--nproc_per_node", str(world_size())] if world_size() > 1 else ["python"]
    words.append(Path(sys.argv[0]).name)
    for word in sys.argv[1:] if arguments is None else arguments:
        if word == "--resume":
            continue
        flag, equals, value = word.partition("=") if word.startswith("--") else ("", "", word)
        words.append(f"{flag}{equals}{_portable(value, data_path)}")
    return shell_command(words)


def _portable(word: str, data_path: Path | None) -> str:
    """Return an argument without the folders of this machine, if it is a path."""
    path = Path(word)
    if data_path is not None and os.path.exists(word) and path.resolve() == data_path.resolve():
        return "DATA_FOLDER" if path.is_dir() else path.name
    if not path.is_absolute():
        return word
    shown = display_path(path)
    return path.name if Path(shown).is_absolute() else shown


def accuracy_with_interval(metrics: dict[str, Any], name: str) -> str:
    """Return the accuracy on a set with its 95% interval, in percent."""
    low, high = metrics[f"{name}_interval"]
    return f"{metrics[f'{name}_accuracy']:.1%} ({low:.1%} to {high:.1%})"


def metrics_table(data: SentimentData, metrics: dict[str, Any]) -> list[str]:
    """Return the lines of a Markdown table with a row per set."""
    lines = [
        "| set | sentences | accuracy (95% interval) | calibration error |",
        "|---|---|---|---|",
    ]
    for name, examples in data.evaluation_sets().items():
        calibration_error = metrics[f"{name}_calibration_error"]
        accuracy = accuracy_with_interval(metrics, name)
        lines.append(f"| {SET_NAMES[name]} | {len(examples):,} | {accuracy} | {calibration_error:.3f} |")
    return lines


def confusion_table(labels: tuple[str, ...], counts: list[list[int]]) -> list[str]:
    """Return the lines of a Markdown table of a confusion matrix: true labels in rows, predictions in columns."""
    names = [escape_markdown(label) for label in labels]
    lines = [
        "| | " + " | ".join(f"predicted {name}" for name in names) + " |",
        "|---" * (len(names) + 1) + "|",
    ]
    for name, row in zip(names, counts, strict=True):
        lines.append(f"| true {name} | {' | '.join(map(str, row))} |")
    return lines


def error_list(errors: dict[str, list[Error]]) -> list[str]:
    """Return the lines of a Markdown list, without sentences whose license is not stated."""
    lines = [
        f"- {escape_markdown(error.describe())}: “{escape_markdown(error.text)}” ({SET_NAMES[name]})"
        for name, errors_of_set in errors.items()
        if not name.startswith(NO_LICENSE)
        for error in errors_of_set
    ]
    return lines or ["None."]
