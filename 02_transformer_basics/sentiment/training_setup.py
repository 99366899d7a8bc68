"""The start of a training run, for each method: model, tokenizer, tokenized texts and targets.

Shapes: N texts, C classes.
"""

import dataclasses
import json
import random
from pathlib import Path
from typing import NamedTuple

import torch
from tokenizers import Tokenizer
from transformers import PreTrainedTokenizerFast

from lab.errors import UserError
from lab.markdown import shell_command
from lab.seeding import seed_everything
from lab.training import Run, fingerprint, restoring_state
from models.checkpoints import read_checkpoint
from models.distilbert import DistilBertClassifier, DistilBertConfig
from sentiment.data import SentimentData
from sentiment.distillation import cached_teacher_outputs, nearest_neighbors, transfer_set
from sentiment.model_setup import (
    check_finite,
    encode,
    from_encoder,
    from_scratch,
    from_teacher,
    load_tokenizer,
    shrink_tokenizer,
    train_tokenizer,
    wrap_tokenizer,
)
from sentiment.options import Options
from sentiment.training import Targets, smooth_labels, soft_targets

# A rating r, from -4 to 4, becomes P(POSITIVE) = sigmoid(r / RATING_TEMPERATURE).
RATING_TEMPERATURE = 2 / 3


class TrainingSetup(NamedTuple):
    """Initial model, tokenizer, token ids of the training texts, and their targets."""

    model: DistilBertClassifier
    tokenizer: PreTrainedTokenizerFast
    ids: list[list[int]]
    targets: Targets


def data_fingerprint(data: SentimentData) -> str:
    """Return a hash of all texts, labels and ratings."""
    contents = {field.name: getattr(data, field.name) for field in dataclasses.fields(data)}
    del contents["source"], contents["dropped"]  # the file's name, and a count
    return fingerprint([repr(contents)])


def model_fingerprint(folder: Path) -> str:
    """Return a hash of a DistilBERT's settings, weights and tokenizer.

    Raises UserError or OSError, naming the folder or file, if there is none.
    """
    checkpoint = read_checkpoint(folder, "distilbert")
    parts: list[str | bytes] = [json.dumps(checkpoint.settings, sort_keys=True)]
    for name, tensor in sorted(checkpoint.tensors.items()):
        parts += [name, tensor.flatten().view(torch.uint8).numpy().tobytes()]
    vocabularies = (folder / "tokenizer.json", folder / "vocab.txt")
    return fingerprint([*parts, *(path.read_bytes() for path in vocabularies if path.exists())])


def training_setup(
    options: Options,
    data: SentimentData,
    encoder: Path,
    teacher: Path | None,
    outputs_file: Path,
    device: torch.device,
    run: Run,
) -> TrainingSetup:
    """Return the setup of the method of resolved options.

    Args:
        options: resolved options.
        data: the data.
        encoder: folder of the pre-trained encoder, for `finetune`.
        teacher: folder of the teacher, for `distill`.
        outputs_file: cache of the teacher's outputs, for `distill`.
        device: where the teacher runs.
        run: the run, which keeps the tokenizer and the sizes of the model, and knows its encoder or teacher.

    Raises:
        UserError or OSError: encoder or teacher is missing, not that of the run, or does not fit the data.
    """
    seed_everything(options.seed)
    if options.method == "distill":
        assert teacher is not None
        run.check_input("teacher", teacher, model_fingerprint(teacher))
        return setup_distill(options, data, teacher, outputs_file, device)
    needs_encoder = options.method == "finetune" and run.paths.get("encoder") != str(encoder.absolute())
    if needs_encoder:
        check_encoder(encoder)
        run.check_input("encoder", encoder, model_fingerprint(encoder))
    if "model" in run.kept:
        return setup_resumed(options, data, run)
    setup = setup_scratch(options, data) if options.method == "scratch" else setup_finetune(options, data, encoder)
    run.kept |= {"model": vars(setup.model.config), "tokenizer": setup.tokenizer.backend_tokenizer.to_str()}
    return setup


def setup_resumed(options: Options, data: SentimentData, run: Run) -> TrainingSetup:
    """Return the model and tokenizer that a checkpoint keeps; the weights come with its state."""
    with restoring_state():
        model = DistilBertClassifier(DistilBertConfig(**run.kept["model"]), data.labels)
        tokenizer = wrap_tokenizer(Tokenizer.from_str(run.kept["tokenizer"]))
    tokenizer.model_max_length = min(tokenizer.model_max_length, model.config.max_position_embeddings)
    ids = encode(tokenizer, [text for text, _ in data.train])
    return TrainingSetup(model, tokenizer, ids, label_targets(data, options.label_smoothing))


def setup_scratch(options: Options, data: SentimentData) -> TrainingSetup:
    """Return random weights and a vocabulary learned from the training texts."""
    texts = [text for text, _ in data.train]
    tokenizer = train_tokenizer(texts, options.size("vocab_size"))
    model = from_scratch(options.architecture(None, len(tokenizer)), data.labels)
    targets = label_targets(data, options.label_smoothing)
    return TrainingSetup(model, tokenizer, encode(tokenizer, texts), targets)


def setup_finetune(options: Options, data: SentimentData, encoder: Path) -> TrainingSetup:
    """Return the pre-trained encoder with a new head, and its tokenizer."""
    texts = [text for text, _ in data.train]
    model = from_encoder(encoder, data.labels, options.dropout or 0.0)
    tokenizer = load_tokenizer(encoder)
    targets = label_targets(data, options.label_smoothing)
    return TrainingSetup(model, tokenizer, encode(tokenizer, texts), targets)


def check_encoder(encoder: Path) -> None:
    """Raise UserError if there is no folder of the encoder."""
    if not encoder.is_dir():
        command = shell_command(["python", "minilm.py", "--output_dir", str(encoder)])
        raise UserError(f"--encoder {encoder}: no such folder; {command} makes it")


def setup_distill(
    options: Options,
    data: SentimentData,
    teacher_folder: Path,
    outputs_file: Path,
    device: torch.device,
) -> TrainingSetup:
    """Return a student initialized from the teacher, and the transfer set.

    Its targets are the teacher's outputs.
    """
    teacher = DistilBertClassifier.from_pretrained(teacher_folder).to(device)
    if teacher.labels != data.labels:
        labels = f"its labels are {teacher.labels}, those of the data {data.labels}"
        raise UserError(f"--teacher {teacher_folder}: {labels}")
    check_finite(teacher, f"--teacher {teacher_folder}")
    teacher_tokenizer = load_tokenizer(teacher_folder)

    labeled = [text for text, _ in data.train]
    num_unlabeled = min(options.sentences, len(data.unlabeled))
    unlabeled = random.Random(options.seed).sample(data.unlabeled, num_unlabeled)
    vocab_size = options.size("vocab_size")
    tokenizer, kept_ids = shrink_tokenizer(teacher_tokenizer, labeled + unlabeled, vocab_size)

    # the transfer set, labeled by the teacher
    word_embeddings = teacher.word_embeddings.weight.detach().cpu()  # (V, E)
    neighbors = nearest_neighbors(teacher_tokenizer.get_vocab(), word_embeddings)
    texts = transfer_set(labeled, unlabeled, options.copies, neighbors, options.seed)
    teacher_ids = encode(teacher_tokenizer, texts)
    outputs = cached_teacher_outputs(teacher, teacher_ids, options.precision, outputs_file)
    if not outputs.logits.isfinite().all():
        raise UserError(f"--teacher {teacher_folder}: its outputs for the training texts are not finite")
    targets = Targets(soft_targets(outputs.logits, options.temperature or 1.0), outputs.pooled)

    # the student
    sizes = options.architecture(teacher.config, len(tokenizer))
    student = from_teacher(teacher.cpu(), kept_ids, sizes)
    return TrainingSetup(student, tokenizer, encode(tokenizer, texts), targets)


def label_targets(data: SentimentData, label_smoothing: float | None = None) -> Targets:
    """Return the targets of the training texts: smoothed labels; for rated texts, their rating."""
    labels = torch.tensor([label for _, label in data.train])  # (N,)
    probs = smooth_labels(labels, len(data.labels), label_smoothing or 0.0)  # (N,) -> (N, C)
    rated_rows = [row for row, (text, _) in enumerate(data.train) if text in data.ratings]
    if rated_rows:
        ratings = [data.ratings[data.train[row][0]] for row in rated_rows]
        logits = torch.tensor([[0.0, rating] for rating in ratings])  # (number rated, C)
        probs[rated_rows] = soft_targets(logits, RATING_TEMPERATURE)
    return Targets(probs)
