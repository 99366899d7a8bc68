"""Reports on a trained language model: metrics, comparison with baselines, samples, learning curve, model card."""

import gzip
import json
import lzma
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedTokenizerFast

from lab.markdown import code_block, escape_markdown, inline_code
from lab.plots import learning_curve
from language_model.data import UNKNOWN, encode_texts, sample_texts
from language_model.ngram_baseline import kneser_ney_bits
from language_model.training import evaluate_nll
from models.generation import Sampling, generate
from models.gpt2 import GPT2

OURS = "this model"
EVALUATED_CHARACTERS = 1_000_000  # of the validation text, at most
BASELINE_CHARACTERS = 12_000_000  # of the training text, at most, that the 5-gram model counts
Row = dict[str, Any]  # of the comparison: a name, and the bits per byte of each text and of all texts together


def evaluated_texts(validation: Mapping[str, str]) -> dict[str, str]:
    """Return the part of the validation texts that a trained model is evaluated on."""
    return sample_texts(validation, EVALUATED_CHARACTERS)


def sample_notes(training: Mapping[str, str], validation: Mapping[str, str]) -> dict[str, str]:
    """Return which parts of longer texts are evaluated and counted, for `metrics.json`; nothing for shorter texts."""
    notes = {}
    for name, texts, limit in (
        ("evaluated_text", validation, EVALUATED_CHARACTERS),
        ("baseline_text", training, BASELINE_CHARACTERS),
    ):
        total = sum(map(len, texts.values()))
        used = sum(map(len, sample_texts(texts, limit).values()))
        if used < total:
            notes[name] = f"the first {used:,} of {total:,} characters"
            if len(texts) > 1:
                notes[name] += f", the same fraction of {len(texts)} files"
    return notes


def compute_metrics(model: GPT2, tokenizer: PreTrainedTokenizerFast, texts: Mapping[str, str]) -> dict[str, Any]:
    """Return the model's metrics on whole texts, each read in windows that do not overlap.

    `validation_loss` is in nats per token and `perplexity` its exponential; both depend on what a token is.
    `bits_per_byte` does not depend on the tokenizer: it is the compressed size of the text, encoded with the model.
    """
    nats = {}
    num_tokens = 0
    for name, text in texts.items():
        ids = encode_texts(tokenizer, [text])  # (N,)
        nats[name] = evaluate_nll(model, ids, model.config.n_positions)
        num_tokens += len(ids) - 1
    num_bytes = {name: len(text.encode()) for name, text in texts.items()}
    unknown_characters = 0
    if tokenizer.unk_token == UNKNOWN:  # a character-level tokenizer
        known = set(tokenizer.get_vocab())
        unknown_characters = sum(character not in known for text in texts.values() for character in text)
    loss = sum(nats.values()) / num_tokens
    return {
        "validation_loss": loss,
        "perplexity": math.exp(loss),
        "bits_per_byte": {name: nats[name] / math.log(2) / num_bytes[name] for name in texts},
        "bits_per_byte_in_all": sum(nats.values()) / math.log(2) / sum(num_bytes.values()),
        "validation_tokens": num_tokens,
        "validation_bytes": sum(num_bytes.values()),
        "unknown_characters": unknown_characters,
    }


def compare_bits_per_byte(
    ours: Mapping[str, float], training: Mapping[str, str], texts: Mapping[str, str]
) -> list[Row]:
    """Return the bits per byte of each text and of all together: `ours`, a 5-gram model of `training`, xz and gzip."""
    counted = sample_texts(training, BASELINE_CHARACTERS)
    contents = {name: text.encode() for name, text in texts.items()}
    num_bytes = {name: len(content) for name, content in contents.items()}
    five_gram_bits = kneser_ney_bits("\n".join(counted.values()).encode(), list(contents.values()))
    xz_preset = 9 | lzma.PRESET_EXTREME
    bits_by_method = {
        OURS: {name: ours[name] * num_bytes[name] for name in texts},
        "5-gram of bytes, Kneser-Ney": dict(zip(texts, five_gram_bits, strict=True)),
        "xz": {name: 8 * len(lzma.compress(content, preset=xz_preset)) for name, content in contents.items()},
        "gzip": {name: 8 * len(gzip.compress(content, 9)) for name, content in contents.items()},
    }
    rows = []
    for method, bits in bits_by_method.items():
        row: Row = {"name": method}
        for name in texts:
            row[name] = round(bits[name] / num_bytes[name], 4)
        row["all"] = round(sum(bits.values()) / sum(num_bytes.values()), 4)
        rows.append(row)
    return rows


def markdown_table(rows: Sequence[Row]) -> str:
    """Return the comparison as an aligned Markdown table."""
    columns = list(rows[0])
    lines = [["bits per byte", *map(escape_markdown, columns[1:])]]
    for row in rows:
        lines.append([str(row["name"]), *(f"{row[column]:.3f}" for column in columns[1:])])
    widths = [max(map(len, cells)) for cells in zip(*lines, strict=True)]
    padded = [[cell.ljust(width) for cell, width in zip(line, widths, strict=True)] for line in lines]
    header, *body = ["| " + " | ".join(line) + " |" for line in padded]
    rule = "|" + "|".join("-" * (width + 2) for width in widths) + "|"
    return "\n".join([header, rule, *body])


@torch.no_grad()
def sample_text(model: GPT2, tokenizer: PreTrainedTokenizerFast, prompt: str, seed: int, length: int) -> str:
    """Return `prompt` and its continuation by `length` tokens, sampled at temperature 0.8 with top-p 0.95.

    Uses a separate random generator, so that sampling during training does not change the run.
    """
    was_training = model.training
    device = next(model.parameters()).device
    ids = encode_texts(tokenizer, [prompt])[None].to(device, torch.long)  # (T,) -> (1, T)
    generator = torch.Generator(device).manual_seed(seed)
    sampling = Sampling(temperature=0.8, top_p=0.95)
    tokens = generate(
        model.eval(), ids, max_new_tokens=length, sampling=sampling, generator=generator, slide=True
    )  # (1, T + length)
    model.train(was_training)
    return str(tokenizer.decode(tokens[0, 1:].tolist()))


def plot_learning_curve(path: Path, rows: Sequence[Row], vocab_size: int) -> None:
    """Plot the training loss of every step and the validation loss of every evaluation."""
    evaluated = [row for row in rows if row["validation_loss"] is not None]
    validation_steps = [row["step"] for row in evaluated]
    validation_losses = [row["validation_loss"] for row in evaluated]
    learning_curve(
        path,
        [row["step"] for row in rows],
        [row["loss"] for row in rows],
        title="Next-token prediction",
        x_label="optimizer step",
        y_label="cross-entropy (nats per token)",
        y_name="training loss",
        window=max(len(rows) // 50, 1),
        reference_lines={"uniform guess, ln V": math.log(vocab_size)},
        points=("validation loss", validation_steps, validation_losses),
    )


def model_card(metrics: Row, samples: Sequence[str], about: Mapping[str, str], settings: Mapping[str, Any]) -> str:
    """Return the model card: what the model is, how good it is, and how it was trained; all numbers are the run's."""
    unknown = metrics["unknown_characters"]
    note = f"\n{unknown} characters of it are not in the vocabulary; each counts as the unknown token.\n"
    return f"""---
license: mit
language: en
pipeline_tag: text-generation
---

# A small language model

GPT-2 architecture, {metrics["parameters"]:,} parameters stored in float16, {about["tokenizer"]}.
Trained from random weights by the PyTorch Learning Lab, to show how that is done. It writes text in the style of its
training data and has no knowledge of the world; for real use choose a larger model.

## Metrics

Validation loss {metrics["validation_loss"]:.4f} nats per token, perplexity {metrics["perplexity"]:.2f},
{metrics["bits_per_byte_in_all"]:.3f} bits per byte, on text that neither the model nor its tokenizer was trained on:
{about["validation"]}. It is read in windows of {settings["context"]} tokens
that do not overlap, so each token counts once.
{note if unknown else ""}
{markdown_table(metrics["comparison"])}

The 5-gram model was fitted to the same training text; gzip and xz compress the validation text on its own.
{sampled_sentences(metrics)}
![Loss by step](learning_curve.png)

{_origin(metrics, about, settings)}
{_samples(samples, about["prompt"])}
## Limitations

The text has no coherent story beyond a sentence or two, and it reflects the views of the time of its training data.
"""


def sampled_sentences(metrics: Row) -> str:
    """Return a sentence per text of which only a part was used."""
    sentences = []
    if "evaluated_text" in metrics:
        sentences.append(f"All metrics are of a part of the validation text: {metrics['evaluated_text']}.")
    if "baseline_text" in metrics:
        sentences.append(f"The 5-gram model was fitted to a part of the training text: {metrics['baseline_text']}.")
    return "".join(f"{sentence}\n" for sentence in sentences)


def _origin(metrics: Row, about: Mapping[str, str], settings: Mapping[str, Any]) -> str:
    listed = ", ".join(f"{name} {value}" for name, value in settings.items())
    data = f"{metrics['training_tokens']:,} tokens: {about['training']}."
    if about["source"]:
        data += f" {about['source']}"
    return f"""## Training data

{data}

## Settings

{listed}.

Trained with

```bash
cd 02_transformer_basics
{about["command"]}
```

The same data, package versions, processor and number of threads give the same model.
"""


def _samples(samples: Sequence[str], prompt: str) -> str:
    quoted = "\n\n".join(f"Seed {seed}:\n\n{code_block(text, 'text')}" for seed, text in enumerate(samples))
    return f"""## Samples

Not selected: seeds 0 to {len(samples) - 1}, temperature 0.8, top-p 0.95, prompt {inline_code(json.dumps(prompt))}.

{quoted}
"""
