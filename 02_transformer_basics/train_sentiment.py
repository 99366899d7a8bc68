"""Train a sentiment classifier, our own DistilBERT: from scratch, from a pre-trained encoder, or from a teacher.

python train_sentiment.py --data DATA_FOLDER --method scratch --output_dir ../runs/scratch
python minilm.py && python train_sentiment.py --data DATA_FOLDER --method finetune --output_dir ../runs/teacher
python train_sentiment.py --data DATA_FOLDER --method distill --teacher ../runs/teacher --output_dir ../runs/student
python train_sentiment.py --data my_own.csv                    # columns: text, label
torchrun --nproc_per_node 2 train_sentiment.py --data ...      # two processes train one model

`DATA_FOLDER` holds the files that sentiment/README.md lists. A run writes a model in the Hugging Face layout,
`metrics.json`, a model card and a learning curve. If it is interrupted, rerun the command with `--resume`.
"""

if __name__ == "__main__":
    import lab.startup  # noqa: F401 - first: Ctrl-C works while the libraries load

import dataclasses
import math
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch

from lab.devices import pick_device, threads_on
from lab.distributed import process_group, rank
from lab.errors import UserError, require_at_least
from lab.files import ROOT
from lab.launch import launch
from lab.memory import keep_freed_memory
from lab.metrics import METRICS
from lab.progress import track
from lab.record import RunRecord
from lab.training import (
    CHECKPOINT,
    MODEL_FILES,
    Run,
    TrainingKind,
    check_model_folder,
    checkpointed,
    flag_defaults,
    given_value,
    restoring_state,
    run_to_resume,
    start_run,
)
from sentiment.data import SentimentData, read_data
from sentiment.model_setup import encode
from sentiment.options import Options, describe_presets
from sentiment.report import record_as_row, write_report
from sentiment.training import EncodedTexts, StepRecord, Trainer, train
from sentiment.training_setup import TrainingSetup, data_fingerprint, training_setup

TRAINING = TrainingKind(
    "a sentiment training run",
    defaults=vars(Options()),
    length="epochs",
    complete=lambda settings: vars(Options(**settings).resolved()),
)
TEACHER_OUTPUTS = "answers.pth"  # cache of the teacher's outputs, in the output folder
REPORT_FILES = (METRICS, "metrics.json", "training_curve.png", "README.md", "train_sentiment.json")


@dataclass(frozen=True)
class Config:
    """Train a DistilBERT classifier: from scratch, from a pre-trained encoder, or from a teacher.

    Training options with default None take the value of the chosen method:
    """

    data: Path | None = None
    """Folder with the lesson's files, or a CSV with the columns text and label. Default: fetch a data set."""
    training: Options = dataclasses.field(default_factory=Options)
    """Method, optimization, model sizes and amounts of data."""
    encoder: Path = ROOT / "runs/minilm"
    """Folder of the pre-trained encoder for --method finetune; minilm.py makes it."""
    teacher: Path | None = None
    """Folder of the teacher for --method distill: a classifier made by --method finetune."""
    output_dir: Path = Path("runs/sentiment")
    """Output folder for the model, its card and its metrics; those of an earlier run are replaced at the end."""
    resume: bool = False
    """Continue from checkpoint.pth in the output folder, with the options of that run. Larger `--epochs` make it
    longer; the learning-rate schedule is from there on that of the longer run."""
    checkpoint_every: int = 200
    """Steps between checkpoints; there is also one after each epoch."""
    device: str = "auto"
    """auto (a GPU if there is one), cpu, cuda or mps."""
    num_threads: int | None = None
    """PyTorch's number of threads. Default: PyTorch's own choice."""

    def __post_init__(self) -> None:
        self.training.resolved()  # raises if an option is invalid
        require_at_least(1, self, "checkpoint_every")
        if self.num_threads is not None:
            require_at_least(1, self, "num_threads")
        if (self.teacher is not None) != (self.training.method == "distill"):
            raise UserError(f"--teacher is {self.teacher}; --method distill needs its folder, other methods have none")

    @classmethod
    def default_for(cls, arguments: Sequence[str]) -> "Config":
        """Return the defaults of the flags: those of a new run, or those of the run that command-line arguments resume.

        Raises UserError or OSError for a damaged checkpoint.
        """
        default = cls()
        run = run_to_resume(TRAINING, arguments, default.output_dir)
        if run is None or given_value(arguments, "method") not in (None, run.settings["method"]):
            return default
        paths = run.paths
        if teacher := given_value(arguments, "teacher"):
            paths["teacher"] = teacher
        with restoring_state():
            training = Options(**flag_defaults(TRAINING, run))
            return dataclasses.replace(default, training=training, **{flag: Path(paths[flag]) for flag in paths})


Config.__doc__ = f"{Config.__doc__}\n\n{describe_presets()}"


@dataclass(frozen=True)
class Record:
    """A record of the training loop, with access to the state that a checkpoint saves."""

    step: StepRecord
    snapshot: Callable[[], dict[str, Any]]


class TrainingResult(NamedTuple):
    """The resolved options, the data, the setup with the trained model, and the records as plain rows."""

    options: Options
    data: SentimentData
    setup: TrainingSetup
    rows: list[dict[str, Any]]


def progress_line(record: Record) -> str:
    """Return epoch, loss, validation accuracy and speed in one line."""
    step = record.step
    validation = f"  validation accuracy {step.metrics.accuracy:.1%}" if step.metrics else ""
    speed = f"{step.texts_per_second:,.0f} texts/s {step.tokens_per_second:,.0f} tokens/s"
    return f"epoch {step.epoch:.2f}  loss {step.loss:.4f}{validation}  {speed}"


def run_training(config: Config, device: torch.device, run: Run) -> TrainingResult:
    """Train with checkpoints; the model ends with the weights that were best on the validation set.

    On Ctrl-C the steps up to the next record are finished and saved, then KeyboardInterrupt raised.
    """
    options = Options(**run.settings)
    data = read_data(config.data, options.seed, options.phrases)
    run.check_input("data", config.data, data_fingerprint(data))
    outputs_file = config.output_dir / TEACHER_OUTPUTS
    setup = training_setup(options, data, config.encoder, config.teacher, outputs_file, device, run)
    dev_ids = encode(setup.tokenizer, [text for text, _ in data.dev])
    validation = EncodedTexts(dev_ids, torch.tensor([label for _, label in data.dev]))
    mask_id = setup.tokenizer.get_vocab()["[MASK]"]
    trainer = Trainer(setup.model.to(device), setup.ids, setup.targets, mask_id, options.training_config())
    if run.state is not None:
        trainer.load_state_dict(run.state)
    records: Iterator[Record] = (Record(step, trainer.state_dict) for step in train(trainer, validation))
    if rank() == 0:
        records = track(records, trainer.records_left(), "record", progress_line)

    def is_due(record: Record) -> bool:
        return record.step.metrics is not None or record.step.step % config.checkpoint_every == 0

    for record in checkpointed(records, run, is_due=is_due):
        run.rows.append(record_as_row(record.step))
    setup.model.load_state_dict(trainer.best_weights)
    return TrainingResult(options, data, setup, run.rows)


def note_command(run: Run) -> None:
    """Keep the command line that started the run, for the model card; a longer run has the new number of epochs."""
    arguments = run.kept.setdefault("arguments", [word for word in sys.argv[1:] if word != "--resume"])
    epochs = run.settings["epochs"]
    if run.kept.setdefault("epochs", epochs) != epochs:
        arguments += ["--epochs", str(epochs)]
        run.kept["epochs"] = epochs


def main(config: Config) -> None:
    """Train, evaluate, save."""
    keep_freed_memory()
    names = (*MODEL_FILES, *REPORT_FILES, CHECKPOINT)
    encoder = config.encoder if config.training.method == "finetune" else None
    inputs = {"data": config.data, "encoder": encoder, "teacher": config.teacher}
    output_dir = check_model_folder(config.output_dir, names, **inputs)
    record = RunRecord(__file__, output_dir, config)
    device = pick_device(config.device)
    if config.num_threads is not None:
        torch.set_num_threads(config.num_threads)
    with process_group():
        run = start_run(
            TRAINING, output_dir, vars(config.training.resolved()), config.resume, device.type, threads_on(device)
        )
        note_command(run)
        result = run_training(config, device, run)
        if rank() != 0:
            return
        model = result.setup.model.cpu()
        tokenizer = result.setup.tokenizer
        metrics = write_report(
            output_dir,
            config.data,
            result.options,
            result.data,
            model,
            tokenizer,
            result.rows,
            arguments=run.kept["arguments"],
        )
        record.results, record.config = metrics, result.options
        record.files += [output_dir / name for name in sorted((*MODEL_FILES, *REPORT_FILES[:-1]))]
        loss, uniform_guess = metrics["validation_loss"], math.log(len(result.data.labels))
        expected = f"below {uniform_guess:.3f}, a uniform guess"
        record.check("validation loss, nats", round(loss, 4), expected, loss < uniform_guess)
        record.save()
        if result.options.method == "distill":
            (output_dir / TEACHER_OUTPUTS).unlink(missing_ok=True)


if __name__ == "__main__":
    launch(Config, main)
