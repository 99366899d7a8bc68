"""Tensors: shapes, broadcasting, views, dtypes, devices; each claim is checked as it is printed.

Source: the PyTorch documentation, "Tensor views", "Broadcasting semantics", "Tensor attributes".
"""

if __name__ == "__main__":
    import lab.startup  # noqa: F401 - first: Ctrl-C works while the libraries load

# N examples, F features; every line of output is: a claim, its code, and the result of the code

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

Claim = tuple[
    str, Any, Any
]  # a sentence with code in backticks, what the code gives, what it should


def shapes() -> Iterator[Claim]:
    """A tensor is a table of numbers with a shape; an operation turns shapes into shapes."""
    x = torch.arange(12.0).reshape(3, 4)  # (N, F) = (3, 4): the numbers 0 to 11, row by row
    yield "The shape is a tuple of sizes: `x.shape`", x.shape, (3, 4)
    yield "An index removes an axis: `x[1]`", x[1], [4.0, 5.0, 6.0, 7.0]
    yield "A slice keeps it: `x[1:2].shape`", x[1:2].shape, (1, 4)
    yield "The named axis disappears: `x.mean(dim=0)`", x.mean(dim=0), [4.0, 5.0, 6.0, 7.0]
    yield "One number per example: `x.sum(dim=1)`", x.sum(dim=1), [6.0, 22.0, 38.0]
    kept = x.sum(dim=1, keepdim=True)  # (N, F) -> (N, 1)
    yield "Unless it is kept, with keepdim=True: `kept.shape`", kept.shape, (3, 1)
    yield "None adds an axis of size 1: `x[:, None, :].shape`", x[:, None, :].shape, (3, 1, 4)
    weights = torch.ones(4, 2)  # (F, 2)
    yield "A matrix product sums over F: `(x @ weights).shape`", (x @ weights).shape, (3, 2)
    yield "A new axis: `torch.stack([x, x]).shape`", torch.stack([x, x]).shape, (2, 3, 4)
    yield "A longer one: `torch.cat([x, x]).shape`", torch.cat([x, x]).shape, (6, 4)


def broadcasting() -> Iterator[Claim]:
    """Two shapes are lined up at the right; a missing axis, or one of size 1, is repeated."""
    x = torch.arange(6.0).reshape(3, 2)  # (N, F) = (3, 2)
    mean = x.mean(dim=0)  # (N, F) -> (F,)
    yield "(3, 2) minus (2,): `x - mean`", x - mean, [[-2.0, -2.0], [0.0, 0.0], [2.0, 2.0]]
    scale = torch.tensor([1.0, 10.0, 100.0])  # (N,), one number per example
    yield "(3, 2) and (3,) do not fit: `x * scale`", error_of(lambda: x * scale), "RuntimeError"
    column = scale[:, None]  # (N,) -> (N, 1)
    yield (
        "(3, 2) and (3, 1) do: `x * column`",
        x * column,
        [[0.0, 1.0], [20.0, 30.0], [400.0, 500.0]],
    )
    outputs, targets = torch.zeros(3, 1), torch.zeros(3)  # (N, 1) and (N,)
    yield "The trap, no error: `(outputs - targets).shape`", (outputs - targets).shape, (3, 3)


def views_and_copies() -> Iterator[Claim]:
    """Some operations return a view, which shares the memory, others a copy."""
    x = torch.zeros(2, 3)
    row = x[0]  # a view
    row[0] = 7.0
    yield "A slice is a view, so x has changed: `x[0, 0]`", x[0, 0], 7.0
    chosen = x[[0, 1]]  # indexed by a list: a copy
    chosen[1] = 9.0
    yield "Indexing by a list copies: `x[1]`", x[1], [0.0, 0.0, 0.0]
    flat = x.view(6)  # the same numbers in the same order, cut differently
    shares = flat.data_ptr() == x.data_ptr()
    yield "A view begins at the same place in memory: `shares`", shares, True
    columns = x.T  # (2, 3) -> (3, 2), a view that steps through the memory in another order
    yield "Steps to the next row and column: `x.stride()`", x.stride(), (3, 1)
    yield "The transpose has them exchanged: `columns.stride()`", columns.stride(), (1, 3)
    yield (
        "So it has no flat view: `columns.view(6)`",
        error_of(lambda: columns.view(6)),
        "RuntimeError",
    )
    yield (
        "But reshape copies: `columns.reshape(6)`",
        columns.reshape(6),
        [7.0, 0.0, 0.0, 0.0, 0.0, 0.0],
    )
    numbered = torch.arange(6).reshape(2, 3)
    yield "To transpose: `numbered.T`", numbered.T, [[0, 3], [1, 4], [2, 5]]
    cut = numbered.reshape(3, 2)
    yield "Is not to reshape to (3, 2): `cut`", cut, [[0, 1], [2, 3], [4, 5]]
    array = np.zeros(2)
    shared, copied = torch.from_numpy(array), torch.tensor(array)
    array[0] = 5.0
    yield "from_numpy shares NumPy's memory: `shared[0]`", shared[0], 5.0
    yield "torch.tensor copies it: `copied[0]`", copied[0], 0.0
    shared.add_(1.0)
    yield "A method with an underscore works in place: `array.tolist()`", array.tolist(), [6.0, 1.0]


def dtypes() -> Iterator[Claim]:
    """All numbers of a tensor have one type, which decides range and precision."""
    whole, real = torch.tensor([1, 2]), torch.tensor([1.0, 2.0])
    yield "Whole numbers: `whole.dtype`", whole.dtype, torch.int64
    yield "Others, with half of the digits of Python: `real.dtype`", real.dtype, torch.float32
    from_numpy = torch.from_numpy(np.zeros(1))
    yield "NumPy's numbers keep their type: `from_numpy.dtype`", from_numpy.dtype, torch.float64
    yield "Together the wider type: `(whole + real).dtype`", (whole + real).dtype, torch.float32
    yield "A division gives floats: `whole / 2`", whole / 2, [0.5, 1.0]
    large = torch.tensor(2.0**24)  # float32 has 24 bits for the digits
    yield "Float32 has 7 digits: `large + 1 == large`", large + 1 == large, True
    short = torch.tensor(257.0, dtype=torch.bfloat16)  # 8 bits for the digits
    yield "Bfloat16 has 2: `short`", short, 256.0
    byte = torch.tensor(255, dtype=torch.uint8)
    yield "Whole numbers overflow silently: `byte + 1`", byte + 1, 0
    yield "A mean needs floats: `whole.mean()`", error_of(lambda: whole.mean()), "RuntimeError"


def devices(device: torch.device) -> Iterator[Claim]:
    """A tensor is on one device, and the tensors of an operation must be on the same."""
    x = torch.ones(3, device=device)
    yield "Where it was made: `x.device.type`", x.device.type, device.type
    yield "Results stay there: `(2 * x).device == x.device`", (2 * x).device == x.device, True
    yield "Already there, nothing is copied: `x.to(device) is x`", x.to(device) is x, True
    # "meta" is a device without numbers: it knows shapes only, and every machine has it.
    elsewhere = torch.ones(3, device="meta")
    yield "Two devices do not mix: `x + elsewhere`", error_of(lambda: x + elsewhere), "RuntimeError"
    model = torch.nn.Linear(3, 2)
    yield "A model moves in place: `model.to(device) is model`", model.to(device) is model, True
    moved = x.to("meta")
    yield (
        "A tensor does not, x is where it was: `x.device == moved.device`",
        x.device == moved.device,
        False,
    )
    yield "NumPy needs the CPU: `x.cpu().numpy().sum()`", x.cpu().numpy().sum(), 3.0


def error_of(compute: Callable[[], Any]) -> str:
    """Return the name of the exception that a computation raises."""
    try:
        compute()
    except RuntimeError as error:
        return type(error).__name__
    return "no error"


def plain(value: Any) -> Any:
    """Return a tensor as lists of numbers, a shape as a tuple, and anything else as it is."""
    if isinstance(value, Tensor):
        return value.tolist()
    return tuple(value) if isinstance(value, torch.Size) else value


def show(claims: Iterator[Claim]) -> int:
    """Print claims with what their code gives, and return their number.

    Raises AssertionError for a claim that does not hold.
    """
    count = 0
    for claim, result, expected in claims:
        print(f"  {claim:<67} {plain(result)}")
        if plain(result) != expected:
            raise AssertionError(f"{claim} gives {plain(result)}, not {expected}")
        count += 1
    return count


@dataclass
class Config:
    """Show how tensors behave, and check every claim."""

    output_dir: Path = Path(__file__).parent / "results"  # Folder for the record of the run.
    device: str = "cpu"  # Device of the last section: auto, cpu, cuda or mps.


def main(config: Config) -> None:
    """Print and check all claims, and write the record."""
    from lab.devices import pick_device
    from lab.record import RunRecord

    device = pick_device(config.device)
    record = RunRecord(__file__, config.output_dir, config)
    sections = {
        "shapes": shapes(),
        "broadcasting": broadcasting(),
        "views and copies": views_and_copies(),
        "dtypes": dtypes(),
        "devices": devices(device),
    }
    count = 0
    for title, claims in sections.items():
        print(title)
        count += show(claims)
    record.check("claims that hold", count, "all", ok=True)  # `show` raises where one does not
    record.save()


if __name__ == "__main__":
    from lab.launch import launch

    launch(Config, main)
