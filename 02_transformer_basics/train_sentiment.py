"""Train the small sentiment model that ships with the lab: the DistilBERT architecture, from random weights.

    python train_sentiment.py --data DATA_FOLDER --output_dir ../assets/models/sentiment

`DATA_FOLDER` holds the files that README.md names: film-review sentences and product phrases to train on, the SST-2
sentences to select (dev) and to report (test). The model is written in the Hugging Face layout.
"""

import copy
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import torch
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from torch import Tensor, nn
from transformers import DistilBertConfig, DistilBertForSequenceClassification, PreTrainedTokenizerFast

from lab.errors import UserError, require_at_least
from lab.files import atomic_folder, read_text, replaceable_folder, write_json
from lab.launch import launch
from lab.progress import watch
from lab.seeding import seed_everything

Examples = list[tuple[str, int]]  # text and label, 1 for positive
SPECIAL_TOKENS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
MAX_LENGTH = 256


@dataclass(frozen=True)
class Config:
    """Train a small DistilBERT classifier and write it in the Hugging Face layout."""

    data: Path
    """Folder with the sentiment files."""
    output_dir: Path = Path("runs/sentiment")
    """Folder for the model; an earlier one is replaced only when the new one is whole."""
    epochs: int = 6
    """Passes over the training sentences."""
    batch_size: int = 64
    """Sentences a step."""
    learning_rate: float = 1e-3
    """Peak learning rate of the one-cycle schedule."""
    vocab_size: int = 8000
    """Entries of the WordPiece vocabulary."""
    embed_dim: int = 128
    """Width of the encoder."""
    num_layers: int = 2
    """Encoder blocks."""
    num_heads: int = 4
    """Attention heads a block."""
    dropout: float = 0.3
    """Dropout in the encoder and before the classifier."""
    word_dropout: float = 0.1
    """Share of the training tokens that are replaced by [UNK], so that no single word decides."""
    seed: int = 0
    """Seed of the weights, the order and the dropout."""

    def __post_init__(self) -> None:
        require_at_least(1, self, "epochs", "batch_size", "embed_dim", "num_layers", "num_heads")
        require_at_least(len(SPECIAL_TOKENS) + 1, self, "vocab_size")
        require_at_least(0, self, "learning_rate", "dropout", "word_dropout")
        for name in ("dropout", "word_dropout"):
            if getattr(self, name) >= 1:
                raise UserError(f"--{name} is {getattr(self, name)}; it must be below 1")
        if self.embed_dim % self.num_heads:
            raise UserError(f"--embed_dim is {self.embed_dim}; it must be a multiple of --num_heads, {self.num_heads}")


class EpochRecord(NamedTuple):
    """What one pass over the data gave: mean training loss, accuracy on SST-2 dev, and the best weights so far."""

    epoch: int
    loss: float
    dev_accuracy: float
    best: dict[str, Tensor]


def read_examples(path: Path) -> Examples:
    """Sentences of one of the files that the lesson names; the file's name tells its format.

    Raises OSError or UserError, naming the file.
    """
    lines = read_text(path).split("\n")  # not splitlines(): U+0085 occurs in text
    examples = [_read_line(line, path, number) for number, line in enumerate(lines, 1) if line.strip()]
    if not examples:
        raise UserError(f"{path}: no sentence in it")
    return examples


def _read_line(line: str, path: Path, number: int) -> tuple[str, int]:
    """Text and label of a line that is not blank."""
    if path.name.startswith("Integrated"):  # <Pros>good value, light</Pros>
        tag = path.name.removeprefix("Integrated").removesuffix(".txt")
        text = line.strip()
        if tag not in ("Pros", "Cons") or not (text.startswith(f"<{tag}>") and text.endswith(f"</{tag}>")):
            raise UserError(f"{path}, line {number}: it must be <{tag}>text</{tag}>")
        return text[len(tag) + 2 : -len(tag) - 3], int(tag == "Pros")
    separator, label_first = ("\t", True) if path.suffix == ".tsv" else (" ", True)
    if path.name.endswith("_labelled.txt"):
        separator, label_first = "\t", False
    left, _, right = line.partition(separator) if label_first else line.rpartition(separator)
    label, text = (left, right) if label_first else (right, left)
    if label.strip() not in ("0", "1"):
        raise UserError(f"{path}, line {number}: the label is {label[:20]!r}; it must be 0 or 1")
    return text.strip(), int(label)


def train_tokenizer(texts: list[str], vocab_size: int) -> PreTrainedTokenizerFast:
    """Learn a lower-case WordPiece vocabulary, with BERT's special tokens and its [CLS] text [SEP] template."""
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    trainer = trainers.WordPieceTrainer(vocab_size=vocab_size, special_tokens=SPECIAL_TOKENS, show_progress=False)
    tokenizer.train_from_iterator(texts, trainer)
    cls, sep = tokenizer.token_to_id("[CLS]"), tokenizer.token_to_id("[SEP]")
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B [SEP]", special_tokens=[("[CLS]", cls), ("[SEP]", sep)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        model_max_length=MAX_LENGTH,
        model_input_names=["input_ids", "attention_mask"],
        pad_token="[PAD]",
        unk_token="[UNK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        mask_token="[MASK]",
    )


def build_model(config: Config, vocab_size: int) -> DistilBertForSequenceClassification:
    """A DistilBERT classifier of the configured size with random weights."""
    return DistilBertForSequenceClassification(
        DistilBertConfig(
            vocab_size=vocab_size,
            max_position_embeddings=MAX_LENGTH,
            dim=config.embed_dim,
            n_layers=config.num_layers,
            n_heads=config.num_heads,
            hidden_dim=4 * config.embed_dim,
            dropout=config.dropout,
            seq_classif_dropout=config.dropout,
            id2label={0: "NEGATIVE", 1: "POSITIVE"},
            label2id={"NEGATIVE": 0, "POSITIVE": 1},
        )
    )


def batches(tokenizer: PreTrainedTokenizerFast, examples: Examples, order: list[int], size: int) -> Iterator:
    """Padded batches: encoding and labels (B,), in the given order."""
    for start in range(0, len(order), size):
        texts, labels = zip(*(examples[i] for i in order[start : start + size]), strict=True)
        yield tokenizer(list(texts), padding=True, truncation=True, return_tensors="pt"), torch.tensor(labels)


@torch.inference_mode()
def accuracy(model: nn.Module, tokenizer: PreTrainedTokenizerFast, examples: Examples) -> float:
    """Share of the examples whose larger logit is the label's."""
    model.eval()
    order = sorted(range(len(examples)), key=lambda i: len(examples[i][0]))  # like lengths together: less padding
    right = sum(
        int((model(**encoding).logits.argmax(-1) == labels).sum())
        for encoding, labels in batches(tokenizer, examples, order, 128)
    )
    return right / len(examples)


def train(
    config: Config, model: nn.Module, tokenizer: PreTrainedTokenizerFast, training: Examples, dev: Examples
) -> Iterator[EpochRecord]:
    """Minimise the cross-entropy with AdamW; one record an epoch, with the weights that were best on `dev`."""
    steps = config.epochs * -(-len(training) // config.batch_size)
    optimizer = torch.optim.AdamW(model.parameters(), lr=config.learning_rate, weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, config.learning_rate, steps, pct_start=0.1)
    unknown, best_accuracy, best = tokenizer.convert_tokens_to_ids("[UNK]"), -1.0, {}
    for epoch in range(config.epochs):
        model.train()
        losses = []
        for encoding, labels in batches(tokenizer, training, torch.randperm(len(training)).tolist(), config.batch_size):
            ids = encoding["input_ids"]  # (B, T)
            dropped = (torch.rand(ids.shape) < config.word_dropout) & (ids >= len(SPECIAL_TOKENS))
            logits = model(ids.masked_fill(dropped, unknown), encoding["attention_mask"]).logits  # (B, 2)
            loss = nn.functional.cross_entropy(logits, labels, label_smoothing=0.05)
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            schedule.step()
            losses.append(loss.item())
            if not math.isfinite(losses[-1]):
                raise UserError(f"training diverged in epoch {epoch}; try a smaller --learning_rate")
        dev_accuracy = accuracy(model, tokenizer, dev)
        if dev_accuracy > best_accuracy:
            best_accuracy, best = dev_accuracy, copy.deepcopy(model.state_dict())
        yield EpochRecord(epoch, sum(losses) / len(losses), dev_accuracy, best)


def main(config: Config) -> None:
    """Read, train, select on dev, report test once, save."""
    seed_everything(config.seed)
    output_dir = replaceable_folder(config.output_dir, "config.json")
    training = [
        example
        for name in ("mr_minus_sst_devtest.tsv", "IntegratedPros.txt", "IntegratedCons.txt")
        for example in read_examples(config.data / name)
    ]
    dev, test = (read_examples(config.data / f"stsa.binary.{part}") for part in ("dev", "test"))
    tokenizer = train_tokenizer([text for text, _ in training], config.vocab_size)
    model = build_model(config, len(tokenizer))
    best: dict[str, Tensor] = {}
    stream = train(config, model, tokenizer, training, dev)
    for record in watch(stream, config.epochs, "epoch", lambda r: f"loss {r.loss:.3f}  dev {r.dev_accuracy:.1%}"):
        best = record.best
    model.load_state_dict(best)
    figures = {
        "training_sentences": len(training),
        "parameters": sum(p.numel() for p in model.parameters()),
        "sst2_dev_accuracy": accuracy(model, tokenizer, dev),
        "sst2_test_accuracy": accuracy(model, tokenizer, test),
    }
    with atomic_folder(output_dir, keep=["README.md"]) as folder:
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        write_json(folder / "metrics.json", figures)
    print(figures)


if __name__ == "__main__":
    launch(Config, main)
