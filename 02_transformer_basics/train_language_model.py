"""Train a small GPT-2, `gpt2.py`'s own, from random weights on any text: flags, watchers, files.

python train_language_model.py --data tiny_shakespeare.txt                 # characters, three minutes on two cores
python train_language_model.py --preset books --data BOOKS_FOLDER          # makes the model that ships with the lab
python train_language_model.py --data tiny_shakespeare.txt --resume        # go on where a run was stopped
torchrun --nproc_per_node 2 train_language_model.py --data FILE_OR_FOLDER  # two processes train one model

The model is written in the Hugging Face layout, beside its tokenizer, its figures, samples, a curve and a card.
"""

import dataclasses
import math
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from transformers import PreTrainedTokenizerFast

from lab.distributed import process_group, rank
from lab.errors import UserError, require_at_least
from lab.files import atomic_folder, replaceable_folder, write_json
from lab.launch import launch
from lab.memory import keep_freed_memory
from lab.metrics import METRICS, write_metrics
from lab.progress import track
from lab.record import RunRecord
from lab.seeding import seed_everything
from lab.texts import printable
from lab.training import CHECKPOINT, checkpointed, saved_run
from language_model.data import BYTES, Texts, byte_pair_tokenizer, character_tokenizer, encode, read_texts
from language_model.presets import PRESETS, Preset, describe_presets, fetch
from language_model.reports import OURS, compare, draw_curve, measure, model_card, sample, table
from language_model.training import Activation, LanguageConfig, StepRecord, new_model, train
from models.gpt2 import GPT2
from optimization import Precision

KIND = "a language model's training run"  # what checkpoint.pth says it holds
SAMPLES, SAMPLE_TOKENS = 4, 200
MetricRows = list[dict[str, Any]]


@dataclass(frozen=True)
class Config:
    """Train a small GPT-2 on text files. A flag that is not given has the value of the preset."""

    data: Path | None = None
    """A text file, or a folder of `.txt` files. Without it, tiny Shakespeare is fetched by the `datasets` library."""
    preset: Literal["shakespeare", "books"] = "shakespeare"
    """The settings to start from, listed above."""
    output_dir: Path = Path("runs/language")
    """Folder for the model; an earlier one is replaced only when the new one is whole."""
    resume: bool = False
    """Go on with the run whose checkpoint.pth lies in the output folder, with the settings it was started with."""
    device: str = "auto"
    """Where to compute: auto, cpu, cuda or mps."""
    held_out: tuple[str, ...] | None = None
    """Names, without `.txt`, of the files that only measure the model; without any it is the last tenth of each."""
    vocab_size: int | None = None
    """Entries of the byte-level BPE vocabulary; 0 for one entry a character."""
    embed_dim: int | None = None
    """Width of the model."""
    num_layers: int | None = None
    """Blocks."""
    num_heads: int | None = None
    """Attention heads a block."""
    context: int | None = None
    """Tokens that it sees at once."""
    dropout: float | None = None
    """Share of the numbers inside that are left out while training."""
    activation: Activation | None = None
    """GELU; `gelu_new` is GPT-2's approximation of it, which takes three times as long on a processor."""
    batch_size: int | None = None
    """Windows a step, all processes together."""
    num_steps: int | None = None
    """Optimizer steps."""
    optimizer: Literal["adamw", "muon"] | None = None
    """Muon for the matrices between layers and AdamW for the rest, or AdamW alone."""
    learning_rate: float | None = None
    """Learning rate at its highest."""
    warmup_steps: int | None = None
    """Steps in which it rises to that; then it falls along a cosine."""
    min_lr_ratio: float | None = None
    """Share of it that is left at the end."""
    weight_decay: float | None = None
    """Decay of matrices, times the learning rate; biases and norms have none."""
    beta2: float | None = None
    """AdamW's memory of squared gradients."""
    max_grad_norm: float | None = None
    """Longer gradients are scaled down to this."""
    precision: Precision | None = None
    """float32, or bfloat16 for the matrix products of training (autocast)."""
    evaluate_every: int | None = None
    """Steps between measurements, with a sample each."""
    evaluation_tokens: int = 20_000
    """Tokens of the validation text that those measurements use; the one at the end uses all."""
    checkpoint_every: int = 200
    """Steps between checkpoints."""
    prompt: str | None = None
    """What samples begin with."""
    seed: int | None = None
    """Seed of the weights and of the order of the text."""

    def __post_init__(self) -> None:
        require_at_least(1, self, "evaluation_tokens", "checkpoint_every")
        resolved = self.resolve()
        if resolved.vocab_size and resolved.vocab_size <= BYTES:  # every byte and the end of text
            raise UserError(f"--vocab_size is {resolved.vocab_size}; it must be above {BYTES}, or 0 for characters")

    def resolve(self) -> Preset:
        """The preset with what was asked for in its place."""
        preset = PRESETS[self.preset]
        given = {name: value for name, value in vars(self).items() if value is not None}
        names = {each.name for each in dataclasses.fields(LanguageConfig)}
        model = dataclasses.replace(preset.model, **{name: given[name] for name in names & given.keys()})
        own = {name: given[name] for name in ("held_out", "vocab_size", "prompt") if name in given}
        return dataclasses.replace(preset, model=model, **own)


Config.__doc__ = f"{Config.__doc__}\n\n{describe_presets()}"


def describe(record: StepRecord, started: float, before: int) -> str:
    """The numbers that matter while training, in one line; the run began at `started`, with `before` tokens read."""
    speed = (record.tokens - before) / max(time.perf_counter() - started, 1e-9)
    return f"loss {record.loss:.3f}  learning rate {record.learning_rate:.1e}  {speed:,.0f} tokens/s"


def learn(config: Config, preset: Preset, model: GPT2, tokenizer: PreTrainedTokenizerFast, texts: Texts) -> MetricRows:
    """Train `model` in place, with checkpoints and samples; returns the rows of metrics of all steps."""
    ids, validation = (encode(tokenizer, list(part.values())) for part in (texts.training, texts.validation))
    default = PRESETS[config.preset].model
    settings, state, rows = saved_run(config.output_dir, KIND, preset.model, config.resume, default)
    started, before = time.perf_counter(), len(rows) * settings.batch_size * settings.context
    stream: Iterator[StepRecord]
    stream = train(settings, model, ids, validation[: config.evaluation_tokens + 1], state, config.device)
    if rank() == 0:
        stream = track(stream, settings.num_steps - len(rows), "step", lambda r: describe(r, started, before))

    def is_due(record: StepRecord) -> bool:
        return record.step % config.checkpoint_every == 0 or record.step == settings.num_steps

    for record in checkpointed(stream, config.output_dir, KIND, settings, rows, is_due=is_due):
        row = {name: getattr(record, name) for name in ("step", "loss", "learning_rate", "validation_loss")}
        rows.append(row)
        if record.validation_loss is not None and rank() == 0:
            print(f"--- step {record.step}: validation loss {record.validation_loss:.4f} nats a token")
            print(printable(sample(model, tokenizer, preset.prompt, record.step, 80)), flush=True)
    return rows


def make_tokenizer(texts: Texts, vocab_size: int, context: int) -> PreTrainedTokenizerFast:
    """The tokenizer of the training texts: byte-level BPE, or with a `vocab_size` of 0 one token a character."""
    training = list(texts.training.values())
    return byte_pair_tokenizer(training, vocab_size, context) if vocab_size else character_tokenizer(training, context)


@torch.no_grad()
def round_to_16_bits(model: GPT2) -> None:
    """Make the weights what they will be on the disk, so that what is measured is what is saved."""
    for parameter in model.parameters():
        parameter.copy_(parameter.half())


def figures(model: GPT2, tokenizer: PreTrainedTokenizerFast, texts: Texts) -> dict[str, Any]:
    """Everything that `metrics.json` holds."""
    metrics = measure(model, tokenizer, texts.validation)
    rows = compare(metrics["bits_per_byte"], list(texts.training.values()), texts.validation)
    return metrics | {
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "vocabulary": len(tokenizer),
        "training_tokens": len(encode(tokenizer, list(texts.training.values()))),
        "comparison": rows,
    }


def about(config: Config, preset: Preset, texts: Texts) -> dict[str, str]:
    """The words for the model's card."""
    names = ", ".join(sorted(texts.training))
    held_out = ", ".join(sorted(texts.validation))
    given = {name: value for name, value in vars(config).items() if value != getattr(Config, name)}
    flags = {"preset": config.preset, "data": "DATA"} | {
        name: " ".join(map(str, value)) if isinstance(value, tuple) else str(value)
        for name, value in given.items()
        if name not in ("preset", "data", "output_dir", "resume", "device")
    }
    return {
        "tokenizer": "a byte-level BPE vocabulary that gives back any text exactly"
        if preset.vocab_size
        else "a token for every character",
        "training": names if preset.held_out else f"the first nine tenths of {names}",
        "validation": held_out if preset.held_out else f"the last tenth of {held_out}",
        "source": preset.source,
        "prompt": preset.prompt,
        "command": " ".join(["python", Path(__file__).name, *(f"--{name} {value}" for name, value in flags.items())]),
    }


def write_model(
    config: Config,
    preset: Preset,
    model: GPT2,
    tokenizer: PreTrainedTokenizerFast,
    metrics: dict[str, Any],
    words: dict[str, str],
    rows: MetricRows,
) -> list[str]:
    """Write everything into a new folder that then takes the place of the earlier one; gives the files' names."""
    samples = [sample(model, tokenizer, preset.prompt, seed, SAMPLE_TOKENS) for seed in range(SAMPLES)]
    ends = {"bos_token_id": tokenizer.bos_token_id, "eos_token_id": tokenizer.eos_token_id}
    settings = dataclasses.asdict(preset.model)
    with atomic_folder(config.output_dir.absolute(), keep=[CHECKPOINT]) as folder:
        model.save_pretrained(folder, torch.float16, **ends)
        tokenizer.save_pretrained(folder)
        write_json(folder / "metrics.json", metrics)
        write_metrics(folder / METRICS, rows)
        (folder / "samples.txt").write_text("\n\n".join(samples) + "\n", encoding="utf-8")
        draw_curve(folder / "learning_curve.png", rows, len(tokenizer))
        card = model_card(metrics, samples, words, settings)
        (folder / "README.md").write_text(card, encoding="utf-8")
        return sorted(path.name for path in folder.iterdir() if path.name != CHECKPOINT)


def main(config: Config) -> None:
    """Read, train, measure on the text held out, save."""
    keep_freed_memory()
    with process_group():
        preset = config.resolve()
        output_dir = replaceable_folder(config.output_dir, "config.json", CHECKPOINT)
        seed_everything(preset.model.seed)
        texts = read_texts(config.data, preset.held_out) if config.data else fetch(preset)
        tokenizer = make_tokenizer(texts, preset.vocab_size, preset.model.context)
        model = new_model(preset.model, len(tokenizer))
        if rank() != 0:  # only the first process watches and writes
            learn(config, preset, model, tokenizer, texts)
            return
        record = RunRecord(__file__, output_dir, config)
        rows = learn(config, preset, model, tokenizer, texts)
    round_to_16_bits(model.cpu())
    metrics = figures(model, tokenizer, texts)
    names = write_model(config, preset, model, tokenizer, metrics, about(config, preset, texts), rows)
    print(table(metrics["comparison"]))
    record.config = resolved(config, preset)
    record.files += [output_dir / name for name in names]
    record.results = metrics
    check(record, metrics)
    record.save()


def resolved(config: Config, preset: Preset) -> Config:
    """`config` with the preset's values in place of what was left open, for the record; of the data the name alone."""
    settings = dataclasses.asdict(preset.model)
    own = {name: getattr(preset, name) for name in ("held_out", "vocab_size", "prompt")}
    return dataclasses.replace(config, data=Path(config.data.name) if config.data else None, **settings, **own)


def check(record: RunRecord, metrics: dict[str, Any]) -> None:
    """Note whether the model is better than what needs no model."""
    best = min(row["all"] for row in metrics["comparison"] if row["name"] != OURS)
    ours = metrics["bits_per_byte_in_all"]
    loss, alike = metrics["validation_loss"], math.log(metrics["vocabulary"])
    record.check("validation loss, nats a token", round(loss, 4), f"below {alike:.2f}, all tokens alike", loss < alike)
    record.check("bits per byte", round(ours, 3), f"below {best:.3f}, the best of the others", ours < best)


if __name__ == "__main__":
    launch(Config, main)
