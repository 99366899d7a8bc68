"""The `transformers` library in benchmarks/inference_peers.py, as it is or compiled by `torch.compile`."""

from pathlib import Path
from typing import Any

import torch
import transformers

from inference_common import Classifier, Generator, Rows, Tokens, in_batches
from models.batching import pad_right

transformers.logging.disable_progress_bar()
PACKAGES = ("torch", "transformers")


def generator(folder: Path, precision: str, threads: int) -> Generator:
    """Return a function that continues prompts; `precision` is float32, or "compiled" for float32, compiled."""
    torch.set_num_threads(threads)
    model: Any = transformers.GPT2LMHeadModel.from_pretrained(folder / "gpt2").eval()
    options = {}
    if precision == "compiled":  # a static cache: its shapes never change, so that two graphs suffice
        model.forward = torch.compile(model.forward, dynamic=False)
        options = {"cache_implementation": "static"}

    def run(prompts: Tokens, new_tokens: int) -> Tokens:
        ids = torch.tensor(prompts)  # (B, T)
        settings = transformers.GenerationConfig(
            max_new_tokens=new_tokens, do_sample=False, eos_token_id=None, pad_token_id=0, **options
        )
        tokens = model.generate(ids, attention_mask=torch.ones_like(ids), generation_config=settings)
        return tokens[:, ids.shape[1] :].tolist()

    return run


def classifier(folder: Path, precision: str, threads: int) -> Classifier:
    """Return a function that classifies texts, in the batches that ours has; only float32."""
    assert precision == "float32"
    torch.set_num_threads(threads)
    model = transformers.DistilBertForSequenceClassification.from_pretrained(folder / "distilbert").eval()

    @torch.inference_mode()
    def run(texts: Tokens) -> Rows:
        input_ids, attention_mask = pad_right(texts)
        return model(input_ids, attention_mask=attention_mask).logits.softmax(dim=-1).tolist()  # (B, T) -> (B, C)

    return in_batches(run)
