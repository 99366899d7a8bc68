"""Tiny random models in the Hugging Face layout, a hub that is out of reach, and scripts called in this process."""

from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

import pytest
import torch
from huggingface_hub import constants

from lab.launch import launch, warn_once
from language_model.data import byte_pair_tokenizer
from language_model.training import LanguageConfig, new_model
from models.distilbert import DistilBertConfig
from sentiment.data import LABELS
from sentiment.model_setup import MAX_LENGTH, from_scratch, save_classifier, train_tokenizer

SENTENCES = [
    "a wonderful film, funny and moving from start to finish",
    "the plot is dull and the acting is worse",
    "Once upon a time there was a mouse that looked for cheese.",
    "It was a dark night, and the old man looked at the sea.",
]


class Result(NamedTuple):
    """Result of a script: exit status, standard output, standard error."""

    status: object
    out: str
    err: str


@pytest.fixture(scope="session")
def tiny_classifier(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A DistilBERT classifier with random weights and a WordPiece tokenizer."""
    torch.manual_seed(0)
    tokenizer = train_tokenizer(SENTENCES, 200)
    sizes = DistilBertConfig(len(tokenizer), MAX_LENGTH, dim=16, n_layers=1, n_heads=2, hidden_dim=64)
    model = from_scratch(sizes, LABELS)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(10)  # else all texts get the same score
    folder = tmp_path_factory.mktemp("models") / "classifier"
    folder.mkdir()
    save_classifier(folder, model, tokenizer, torch.float32)
    return folder


@pytest.fixture(scope="session")
def tiny_language(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A GPT-2 with random weights and a byte-level BPE tokenizer."""
    torch.manual_seed(0)
    tokenizer = byte_pair_tokenizer(SENTENCES, 300, 64)
    model = new_model(LanguageConfig(context=64, embed_dim=16, num_layers=1, num_heads=2), len(tokenizer))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(5)  # else the most likely token is always the one before
    folder = tmp_path_factory.mktemp("models") / "language"
    folder.mkdir()
    model.save_pretrained(folder, bos_token_id=tokenizer.bos_token_id, eos_token_id=tokenizer.eos_token_id)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture
def hub_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache of the hub, and a hub that refuses at once."""
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.delenv("TRANSFORMERS_OFFLINE", raising=False)
    return tmp_path / "hub"


@pytest.fixture
def call(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Callable[..., Result]:
    """Calls a script's `main` as its command line does, in this process, writing to a temporary folder."""

    def run(script: ModuleType, *arguments: str) -> Result:
        warn_once.cache_clear()
        capsys.readouterr()  # discard what was printed before the script started
        if "--output_dir" not in arguments:
            arguments = (*arguments, "--output_dir", str(tmp_path / "out"))
        status: object = 0
        try:
            launch(script.Config, script.main, arguments)
        except SystemExit as stop:
            status = stop.code
        captured = capsys.readouterr()
        return Result(status, captured.out, captured.err)

    return run


@pytest.fixture
def refused(call: Callable[..., Result]) -> Callable[..., str]:
    """Calls a script that must fail with one line on standard error, which it returns, and print nothing else."""

    def run(script: ModuleType, arguments: tuple[str, ...], *words: str) -> str:
        result = call(script, *arguments)
        assert result.status in (1, 2)
        assert result.out == ""
        assert result.err.startswith("error: ")
        assert result.err.count("\n") == 1
        for word in words:
            assert word in result.err
        return result.err

    return run
