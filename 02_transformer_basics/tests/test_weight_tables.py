"""The lesson's tables of weights: complete for a checkpoint, and every row in agreement with the code."""

import inspect
import re
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from safetensors.torch import load_file

import transformer_block
from models import distilbert, gpt2
from models.distilbert import DistilBertClassifier
from models.gpt2 import GPT2
from models.hub import GENERATION, SENTIMENT, Task

LESSON = Path(__file__).parent.parent / "models/README.md"
MODELS: list[tuple[Task, Any]] = [(SENTIMENT, DistilBertClassifier), (GENERATION, GPT2)]


class Row(NamedTuple):
    """The cells of a row: names and shapes in the checkpoint, our modules, the functions that use them."""

    theirs: list[str]
    shapes: list[str]
    ours: list[str]
    places: list[str]


def table(number: int) -> list[Row]:
    """The rows of the lesson's table of that number, with `.bias` written out."""
    text = LESSON.read_text(encoding="utf-8").split("| in the checkpoint |")[number + 1].split("\n\n")[0]
    rows = []
    for line in text.splitlines()[2:]:
        theirs, shapes, ours, places = (re.findall(r"`([^`]+)`", cell) for cell in line.strip("|").split("|"))
        whole = [theirs[0], *(theirs[0].rpartition(".")[0] + name for name in theirs[1:])]
        rows.append(Row(whole, shapes, ours, places))
    return rows


def sizes(model: Any) -> dict[str, int]:
    """The sizes behind the letters of the shapes."""
    config, block = model.config, model.blocks[0]
    embedding = model.position_embeddings.weight.shape
    classes = len(getattr(model, "labels", ()))
    return {"V": config.vocab_size, "P": embedding[0], "E": embedding[1], "F": block.ff_in.out_features, "C": classes}


@pytest.mark.parametrize("number", [0, 1], ids=["distilbert", "gpt2"])
def test_the_table_covers_exactly_the_keys_and_shapes_of_a_checkpoint(number: int) -> None:
    task, model_class = MODELS[number]
    model = model_class.from_pretrained(task.bundled)
    letters = sizes(model) | {"3E": 3 * sizes(model)["E"]}
    listed = {}
    for row in table(number):
        for name, shape in zip(row.theirs, row.shapes, strict=True):
            for layer in range(len(model.blocks)) if ".N." in name else (0,):
                listed[name.replace(".N.", f".{layer}.")] = tuple(letters[letter] for letter in shape.split(","))
    stored = {name: tuple(tensor.shape) for name, tensor in load_file(task.bundled / "model.safetensors").items()}
    assert listed == stored


@pytest.mark.parametrize("number", [0, 1], ids=["distilbert", "gpt2"])
def test_every_weight_arrives_where_the_table_says(number: int) -> None:
    task, model_class = MODELS[number]
    model = model_class.from_pretrained(task.bundled)
    parameters, tensors = model.state_dict(), load_file(task.bundled / "model.safetensors")
    arrived = set()
    for row in table(number):
        for name in row.theirs:
            kind = name.rpartition(".")[2]
            for layer in range(len(model.blocks)) if ".N." in name else (0,):
                ours = [f"{each}.{kind}".replace(".N.", f".{layer}.") for each in row.ours]
                tensor = tensors[name.replace(".N.", f".{layer}.")]
                if ".c_" in name and kind == "weight":
                    tensor = tensor.t()  # (in, out) -> (out, in)
                assert torch.equal(torch.cat([parameters[each] for each in ours]), tensor), name
                arrived |= set(ours)
    assert arrived == parameters.keys()


@pytest.mark.parametrize("number", [0, 1], ids=["distilbert", "gpt2"])
def test_the_functions_named_use_the_attributes_named(number: int) -> None:
    for row in table(number):
        for place in row.places:
            owner, _, function = place.partition(".")
            module = next(
                m
                for m in (transformer_block, distilbert, gpt2)
                if owner in vars(m) and m.__name__ in getattr(m, owner).__module__
            )
            source = inspect.getsource(getattr(getattr(module, owner), function))
            for ours in row.ours:
                assert f"self.{ours.rpartition('.')[2]}" in source, (place, ours)
