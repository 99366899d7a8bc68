"""Private or deprecated operators of PyTorch, if this build has them; everything in `speed/` works without them.

PyTorch may remove such operators at any time: each is looked up here, once, and every use has a plain alternative.
"""

import warnings
from typing import Any

import torch
from torch import nn


def operator(namespace: str, name: str) -> Any | None:
    """Return the operator `torch.ops.<namespace>.<name>`, or None if this build does not have it."""
    return getattr(getattr(torch.ops, namespace), name, None)


_CPU_KERNELS = torch.backends.mkl.is_available() and torch.backends.mkldnn.is_available()  # x86
_FBGEMM = "fbgemm" in torch.backends.quantized.supported_engines

reorder_weight: Any = operator("mkldnn", "_reorder_linear_weight") if _CPU_KERNELS else None
onednn_linear: Any = operator("mkldnn", "_linear_pointwise") if _CPU_KERNELS else None
prepack_float16: Any = operator("quantized", "linear_prepack_fp16") if _FBGEMM else None
linear_float16: Any = operator("quantized", "linear_dynamic_fp16") if _FBGEMM else None
prepack_int8: Any = operator("quantized", "linear_prepack") if _FBGEMM else None
linear_int8: Any = operator("quantized", "linear_dynamic") if _FBGEMM else None
quantized_tensor: Any = getattr(torch, "_make_per_channel_quantized_tensor", None)
script: Any = getattr(torch.jit, "script", None)  # deprecated; torch.compile needs a C++ compiler


def has_packed_float16() -> bool:
    """Return True if FBGEMM's float16 linear layer is available."""
    return None not in (prepack_float16, linear_float16)


def has_packed_int8() -> bool:
    """Return True if FBGEMM's int8 linear layer is available."""
    return None not in (prepack_int8, linear_int8, quantized_tensor)


def has_reordered() -> bool:
    """Return True if oneDNN's linear layer with weights reordered in advance is available."""
    return None not in (reorder_weight, onednn_linear)


def scripted(module: nn.Module, device: torch.device) -> nn.Module:
    """Return a module for inference on `device`, on a CPU compiled by TorchScript: it calls operators without Python.

    On a GPU, whole steps become CUDA graphs instead (`speed.cuda_graph`).
    """
    module.eval()
    if script is None or device.type != "cpu":
        return module
    with warnings.catch_warnings(action="ignore"):  # PyTorch deprecates TorchScript
        return script(module)
