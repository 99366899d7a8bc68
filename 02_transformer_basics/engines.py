"""Our own models for the two text scripts, loaded without importing `transformers`, which takes seconds; and timing.

The tokenizer is the `tokenizers` library, which `transformers` wraps too. Where `transformers` does not take
`tokenizer.json` as it is, or there is none, an older layout, its tokenizer is used, so that both engines have the same.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal, TypeVar

import torch
from tokenizers import Encoding, Tokenizer
from torch import Tensor

from lab.errors import UserError
from lab.files import read_json_object
from lab.launch import warn_once
from models.distilbert import DistilBertClassifier
from models.generation import check_logits
from models.gpt2 import GPT2
from models.hub import (
    LoadedModel,
    Loader,
    Task,
    check_vocabulary,
    describe,
    missing_files,
    set_up_tokenizer,
    special_tokens,
)
from models.settings import check_one_label_per_text, limited_length
from speed import accelerate

Device = torch.device | str
Result = TypeVar("Result")
MAX_ROUNDS = 5
OLDER_FILES = ("special_tokens_map.json", "added_tokens.json")  # settings that the library reads too
GENERIC_CLASSES = ("TokenizersBackend", "PreTrainedTokenizerFast")  # all others have rules of their own
SPECIAL_TOKENS = {f"{role}_token" for role in ("bos", "eos", "unk", "sep", "pad", "cls", "mask")}
HARMLESS_SETTINGS = {  # of tokenizer_config.json: they change neither ids nor text, or `is_complete` looks at them
    *("backend", "clean_up_tokenization_spaces", "is_local", "max_length", "model_input_names", "model_max_length"),
    *("name_or_path", "padding_side", "stride", "tokenizer_class", "truncation_side", "truncation_strategy"),
}


class FileTokenizer:
    """The part of the library's tokenizer that the scripts use, under the same names, from `tokenizer.json` alone."""

    def __init__(self, tokenizer: Tokenizer, settings: dict[str, Any], positions: int) -> None:
        """`settings`: those of `tokenizer_config.json`; `positions`: the model's maximum length."""
        self.tokenizer = tokenizer
        tokenizer.no_truncation()
        self.truncation_side = "right"
        self.model_max_length = limited_length(settings.get("model_max_length"), positions)
        self.eos_token_id = self._special(settings.get("eos_token"))
        self.mask_token_id = self._special(settings.get("mask_token") or "[MASK]")

    def _special(self, token: str | None) -> int | None:
        """Return the id of a special token."""
        return None if token is None else self.tokenizer.token_to_id(token)

    def special_tokens(self) -> set[str]:
        """Return the special tokens."""
        return {token.content for token in self.tokenizer.get_added_tokens_decoder().values() if token.special}

    def get_vocab(self) -> dict[str, int]:
        """Return the id of every token."""
        return self.tokenizer.get_vocab()

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


class LibraryTokenizer:
    """The library's tokenizer with the interface of `FileTokenizer`, for files that the library does not take as is."""

    def __init__(self, tokenizer: Any) -> None:
        self.tokenizer = tokenizer
        self.truncation_side = tokenizer.truncation_side
        self.model_max_length = tokenizer.model_max_length
        self.eos_token_id = tokenizer.eos_token_id
        self.mask_token_id = tokenizer.mask_token_id

    def special_tokens(self) -> set[str]:
        """Return the special tokens."""
        return special_tokens(self.tokenizer)

    def get_vocab(self) -> dict[str, int]:
        """Return the id of every token."""
        return self.tokenizer.get_vocab()

    def encode(self, text: str) -> Encoding:
        """Return ids, tokens, words and offsets of a text, truncated to the model's length."""
        return self.tokenizer(text, truncation=True).encodings[0]

    def __call__(self, texts: Sequence[str], truncation: bool = False, verbose: bool = True) -> dict[str, Any]:
        """Return the ids of every text, under "input_ids"."""
        return {"input_ids": self.tokenizer(list(texts), truncation=truncation)["input_ids"]}

    def decode(self, ids: Sequence[int], skip_special_tokens: bool = False) -> str:
        """Return the text of `ids`."""
        return self.tokenizer.decode(list(ids), skip_special_tokens=skip_special_tokens)


@dataclass(frozen=True)
class EngineOptions:
    """Options of our own model: its form, plain or accelerated, and the precision of its weights."""

    accelerate: bool = False
    """Run the accelerated form of our own model (speed/): same results, faster. Default: the lesson's plain code."""
    precision: Literal["float32", "float16", "bfloat16", "int8"] = "float32"
    """Precision of the accelerated weights; other than float32 it switches --accelerate on. On a CPU int8 also rounds
    the inputs of all texts of a batch together, so that a text may depend on the others."""

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
        positions = getattr(model.config, "n_positions", None) or getattr(model.config, "max_position_embeddings", 0)
        tokenizer = read_tokenizer(folder, str(folder), positions)
    except UserError as error:  # it names the folder; the user may have asked by another name
        raise UserError(
            f"{name}: cannot be loaded for {task.name} ({str(error).removeprefix(f'{folder}: ')})"
        ) from None
    check_vocabulary(tokenizer.get_vocab(), tokenizer.special_tokens(), model.config.vocab_size, name)
    if options.form != "plain":
        model = accelerate(model, options.precision)
    return LoadedModel(name, model, tokenizer, folder)


def _load_plain(task: Task, folder: Path) -> DistilBertClassifier | GPT2:
    if task.name == "text-generation":
        return GPT2.from_pretrained(folder)
    check_one_label_per_text(read_json_object(folder / "config.json"))
    return DistilBertClassifier.from_pretrained(folder)


def read_tokenizer(folder: Path, name: str, positions: int) -> FileTokenizer | LibraryTokenizer:
    """Return the tokenizer in `folder`, for a model with `positions`. Raises UserError where it is damaged."""
    settings = read_json_object(folder / "tokenizer_config.json")
    try:
        if (folder / "tokenizer.json").is_file() and not any((folder / file).exists() for file in OLDER_FILES):
            tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
            if is_complete(tokenizer, settings):
                return FileTokenizer(tokenizer, settings, positions)
        return _load_by_transformers(folder, positions)
    except Exception as error:  # the library raises nothing more specific
        raise UserError(f"{name}: {describe(error)}") from None


def is_complete(tokenizer: Tokenizer, settings: dict[str, Any]) -> bool:
    """Return True if the library takes `tokenizer.json` as it is, with these settings of `tokenizer_config.json`.

    Otherwise it builds a tokenizer of the class that is named there, or changes the file's: other settings, special
    tokens that the file does not have, padding.
    """
    if settings.get("tokenizer_class") not in GENERIC_CLASSES or settings.keys() - HARMLESS_SETTINGS - SPECIAL_TOKENS:
        return False
    truncation_side = settings.get("truncation_side", (tokenizer.truncation or {}).get("direction", "right"))
    if truncation_side != "right" or tokenizer.padding is not None:
        return False
    special = {token.content for token in tokenizer.get_added_tokens_decoder().values() if token.special}
    named = [settings[role] for role in SPECIAL_TOKENS if settings.get(role) is not None]
    return all(isinstance(token, str) and token in special for token in named)


def _load_by_transformers(folder: Path, positions: int) -> LibraryTokenizer:
    import transformers

    transformers.logging.set_verbosity_error()
    theirs = transformers.AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    set_up_tokenizer(theirs, read_json_object(folder / "config.json").get("model_type", ""), positions)
    return LibraryTokenizer(theirs)


def padding_token(loaded: LoadedModel) -> int:
    """Return a token to pad with; which one does not matter, since padding is masked, but the model must have it."""
    stop = loaded.tokenizer.eos_token_id
    if stop is not None and stop < loaded.model.config.vocab_size:
        return stop
    return min(loaded.tokenizer.get_vocab().values())


class CheckLogits:
    """`check_logits` as a logits processor of the library: it returns the logits as they are."""

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        check_logits(scores)
        return scores


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
