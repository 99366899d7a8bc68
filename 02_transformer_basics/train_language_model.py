"""Train the small language model that ships with the lab: the GPT-2 architecture, from random weights, on books.

    python train_language_model.py --data BOOKS_FOLDER --output_dir ../assets/models/language

Every `.txt` file of the folder is a book. Those named by `--held_out` are not trained on: on them the model is
measured, in bits per byte. The model is written in the Hugging Face layout, with a byte-level BPE tokenizer that gives
back any text exactly.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from torch import Tensor, nn
from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

from lab.errors import UserError, require_at_least
from lab.files import atomic_folder, read_text, replaceable_folder, write_json
from lab.launch import launch
from lab.progress import watch
from lab.seeding import seed_everything

END_OF_TEXT = "<|endoftext|>"


@dataclass(frozen=True)
class Config:
    """Train a small GPT-2 on text files and write it in the Hugging Face layout."""

    data: Path
    """Folder of `.txt` files."""
    held_out: tuple[str, ...] = ("austen-persuasion", "sawyer-twain")
    """Names, without `.txt`, of the files that only measure the model."""
    output_dir: Path = Path("runs/language")
    """Folder for the model; an earlier one is replaced only when the new one is whole."""
    num_steps: int = 3000
    """Optimizer steps."""
    batch_size: int = 16
    """Windows a step."""
    context: int = 256
    """Tokens a window."""
    learning_rate: float = 3e-3
    """Peak learning rate of the one-cycle schedule."""
    vocab_size: int = 2048
    """Entries of the byte-level BPE vocabulary."""
    embed_dim: int = 192
    """Width of the decoder."""
    num_layers: int = 4
    """Decoder blocks."""
    num_heads: int = 6
    """Attention heads a block."""
    seed: int = 0
    """Seed of the weights and the windows."""

    def __post_init__(self) -> None:
        require_at_least(1, self, "num_steps", "batch_size", "context", "embed_dim", "num_layers", "num_heads")
        require_at_least(257, self, "vocab_size")  # every byte and the end of text
        require_at_least(0, self, "learning_rate")
        if self.embed_dim % self.num_heads:
            raise UserError(f"--embed_dim is {self.embed_dim}; it must be a multiple of --num_heads, {self.num_heads}")


class StepRecord(NamedTuple):
    """What one optimizer step gave: training loss in nats a token."""

    step: int
    loss: float


def train_tokenizer(texts: list[str], vocab_size: int, context: int) -> PreTrainedTokenizerFast:
    """Learn a byte-level BPE vocabulary, as GPT-2 has it: any text is encoded, and decoded to the same text."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size, special_tokens=[END_OF_TEXT], initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(texts, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        model_max_length=context,
        bos_token=END_OF_TEXT,
        eos_token=END_OF_TEXT,
        unk_token=END_OF_TEXT,
        clean_up_tokenization_spaces=False,
    )


def build_model(config: Config, tokenizer: PreTrainedTokenizerFast) -> GPT2LMHeadModel:
    """A GPT-2 of the configured size with random weights."""
    end_of_text: int = tokenizer.get_vocab()[END_OF_TEXT]
    return GPT2LMHeadModel(
        GPT2Config(
            vocab_size=len(tokenizer),
            n_positions=config.context,
            n_embd=config.embed_dim,
            n_layer=config.num_layers,
            n_head=config.num_heads,
            resid_pdrop=0.0,
            embd_pdrop=0.0,
            attn_pdrop=0.0,
            bos_token_id=end_of_text,
            eos_token_id=end_of_text,
        )
    )


def token_losses(model: nn.Module, ids: Tensor) -> Tensor:
    """Cross-entropy, in nats, of each next token: ids (B, T+1) to losses (B, T)."""
    with torch.autocast("cpu", dtype=torch.bfloat16):
        logits = model(ids[:, :-1]).logits  # (B, T, V)
    return nn.functional.cross_entropy(logits.float().transpose(1, 2), ids[:, 1:], reduction="none")


@torch.inference_mode()
def bits_per_byte(model: nn.Module, tokenizer: PreTrainedTokenizerFast, text: str, context: int) -> float:
    """Bits the model needs for each byte of `text`, read in windows that do not overlap."""
    model.eval()
    ids = torch.tensor([tokenizer.bos_token_id, *tokenizer.encode(text)])  # (tokens + 1,)
    nats = 0.0
    for start in range(0, len(ids) - 1, 64 * context):
        part = ids[start : start + 64 * context + 1]
        whole = (len(part) - 1) // context * context
        if whole:
            inputs = part[: whole + 1].unfold(0, context + 1, context)  # (windows, context + 1)
            nats += token_losses(model, inputs).sum().item()
        if len(part) - 1 > whole:
            nats += token_losses(model, part[None, whole:]).sum().item()
    return nats / math.log(2) / len(text.encode("utf-8"))


def train(config: Config, model: nn.Module, ids: Tensor) -> Iterator[StepRecord]:
    """Minimise the cross-entropy of the next token on random windows of ids (tokens,); one record a step."""
    matrices = [p for p in model.parameters() if p.dim() >= 2]
    vectors = [p for p in model.parameters() if p.dim() < 2]
    groups = [{"params": matrices, "weight_decay": 0.1}, {"params": vectors, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=config.learning_rate, betas=(0.9, 0.98), fused=True)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, config.learning_rate, config.num_steps, pct_start=0.05)
    model.train()
    for step in range(config.num_steps):
        starts = torch.randint(len(ids) - config.context, (config.batch_size, 1))
        loss = token_losses(model, ids[starts + torch.arange(config.context + 1)]).mean()
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        if not loss.isfinite():
            raise UserError(f"training diverged at step {step}; try a smaller --learning_rate")
        yield StepRecord(step, loss.item())


def read_books(folder: Path, held_out: tuple[str, ...]) -> tuple[dict[str, str], dict[str, str]]:
    """The books to train on and those to measure on, name to text. Raises OSError or UserError."""
    books = {path.stem: read_text(path) for path in sorted(folder.glob("*.txt"))}
    missing = [name for name in held_out if name not in books]
    if missing or len(books) == len(held_out):
        raise UserError(f"{folder}: {'no ' + missing[0] + '.txt' if missing else 'no text to train on'}")
    return {name: text for name, text in books.items() if name not in held_out}, {
        name: books[name] for name in held_out
    }


def main(config: Config) -> None:
    """Read, train, measure on the books held out, save."""
    seed_everything(config.seed)
    output_dir = replaceable_folder(config.output_dir, "config.json")
    training, validation = read_books(config.data, config.held_out)
    tokenizer = train_tokenizer(list(training.values()), config.vocab_size, config.context)
    model = build_model(config, tokenizer)
    ids = torch.tensor(
        [token for text in training.values() for token in (*tokenizer.encode(text), tokenizer.eos_token_id)]
    )
    if len(ids) <= config.context:
        raise UserError(f"--context is {config.context}; all of {config.data} has only {len(ids)} tokens")
    for _ in watch(train(config, model, ids), config.num_steps, "step", lambda record: f"loss {record.loss:.3f}"):
        pass
    figures = {
        "training_tokens": len(ids),
        "parameters": model.num_parameters(),
        "bits_per_byte": {
            name: bits_per_byte(model, tokenizer, text, config.context) for name, text in validation.items()
        },
    }
    with atomic_folder(output_dir, keep=["README.md"]) as folder:
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        write_json(folder / "metrics.json", figures)
    print(figures)


if __name__ == "__main__":
    launch(Config, main)
