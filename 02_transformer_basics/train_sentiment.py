"""Train a sentiment classifier, our own DistilBERT, in one of three ways; the last makes the model that ships.

python train_sentiment.py --data DATA_FOLDER --method scratch --output_dir ../runs/scratch
python minilm.py && python train_sentiment.py --data DATA_FOLDER --method finetune --output_dir ../runs/teacher
python train_sentiment.py --data DATA_FOLDER --method distill --teacher ../runs/teacher --output_dir ../runs/student
python train_sentiment.py --data my_own.csv                    # columns: text, label
torchrun --nproc_per_node 2 train_sentiment.py --data ...      # two processes train one model

`DATA_FOLDER` holds the files that README.md names. Each run writes a model in the Hugging Face layout, `metrics.json`,
a model card and a curve. `--resume` goes on where a run was stopped.
"""

import dataclasses
import math
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import torch
from tokenizers import Tokenizer
from transformers import PreTrainedTokenizerFast

from lab.devices import pick_device
from lab.distributed import process_group, rank
from lab.errors import UserError
from lab.files import replaceable_folder
from lab.launch import launch
from lab.memory import keep_freed_memory
from lab.progress import track
from lab.record import RunRecord
from lab.seeding import seed_everything
from lab.training import CHECKPOINT, checkpointed, saved_run
from models.distilbert import DistilBertClassifier
from sentiment.data import SentimentData, read_data
from sentiment.distillation import neighbours, teachers_answers, transfer_texts
from sentiment.model_setup import (
    encode,
    from_encoder,
    from_scratch,
    from_teacher,
    smaller_tokenizer,
    train_tokenizer,
    wrap,
)
from sentiment.options import Config, Options
from sentiment.training import Learner, StepRecord, Targets, Texts, smoothed, softened, train

KIND = "a sentiment training run"  # what checkpoint.pth says it holds
RATING = 2 / 3  # of a rating's units, from -4 to 4: by so much the odds for POSITIVE grow by a factor of e
ANSWERS = "answers.pth"  # what the teacher said, kept for the next run with it


class Start(NamedTuple):
    """What a run starts from: model, tokenizer, the tokenized training texts, and what they should give."""

    model: DistilBertClassifier
    tokenizer: PreTrainedTokenizerFast
    ids: list[list[int]]
    targets: Targets


@dataclasses.dataclass(frozen=True)
class Record:
    """A record of the training loop with what a checkpoint holds at that moment."""

    numbers: StepRecord
    snapshot: Callable[[], dict[str, Any]]


def start_scratch(options: Options, data: SentimentData) -> Start:
    """Random weights, a vocabulary of the training texts, their labels."""
    texts = [text for text, _ in data.train]
    tokenizer = train_tokenizer(texts, options.size("vocab_size"))
    model = from_scratch(options.architecture(None, len(tokenizer)), data.labels)
    return Start(model, tokenizer, encode(tokenizer, texts), label_targets(options, data))


def start_finetune(options: Options, data: SentimentData, encoder: Path) -> Start:
    """The pre-trained encoder, its vocabulary, the labels. Raises UserError where there is no encoder."""
    if not encoder.is_dir():
        raise UserError(f"--encoder {encoder}: no such folder; python minilm.py --output_dir {encoder} makes it")
    model = from_encoder(encoder, data.labels, options.dropout or 0.0)
    tokenizer = load_tokenizer(encoder)
    return Start(model, tokenizer, encode(tokenizer, [text for text, _ in data.train]), label_targets(options, data))


def load_tokenizer(folder: Path) -> PreTrainedTokenizerFast:
    """The tokenizer of a folder in the Hugging Face layout."""
    return wrap(Tokenizer.from_file(str(folder / "tokenizer.json")))


def label_targets(options: Options, data: SentimentData) -> Targets:
    """What the training texts should give: their labels as probabilities, or their ratings where people rated them."""
    labels = torch.tensor([label for _, label in data.train])  # (N,)
    probabilities = smoothed(labels, len(data.labels), options.label_smoothing or 0.0)  # (N, C)
    ratings = {row: data.ratings[text] for row, (text, _) in enumerate(data.train) if text in data.ratings}
    if ratings:
        logits = torch.tensor([[0.0, rating] for rating in ratings.values()])  # (rated, C)
        probabilities[list(ratings)] = softened(logits, RATING)
    return Targets(probabilities)


def start_distill(options: Options, data: SentimentData, config: Config, device: torch.device) -> Start:
    """The teacher's own parts, a part of its vocabulary, and its answers to many texts."""
    assert config.teacher is not None
    teacher = DistilBertClassifier.from_pretrained(config.teacher).to(device)
    if teacher.labels != data.labels:
        raise UserError(f"--teacher {config.teacher}: it tells {teacher.labels} apart, the data {data.labels}")
    whole = load_tokenizer(config.teacher)
    labelled = [text for text, _ in data.train]
    unlabelled = random.Random(options.seed).sample(data.unlabelled, min(options.sentences, len(data.unlabelled)))
    tokenizer, kept = smaller_tokenizer(whole, labelled + unlabelled, options.size("vocab_size"))
    alike = neighbours(whole.get_vocab(), teacher.word_embeddings.weight.detach().cpu())
    texts = transfer_texts(labelled, unlabelled, options.copies, alike, options.seed)
    answers = teachers_answers(teacher, encode(whole, texts), options.precision, config.output_dir / ANSWERS)
    model = from_teacher(teacher.cpu(), kept, options.architecture(teacher.config, len(tokenizer)))
    targets = Targets(softened(answers.logits, options.temperature or 1.0), answers.summaries)
    return Start(model, tokenizer, encode(tokenizer, texts), targets)


def make_start(options: Options, data: SentimentData, config: Config, device: torch.device) -> Start:
    """What the method starts from."""
    seed_everything(options.seed)
    if options.method == "scratch":
        return start_scratch(options, data)
    if options.method == "finetune":
        return start_finetune(options, data, config.encoder)
    return start_distill(options, data, config, device)


def describe(record: Record) -> str:
    """The numbers that matter while training, in one line."""
    numbers = record.numbers
    found = f"  dev {numbers.measures.accuracy:.1%}" if numbers.measures else ""
    speed = f"{numbers.texts_per_second:,.0f} texts/s {numbers.tokens_per_second:,.0f} tokens/s"
    return f"pass {numbers.epoch:.2f}  loss {numbers.loss:.4f}{found}  {speed}"


def row_of(numbers: StepRecord) -> dict[str, Any]:
    """A record as a row of plain values."""
    row = numbers._asdict()
    return {**row, "measures": None if numbers.measures is None else list(numbers.measures)}


class Trained(NamedTuple):
    """What a run ends with."""

    options: Options
    data: SentimentData
    start: Start
    rows: list[dict[str, Any]]


def learn(config: Config, device: torch.device) -> Trained:
    """Run the training, with checkpoints; the model has its best weights then.

    On Ctrl-C the steps under way are finished and saved, then KeyboardInterrupt raised.
    """
    given, state, rows = saved_run(config.output_dir, KIND, config.options, config.resume, Options())
    options = given.resolved()
    data = read_data(config.data, options.seed, options.phrases)
    start = make_start(options, data, config, device)
    dev = Texts(encode(start.tokenizer, [text for text, _ in data.dev]), torch.tensor([label for _, label in data.dev]))
    mask_id = start.tokenizer.get_vocab()["[MASK]"]
    learner = Learner(start.model.to(device), start.ids, start.targets, mask_id, options.training())
    if state is not None:
        learner.load_state_dict(state)
    stream: Iterator[Record] = (Record(numbers, learner.state_dict) for numbers in train(learner, dev))
    if rank() == 0:
        stream = track(stream, learner.records_left(), "record", describe)
    due = config.checkpoint_every
    stream = checkpointed(
        stream,
        config.output_dir,
        KIND,
        given,
        rows,
        is_due=lambda r: r.numbers.measures is not None or r.numbers.step % due == 0,
    )
    for record in stream:
        rows.append(row_of(record.numbers))
    start.model.load_state_dict(learner.best)
    return Trained(options, data, start, rows)


def main(config: Config) -> None:
    """Train, measure, save."""
    keep_freed_memory()
    output_dir = replaceable_folder(config.output_dir, "config.json", CHECKPOINT, ANSWERS)
    config = dataclasses.replace(config, output_dir=output_dir)
    record = RunRecord(__file__, config.output_dir, config)
    device = pick_device(config.device)
    if config.num_threads is not None:
        torch.set_num_threads(config.num_threads)
    with process_group():
        trained = learn(config, device)
        if rank() == 0:
            from sentiment.report import write_report

            model, tokenizer = trained.start.model.cpu(), trained.start.tokenizer
            metrics = write_report(config, trained.options, trained.data, model, tokenizer, trained.rows)
            record.results, record.config = metrics, trained.options
            record.files += sorted(path for path in config.output_dir.iterdir() if path.name != CHECKPOINT)
            loss, guess = metrics["validation_loss"], math.log(len(trained.data.labels))
            record.check("validation loss, nats", round(loss, 4), f"below {guess:.3f}, all labels alike", loss < guess)
            record.save()


if __name__ == "__main__":
    launch(Config, main)
