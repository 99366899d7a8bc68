"""Checkpoints in the Hugging Face layout, `config.json` next to the weights: read and written as data only.

Weights are `model.safetensors`, or several files listed in `model.safetensors.index.json`, or the older
`pytorch_model.bin`, in one or several files too. The latter is a pickle, which may contain code: `weights_only=True`
loads tensors from it and refuses everything else.

Every error is a UserError of one line that begins with the requested name.
"""

import dataclasses
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from lab.errors import UserError
from lab.files import atomic, write_json
from lab.launch import warn_once
from lab.texts import one_line
from models.hub import WEIGHTS, check_finite, find_model
from models.settings import check_own_settings, describe_extra_tensors

Model = TypeVar("Model", bound=Any)


@dataclass(frozen=True)
class Checkpoint:
    """A model as stored: the requested name, its settings, its tensors by their stored names."""

    name: str
    settings: dict[str, Any]
    tensors: dict[str, Tensor]


def read_checkpoint(name: str | Path, model_type: str) -> Checkpoint:
    """Return the checkpoint in a folder, or of a name on the Hugging Face hub, from its cache or from the hub itself.

    Raises UserError where there is none, where it is of another architecture than `model_type`, damaged, or incomplete.
    """
    folder = find_model(str(name))
    if not folder.is_dir():
        raise UserError(f"{name}: not a folder with a model in it")
    settings = _read_json(folder / "config.json", str(name))
    if settings.get("model_type") != model_type:
        raise UserError(f"{name}: a model of type {settings.get('model_type')!r}, where {model_type!r} is expected")
    return Checkpoint(str(name), settings, _read_tensors(folder, str(name)))


def read_settings(config_class: Any, checkpoint: Checkpoint) -> Any:
    """Return `config_class` with its fields from `config.json`; missing ones keep their default, the official size.

    Its ALIASES are the names that `transformers` has for fields in all architectures, which files may use instead.
    Raises UserError for a value of another type than the default's, and for sizes below 1.
    """
    try:
        check_own_settings(checkpoint.settings)
    except UserError as error:
        raise UserError(f"{checkpoint.name}: {error}") from None
    if checkpoint.settings.get("quantization_config") is not None:
        raise UserError(f"{checkpoint.name}: its weights are quantized; our own models read floating-point numbers")
    values = {}
    for field in dataclasses.fields(config_class):
        value = checkpoint.settings.get(field.name, field.default)
        value = checkpoint.settings.get(config_class.ALIASES.get(field.name), value)
        if not _is_like(value, field.default):
            raise UserError(f"{checkpoint.name}: {field.name} in config.json is {value!r}, not like {field.default!r}")
        if type(value) is int and value < 1 and not isinstance(field.default, float):
            raise UserError(f"{checkpoint.name}: {field.name} in config.json is {value}; it must be at least 1")
        values[field.name] = value
    try:
        return config_class(**values)
    except UserError as error:
        raise UserError(f"{checkpoint.name}: {error}") from None


def write_checkpoint(folder: Path, settings: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> None:
    """Write `config.json` and `model.safetensors`: settings and tensors by their official names, as in `Checkpoint`.

    Tensors keep their dtype; `"dtype": "float32"` among the settings lets readers compute in float32.
    """
    with atomic(folder / WEIGHTS[0]) as temporary:
        save_file({name: tensor.contiguous().cpu() for name, tensor in tensors.items()}, temporary, {"format": "pt"})
        temporary.chmod(0o644)  # the library makes it readable by its owner only
    write_json(folder / "config.json", dict(settings))


@torch.no_grad()
def round_to_half(model: nn.Module) -> None:
    """Round the weights to float16, in which a trained model is saved, so that the evaluated model is the saved one.

    Raises UserError for weights that are not finite then: beyond float16's range, or no numbers.
    """
    for parameter in model.parameters():
        parameter.copy_(parameter.half())
        if not parameter.isfinite().all():
            raise UserError(
                "training diverged: float16, for saving, cannot hold the weights; try a smaller --learning_rate"
            )


def _is_like(value: Any, default: Any) -> bool:
    """Return True if a setting has the type of its default; None is the default of a size that may be left out."""
    if default is None:
        return value is None or type(value) is int
    return type(value) is type(default) or (type(default) is float and type(value) is int)


class _SkipInit(TorchFunctionMode):
    """Skip the initialization of `torch.nn.init`."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if getattr(func, "__module__", "") == "torch.nn.init":
            return args[0] if args else (kwargs or {})["tensor"]
        return func(*args, **(kwargs or {}))


def build(checkpoint: Checkpoint, make: Callable[[], Model]) -> Model:
    """Return the model that `make` returns, with the checkpoint's tensors as its parameters, in eval mode.

    `make` runs on the meta device, where tensors have shapes but no memory. Raises UserError as `make` and
    `assign_state_dict` do.
    """
    try:
        # The checkpoint's tensors replace the parameters, so initial weights would be wasted; and on the meta device
        # PyTorch imports its compiler for them, which takes longer than loading the model.
        with torch.device("meta"), _SkipInit():
            model = make()
        tensors = model.convert_hf_state_dict(checkpoint.tensors)
    except UserError as error:
        raise UserError(f"{checkpoint.name}: {error}") from None
    assign_state_dict(model, tensors, checkpoint.name)
    return model.eval()


def assign_state_dict(model: nn.Module, tensors: Mapping[str, Tensor], name: str) -> None:
    """Make `tensors`, named like the model's parameters, its parameters, without a copy.

    Tensors that the model has no place for are ignored, with a note on standard error. Raises UserError for one that is
    missing, of another shape, or not of finite floating-point numbers.
    """
    expected = model.state_dict()
    for key, parameter in expected.items():
        if key not in tensors:
            raise UserError(f"{name}: its weights lack {key}, which {type(model).__name__} needs")
        if tensors[key].shape != parameter.shape or not tensors[key].is_floating_point():
            shape, expected_shape = tuple(tensors[key].shape), tuple(parameter.shape)
            raise UserError(f"{name}: weights for {key} are {tensors[key].dtype} {shape}, not {expected_shape}")
    model.load_state_dict({key: tensors[key].float() for key in expected}, assign=True)
    try:
        check_finite(model.parameters())
    except UserError as error:
        raise UserError(f"{name}: {error}") from None
    if extra := tensors.keys() - expected.keys():
        warn_once(f"{name}: {describe_extra_tensors(list(extra))}")


def _read_json(path: Path, name: str) -> dict[str, Any]:
    if not path.is_file():
        raise UserError(f"{name}: no {path.name} in it")
    try:
        value = json.loads(path.read_bytes())
    except (ValueError, RecursionError):
        raise UserError(f"{name}: {path.name} is damaged: not JSON") from None
    if not isinstance(value, dict):
        raise UserError(f"{name}: {path.name} holds no settings")
    return value


def _read_tensors(folder: Path, name: str) -> dict[str, Tensor]:
    path = next((folder / file for file in WEIGHTS if (folder / file).is_file()), None)
    if path is None:
        raise UserError(f"{name}: no weights in it ({WEIGHTS[0]} or {WEIGHTS[2]} is expected)")
    if path.suffix != ".json":
        return _read_file(path, name)
    tensors = {}
    for shard in _shards(_read_json(path, name), name):
        tensors |= _read_file(folder / shard, name)
    return tensors


def _shards(index: dict[str, Any], name: str) -> list[str]:
    """Return the file names that an index lists: files next to it, never paths to elsewhere."""
    listed = index.get("weight_map")
    files = sorted(set(map(str, listed.values()))) if isinstance(listed, dict) else []
    if not files or any(Path(file).name != file or "\\" in file for file in files):
        raise UserError(f"{name}: the index of its weights must name files next to it")
    return files


def _read_file(path: Path, name: str) -> dict[str, Tensor]:
    if not path.is_file():
        raise UserError(f"{name}: {one_line(path.name)}, which its index lists, is missing")
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        tensors = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # damaged and hostile files raise errors of many kinds
        raise UserError(f"{name}: {path.name} is damaged or holds more than tensors ({type(error).__name__})") from None
    if not isinstance(tensors, dict) or not all(isinstance(tensor, Tensor) for tensor in tensors.values()):
        raise UserError(f"{name}: {path.name} holds something other than named tensors")
    return tensors


def accept_old_names(new_names: Mapping[str, str]) -> Callable[..., None]:
    """Return a hook for `register_load_state_dict_pre_hook`: training checkpoints written before a rename still load.

    `new_names`: old name of a direct submodule -> its name now.
    """

    def rename(_: nn.Module, state: dict[str, Any], prefix: str, *others: Any) -> None:
        for key in list(state):
            module, dot, rest = key.removeprefix(prefix).partition(".")
            if key.startswith(prefix) and module in new_names:
                state[f"{prefix}{new_names[module]}{dot}{rest}"] = state.pop(key)

    return rename
