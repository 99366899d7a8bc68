"""What a trained language model is worth: its figures beside those of simpler means, samples, a curve, a model card."""

import gzip
import json
import lzma
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedTokenizerFast

from lab.plots import learning_curve
from language_model.data import UNKNOWN, encode
from language_model.ngram_baseline import bits_of_texts
from language_model.training import total_loss
from models.gpt2 import GPT2

OURS = "this model"
Row = dict[str, Any]  # one of the comparison: a name, and the bits per byte of every text and of all together


def measure(model: GPT2, tokenizer: PreTrainedTokenizerFast, texts: Mapping[str, str]) -> dict[str, Any]:
    """The model's figures on whole texts, each read from its beginning in windows that do not overlap.

    `validation_loss` is in nats a token, `perplexity` its exponential; `bits_per_byte` tells how short the text could
    be written down, and is the one of the three that does not depend on the tokenizer.
    """
    nats, tokens = {}, 0
    for name, text in texts.items():
        ids = encode(tokenizer, [text])
        nats[name] = total_loss(model, ids, model.config.n_positions)
        tokens += len(ids) - 1
    sizes = {name: len(text.encode()) for name, text in texts.items()}
    known = set(tokenizer.get_vocab()) if tokenizer.unk_token == UNKNOWN else None
    loss = sum(nats.values()) / tokens
    return {
        "validation_loss": loss,
        "perplexity": math.exp(loss),
        "bits_per_byte": {name: nats[name] / math.log(2) / sizes[name] for name in texts},
        "bits_per_byte_in_all": sum(nats.values()) / math.log(2) / sum(sizes.values()),
        "validation_tokens": tokens,
        "validation_bytes": sum(sizes.values()),
        "unknown_characters": 0 if known is None else sum(c not in known for text in texts.values() for c in text),
    }


def compare(ours: Mapping[str, float], training: Sequence[str], texts: Mapping[str, str]) -> list[Row]:
    """Bits per byte of every text and of all together: `ours`, and those of gzip, xz and a 5-gram model."""
    contents = {name: text.encode() for name, text in texts.items()}
    learned = "\n".join(training).encode()
    fivegram = dict(zip(texts, bits_of_texts(learned, list(contents.values())), strict=True))
    sizes = {name: len(content) for name, content in contents.items()}
    bits = {
        OURS: {name: ours[name] * sizes[name] for name in texts},
        "5-gram of bytes, Kneser-Ney": fivegram,
        "xz": {name: 8 * len(lzma.compress(text, preset=9 | lzma.PRESET_EXTREME)) for name, text in contents.items()},
        "gzip": {name: 8 * len(gzip.compress(text, 9)) for name, text in contents.items()},
    }
    return [
        {"name": means}
        | {name: round(used[name] / sizes[name], 4) for name in texts}
        | {"all": round(sum(used.values()) / sum(sizes.values()), 4)}
        for means, used in bits.items()
    ]


def table(rows: Sequence[Row]) -> str:
    """The comparison in Markdown, which reads well on a terminal too."""
    columns = list(rows[0])
    cells = [["bits per byte", *columns[1:]]] + [
        [str(row["name"]), *(f"{row[column]:.3f}" for column in columns[1:])] for row in rows
    ]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    lines = ["| " + " | ".join(text.ljust(w) for text, w in zip(line, widths, strict=True)) + " |" for line in cells]
    return "\n".join([lines[0], "|" + "|".join("-" * (width + 2) for width in widths) + "|", *lines[1:]])


@torch.no_grad()
def sample(model: GPT2, tokenizer: PreTrainedTokenizerFast, prompt: str, seed: int, length: int) -> str:
    """`prompt` and what the model goes on with, `length` tokens at temperature 0.8; leaves all other draws alone."""
    training, device = model.training, model.norm.weight.device
    ids = encode(tokenizer, [prompt])[None].to(device)  # (1, T)
    generator = torch.Generator(device).manual_seed(seed)
    tokens = model.eval().generate(
        ids, max_new_tokens=length, temperature=0.8, top_p=0.95, generator=generator, slide=True
    )
    model.train(training)
    return str(tokenizer.decode(tokens[0, 1:].tolist()))


def draw_curve(path: Path, rows: Sequence[Row], vocab_size: int) -> None:
    """Training loss of every step, and validation loss where it was measured."""
    measured = [(row["step"], row["validation_loss"]) for row in rows if row["validation_loss"] is not None]
    steps = [row["step"] for row in rows]
    x, y = zip(*measured, strict=True)
    learning_curve(
        path,
        steps,
        [row["loss"] for row in rows],
        title="Learning to foretell the next token",
        x_label="optimizer step",
        y_label="nats a token",
        y_name="training loss",
        window=max(len(rows) // 50, 1),
        reference_lines={"all tokens alike": math.log(vocab_size)},
        points=("validation loss", x, y),
    )


def model_card(metrics: Row, samples: Sequence[str], about: Mapping[str, str], settings: Mapping[str, Any]) -> str:
    """The page that goes with a model: what it is, what made it, and how good it is; every figure from the run."""
    unknown = metrics["unknown_characters"]
    note = f"\n{unknown} characters of it are none of the vocabulary's: they count as one that is.\n" if unknown else ""
    return f"""---
license: mit
language: en
pipeline_tag: text-generation
---

# A small language model

GPT-2 architecture, {metrics["parameters"]:,} parameters stored in 16 bits, {about["tokenizer"]}. It was trained from
random weights by the PyTorch Learning Lab, to show how that is done. It writes fragments in the manner of its training
text and knows nothing of the world; for real use take a larger model.

## Figures

Validation loss {metrics["validation_loss"]:.4f} nats a token, perplexity {metrics["perplexity"]:.2f},
{metrics["bits_per_byte_in_all"]:.3f} bits per byte, on text that neither the model nor its tokenizer was trained on:
{about["validation"]}. Each token of it counts once, in windows of {settings["context"]} tokens that do not overlap.
{note}
{table(metrics["comparison"])}

gzip and xz see that text alone; the 5-gram model learned from the same training text.

![Loss by step](learning_curve.png)

{_origin(metrics, about, settings)}
{_samples(samples, about["prompt"])}
## Limits

No thread beyond a sentence or two, and the views of the times that its text is from.
"""


def _origin(metrics: Row, about: Mapping[str, str], settings: Mapping[str, Any]) -> str:
    listed = ", ".join(f"{name} {value}" for name, value in settings.items())
    return f"""## Data

{metrics["training_tokens"]:,} tokens: {about["training"]}. {about["source"]}

## Settings

{listed}.

Made by

```bash
cd 02_transformer_basics
{about["command"]}
```

A run with the same data, versions, processor and number of threads gives the same model each time.
"""


def _samples(samples: Sequence[str], prompt: str) -> str:
    quoted = "\n\n".join(f"Seed {seed}:\n\n```text\n{text}\n```" for seed, text in enumerate(samples))
    return f"""## Samples

None was picked: the first {len(samples)} seeds, temperature 0.8, top p 0.95, prompt `{json.dumps(prompt)}`.

{quoted}
"""
