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
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch

from lab.devices import pick_device
from lab.distributed import process_group, rank
from lab.errors import UserError, require_at_least
from lab.files import ROOT, replaceable_folder
from lab.launch import launch
from lab.memory import keep_freed_memory
from lab.progress import track
from lab.record import RunRecord
from lab.training import CHECKPOINT, checkpointed, saved_run
from sentiment.data import SentimentData, read_data
from sentiment.model_setup import encode
from sentiment.options import Options, describe_presets
from sentiment.report import record_as_row, write_report
from sentiment.training import EncodedTexts, StepRecord, Trainer, train
from sentiment.training_setup import TrainingSetup, training_setup

KIND = "a sentiment training run"  # what checkpoint.pth says it holds
TEACHER_OUTPUTS = "answers.pth"  # cache of the teacher's outputs, in the output folder


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
    """Output folder for the model, its card and its metrics; an existing one is replaced at the end of the run."""
    resume: bool = False
    """Continue from checkpoint.pth in the output folder, with the options of that run."""
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


def run_training(config: Config, device: torch.device) -> TrainingResult:
    """Train with checkpoints; the model ends with the weights that were best on the validation set.

    On Ctrl-C the steps up to the next record are finished and saved, then KeyboardInterrupt raised.
    """
    requested, state, rows = saved_run(config.output_dir, KIND, config.training, config.resume, Options())
    options = requested.resolved()
    data = read_data(config.data, options.seed, options.phrases)
    outputs_file = config.output_dir / TEACHER_OUTPUTS
    setup = training_setup(options, data, config.encoder, config.teacher, outputs_file, device)
    dev_ids = encode(setup.tokenizer, [text for text, _ in data.dev])
    validation = EncodedTexts(dev_ids, torch.tensor([label for _, label in data.dev]))
    mask_id = setup.tokenizer.get_vocab()["[MASK]"]
    trainer = Trainer(setup.model.to(device), setup.ids, setup.targets, mask_id, options.training_config())
    if state is not None:
        trainer.load_state_dict(state)
    records: Iterator[Record] = (Record(step, trainer.state_dict) for step in train(trainer, validation))
    if rank() == 0:
        records = track(records, trainer.records_left(), "record", progress_line)
    records = checkpointed(
        records,
        config.output_dir,
        KIND,
        requested,
        rows,
        is_due=lambda r: r.step.metrics is not None or r.step.step % config.checkpoint_every == 0,
    )
    for record in records:
        rows.append(record_as_row(record.step))
    setup.model.load_state_dict(trainer.best_weights)
    return TrainingResult(options, data, setup, rows)


def main(config: Config) -> None:
    """Train, evaluate, save."""
    keep_freed_memory()
    output_dir = replaceable_folder(config.output_dir, "config.json", CHECKPOINT, TEACHER_OUTPUTS)
    config = dataclasses.replace(config, output_dir=output_dir)
    record = RunRecord(__file__, output_dir, config)
    device = pick_device(config.device)
    if config.num_threads is not None:
        torch.set_num_threads(config.num_threads)
    with process_group():
        result = run_training(config, device)
        if rank() != 0:
            return
        model = result.setup.model.cpu()
        tokenizer = result.setup.tokenizer
        metrics = write_report(output_dir, config.data, result.options, result.data, model, tokenizer, result.rows)
        record.results, record.config = metrics, result.options
        record.files += sorted(path for path in output_dir.iterdir() if path.name != CHECKPOINT)
        loss, uniform_guess = metrics["validation_loss"], math.log(len(result.data.labels))
        expected = f"below {uniform_guess:.3f}, a uniform guess"
        record.check("validation loss, nats", round(loss, 4), expected, loss < uniform_guess)
        record.save()


if __name__ == "__main__":
    launch(Config, main)
