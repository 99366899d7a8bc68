"""A pretended GPU, so that every command with --device is tested on every machine.

    with pretended_gpu():
        main(Config(device="cuda"))        # `pick_device("cuda")` returns the pretended device

Tensors on the pretended device compute what they would on the CPU, in the same order, so that the results of a run can
be compared with those on the CPU exactly. What fails on a GPU fails here: operations that mix devices, `numpy()`, GPU
indices into a CPU tensor, saving tensors that were not moved to the CPU first. Speed, memory, kernels, generators and
autocast are not imitated. PyTorch calls the device "gpu:0": a device with the name "cuda" needs a CUDA build.
"""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import cache
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map
from torch.utils.backend_registration import (
    _DummyBackendModule,
    _DummyPrivateUse1Hook,
    _setup_privateuseone_for_python_backend,
)

import lab.devices

NAME = "gpu"
CPU = torch.device("cpu")
CPU_GENERATOR = torch.Generator
AUTOCAST = torch.library.Library("_", "IMPL", "AutocastPrivateUse1")
aten = torch.ops.aten
COPIES = {aten._to_copy, aten.copy_, aten.copy, aten._copy_from}  # may read one device and write another
INDEXING = {aten.index, aten.index_put, aten.index_put_, aten._index_put_impl_, aten._unsafe_index}
NO_CPU_SCALARS = {aten.stack, aten.cat}  # elsewhere a CPU tensor without dimensions may be mixed with GPU tensors


class GpuTensor(Tensor):
    """A tensor on the pretended device; its numbers are in `on_cpu`, a tensor on the CPU."""

    on_cpu: Tensor

    @staticmethod
    def __new__(cls, on_cpu: Tensor) -> "GpuTensor":
        tensor = Tensor._make_wrapper_subclass(  # pyright: ignore[reportAttributeAccessIssue]
            cls,
            on_cpu.size(),
            strides=on_cpu.stride(),
            storage_offset=on_cpu.storage_offset(),
            dtype=on_cpu.dtype,
            device=torch.device(NAME, 0),
        )
        tensor.on_cpu = on_cpu
        return tensor

    def __repr__(self, *, tensor_contents: Any = None) -> str:
        return f"GpuTensor({self.on_cpu})"

    # With these two methods `module.to(device)` keeps its parameter objects, as it does for a real device.
    def __tensor_flatten__(self) -> tuple[list[str], None]:
        return ["on_cpu"], None

    @staticmethod
    def __tensor_unflatten__(inner: dict[str, Tensor], context: None, size: Any, stride: Any) -> "GpuTensor":
        return GpuTensor(inner["on_cpu"])

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return compute(func, args, kwargs or {})

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is torch.nn.functional.scaled_dot_product_attention:  # would choose among the kernels of a device
            return plain_attention(*args, **(kwargs or {}))
        if func == Tensor.data.__set__:  # pyright: ignore[reportAttributeAccessIssue]
            args[0].on_cpu = args[1].on_cpu
        with torch._C.DisableTorchFunctionSubclass():
            return func(*args, **(kwargs or {}))

    def tolist(self) -> Any:
        return self.on_cpu.tolist()

    def numpy(self, *, force: bool = False) -> Any:
        if force:
            return self.on_cpu.numpy(force=True)
        raise TypeError("can't convert a GPU tensor to numpy; use Tensor.cpu() first")

    def __array__(self, *args: Any, **kwargs: Any) -> Any:
        return self.numpy()

    def __reduce_ex__(self, protocol: Any) -> Any:
        raise TypeError("a tensor on a GPU is about to be saved; a machine without one could not read it")


class AnyGenerator(torch.Generator):
    """Replaces `torch.Generator`: one of the pretended device is a generator of the CPU."""

    def __new__(cls, device: Any = CPU) -> torch.Generator:
        return CPU_GENERATOR(CPU if torch.device(device).type == NAME else device)


def plain_attention(*args: Any, enable_gqa: bool = False, **kwargs: Any) -> Tensor:
    """Return scaled dot-product attention from plain operations, which check the devices."""
    return aten._scaled_dot_product_attention_math(*args, enable_gqa=enable_gqa, **kwargs)[0]


def check_devices(func: Any, args: Any, kwargs: Any) -> None:
    """Raise RuntimeError if an operation mixes tensors of both devices in a way that a GPU does not allow."""
    tensors = [each for each in tree_leaves((args, kwargs)) if isinstance(each, Tensor)]
    on_gpu = [isinstance(tensor, GpuTensor) for tensor in tensors]
    packet = func.overloadpacket
    if packet in COPIES or not any(on_gpu) or all(on_gpu):
        return
    if packet in INDEXING and on_gpu[0]:  # the indices may be on the CPU
        written = [each for each in args[2:3] if isinstance(each, Tensor)]
        if all(isinstance(each, GpuTensor) or each.dim() == 0 for each in written):
            return
    only_scalars = all(gpu or tensor.dim() == 0 for gpu, tensor in zip(on_gpu, tensors, strict=True))
    writes_cpu = func._schema.is_mutable and not on_gpu[0]
    if packet in INDEXING | NO_CPU_SCALARS or writes_cpu or not only_scalars:
        message = "Expected all tensors to be on the same device, but found at least two devices, gpu:0 and cpu!"
        raise RuntimeError(f"{message} ({func})")


def compute(func: Any, args: Any, kwargs: Any) -> Any:
    """Run an operation on the CPU; the results are on the pretended device if `device` says so, or else the inputs."""
    check_devices(func, args, kwargs)
    inputs = [each for each in tree_leaves((args, kwargs)) if isinstance(each, Tensor)]
    gpu_inputs = [each for each in inputs if isinstance(each, GpuTensor)]
    on_gpu = bool(gpu_inputs)
    if func.overloadpacket in COPIES:
        on_gpu = isinstance(inputs[0], GpuTensor)
    if kwargs.get("device") is not None:
        on_gpu = torch.device(kwargs["device"]).type == NAME
        kwargs = {**kwargs, "device": CPU} if on_gpu or gpu_inputs else kwargs

    cpu_args, cpu_kwargs = tree_map(lambda each: each.on_cpu if isinstance(each, GpuTensor) else each, (args, kwargs))
    result = func(*cpu_args, **cpu_kwargs)

    # An operation in place returns the tensor that it was given.
    given = {id(each.on_cpu): each for each in gpu_inputs}

    def wrap(each: Any) -> Any:
        if not isinstance(each, Tensor):
            return each
        if on_gpu:
            return given.get(id(each)) if id(each) in given else GpuTensor(each)
        return each

    return tree_map(wrap, result)


class PretendedGpu(TorchDispatchMode):
    """Sends every operation through `compute`: those on CPU tensors, too, may ask for the pretended device."""

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False  # `torch.compile` is not used; preparing for it takes seconds

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return compute(func, args, kwargs or {})


class GpuModule(_DummyBackendModule):
    """The module `torch.gpu`; outside of `pretended_gpu` it has no device."""

    is_there = False

    def is_available(self) -> bool:
        return self.is_there

    def device_count(self) -> int:
        return int(self.is_there)

    def get_amp_supported_dtype(self) -> list[torch.dtype]:
        return [torch.bfloat16, torch.float16]

    def get_rng_state(self, device: Any = None) -> Tensor:
        return torch.get_rng_state()

    def set_rng_state(self, state: Tensor, device: Any = None) -> None:
        pass


class GpuHook(_DummyPrivateUse1Hook):
    """Answers PyTorch's questions about the device."""

    def is_available(self) -> bool:
        return MODULE.is_there


MODULE = GpuModule()


@cache
def register() -> None:
    """Tell PyTorch that there can be a device of this name; once per process."""
    _setup_privateuseone_for_python_backend(NAME, MODULE, GpuHook())
    AUTOCAST.fallback(torch.library.fallthrough_kernel)


@contextmanager
def pretended_gpu() -> Iterator[None]:
    """Within this context `lab.devices` knows a CUDA device, which is the pretended one."""
    register()

    def device(name: Any, *index: int) -> torch.device:
        return torch.device(NAME, 0) if str(name).startswith("cuda") else torch.device(name, *index)

    known = SimpleNamespace(
        device=device,
        cuda=SimpleNamespace(is_available=lambda: True),
        backends=torch.backends,
        get_num_threads=torch.get_num_threads,
        set_num_threads=torch.set_num_threads,
    )
    with ExitStack() as stack:
        stack.enter_context(patch.object(lab.devices, "torch", known))
        stack.enter_context(patch.object(MODULE, "is_there", True))
        stack.enter_context(patch.object(torch, "Generator", AnyGenerator))
        # `torch.tensor(..., device=device)` makes the tensor on the CPU and then moves it.
        stack.callback(torch._C._set_only_lift_cpu_tensors, torch._C._only_lift_cpu_tensors())
        torch._C._set_only_lift_cpu_tensors(True)
        stack.enter_context(torch.autograd.set_multithreading_enabled(False))  # backward stays in this thread and mode
        stack.enter_context(PretendedGpu())
        yield
