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

from lab.errors import UserError

RENDEZVOUS = ("RANK", "MASTER_ADDR", "MASTER_PORT")  # what torchrun sets beside WORLD_SIZE


@contextmanager
def process_group() -> Iterator[None]:
    """Join the process group that torchrun started, for the duration of the block; a no-op without torchrun.

    Raises UserError if its environment variables are incomplete or invalid.
    """
    if requested_processes() == 1:
        yield
        return
    # Optimizers import this module at their first step. A process group that exists by then becomes a default argument
    # of its functions, is never destroyed and can abort the process at exit. Imported now, there is none to keep.
    importlib.import_module("torch.distributed.nn.functional")
    local_rank = int(os.environ.get("LOCAL_RANK") or 0)
    try:
        if local_rank < torch.cuda.device_count():
            torch.cuda.set_device(local_rank)  # each process of a machine has a GPU of its own, if there are enough
        dist.init_process_group("cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo")
    except (ValueError, RuntimeError) as error:  # an invalid address or port, or nobody answers there
        reason = str(error).splitlines()[0]
        raise UserError(f"the processes cannot reach each other ({reason}); start them with torchrun") from error
    try:
        yield
    finally:
        dist.destroy_process_group()


def requested_processes() -> int:
    """Return the number of processes that torchrun started; 1 without it. Raises UserError as `process_group`."""
    count = _number("WORLD_SIZE", least=1) if os.environ.get("WORLD_SIZE") else 1
    if count == 1:
        return 1
    missing = [name for name in RENDEZVOUS if not os.environ.get(name)]
    if missing:
        reason = f"WORLD_SIZE is {count}, without {', '.join(missing)}"
        raise UserError(f"{reason}; start the processes with torchrun, or unset WORLD_SIZE")
    if _number("RANK", least=0) >= count:
        raise UserError(f"RANK is {os.environ['RANK']}, but WORLD_SIZE {count}; start the processes with torchrun")
    _number("MASTER_PORT", least=0)
    return count


def _number(name: str, least: int) -> int:
    """Return an environment variable as a number. Raises UserError, naming it, unless it is `least` or more."""
    text = os.environ[name]
    if not text.strip().isdecimal() or int(text) < least:
        hint = "start several processes with torchrun, or unset it"
        raise UserError(f"{name} is {text!r}; it must be a number, {least} or more; {hint}")
    return int(text)


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
