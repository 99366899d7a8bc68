"""Compare the methods of train_sentiment.py, and a bag of words, in one table.

python compare_sentiment.py ../runs/scratch* ../runs/teacher ../runs/student    # folders with a metrics.json
python compare_sentiment.py ../runs/* --baseline_data DATA_FOLDER              # and the bag of words

Runs of one method count as its seeds: the intervals are over seeds and sentences.
"""

if __name__ == "__main__":
    import lab.startup  # noqa: F401 - first: Ctrl-C works while the libraries load

from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tyro

from lab.errors import UserError
from lab.launch import launch
from lab.record import RunRecord
from sentiment.comparison import METHOD_TITLES, aggregate_runs, bag_of_words, check_same_data, read_run_metrics
from sentiment.data import read_data
from sentiment.model_card import SET_NAMES


@dataclass(frozen=True)
class Config:
    """Compare training runs of sentiment classifiers in one table, a row per method."""

    runs: tyro.conf.Positional[tuple[Path, ...]] = ()
    """Output folders of train_sentiment.py and average_sentiment.py."""
    baseline_data: Path | None = None
    """Data for a bag-of-words baseline: the lesson's folder or your own CSV (needs scikit-learn)."""
    seed: int = 0
    """Seed of the split of a CSV."""
    output_dir: Path = Path(__file__).parent / "results"
    """Output folder for compare_sentiment.json."""

    def __post_init__(self) -> None:
        if not self.runs and self.baseline_data is None:
            raise UserError("nothing to compare: name folders of runs, or give --baseline_data")


def print_row(row: dict[str, Any]) -> None:
    """Print the metrics of one method on every set."""
    print(f"{row['title']}: {row['parameters']:,} parameters, {row['seeds']} seed(s)")
    for name, metrics in row.items():
        if name not in SET_NAMES:
            continue
        low, high = metrics["interval"]
        accuracy = f"{metrics['accuracy']:.1%} ({low:.1%} to {high:.1%})"
        print(f"    {SET_NAMES[name]}: accuracy {accuracy}, calibration error {metrics['calibration_error']:.3f}")


def main(config: Config) -> None:
    """Read the runs, train the baseline, print and record the table."""
    record = RunRecord(__file__, config.output_dir, config)
    runs_by_method: dict[str, list[dict[str, Any]]] = defaultdict(list)
    runs = {folder: read_run_metrics(folder) for folder in config.runs}
    check_same_data(runs)
    for metrics in runs.values():
        runs_by_method[metrics["method"]].append(metrics)
    if config.baseline_data is not None:
        runs_by_method["bag_of_words"] = [bag_of_words(read_data(config.baseline_data, config.seed))]
    for method, title in METHOD_TITLES.items():
        if method in runs_by_method:
            row = {"title": title, **aggregate_runs(runs_by_method[method])}
            record.results[method] = row
            print_row(row)
    record.save()


if __name__ == "__main__":
    launch(Config, main)
