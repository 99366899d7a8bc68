"""Our own models behind the two text scripts: read from a folder without importing `transformers`, which takes seconds.

The tokenizer is the `tokenizers` library, which `transformers` wraps too; a folder that lacks its `tokenizer.json`, the
layout of old, is left to `transformers`.
"""

import json
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import torch
from tokenizers import Encoding, Tokenizer

from lab.errors import UserError
from models.distilbert import DistilBertClassifier
from models.gpt2 import GPT2
from models.hub import LoadedModel, Reader, Task, check_vocabulary, what_is_missing

Device = torch.device | str
Answer = TypeVar("Answer")
MOST_ROUNDS = 5


class FileTokenizer:
    """What the scripts ask of the library's tokenizer, by the same names, and the `Encoding` of a single text."""

    def __init__(self, tokenizer: Tokenizer, settings: dict[str, Any], positions: int) -> None:
        """`settings`: of `tokenizer_config.json`, or of `config.json` where it lacks them; `positions` of the model."""
        self.tokenizer = tokenizer
        tokenizer.no_padding()
        tokenizer.no_truncation()
        longest = settings.get("model_max_length", positions)
        self.model_max_length = int(min(longest, positions)) if isinstance(longest, int | float) else positions
        self.eos_token_id = self._special(settings, "eos_token")
        self.mask_token_id = self._special(settings, "mask_token")

    def _special(self, settings: dict[str, Any], role: str) -> int | None:
        """The id of a special token: named as text, or as an object with the text in it, or given as a number."""
        named = settings.get(role)
        named = named.get("content") if isinstance(named, dict) else named
        number = self.tokenizer.token_to_id(named) if isinstance(named, str) else settings.get(f"{role}_id")
        if number is None and role == "mask_token":
            number = self.tokenizer.token_to_id("[MASK]")
        return number if isinstance(number, int) else None

    def encode(self, text: str) -> Encoding:
        """Ids, tokens, words and places of a text, cut to the model's length."""
        self.tokenizer.enable_truncation(self.model_max_length)
        try:
            return self.tokenizer.encode(text)
        finally:
            self.tokenizer.no_truncation()

    def __call__(self, texts: Sequence[str], truncation: bool = False, verbose: bool = True) -> dict[str, Any]:
        """Ids of every text, under "input_ids"."""
        if truncation:
            return {"input_ids": [self.encode(text).ids for text in texts]}
        return {"input_ids": [encoding.ids for encoding in self.tokenizer.encode_batch(list(texts))]}

    def decode(self, ids: Sequence[int], skip_special_tokens: bool = False) -> str:
        """The text of `ids`."""
        return self.tokenizer.decode(list(ids), skip_special_tokens=skip_special_tokens)


def reader(precision: str = "float32", device: Device = "cpu") -> Reader:
    """What `pretrained.load_model` reads a folder with, for weights of this precision on this device."""
    return partial(read_own, precision=precision, device=device)


def read_own(task: Task, folder: Path, name: str, precision: str = "float32", device: Device = "cpu") -> LoadedModel:
    """Our DistilBERT or GPT-2 with the weights of `folder`, and its tokenizer.

    Raises UserError, one line, as `pretrained.load_folder` does, and for an architecture that is not ours.
    """
    if not folder.is_dir():
        raise UserError(f"{name}: not a folder with a model in it")
    if missing := what_is_missing(folder):
        raise UserError(f"{name}: {missing}")
    try:
        model = _read_model(task, folder, precision, device)
    except UserError as error:  # it names the folder; the user may have asked by another name
        raise UserError(
            f"{name}: cannot be loaded for {task.name} ({str(error).removeprefix(f'{folder}: ')})"
        ) from None
    positions = getattr(model.config, "n_positions", None) or getattr(model.config, "max_position_embeddings", 0)
    tokenizer = read_tokenizer(folder, name, positions)
    special = {token.content for token in tokenizer.tokenizer.get_added_tokens_decoder().values() if token.special}
    check_vocabulary(tokenizer.tokenizer.get_vocab(), special, model.config.vocab_size, name)
    return LoadedModel(name, model, tokenizer, folder)


def _read_model(task: Task, folder: Path, precision: str, device: Device) -> DistilBertClassifier | GPT2:
    if task.name == "text-generation":
        return GPT2.from_pretrained(folder, precision, device)
    model = DistilBertClassifier.from_pretrained(folder)
    kind = _read_settings(folder / "config.json").get("problem_type")
    if len(model.labels) < 2 or kind not in (None, "single_label_classification"):
        raise UserError("it does not choose one of several labels")
    return model.to(device)


def read_tokenizer(folder: Path, name: str, positions: int) -> FileTokenizer:
    """The tokenizer in `folder`, for a model with so many positions. Raises UserError where it is damaged."""
    settings = _read_settings(folder / "config.json") | _read_settings(folder / "tokenizer_config.json")
    try:
        if (folder / "tokenizer.json").is_file():
            tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        else:
            tokenizer = _by_transformers(folder)
    except Exception as error:  # the library raises nothing more particular
        raise UserError(f"{name}: its tokenizer is damaged ({' '.join(str(error).split())[:150]})") from None
    return FileTokenizer(tokenizer, settings, positions)


def _by_transformers(folder: Path) -> Tokenizer:
    """The tokenizer of an older layout, `vocab.txt` or `vocab.json` with `merges.txt`."""
    import transformers

    transformers.logging.set_verbosity_error()
    theirs = transformers.AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    return theirs.backend_tokenizer


def _read_settings(path: Path) -> dict[str, Any]:
    """What a JSON file holds; nothing where there is none, or another thing than settings in it."""
    try:
        value = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


def time_interleaved(runs: Mapping[str, Callable[[], Answer]], seconds: float = 3.0) -> dict[str, tuple[Answer, float]]:
    """Answer and shortest time in seconds of each of `runs`, called in turn: five rounds, none begun after `seconds`.

    What else the machine does slows them all, since they take turns, and hardly counts in the shortest time.
    """
    started, best = time.perf_counter(), {}
    for number in range(MOST_ROUNDS):
        if number and time.perf_counter() - started > seconds:
            break
        for name, run in runs.items():
            begun = time.perf_counter()
            answer = run()
            taken = time.perf_counter() - begun
            best[name] = (answer, min(taken, best[name][1]) if number else taken)
    return best
