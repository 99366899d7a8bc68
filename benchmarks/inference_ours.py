"""Our models in benchmarks/inference_peers.py: the plain form, and the accelerated form in every precision."""

from pathlib import Path

import torch

from inference_common import Classifier, Generator, Tokens
from models.distilbert import DistilBertClassifier
from models.generation import generate
from models.gpt2 import GPT2
from speed import accelerate

PACKAGES = ("torch",)


def generator(folder: Path, precision: str, threads: int) -> Generator:
    """Return a function that continues prompts."""
    torch.set_num_threads(threads)
    plain = GPT2.from_pretrained(folder / "gpt2")
    model = plain if precision == "plain" else accelerate(plain, precision)

    def run(prompts: Tokens, new_tokens: int) -> Tokens:
        ids = torch.tensor(prompts)  # (B, T)
        return generate(model, ids, max_new_tokens=new_tokens)[:, ids.shape[1] :].tolist()

    return run


def classifier(folder: Path, precision: str, threads: int) -> Classifier:
    """Return a function that classifies texts."""
    torch.set_num_threads(threads)
    plain = DistilBertClassifier.from_pretrained(folder / "distilbert")
    model = plain if precision == "plain" else accelerate(plain, precision)
    return lambda texts: model.predict(texts).tolist()
