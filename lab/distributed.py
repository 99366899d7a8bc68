"""Several processes that train one model: sums and gradients over all of them. With one process, nothing happens.

`torchrun --nproc_per_node 2 train.py` starts the processes and tells each its rank by environment variables.
"""

import importlib
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor


@contextmanager
def process_group() -> Iterator[None]:
    """Join the processes that torchrun started, for the length of the block; alone if it did not start this one."""
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        yield
        return
    # Optimizers import this module at their first step, and a group that there is by then becomes the default argument
    # of its functions: never destroyed, it can abort the process at its end. Imported now, it has none to keep.
    importlib.import_module("torch.distributed.nn.functional")
    dist.init_process_group("cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo")
    try:
        yield
    finally:
        dist.destroy_process_group()


def world_size() -> int:
    """How many processes train together."""
    return dist.get_world_size() if dist.is_initialized() else 1


def rank() -> int:
    """Which of them this one is, from 0."""
    return dist.get_rank() if dist.is_initialized() else 0


def sum_over_ranks(tensor: Tensor) -> Tensor:
    """The sum of a tensor of any shape over all processes; the same on each."""
    if world_size() > 1:
        tensor = tensor.clone()
        dist.all_reduce(tensor)
    return tensor


def any_rank(condition: bool) -> bool:
    """Whether it holds in any of the processes; all ask together, and get the same answer."""
    return bool(sum_over_ranks(torch.tensor(int(condition))))


def average_gradients(parameters: Iterable[Tensor]) -> None:
    """Replace the gradients by their mean over all processes, in one message."""
    if world_size() == 1:
        return
    gradients = [p.grad for p in parameters if p.grad is not None]
    mean = sum_over_ranks(torch.cat([g.flatten() for g in gradients])) / world_size()
    for gradient, part in zip(gradients, mean.split([g.numel() for g in gradients]), strict=True):
        gradient.copy_(part.view_as(gradient))


def gather(item: Any) -> list[Any]:
    """The items of all processes, by rank; on each of them."""
    if world_size() == 1:
        return [item]
    items: list[Any] = [None] * world_size()
    dist.all_gather_object(items, item)
    return items
