"""Classes and generation settings in the files of a model, read the same way for both engines."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lab.errors import UserError
from lab.files import read_json_object
from lab.texts import one_line

# Settings of text generation that a model's files may hold -> the value that changes nothing. The scripts take such
# settings from their flags only, or not at all.
GENERATION_SETTINGS: dict[str, Any] = {
    "bad_words_ids": None,
    "begin_suppress_tokens": None,
    "constraints": None,
    "diversity_penalty": 0.0,
    "early_stopping": False,
    "encoder_no_repeat_ngram_size": 0,
    "encoder_repetition_penalty": 1.0,
    "epsilon_cutoff": 0.0,
    "eta_cutoff": 0.0,
    "exponential_decay_length_penalty": None,
    "force_words_ids": None,
    "forced_bos_token_id": None,
    "forced_eos_token_id": None,
    "guidance_scale": None,
    "length_penalty": 1.0,
    "max_time": None,
    "min_length": 0,
    "min_new_tokens": 0,
    "min_p": None,
    "no_repeat_ngram_size": 0,
    "num_beam_groups": 1,
    "num_beams": 1,
    "num_return_sequences": 1,
    "penalty_alpha": None,
    "prefix": None,
    "prompt_lookup_num_tokens": None,
    "remove_invalid_values": False,
    "renormalize_logits": False,
    "repetition_penalty": 1.0,
    "sequence_bias": None,
    "stop_strings": None,
    "suppress_tokens": None,
    "temperature": 1.0,
    "token_healing": False,
    "top_h": None,
    "top_k": 50,
    "top_p": 1.0,
    "typical_p": 1.0,
    "watermarking_config": None,
}


def class_labels(settings: Mapping[str, Any]) -> list[str]:
    """Return the name of every class, in the order of their numbers, from the settings in `config.json`.

    Without `id2label` they are LABEL_0, LABEL_1, ..., as in the library. Raises UserError where classes have no name.
    """
    names, count = settings.get("id2label"), settings.get("num_labels")
    if count is not None and (type(count) is not int or count < 1):
        raise UserError(f"num_labels in config.json is {count!r}; it must be at least 1")
    if names is None:
        return [f"LABEL_{number}" for number in range(count or 2)]
    wanted = "id2label in config.json must name each class by its number, from 0"
    if not isinstance(names, dict) or not all(isinstance(label, str) for label in names.values()):
        raise UserError(wanted)
    try:
        by_number = {int(key): label for key, label in names.items()}
    except ValueError:
        raise UserError(wanted) from None
    if not names or sorted(by_number) != list(range(len(names))):
        raise UserError(wanted)
    if count not in (None, len(names)):
        raise UserError(f"config.json names {len(names)} classes, but num_labels is {count}")
    return [by_number[number] for number in range(len(names))]


def check_one_label_per_text(settings: Mapping[str, Any]) -> None:
    """Raise UserError for a model that does not choose one of several labels, or whose classes have no name."""
    kind = settings.get("problem_type")
    if len(class_labels(settings)) < 2 or kind not in (None, "single_label_classification"):
        raise UserError("it does not choose one of several labels")


def check_own_settings(settings: Mapping[str, Any]) -> None:
    """Raise UserError for settings of a DistilBERT or GPT-2 that only one of the engines would look at."""
    for role in ("bos_token_id", "eos_token_id", "pad_token_id"):
        value = settings.get(role)
        ids = value if role == "eos_token_id" and isinstance(value, list) else [value]
        if not all(number is None or type(number) is int for number in ids):
            raise UserError(f"{role} in config.json is {value!r}; it must be the number of a token")
    if settings.get("is_encoder_decoder"):
        raise UserError("config.json says that it is an encoder-decoder model")


def limited_length(stated: Any, positions: int) -> int:
    """Return how many tokens a text may have: `model_max_length` of `tokenizer_config.json`, if that is less."""
    if stated is None:
        return positions
    if type(stated) not in (int, float) or not stated >= 1:
        raise UserError(f"model_max_length in tokenizer_config.json is {stated!r}; it must be at least 1")
    return int(min(stated, positions))


def lacks_padding_token(settings: Mapping[str, Any]) -> bool:
    """Return True if the token for padding in `config.json` is outside the vocabulary."""
    padding, vocab_size = settings.get("pad_token_id"), settings.get("vocab_size")
    return isinstance(padding, int) and isinstance(vocab_size, int) and not 0 <= padding < vocab_size


def ignored_generation_settings(folder: Path, stop_token: int | None) -> list[str]:
    """Return the names of the settings in a model's files that would change its texts, but are not followed.

    `stop_token` is the one that ends a text: the tokenizer's.
    """
    config = read_json_object(folder / "config.json")
    tasks = config.get("task_specific_params")
    task = tasks.get("text-generation") if isinstance(tasks, dict) else None
    sources = [read_json_object(folder / "generation_config.json"), config, task if isinstance(task, dict) else {}]
    names = {
        name
        for source in sources
        for name, neutral in GENERATION_SETTINGS.items()
        if source.get(name) is not None and source[name] != neutral
    }
    for source in sources:
        ids = source.get("eos_token_id")
        if ids is not None and ids not in (stop_token, [stop_token]):
            names.add("eos_token_id")
    return sorted(names)


def describe_extra_tensors(names: list[str]) -> str:
    """Return a line about the tensors of a checkpoint that the model has no place for, such as another head's."""
    first = one_line(min(name.removeprefix("transformer.").removeprefix(".") for name in names))
    return f"{len(names)} of its tensors belong to no part of the model and are ignored (the first is {first})"
