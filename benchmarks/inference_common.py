"""Types and functions that all libraries of benchmarks/inference_peers.py share."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load_file

from models.batching import TOKENS_PER_BATCH, batches_by_length

Tokens = list[list[int]]  # token ids of several prompts or texts
Rows = list[list[float]]  # class probabilities of several texts
Generator = Callable[[Tokens, int], Tokens]  # prompts, number of new tokens -> the new tokens
Classifier = Callable[[Tokens], Rows]


class UnsupportedError(Exception):
    """A request that this library does not support, or not on this processor."""


def read_model(folder: Path, prefix: str = "") -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Return the settings and the weights of a model in the Hugging Face layout, without a prefix of their names."""
    settings = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    weights = load_file(folder / "model.safetensors")
    return settings, {name.removeprefix(prefix): value for name, value in weights.items()}


def in_batches(classify: Classifier) -> Classifier:
    """Return a function that classifies any number of texts, in the batches by length that our models use."""

    def run(texts: Tokens) -> Rows:
        rows: Rows = [[]] * len(texts)
        for numbers in batches_by_length([len(text) for text in texts], TOKENS_PER_BATCH):
            for number, row in zip(numbers, classify([texts[number] for number in numbers]), strict=True):
                rows[number] = row
        return rows

    return run
