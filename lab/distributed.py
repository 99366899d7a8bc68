"""Data-parallel training: reduce sums and gradients over all processes. With one process these are no-ops.

`torchrun --nproc_per_node 2 train.py` starts the processes and passes each its rank in environment variables.
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
    """Join the process group that torchrun started, for the duration of the block; a no-op without torchrun."""
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        yield
        return
    # Optimizers import this module at their first step. A process group that exists by then becomes a default argument
    # of its functions, is never destroyed and can abort the process at exit. Imported now, there is none to keep.
    importlib.import_module("torch.distributed.nn.functional")
    dist.init_process_group("cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo")
    try:
        yield
    finally:
        dist.destroy_process_group()


def world_size() -> int:
    """Return the number of processes that train together."""
    return dist.get_world_size() if dist.is_initialized() else 1


def rank() -> int:
    """Return the rank of this process, from 0."""
    return dist.get_rank() if dist.is_initialized() else 0


def sum_over_ranks(tensor: Tensor) -> Tensor:
    """Return the sum of a tensor of any shape over all processes; the result is the same on each."""
    if world_size() > 1:
        tensor = tensor.clone()
        dist.all_reduce(tensor)
    return tensor


def any_rank(condition: bool) -> bool:
    """Return True if `condition` holds on any process. Collective: every process must call it."""
    return bool(sum_over_ranks(torch.tensor(int(condition))))


def average_gradients(parameters: Iterable[Tensor]) -> None:
    """Replace the gradients by their mean over all processes, with a single all-reduce."""
    if world_size() == 1:
        return
    gradients = [p.grad for p in parameters if p.grad is not None]
    mean = sum_over_ranks(torch.cat([g.flatten() for g in gradients])) / world_size()
    means = mean.split([g.numel() for g in gradients])
    for gradient, flat_mean in zip(gradients, means, strict=True):
        gradient.copy_(flat_mean.view_as(gradient))


def gather(item: Any) -> list[Any]:
    """Return the items of all processes in rank order, on every process."""
    if world_size() == 1:
        return [item]
    items: list[Any] = [None] * world_size()
    dist.all_gather_object(items, item)
    return items
