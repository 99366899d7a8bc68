"""CTranslate2 in benchmarks/inference_peers.py, with models that its own converter has made from the same weights."""

import tempfile
from pathlib import Path
from typing import Any

import ctranslate2  # pyright: ignore[reportMissingImports]
import numpy as np
import torch
import torch.nn.functional as F
import transformers
from ctranslate2.converters.transformers import (  # pyright: ignore[reportMissingImports]
    DistilBertLoader,
    GPT2Loader,
)

from inference_common import Classifier, Generator, Rows, Tokens, UnsupportedError, in_batches

transformers.logging.disable_progress_bar()
PACKAGES = ("ctranslate2",)


def require(precision: str) -> None:
    """Raise UnsupportedError if CTranslate2 would silently compute in another precision on this processor."""
    supported = ctranslate2.get_supported_compute_types("cpu")
    if precision not in supported:
        raise UnsupportedError(f"on this processor it supports {', '.join(sorted(supported))}, not {precision}")


def convert(loader: Any, model: Any, folder: str) -> None:
    """Write a model in CTranslate2's format, without a tokenizer: a token's text is its number."""
    spec = loader.get_model_spec(model)
    names = [str(number) for number in range(model.config.vocab_size)]
    spec.register_vocabulary(names)
    spec.config.unk_token = names[0]
    if hasattr(spec.config, "bos_token"):
        spec.config.bos_token = spec.config.eos_token = names[0]
    if isinstance(loader, DistilBertLoader):
        spec.config.layer_norm_epsilon = 1e-12
    spec.validate()
    spec.save(folder)


def generator(folder: Path, precision: str, threads: int) -> Generator:
    """Return a function that continues prompts."""
    require(precision)
    with tempfile.TemporaryDirectory() as target:
        convert(GPT2Loader(), transformers.GPT2LMHeadModel.from_pretrained(folder / "gpt2"), target)
        model = ctranslate2.Generator(target, compute_type=precision, intra_threads=threads)

    def run(prompts: Tokens, new_tokens: int) -> Tokens:
        results = model.generate_batch(
            [[str(token) for token in prompt] for prompt in prompts],
            max_length=new_tokens,
            end_token=[],
            include_prompt_in_result=False,
        )
        return [result.sequences_ids[0] for result in results]

    return run


def classifier(folder: Path, precision: str, threads: int) -> Classifier:
    """Return a function that classifies texts: the encoder is CTranslate2's, its small head on top PyTorch's."""
    require(precision)
    torch.set_num_threads(threads)
    theirs = transformers.DistilBertForSequenceClassification.from_pretrained(folder / "distilbert").eval()
    with tempfile.TemporaryDirectory() as target:
        convert(DistilBertLoader(), theirs.distilbert, target)
        model = ctranslate2.Encoder(target, compute_type=precision, intra_threads=threads)

    @torch.inference_mode()
    def run(texts: Tokens) -> Rows:
        hidden = torch.from_numpy(np.array(model.forward_batch(texts).last_hidden_state))  # (B, T, E)
        pooled = F.relu(theirs.pre_classifier(hidden[:, 0]))  # (B, T, E) -> (B, E)
        return theirs.classifier(pooled).softmax(dim=-1).tolist()  # (B, E) -> (B, C)

    return in_batches(run)
