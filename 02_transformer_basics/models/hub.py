"""Finding and loading models: a folder, the cache of the Hugging Face hub, the hub, or the lab's bundled models.

If a model that is asked for by name cannot be loaded, that is an error. Without a name the official model is used if it
is available, else the bundled small one. Models are read as data: no code from a model is ever run.
"""

import http.client
import os
import queue
import re
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import huggingface_hub
import torch
from huggingface_hub import constants
from huggingface_hub.errors import HFValidationError

from lab.errors import UserError
from lab.files import ROOT, read_json_object
from lab.launch import warn_once
from lab.texts import one_line
from models.settings import (
    check_one_label_per_text,
    check_own_settings,
    class_labels,
    describe_extra_tensors,
    lacks_padding_token,
    limited_length,
)

PROBE_SECONDS = 2.0  # by default the hub's client retries for over 20 seconds
WANTED_FILES = [
    *("config.json", "generation_config.json", "model*.safetensors*", "tokenizer*", "vocab*", "merges.txt"),
    *("special_tokens_map.json", "added_tokens.json"),
]
WEIGHTS = ("model.safetensors", "model.safetensors.index.json", "pytorch_model.bin", "pytorch_model.bin.index.json")
TOKENIZERS = ("tokenizer.json", "vocab.txt", "vocab.json")
OWN_MODEL_TYPES = ("distilbert", "gpt2")


@dataclass(frozen=True)
class Task:
    """A pipeline's task, the names of its official model, and the bundled model."""

    name: str
    official: tuple[str, ...]
    bundled: Path
    auto_class: str


SENTIMENT = Task(
    "text-classification",
    (
        "distilbert/distilbert-base-uncased-finetuned-sst-2-english",
        "distilbert-base-uncased-finetuned-sst-2-english",
    ),
    ROOT / "assets/models/sentiment",
    "AutoModelForSequenceClassification",
)
GENERATION = Task(
    "text-generation", ("openai-community/gpt2", "gpt2"), ROOT / "assets/models/language", "AutoModelForCausalLM"
)


@dataclass(frozen=True)
class LoadedModel:
    """A model in eval mode with its tokenizer, display name and folder, and a note if it is a fallback.

    Model and tokenizer are the library's, or ours with the same interface (`engines.py`).
    """

    name: str
    model: Any
    tokenizer: Any
    folder: Path
    note: str | None = None


Loader = Callable[[Task, Path, str], LoadedModel]  # task, folder, display name


def load_model(task: Task, name: str | None = None, loader: Loader | None = None) -> LoadedModel:
    """Load the model for `task`: `name`, a folder or a hub name, or by default the official or the bundled one.

    `loader` loads it from its folder, by default `load_folder`, which uses the library.
    Raises UserError, one line, when a model asked for by name is not available.
    """
    loader = loader or load_folder
    if name is not None:
        return loader(task, find_model(name), name)
    try:
        return loader(task, find_on_hub(task.official), task.official[0])
    except UserError as error:
        bundled = loader(task, task.bundled, f"the lab's own {task.bundled.name} model")
        return replace(bundled, note=f"{error}; using {bundled.name}, a small one, instead")


def find_model(name: str) -> Path:
    """Return the folder `name`, or that of a name on the hub.

    Raises UserError as `find_on_hub` does, and for a path that the libraries which read weights cannot open.
    """
    if not Path(name).exists():
        return find_on_hub((name,))
    try:
        os.path.abspath(name).encode("utf-8")
    except UnicodeEncodeError:
        raise UserError(
            f"{one_line(name)}: the model's path is not UTF-8 text; rename it, or set a UTF-8 locale"
        ) from None
    return Path(name)


def find_on_hub(names: tuple[str, ...]) -> Path:
    """Return the folder of a complete snapshot: cached under one of `names`, or downloaded under the first.

    Raises UserError, within about two seconds, if neither is available.
    """
    try:
        for name in names:
            folder = cached_snapshot(name)
            if folder is not None:
                return folder
    except HFValidationError:
        raise UserError(f"{names[0]}: no such folder, and not a valid Hugging Face hub name") from None
    if not hub_reachable():
        raise UserError(f"{names[0]}: no such folder, not in the hub's cache, and the hub cannot be reached")
    try:
        return Path(huggingface_hub.snapshot_download(names[0], allow_patterns=WANTED_FILES))
    except Exception as error:  # the hub's client raises errors of several libraries
        raise UserError(f"{names[0]}: the download failed ({_first_line(error)})") from None


def cached_snapshot(name: str) -> Path | None:
    """Return the folder of `name` in the hub's local cache, or None if there is no complete model."""
    try:
        folder = Path(huggingface_hub.snapshot_download(name, local_files_only=True))
    except (OSError, ValueError, RuntimeError) as error:  # RuntimeError: the user has no home folder for a cache
        if isinstance(error, HFValidationError):
            raise
        return None
    return folder if missing_files(folder) is None else None


def hub_reachable() -> bool:
    """Return True if the hub answers within about two seconds, name resolution included."""
    if constants.HF_HUB_OFFLINE or os.environ.get("TRANSFORMERS_OFFLINE", "").upper() in ("1", "ON", "YES", "TRUE"):
        return False
    answers: queue.SimpleQueue[bool] = queue.SimpleQueue()
    threading.Thread(target=lambda: answers.put(_hub_answers()), daemon=True).start()  # name resolution can hang
    try:
        return answers.get(timeout=PROBE_SECONDS)
    except queue.Empty:
        return False


def _hub_answers() -> bool:
    try:
        request = urllib.request.Request(constants.ENDPOINT, method="HEAD")
        urllib.request.urlopen(request, timeout=PROBE_SECONDS).close()
    except urllib.error.HTTPError as error:  # it answers, if only with a refusal
        return error.code < 500 and error.code not in (403, 407)  # a proxy's refusal is no hub
    except (OSError, ValueError, http.client.HTTPException):
        return False
    return True


def missing_files(folder: Path) -> str | None:
    """Return what `folder` lacks to be a complete model in the Hugging Face layout, in words; None if complete."""
    for what, names in (("config.json", ("config.json",)), ("weights", WEIGHTS), ("tokenizer", TOKENIZERS)):
        if not any((folder / name).is_file() for name in names):
            return f"no {what} in it ({' or '.join(names[:2])} is expected)" if len(names) > 1 else f"no {what} in it"
    return None


def load_folder(task: Task, folder: Path, name: str) -> LoadedModel:
    """Load model and tokenizer from a folder in the Hugging Face layout.

    Raises UserError, one line, if files are missing, damaged or of another architecture, if weights are missing (the
    library would use random ones), or if the tokenizer is empty.
    """
    import transformers  # imported here: it takes seconds, and our own models do not need it

    if not folder.is_dir():
        raise UserError(f"{name}: not a folder with a model in it")
    if missing := missing_files(folder):
        raise UserError(f"{name}: {missing}")
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    config = read_json_object(folder / "config.json")
    try:
        options: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}
        if config.get("model_type") in OWN_MODEL_TYPES:
            check_own_settings(config)
        if task is SENTIMENT:
            check_one_label_per_text(config)
        tokenizer = transformers.AutoTokenizer.from_pretrained(folder, **options)
        if task is GENERATION:
            options["generation_config"] = transformers.GenerationConfig()  # the flags decide, not the model's files
        auto_class = getattr(transformers, task.auto_class)
        options |= {"return_dict": True, "output_attentions": False, "output_hidden_states": False}
        options["dtype"] = torch.float32  # as our own models compute
        if lacks_padding_token(config):
            options["pad_token_id"] = None
        model, report = auto_class.from_pretrained(folder, output_loading_info=True, **options)
        if not report["missing_keys"]:  # else the library made some up
            check_finite(model.parameters())
        positions = getattr(model.config, "max_position_embeddings", None) or tokenizer.model_max_length
        set_up_tokenizer(tokenizer, model.config.model_type, positions)
    except Exception as error:  # damaged files raise errors of several libraries
        raise UserError(f"{name}: cannot be loaded for {task.name} ({describe(error)})") from None
    if report["missing_keys"]:
        missing = one_line(min(report["missing_keys"]))
        raise UserError(f"{name}: no model for {task.name}: its weights lack {missing}")
    if task is SENTIMENT:
        model.config.id2label = dict(enumerate(class_labels(config)))
    check_vocabulary(tokenizer.get_vocab(), special_tokens(tokenizer), model.config.vocab_size, name)
    if report["unexpected_keys"]:
        warn_once(f"{name}: {describe_extra_tensors(list(report['unexpected_keys']))}")
    return LoadedModel(name, model.eval(), tokenizer, folder)


def set_up_tokenizer(tokenizer: Any, model_type: str, positions: int) -> None:
    """Limit the library's tokenizer to the model's positions, and let it mask and decode as our own models need it."""
    tokenizer.verbose = False  # else it logs an error when the id of a special token is asked for that it lacks
    tokenizer.model_max_length = limited_length(tokenizer.model_max_length, positions)
    tokenizer.clean_up_tokenization_spaces = False  # a text is its tokens, character by character
    if model_type in OWN_MODEL_TYPES:
        tokenizer.model_input_names = ["input_ids", "attention_mask"]
        tokenizer.padding_side = "right"


def special_tokens(tokenizer: Any) -> set[str]:
    """Return the special tokens of the library's tokenizer."""
    added = tokenizer.added_tokens_decoder.values()
    return {*tokenizer.all_special_tokens, *(token.content for token in added if token.special)}


def check_finite(weights: Iterable[torch.Tensor]) -> None:
    """Raise UserError if any weight is NaN or infinite: attention kernels differ in what they make of it."""
    if not all(bool(weight.isfinite().all()) for weight in weights):
        raise UserError("its weights are damaged: they hold NaN or infinite numbers")


def check_vocabulary(vocabulary: Mapping[str, int], special: set[str], vocab_size: int, name: str) -> None:
    """Raise UserError unless the tokenizer has more than special tokens, and the model an embedding for each."""
    ids = [number for token, number in vocabulary.items() if token not in special]
    if not ids or max(ids) >= vocab_size:
        raise UserError(f"{name}: the tokenizer is empty or does not fit the model")


def describe(error: Exception) -> str:
    """Return what is wrong with a model's files; two of the library's messages name a workaround, not the cause."""
    if "ignore_mismatched_sizes" in str(error):
        return "its weights do not have the shapes that config.json says"
    if "weights_only" in str(error):
        return "the file of its weights is damaged or holds more than tensors"
    return _first_line(error)


def _first_line(error: Exception) -> str:
    text = str(error).strip().split("\n")[0] or type(error).__name__
    return one_line(re.sub(r"\s+", " ", text))[:200]
