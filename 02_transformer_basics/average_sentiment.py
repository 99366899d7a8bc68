"""Average the weights of several classifiers that were fine-tuned from the same encoder.

python average_sentiment.py ../runs/teacher_0 ../runs/teacher_1 ../runs/teacher_2 --data DATA_FOLDER

Fine-tuned from the same pre-trained weights, models end in the same low-loss region, and their average is often better
than each of them at the cost of one. Models trained from different random weights end in different regions; their
average is useless.

Source: Wortsman et al. 2022, "Model soups: averaging weights of multiple fine-tuned models improves accuracy without
increasing inference time", section 2 (the uniform soup).
"""

if __name__ == "__main__":
    import lab.startup  # noqa: F401 - first: Ctrl-C works while the libraries load

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
import tyro

from lab.errors import UserError
from lab.launch import launch
from lab.record import RunRecord
from lab.training import MODEL_FILES, check_model_folder
from models.distilbert import DistilBertClassifier
from sentiment.comparison import read_run_metrics
from sentiment.data import read_data
from sentiment.model_setup import check_finite, load_tokenizer
from sentiment.options import Options
from sentiment.report import write_report

REPORT_FILES = ("metrics.json", "README.md")


@dataclass(frozen=True)
class Config:
    """Average the weights of classifiers that were fine-tuned from the same encoder."""

    runs: tyro.conf.Positional[tuple[Path, ...]]
    """Output folders of train_sentiment.py --method finetune, two or more."""
    data: Path | None = None
    """The data of these runs, on which the average is calibrated and evaluated. Default: fetch a data set."""
    output_dir: Path = Path("runs/teacher")
    """Output folder for the model, its card and its metrics."""

    def __post_init__(self) -> None:
        if len(self.runs) < 2:
            raise UserError(f"{len(self.runs)} run(s) to average; name two folders or more")


def average_models(models: Sequence[DistilBertClassifier]) -> DistilBertClassifier:
    """Return a classifier whose weights are the mean of the models'. Raises UserError if sizes or labels differ."""
    average = DistilBertClassifier(models[0].config, models[0].labels)
    for model in models:
        if (model.config, model.labels) != (average.config, average.labels):
            raise UserError("runs of different sizes or labels cannot be averaged")
    state_dicts = [model.state_dict() for model in models]
    mean = {}
    for name in state_dicts[0]:
        mean[name] = torch.stack([state_dict[name] for state_dict in state_dicts]).mean(dim=0)
    average.load_state_dict(mean)
    return average.eval()


def read_model(folder: Path) -> DistilBertClassifier:
    """Read a run's classifier. Raises UserError, naming the folder, if it is damaged or has weights that are NaN."""
    model = DistilBertClassifier.from_pretrained(folder)
    check_finite(model, str(folder))
    return model


def read_options(runs: Sequence[Path]) -> list[Options]:
    """Return the options of each run. Raises UserError or OSError, naming the folder, if they cannot be averaged."""
    options = []
    tokenizer = (runs[0] / "tokenizer.json").read_bytes()
    for folder in runs:
        metrics = read_run_metrics(folder)
        if metrics["method"] != "finetune":
            raise UserError(f"{folder}: made by --method {metrics['method']}; only fine-tuned runs can be averaged")
        try:
            options.append(Options(**metrics["settings"]))
        except (KeyError, TypeError):
            file = folder / "metrics.json"
            raise UserError(f"{file}: not the settings of this version's train_sentiment.py") from None
        if (folder / "tokenizer.json").read_bytes() != tokenizer:
            raise UserError(f"{folder}: its vocabulary differs from that of {runs[0]}")
    return options


def main(config: Config) -> None:
    """Average, evaluate, save."""
    names = (*MODEL_FILES, *REPORT_FILES, "average_sentiment.json")
    output_dir = check_model_folder(config.output_dir, names, data=config.data)
    if any(folder.exists() and folder.samefile(output_dir) for folder in config.runs):
        raise UserError(f"--output_dir {output_dir}: a run that would be overwritten; choose another folder")
    all_options = read_options(config.runs)
    options = all_options[0]
    data = read_data(config.data, options.seed, options.phrases)
    is_csv = config.data is not None and not config.data.is_dir()
    if is_csv and len({each.seed for each in all_options}) > 1:
        raise UserError(f"{config.data}: runs with other seeds split it differently; they have seen its test set")
    record = RunRecord(__file__, output_dir, config)
    model = average_models([read_model(folder) for folder in config.runs])
    if model.labels != data.labels:
        raise UserError(f"--data: its labels are {data.labels}, those of {config.runs[0]} are {model.labels}")
    tokenizer = load_tokenizer(config.runs[0])
    record.results = write_report(output_dir, config.data, options, data, model, tokenizer, method="average")
    record.files += [output_dir / name for name in sorted((*MODEL_FILES, *REPORT_FILES))]
    record.save()


if __name__ == "__main__":
    launch(Config, main)
