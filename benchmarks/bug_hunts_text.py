"""Runs of the bug hunts in text: a small GPT-2 on the lab's own pages, its loss, and the text that it writes."""

import functools
import re
from typing import Any

import torch
from torch import Tensor

import lab.projects  # noqa: F401 - puts the projects on the search path
import language_model.training
from lab.files import ROOT
from language_model.data import character_tokenizer, encode_texts
from language_model.training import LanguageConfig, new_model, train
from models.generation import Sampling, generate
from models.gpt2 import GPT2

PAGES = ("*.md", "0*/README.md", "0*/*/README.md", "docs/*.md")
NOT_PROSE = re.compile(r"```.*?```|<!--.*?-->|^[|#<!].*?$", re.DOTALL | re.MULTILINE)
CONTEXT = 64
STEPS = 500
POINTS = 5  # evaluations
VALIDATION_TOKENS = 8_000
TEXTS = 32
PROMPT = "The "
SAMPLING = Sampling(temperature=0.8)
ONE_LETTER_WORDS = {"a", "i"}
SETTINGS = ("",)


@functools.cache
def prose() -> str:
    """Return the sentences of the lab's own pages, in ASCII."""
    paths = sorted(path for pattern in PAGES for path in ROOT.glob(pattern))
    text = "\n".join(NOT_PROSE.sub("", path.read_text(encoding="utf-8")) for path in paths)
    return re.sub(r"\s+", " ", text.encode("ascii", "ignore").decode())


def words(text: str) -> list[str]:
    """Return the words of a text, in lower case."""
    return re.findall(r"[a-z]+", text.lower())


def real_words_percent(texts: list[str]) -> float:
    """Return how many words of texts occur in the lab's pages; the first and the last, which may be cut, do not count.

    Texts without any word count as 0.
    """
    known = {word for word in words(prose()) if len(word) > 1} | ONE_LETTER_WORDS
    written = [word for text in texts for word in words(text)[1:-1]]
    return 100 * sum(word in known for word in written) / max(len(written), 1)


def changed_predictions(model: GPT2, ids: Tensor) -> int:
    """Return at how many positions of a window the prediction changes if its last token is exchanged; 1 is right."""
    window = ids[None, :CONTEXT].long()  # (1, T)
    other = window.clone()
    other[0, -1] = (other[0, -1] + 1) % model.config.vocab_size
    with torch.no_grad():
        difference = (model(window) - model(other)).abs().amax(-1)  # (1, T, V) -> (1, T)
    return int((difference > 1e-4).sum())


def write_texts(model: GPT2, tokenizer: Any, seed: int, use_cache: bool) -> list[str]:
    """Return texts that continue the prompt."""
    prompts = torch.tensor([tokenizer.encode(PROMPT)]).repeat(TEXTS, 1)  # (B, T)
    ids = generate(
        model,
        prompts,
        max_new_tokens=CONTEXT - prompts.shape[1],
        sampling=SAMPLING,
        generator=torch.Generator().manual_seed(seed),
        use_cache=use_cache,
    )  # (B, CONTEXT)
    return [tokenizer.decode(row) for row in ids]


def run(setting: str, seed: int, length: float) -> dict[str, Any]:
    """Return the curves and metrics of one run. There is one setting, "".

    The model is trained with the blocks of the lesson, not with their fast form.
    """
    text = prose()
    split = len(text) * 9 // 10
    tokenizer = character_tokenizer([text], CONTEXT)
    ids, validation_ids = (encode_texts(tokenizer, [part]) for part in (text[:split], text[split:]))
    steps = max(int(STEPS * length), POINTS)
    config = LanguageConfig(
        num_steps=steps, context=CONTEXT, embed_dim=64, num_layers=2, num_heads=4, batch_size=16,
        evaluate_every=steps // POINTS, seed=seed,
    )  # fmt: skip
    torch.manual_seed(seed)
    model = new_model(config, len(tokenizer))
    fast, language_model.training.training_copy = language_model.training.training_copy, lambda model: model
    try:
        records = list(train(config, model, ids, validation_ids[:VALIDATION_TOKENS]))
    finally:
        language_model.training.training_copy = fast
    evaluated = [(each.step, each.validation_loss) for each in records if each.validation_loss is not None]
    model.eval()
    cached, recomputed = (write_texts(model, tokenizer, seed, use_cache) for use_cache in (True, False))
    return {
        "x": [step for step, _ in evaluated],
        "validation_loss": [round(loss, 4) for _, loss in evaluated],
        "real_words": real_words_percent(cached),
        "real_words_without_cache": real_words_percent(recomputed),
        "changed_predictions": changed_predictions(model, validation_ids),
        "sample": cached[0],
    }
