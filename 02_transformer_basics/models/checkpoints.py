"""A checkpoint in the Hugging Face layout, `config.json` beside the weights, as data, nothing else: read and written.

Weights are `model.safetensors`, or several files listed in `model.safetensors.index.json`, or the older
`pytorch_model.bin`, in one or several files too. That one is a pickle, which could hold code: `weights_only=True`
takes tensors from it and refuses everything else.

Every mistake is a UserError of one line that begins with the name that was asked for. Run this file by itself to see
what is in the model that ships.
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
from lab.files import ROOT, atomic, write_json
from models.hub import WEIGHTS, find_on_hub

Config = TypeVar("Config")
Model = TypeVar("Model", bound=Any)


@dataclass(frozen=True)
class Checkpoint:
    """A model as it lies on the disk: the name it was asked for by, its settings, its tensors by their names there."""

    name: str
    settings: dict[str, Any]
    tensors: dict[str, Tensor]


def read_checkpoint(name: str | Path, model_type: str) -> Checkpoint:
    """Read a folder, or a model of the Hugging Face hub from its cache or from the hub itself.

    Raises UserError where there is none, where it is of another architecture than `model_type`, damaged, or incomplete.
    """
    folder = Path(name) if Path(name).exists() else find_on_hub((str(name),))
    if not folder.is_dir():
        raise UserError(f"{name}: not a folder with a model in it")
    settings = _read_json(folder / "config.json", str(name))
    if settings.get("model_type") != model_type:
        raise UserError(f"{name}: a model of type {settings.get('model_type')!r}, where {model_type!r} is expected")
    return Checkpoint(str(name), settings, _read_tensors(folder, str(name)))


def read_settings(config_class: type[Config], checkpoint: Checkpoint) -> Config:
    """The fields of `config_class` from `config.json`; those it lacks keep their default, which is the official size.

    Raises UserError for a value of another type than the default's, and for sizes below 1.
    """
    values = {}
    for field in dataclasses.fields(config_class):  # pyright: ignore[reportArgumentType]
        value = checkpoint.settings.get(field.name, field.default)
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
    """Write `config.json` and `model.safetensors`: settings and tensors by their official names, as `read_checkpoint`
    gives them. A tensor's type stays what it is; `"dtype": "float32"` among the settings lets readers compute in that.
    """
    with atomic(folder / WEIGHTS[0]) as temporary:
        save_file({name: tensor.contiguous().cpu() for name, tensor in tensors.items()}, temporary, {"format": "pt"})
        temporary.chmod(0o644)  # the library makes it its owner's alone
    write_json(folder / "config.json", dict(settings))


def _is_like(value: Any, default: Any) -> bool:
    """Whether a setting has the type of its default; where that is None, it is a size that may be left out."""
    if default is None:
        return value is None or type(value) is int
    return type(value) is type(default) or (type(default) is float and type(value) is int)


class _NoFirstValues(TorchFunctionMode):
    """Leaves parameters without the values that `torch.nn.init` would give them."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if getattr(func, "__module__", "") == "torch.nn.init":
            return args[0] if args else (kwargs or {})["tensor"]
        return func(*args, **(kwargs or {}))


def build(checkpoint: Checkpoint, make: Callable[[], Model]) -> Model:
    """The model that `make` gives, with the checkpoint's tensors as its parameters, in eval mode.

    `make` is called where tensors have shapes but no memory. Raises UserError as `make` and `fill` do.
    """
    try:
        # Shapes without memory: the checkpoint's tensors take their places. First values would be of no use, and on the
        # device "meta" PyTorch imports its compiler for them, which takes as long as all else at the start.
        with torch.device("meta"), _NoFirstValues():
            model = make()
    except UserError as error:
        raise UserError(f"{checkpoint.name}: {error}") from None
    fill(model, model.from_official(checkpoint.tensors), checkpoint.name)
    return model.eval()


def fill(model: nn.Module, tensors: Mapping[str, Tensor], name: str) -> None:
    """Make `tensors`, by the names of the model's own parameters, the parameters; memory layout and all.

    Raises UserError for one that is missing, left over, of another shape, or not of floating-point numbers.
    """
    expected = model.state_dict()
    for key, parameter in expected.items():
        if key not in tensors:
            raise UserError(f"{name}: its weights lack what {type(model).__name__} needs for {key}")
        if tensors[key].shape != parameter.shape or not tensors[key].is_floating_point():
            found, wanted = tuple(tensors[key].shape), tuple(parameter.shape)
            raise UserError(f"{name}: weights for {key} are {tensors[key].dtype} {found}, where {wanted} is expected")
    if left := sorted(tensors.keys() - expected.keys()):
        raise UserError(f"{name}: weights of another architecture: nothing here takes {left[0]}")
    model.load_state_dict({key: tensor.float() for key, tensor in tensors.items()}, assign=True)


def _read_json(path: Path, name: str) -> dict[str, Any]:
    if not path.is_file():
        raise UserError(f"{name}: no {path.name} in it")
    try:
        value = json.loads(path.read_bytes())
    except (ValueError, RecursionError):
        raise UserError(f"{name}: {path.name} is damaged, no JSON") from None
    if not isinstance(value, dict):
        raise UserError(f"{name}: {path.name} holds no settings")
    return value


def _read_tensors(folder: Path, name: str) -> dict[str, Tensor]:
    found = next((folder / file for file in WEIGHTS if (folder / file).is_file()), None)
    if found is None:
        raise UserError(f"{name}: no weights in it ({WEIGHTS[0]} or {WEIGHTS[2]} is expected)")
    if found.suffix != ".json":
        return _read_file(found, name)
    tensors = {}
    for shard in _shards(_read_json(found, name), name):
        tensors |= _read_file(folder / shard, name)
    return tensors


def _shards(index: dict[str, Any], name: str) -> list[str]:
    """The files that an index lists: names beside it, never paths to elsewhere."""
    listed = index.get("weight_map")
    files = sorted(set(map(str, listed.values()))) if isinstance(listed, dict) else []
    if not files or any(Path(file).name != file or "\\" in file for file in files):
        raise UserError(f"{name}: the index of its weights must name files beside it")
    return files


def _read_file(path: Path, name: str) -> dict[str, Tensor]:
    if not path.is_file():
        raise UserError(f"{name}: {path.name}, which its index lists, is missing")
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        tensors = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # damaged and hostile files raise errors of many kinds
        raise UserError(f"{name}: {path.name} is damaged or holds more than tensors ({type(error).__name__})") from None
    if not isinstance(tensors, dict) or not all(isinstance(tensor, Tensor) for tensor in tensors.values()):
        raise UserError(f"{name}: {path.name} holds other things than named tensors")
    return tensors


@dataclass
class Demonstration:
    """List what is in a checkpoint: every tensor's name, shape, type and size."""

    model: Path = ROOT / "assets/models/language"  # Folder of a model.
    model_type: str = "gpt2"  # The architecture that its config.json must name.


def main(config: Demonstration) -> None:
    """One line a tensor."""
    tensors = read_checkpoint(config.model, config.model_type).tensors
    for name, tensor in tensors.items():
        print(f"{name:<40} {tuple(tensor.shape)!s:<14} {str(tensor.dtype).removeprefix('torch.')}")
    total = sum(tensor.numel() * tensor.element_size() for tensor in tensors.values())
    print(f"{len(tensors)} tensors, {sum(tensor.numel() for tensor in tensors.values()):,} numbers, {total:,} bytes")


if __name__ == "__main__":
    from lab.launch import launch

    launch(Demonstration, main)
