"""All ways of telling good from bad in one table: those of train_sentiment.py, and words counted without their order.

python compare_sentiment.py ../runs/scratch* ../runs/teacher ../runs/student            # folders with a metrics.json
python compare_sentiment.py ../runs/* --baseline_data DATA_FOLDER                      # and bag of words

Runs of one method are its seeds: the intervals are drawn over seeds and over sentences.
"""

import importlib.util
import json
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import tyro

from lab.errors import UserError
from lab.files import read_text
from lab.launch import launch
from lab.record import RunRecord
from sentiment.data import SentimentData, read_data
from sentiment.metrics import accuracy_interval
from sentiment.options import Options
from sentiment.report import NAMES, figures
from train_sentiment import label_targets

METHODS = {
    "bag_of_words": "bag of words, logistic regression",
    "scratch": "from scratch",
    "finetune": "MiniLM, fine-tuned",
    "average": "the weights of these averaged",
    "distill": "distilled from such a model",
}


@dataclass(frozen=True)
class Config:
    """Gather the figures of several training runs into one table."""

    runs: tyro.conf.Positional[tuple[Path, ...]] = ()
    """Folders that train_sentiment.py wrote."""
    baseline_data: Path | None = None
    """The lesson's files or a CSV of your own, to train the bag of words on as well (needs scikit-learn)."""
    seed: int = 0
    """Seed that divides a CSV."""
    output_dir: Path = Path(__file__).parent / "results"
    """Folder for the table."""

    def __post_init__(self) -> None:
        if not self.runs and self.baseline_data is None:
            raise UserError("nothing to compare: name folders of runs, or --baseline_data")


def bag_of_words(data: SentimentData) -> dict[str, Any]:
    """Figures of a logistic regression on words and pairs of words, its strength chosen on what selects.

    Raises UserError where scikit-learn is not installed.
    """
    if importlib.util.find_spec("sklearn") is None:
        raise UserError("--baseline_data: needs scikit-learn; python -m pip install scikit-learn")
    from scipy.sparse import vstack  # scikit-learn brings it
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression

    words = TfidfVectorizer(ngram_range=(1, 2), min_df=2, sublinear_tf=True, token_pattern=r"[\w']+|[!?]")
    counted = words.fit_transform([text for text, _ in data.train])  # (N, words and pairs)
    probabilities = label_targets(Options(), data).probabilities.T.flatten().numpy()  # (N, C) -> (C N,)
    twice = vstack([counted] * len(data.labels))  # a text for each class, weighted by how probable that is
    labels = np.arange(len(data.labels)).repeat(counted.shape[0])  # (C N,)
    models = [LogisticRegression(C=strength, max_iter=1000) for strength in (1.0, 4.0, 16.0)]
    fitted = [model.fit(twice, labels, sample_weight=probabilities) for model in models]
    dev, wanted = zip(*data.dev, strict=True)
    chosen = max(fitted, key=lambda model: model.score(words.transform(dev), wanted))
    metrics: dict[str, Any] = {"method": "bag_of_words", "parameters": chosen.coef_.size + 1}
    names = {"sst2_dev" if data.source == "folder" else "dev": data.dev, **data.tests}
    for name, examples in names.items():
        certainty = chosen.predict_proba(words.transform([text for text, _ in examples]))  # (N, C)
        truth = torch.tensor([label for _, label in examples])  # (N,)
        metrics |= figures(name, torch.from_numpy(certainty).float().log(), truth)
    return metrics


def read_metrics(folder: Path) -> dict[str, Any]:
    """The figures of a run. Raises UserError or OSError, naming the file."""
    path = folder / "metrics.json"
    try:
        metrics = json.loads(read_text(path))
        assert metrics["method"] in METHODS
    except (ValueError, KeyError, TypeError, AssertionError):
        raise UserError(f"{path}: not the figures of train_sentiment.py") from None
    return metrics


def gathered_figures(runs: list[dict[str, Any]]) -> dict[str, Any]:
    """The runs of one method as one: means over its seeds, intervals over seeds and sentences."""
    row: dict[str, Any] = {"seeds": len(runs), "parameters": runs[0]["parameters"]}
    for name in (key.removesuffix("_right") for key in runs[0] if key.endswith("_right")):
        right = torch.tensor([[int(each) for each in run[f"{name}_right"]] for run in runs])  # (S, N)
        errors = [run[f"{name}_calibration_error"] for run in runs]
        row[name] = {
            "accuracy": float(right.float().mean()),
            "interval": list(accuracy_interval(right)),
            "calibration_error": sum(errors) / len(errors),
        }
    return row


def main(config: Config) -> None:
    """Gather, print, record."""
    record = RunRecord(__file__, config.output_dir, config)
    by_method: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for folder in config.runs:
        metrics = read_metrics(folder)
        by_method[metrics["method"]].append(metrics)
    if config.baseline_data is not None:
        by_method["bag_of_words"] = [bag_of_words(read_data(config.baseline_data, config.seed))]
    for method, title in METHODS.items():
        if method not in by_method:
            continue
        row = record.results[method] = {"title": title, **gathered_figures(by_method[method])}
        print(f"{title}: {row['parameters']:,} parameters, {row['seeds']} seed(s)")
        for name, found in ((name, found) for name, found in row.items() if isinstance(found, dict)):
            low, high = found["interval"]
            shown = f"{found['accuracy']:.1%} ({low:.1%} to {high:.1%})"
            print(f"    {NAMES[name]}: {shown} right, calibration error {found['calibration_error']:.3f}")
    record.save()


if __name__ == "__main__":
    launch(Config, main)
