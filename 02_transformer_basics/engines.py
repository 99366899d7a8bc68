"""Our own models for the two text scripts, loaded without importing `transformers`, which takes seconds; and timing.

The tokenizer is the `tokenizers` library, which `transformers` wraps too. A folder without `tokenizer.json`, an older
layout, is left to `transformers`.
"""

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal, TypeVar

import torch
from tokenizers import Encoding, Tokenizer

from lab.errors import UserError
from lab.launch import warn_once
from models.distilbert import DistilBertClassifier
from models.gpt2 import GPT2
from models.hub import LoadedModel, Loader, Task, check_vocabulary, missing_files
from speed import accelerate

Device = torch.device | str
Result = TypeVar("Result")
MAX_ROUNDS = 5


class FileTokenizer:
    """The part of the library's tokenizer that the scripts use, under the same names."""

    def __init__(self, tokenizer: Tokenizer, settings: dict[str, Any], positions: int) -> None:
        """`settings`: those of `config.json` and `tokenizer_config.json`; `positions`: the model's maximum length."""
        self.tokenizer = tokenizer
        tokenizer.no_padding()
        tokenizer.no_truncation()
        longest = settings.get("model_max_length", positions)
        self.model_max_length = int(min(longest, positions)) if isinstance(longest, int | float) else positions
        self.eos_token_id = self._special(settings, "eos_token")
        self.mask_token_id = self._special(settings, "mask_token")

    def _special(self, settings: dict[str, Any], role: str) -> int | None:
        """Return the id of a special token: settings hold its text, an object with its text, or its id."""
        token = settings.get(role)
        if isinstance(token, dict):
            token = token.get("content")
        token_id = self.tokenizer.token_to_id(token) if isinstance(token, str) else settings.get(f"{role}_id")
        if token_id is None and role == "mask_token":
            token_id = self.tokenizer.token_to_id("[MASK]")
        return token_id if isinstance(token_id, int) else None

    def encode(self, text: str) -> Encoding:
        """Return ids, tokens, words and offsets of a text, truncated to the model's length."""
        self.tokenizer.enable_truncation(self.model_max_length)
        try:
            return self.tokenizer.encode(text)
        finally:
            self.tokenizer.no_truncation()

    def __call__(self, texts: Sequence[str], truncation: bool = False, verbose: bool = True) -> dict[str, Any]:
        """Return the ids of every text, under "input_ids"."""
        if truncation:
            return {"input_ids": [self.encode(text).ids for text in texts]}
        return {"input_ids": [encoding.ids for encoding in self.tokenizer.encode_batch(list(texts))]}

    def decode(self, ids: Sequence[int], skip_special_tokens: bool = False) -> str:
        """Return the text of `ids`."""
        return self.tokenizer.decode(list(ids), skip_special_tokens=skip_special_tokens)


@dataclass(frozen=True)
class EngineOptions:
    """Options of our own model: its form, plain or accelerated, and the precision of its weights."""

    accelerate: bool = False
    """Run the accelerated form of our own model (speed/): same results, faster. Default: the lesson's plain code."""
    precision: Literal["float32", "float16", "bfloat16", "int8"] = "float32"
    """Precision of the accelerated weights; other than float32 it switches --accelerate on."""

    @property
    def form(self) -> str:
        """The name of the form: "plain", "accelerated", or "accelerated, int8"."""
        if self.precision != "float32":
            return f"accelerated, {self.precision}"
        return "accelerated" if self.accelerate else "plain"

    def check(self, engine: str, compare: bool) -> None:
        """Raise UserError, naming the flag, if it has no effect because our own model does not run."""
        if self.form == "plain" or engine == "scratch" or compare:
            return
        flag = "--accelerate" if self.precision == "float32" else f"--precision {self.precision}"
        raise UserError(f"{flag} is for our own engine; add --engine scratch or --compare")


PLAIN = EngineOptions()


def note_form(options: EngineOptions) -> None:
    """Print on standard error that a lower precision has switched on the accelerated form."""
    if options.precision != "float32" and not options.accelerate:
        warn_once(f"--precision {options.precision} runs the accelerated form of our own model (--accelerate)")


def loader(options: EngineOptions = PLAIN, device: Device = "cpu") -> Loader:
    """Return `load_own` with these options, as `models.hub.load_model` takes it."""
    return partial(load_own, options=options, device=device)


def load_own(
    task: Task, folder: Path, name: str, options: EngineOptions = PLAIN, device: Device = "cpu"
) -> LoadedModel:
    """Return our DistilBERT or GPT-2 with the weights in `folder`, in the requested form, and its tokenizer.

    Raises UserError, one line, as `models.hub.load_folder` does, and for an architecture that is not ours.
    """
    if not folder.is_dir():
        raise UserError(f"{name}: not a folder with a model in it")
    if missing := missing_files(folder):
        raise UserError(f"{name}: {missing}")
    try:
        model = _load_plain(task, folder).to(device)
    except UserError as error:  # it names the folder; the user may have asked by another name
        raise UserError(
            f"{name}: cannot be loaded for {task.name} ({str(error).removeprefix(f'{folder}: ')})"
        ) from None
    positions = getattr(model.config, "n_positions", None) or getattr(model.config, "max_position_embeddings", 0)
    tokenizer = read_tokenizer(folder, name, positions)
    special = {token.content for token in tokenizer.tokenizer.get_added_tokens_decoder().values() if token.special}
    check_vocabulary(tokenizer.tokenizer.get_vocab(), special, model.config.vocab_size, name)
    if options.form != "plain":
        model = accelerate(model, options.precision)
    return LoadedModel(name, model, tokenizer, folder)


def _load_plain(task: Task, folder: Path) -> DistilBertClassifier | GPT2:
    if task.name == "text-generation":
        return GPT2.from_pretrained(folder)
    model = DistilBertClassifier.from_pretrained(folder)
    kind = _read_settings(folder / "config.json").get("problem_type")
    if len(model.labels) < 2 or kind not in (None, "single_label_classification"):
        raise UserError("it does not choose one of several labels")
    return model


def read_tokenizer(folder: Path, name: str, positions: int) -> FileTokenizer:
    """Return the tokenizer in `folder`, for a model with `positions`. Raises UserError where it is damaged."""
    settings = _read_settings(folder / "config.json") | _read_settings(folder / "tokenizer_config.json")
    try:
        if (folder / "tokenizer.json").is_file():
            tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        else:
            tokenizer = _load_by_transformers(folder)
    except Exception as error:  # the library raises nothing more specific
        raise UserError(f"{name}: its tokenizer is damaged ({' '.join(str(error).split())[:150]})") from None
    return FileTokenizer(tokenizer, settings, positions)


def _load_by_transformers(folder: Path) -> Tokenizer:
    """Return the tokenizer of an older layout, `vocab.txt` or `vocab.json` with `merges.txt`."""
    import transformers

    transformers.logging.set_verbosity_error()
    theirs = transformers.AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    return theirs.backend_tokenizer


def _read_settings(path: Path) -> dict[str, Any]:
    """Return the settings in a JSON file; none where the file is missing or holds something else."""
    try:
        value = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


def time_interleaved(runs: Mapping[str, Callable[[], Result]], seconds: float = 3.0) -> dict[str, tuple[Result, float]]:
    """Return result and shortest time of each of `runs`: up to five interleaved rounds, none started after `seconds`.

    Other load on the machine then slows all runs, and hardly affects the shortest time.
    """
    started, best = time.perf_counter(), {}
    for number in range(MAX_ROUNDS):
        if number and time.perf_counter() - started > seconds:
            break
        for name, run in runs.items():
            begun = time.perf_counter()
            result = run()
            taken = time.perf_counter() - begun
            best[name] = (result, min(taken, best[name][1]) if number else taken)
    return best
