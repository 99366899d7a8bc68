"""Comparing training methods: metrics of several runs together, and a bag-of-words baseline.

Shapes: N texts, C classes, S seeds, F features.
"""

import importlib.util
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from lab.errors import UserError
from lab.files import read_text
from sentiment.data import SentimentData
from sentiment.metrics import accuracy_interval
from sentiment.report import set_metrics
from sentiment.training_setup import label_targets

METHOD_TITLES = {
    "bag_of_words": "bag of words, logistic regression",
    "scratch": "from scratch",
    "finetune": "MiniLM, fine-tuned",
    "average": "average of these models' weights",
    "distill": "distilled from such a model",
}
INVERSE_REGULARIZATION = (1.0, 4.0, 16.0)  # the best on the validation set is taken


def read_run_metrics(folder: Path) -> dict[str, Any]:
    """Read metrics.json of a training run. Raises UserError or OSError, naming the file."""
    path = folder / "metrics.json"
    try:
        metrics = json.loads(read_text(path))
    except (ValueError, RecursionError):
        metrics = None
    if not isinstance(metrics, dict) or metrics.get("method") not in list(METHOD_TITLES) or not _is_complete(metrics):
        raise UserError(f"{path}: not the metrics of a run of train_sentiment.py")
    return metrics


def _is_complete(metrics: dict[str, Any]) -> bool:
    """Return True if metrics.json has all that a comparison needs, in the right types."""
    names = _set_names(metrics)
    right = [metrics[f"{name}_right"] for name in names]
    errors = [metrics.get(f"{name}_calibration_error") for name in names]
    return (
        isinstance(metrics.get("parameters"), int)
        and bool(names)
        and all(isinstance(text, str) and text and set(text) <= {"0", "1"} for text in right)
        and all(isinstance(error, int | float) for error in errors)
    )


def _set_names(metrics: dict[str, Any]) -> list[str]:
    return [key.removesuffix("_right") for key in metrics if key.endswith("_right")]


def check_same_data(runs: Mapping[Path, dict[str, Any]]) -> None:
    """Raise UserError, naming a folder, unless all runs were evaluated on sets of the same names and sizes."""
    sizes = {
        folder: {name: len(metrics[f"{name}_right"]) for name in _set_names(metrics)}
        for folder, metrics in runs.items()
    }
    first = next(iter(sizes), None)
    for folder in sizes:
        if first is not None and sizes[folder] != sizes[first]:
            raise UserError(f"{folder}: evaluated on other data than {first}; runs are compared on the same data")


def aggregate_runs(runs: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return the mean metrics of runs with different seeds, with intervals over seeds and texts."""
    row: dict[str, Any] = {"seeds": len(runs), "parameters": runs[0]["parameters"]}
    for name in _set_names(runs[0]):
        correct = torch.tensor([[int(each) for each in run[f"{name}_right"]] for run in runs])  # (S, N)
        calibration_errors = [run[f"{name}_calibration_error"] for run in runs]
        row[name] = {
            "accuracy": float(correct.float().mean()),
            "interval": list(accuracy_interval(correct)),
            "calibration_error": sum(calibration_errors) / len(runs),
        }
    return row


def bag_of_words(data: SentimentData) -> dict[str, Any]:
    """Train a logistic regression on words and word pairs, without their order; return its metrics.

    Raises UserError if scikit-learn is not installed.
    """
    if importlib.util.find_spec("sklearn") is None:
        raise UserError("--baseline_data: needs scikit-learn; python -m pip install scikit-learn")
    from scipy.sparse import vstack  # comes with scikit-learn
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression

    vectorizer = TfidfVectorizer(ngram_range=(1, 2), min_df=2, sublinear_tf=True, token_pattern=r"[\w']+|[!?]")
    features = vectorizer.fit_transform([text for text, _ in data.train])  # (N, F)
    # Soft targets: every text occurs once per class, weighted by the probability of that class.
    num_classes = len(data.labels)
    probs = label_targets(data).probs  # (N, C)
    weights = probs.T.flatten().numpy()  # (N, C) -> (C N,)
    repeated = vstack([features] * num_classes)  # (N, F) -> (C N, F)
    labels = np.arange(num_classes).repeat(features.shape[0])  # (C,) -> (C N,)
    models = [LogisticRegression(C=strength, max_iter=1000) for strength in INVERSE_REGULARIZATION]
    for model in models:
        model.fit(repeated, labels, sample_weight=weights)
    dev_features = vectorizer.transform([text for text, _ in data.dev])
    dev_labels = [label for _, label in data.dev]
    best = max(models, key=lambda model: model.score(dev_features, dev_labels))
    metrics: dict[str, Any] = {"method": "bag_of_words", "parameters": best.coef_.size + 1}
    for name, examples in data.evaluation_sets().items():
        predicted = best.predict_proba(vectorizer.transform([text for text, _ in examples]))  # (N, C)
        log_probs = torch.from_numpy(predicted).float().log()  # (N, C)
        metrics |= set_metrics(name, log_probs, torch.tensor([label for _, label in examples]))
    return metrics
