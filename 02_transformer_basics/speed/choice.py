"""Choice of the kernel for a linear layer: the fastest on this processor, measured once and remembered.

Every kernel at hand multiplies weights of the layer's size, in turns with all other sizes and kernels, so that the
weights come from memory as they do in a model. On a GPU one kind of layer is chosen for all sizes: between two kinds
the activations would have to be converted. The choices are kept in the user's cache folder with the processor's name,
the version of PyTorch and the number of threads; where that is not possible, they are measured again.

Shapes: O outputs, I inputs.
"""

import time
from collections.abc import Callable, Iterable, Mapping
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lab.cache import KERNELS, remember, remembered
from lab.launch import warn_once
from lab.record import processor
from speed.cuda_graph import capture, uses_graphs
from speed.kernels import scripted
from speed.linear_layers import LayerFactory, layers_of, stacked_parameters
from speed.quantization import PRECISIONS

LinearFactory = Callable[..., nn.Module]  # from one or several nn.Linear of the same input
Size = tuple[int, int]  # (O, I)
CPU = torch.device("cpu")
ROWS = (1, 8, 256)  # of the products to choose for: one text, several in a step of generation, whole texts at a time
MAX_OUTPUTS = 8192  # of a measured layer: a larger one takes its time in proportion
ROUNDS = 8  # the first is a warm-up
MIN_GAIN = 1.05  # float32 must be faster than 16 and 8 bits by this factor to replace them: less is noise
LARGEST_ERROR = 0.1  # relative to the exact product: a kernel that is further off does not work here


def choose(precision: str, sizes: Iterable[Size], rows: int, like: Tensor) -> dict[Size, str]:
    """Return for each size (O, I) the name of the fastest layer of `precision` for products with about `rows` rows.

    `like`: any tensor of the model, for its device and type.
    """
    layers = layers_of(precision, like, rows)
    if len(layers) == 1:
        return dict.fromkeys(sizes, next(iter(layers)))
    names = chosen_names(layers, precision, set(sizes), rows, like.device)
    for other in PRECISIONS:
        replaced = sorted(_text(size) for size, name in names.items() if name.startswith(f"{other} "))
        if replaced:
            warn_once(
                f"{precision} is not faster than {other} here for weights of {', '.join(replaced)}: "
                f"there, {other} products with rounded weights are used"
            )
    return names


def linear_factory(precision: str, names: Mapping[Size, str], like: Tensor) -> LinearFactory:
    """Return a function that makes, from plain linear layers of the same input, one that computes all of them.

    `names`: of the layers for each size, from `choose`; `like` as there.
    """
    layers = {name: layer for rows in ROWS for name, layer in layers_of(precision, like, rows).items()}

    def make(*plain: nn.Linear | nn.Embedding) -> nn.Module:
        weight, bias = stacked_parameters(*plain)
        try:
            return layers[names[weight.shape[0], weight.shape[1]]](weight, bias)
        except (RuntimeError, ValueError):  # remembered from a process in which it worked; the first works everywhere
            return next(iter(layers.values()))(weight, bias)

    return make


def chosen_names(
    layers: Mapping[str, LayerFactory], precision: str, sizes: set[Size], rows: int, device: torch.device = CPU
) -> dict[Size, str]:
    """Return for each size the name of its fastest layer: remembered, or else measured and then remembered."""
    device_name = torch.cuda.get_device_name(device) if device.type == "cuda" else processor()
    products = f"{device_name}, torch {torch.__version__}, {torch.get_num_threads()} threads, {precision}, rows {rows}"
    key = f"{products}, among {', '.join(layers)}"  # another version of the lab may have others
    known = {text: name for text, name in remembered(KERNELS).get(key, {}).items() if name in list(layers)}
    missing = sorted(size for size in sizes if _text(size) not in known)
    if missing:
        if uses_graphs(device):
            measured = dict.fromkeys(sizes, fastest_on_gpu(layers, sizes, rows, device))
        else:
            measured = fastest(layers, missing, rows)
        known |= {_text(size): name for size, name in measured.items()}
        remember(KERNELS, key, known, replaces=products)
    return {size: known[_text(size)] for size in sizes}


def _text(size: Size) -> str:
    return f"{size[0]}x{size[1]}"


@torch.inference_mode()
def fastest(layers: Mapping[str, LayerFactory], sizes: Iterable[Size], rows: int) -> dict[Size, str]:
    """Return for each size (O, I) the name of the layer that takes the least time for `rows` rows."""
    generator = torch.Generator().manual_seed(0)  # the caller's random numbers stay as they are
    inputs = {size: torch.randn(rows, 1, size[1], generator=generator, dtype=torch.float32) for size in sizes}
    made = {
        (size, name): layer for size in sizes for name, layer in working(layers, size, inputs[size], generator).items()
    }
    seconds = dict.fromkeys(made, float("inf"))
    for _ in range(ROUNDS):
        for (size, name), layer in made.items():
            seconds[size, name] = min(seconds[size, name], timed(partial(layer, inputs[size]), CPU))
    return {size: min(layers, key=lambda name: _cost(seconds.get((size, name)), name)) for size in sizes}


@torch.inference_mode()
def fastest_on_gpu(layers: Mapping[str, LayerFactory], sizes: Iterable[Size], rows: int, device: torch.device) -> str:
    """Return the name of the layers that take the least time for products with `rows` rows of all sizes together.

    Each kind is a CUDA graph, as in a step of generation, and its inputs are of the type that it writes. `kinds` keeps
    the tensors that the graphs read.
    """
    generator = torch.Generator(device).manual_seed(0)
    kinds = {name: _products(layer, sizes, rows, generator) for name, layer in layers.items()}
    replays = {name: capture(partial(_multiply, products), device) for name, products in kinds.items() if products}
    seconds = {name: min(timed(replay, device) for _ in range(ROUNDS)) for name, replay in replays.items()}
    return min(layers, key=lambda name: _cost(seconds.get(name), name))


def _products(
    layer: LayerFactory, sizes: Iterable[Size], rows: int, generator: torch.Generator
) -> list[tuple[nn.Module, Tensor]]:
    """Return layers of all sizes with their inputs (R, 1, I); nothing if a GPU has no products of their type."""
    products: list[tuple[nn.Module, Tensor]] = []
    randn = partial(torch.randn, generator=generator, device=generator.device, dtype=torch.float32)
    for outputs, inputs in sizes:
        shape = (min(outputs, MAX_OUTPUTS), inputs)
        weight = randn(*shape)
        x = randn(rows, 1, inputs)
        try:
            made = layer(weight, weight.new_zeros(len(weight)))
            products.append((made, x.to(made(x).dtype)))
        except RuntimeError:
            return []
    return products


def _multiply(products: list[tuple[nn.Module, Tensor]]) -> Tensor:
    return [layer(x) for layer, x in products][-1]


def timed(run: Callable[[], Tensor], device: torch.device) -> float:
    """Return the seconds that `run` takes on its device."""
    if device.type != "cuda":
        start = time.perf_counter()
        run()
        return time.perf_counter() - start
    with torch.cuda.device(device):
        begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        begin.record()
        run()
        end.record()
        end.synchronize()
    return begin.elapsed_time(end) / 1000  # from milliseconds


def _cost(seconds: float | None, name: str) -> float:
    """Return the seconds of a kernel, infinity where it does not work; float32 only replaces fewer bits if it gains."""
    if seconds is None:
        return float("inf")
    return seconds * MIN_GAIN if name.startswith("float32 ") else seconds


def working(
    layers: Mapping[str, LayerFactory], size: Size, x: Tensor, generator: torch.Generator
) -> dict[str, nn.Module]:
    """Return name -> layer of one size for all kernels that multiply x (R, 1, I) rightly on this processor."""
    outputs, inputs = min(size[0], MAX_OUTPUTS), size[1]
    weight = torch.randn(outputs, inputs, generator=generator, dtype=torch.float32)
    bias = torch.randn(outputs, generator=generator, dtype=torch.float32)
    expected = F.linear(x, weight, bias)  # (R, 1, I) -> (R, 1, O)
    made: dict[str, nn.Module] = {}
    for name, layer in layers.items():
        try:
            made[name] = scripted(layer(weight, bias), weight.device)
            error = (made[name](x) - expected).norm() / expected.norm()
        except (RuntimeError, ValueError):  # not for this processor, or not for this size
            made.pop(name, None)
            continue
        if name != next(iter(layers)) and not error < LARGEST_ERROR:
            del made[name]
    return made
