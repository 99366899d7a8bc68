"""One classifier from several that were fine-tuned from the same encoder: the mean of their weights.

python average_sentiment.py ../runs/teacher_0 ../runs/teacher_1 ../runs/teacher_2 --data DATA_FOLDER

Runs that begin with the same pre-trained weights end in the same valley, and what is between them is often better than
each; it costs no more to use than one. Runs from random weights end in different ones, and their mean is worth nothing.

Source: Wortsman et al. 2022, "Model soups: averaging weights of multiple fine-tuned models improves accuracy without
increasing inference time", section 2 (the uniform soup).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
import tyro

from compare_sentiment import read_metrics
from lab.errors import UserError
from lab.files import replaceable_folder
from lab.launch import launch
from lab.record import RunRecord
from models.distilbert import DistilBertClassifier
from sentiment.data import read_data
from sentiment.options import Config as TrainingRun
from sentiment.options import Options
from sentiment.report import write_report
from train_sentiment import load_tokenizer


@dataclass(frozen=True)
class Config:
    """Average the weights of classifiers that were fine-tuned from one encoder."""

    runs: tyro.conf.Positional[tuple[Path, ...]]
    """Folders that train_sentiment.py --method finetune wrote."""
    data: Path | None = None
    """The data that they were trained with, to calibrate and measure the mean."""
    output_dir: Path = Path("runs/teacher")
    """Folder for the model, its card and its figures."""

    def __post_init__(self) -> None:
        if len(self.runs) < 2:
            raise UserError(f"{len(self.runs)} run(s) to average; name two folders or more")


def averaged(models: Sequence[DistilBertClassifier]) -> DistilBertClassifier:
    """A classifier whose weights are the mean of the others'. Raises UserError where sizes or labels differ."""
    mean = DistilBertClassifier(models[0].config, models[0].labels)
    for model in models:
        if (model.config, model.labels) != (mean.config, mean.labels):
            raise UserError("runs of different sizes or labels cannot be averaged")
    states = [model.state_dict() for model in models]
    mean.load_state_dict({name: torch.stack([state[name] for state in states]).mean(dim=0) for name in states[0]})
    return mean.eval()


def options_of(runs: Sequence[Path]) -> list[Options]:
    """The settings of the runs. Raises UserError or OSError, naming the folder, where they cannot be averaged."""
    found = []
    for folder in runs:
        metrics = read_metrics(folder)
        if metrics["method"] != "finetune":
            raise UserError(f"{folder}: made by --method {metrics['method']}; only fine-tuned runs can be averaged")
        try:
            found.append(Options(**metrics["settings"]))
        except (KeyError, TypeError):
            raise UserError(
                f"{folder / 'metrics.json'}: not the settings of this version's train_sentiment.py"
            ) from None
        if (folder / "tokenizer.json").read_bytes() != (runs[0] / "tokenizer.json").read_bytes():
            raise UserError(f"{folder}: it has another vocabulary than {runs[0]}")
    return found


def main(config: Config) -> None:
    """Average, measure, save."""
    output_dir = replaceable_folder(config.output_dir, "config.json")
    options = options_of(config.runs)
    data = read_data(config.data, options[0].seed, options[0].phrases)
    if config.data is not None and not config.data.is_dir() and len({each.seed for each in options}) > 1:
        raise UserError(f"{config.data}: runs with other seeds divided it in other ways; what selects was trained on")
    record = RunRecord(__file__, output_dir, config)
    model = averaged([DistilBertClassifier.from_pretrained(folder) for folder in config.runs])
    training = TrainingRun(data=config.data, options=options[0], output_dir=output_dir)
    record.results = write_report(training, options[0], data, model, load_tokenizer(config.runs[0]), [], "average")
    record.files += sorted(output_dir.iterdir())
    record.save()


if __name__ == "__main__":
    launch(Config, main)
