"""ONNX Runtime in benchmarks/inference_peers.py, with graphs written here from the same weights.

The graphs use the fused operators of ONNX Runtime's own optimizer for transformers: attention, SkipLayerNormalization,
FastGelu. The keys and values stay in one buffer per layer (GroupQueryAttention with as many groups as heads). int8 is
its dynamic quantization of all matrix products, with one scale per output.

Shapes: B batch, T positions, C capacity of the cache, E embedding, V vocabulary.
"""

import logging
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import onnx  # pyright: ignore[reportMissingImports]
import onnxruntime  # pyright: ignore[reportMissingImports]
from onnx import TensorProto, helper, numpy_helper  # pyright: ignore[reportMissingImports]
from onnxruntime.quantization import QuantType, quantize_dynamic  # pyright: ignore[reportMissingImports]

from inference_common import Classifier, Generator, Rows, Tokens, in_batches, read_model

logging.disable(logging.WARNING)  # of the quantizer, which recommends what is done here
PACKAGES = ("onnxruntime", "onnx")
FUSED = "com.microsoft"
FLOAT, INT32, INT64 = TensorProto.FLOAT, TensorProto.INT32, TensorProto.INT64


class Graph:
    """A graph under construction: nodes and weights; every method returns the name of its result."""

    def __init__(self) -> None:
        self.nodes: list[Any] = []
        self.weights: dict[str, np.ndarray] = {}

    def weight(self, value: np.ndarray) -> str:
        """Add a constant."""
        name = f"w{len(self.weights)}"
        self.weights[name] = np.array(value, order="C")
        return name

    def node(self, operator: str, *inputs: str, domain: str = "", outputs: tuple[str, ...] = (), **options: Any) -> str:
        """Add an operator; its first output is the result."""
        outputs = outputs or (f"n{len(self.nodes)}",)
        self.nodes.append(helper.make_node(operator, inputs, outputs, domain=domain, **options))
        return outputs[0]

    def linear(self, x: str, weight: np.ndarray, bias: np.ndarray | None = None) -> str:
        """Add a product with a weight (in, out), and a bias (out,)."""
        product = self.node("MatMul", x, self.weight(weight))
        return product if bias is None else self.node("Add", product, self.weight(bias))

    def norm(self, x: str, weight: np.ndarray, bias: np.ndarray, epsilon: float) -> str:
        """Add layer normalization of x."""
        return self.node("LayerNormalization", x, self.weight(weight), self.weight(bias), axis=-1, epsilon=epsilon)

    def save(self, path: Path, inputs: dict[str, tuple[int, list[Any]]], outputs: dict[str, list[Any]]) -> None:
        """Write the graph; inputs are name to type and shape, outputs name to shape."""
        graph = helper.make_graph(
            self.nodes,
            path.stem,
            [helper.make_tensor_value_info(name, kind, shape) for name, (kind, shape) in inputs.items()],
            [helper.make_tensor_value_info(name, FLOAT, shape) for name, shape in outputs.items()],
            [numpy_helper.from_array(value, name) for name, value in self.weights.items()],
        )
        opsets = [helper.make_opsetid("", 17), helper.make_opsetid(FUSED, 1)]
        onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=9), path)


def gpt2_graph(folder: Path, path: Path) -> None:
    """Write GPT-2: ids, positions and caches -> logits (B, V) of the next token, and the same caches, extended."""
    settings, w = read_model(folder, "transformer.")
    heads = settings["n_head"]
    g = Graph()
    tokens = g.node("Gather", g.weight(w["wte.weight"]), "input_ids")  # (B, T) -> (B, T, E)
    x = g.node("Add", tokens, g.node("Gather", g.weight(w["wpe.weight"]), "positions"))  # (B, T, E)
    cache = ["B", heads, "C", settings["n_embd"] // heads]
    inputs = {
        "input_ids": (INT64, ["B", "T"]),
        "positions": (INT64, ["T"]),
        "last": (INT32, ["B"]),
        "total": (INT32, []),
    }
    outputs: dict[str, list[Any]] = {"logits": ["B", w["wte.weight"].shape[0]]}
    for layer in range(settings["n_layer"]):
        p = {name.removeprefix(f"h.{layer}."): value for name, value in w.items() if name.startswith(f"h.{layer}.")}
        normed = g.norm(x, p["ln_1.weight"], p["ln_1.bias"], 1e-5)
        qkv = g.linear(normed, p["attn.c_attn.weight"], p["attn.c_attn.bias"])  # (B, T, 3E)
        past = [f"past_{kind}_{layer}" for kind in ("key", "value")]
        present = [f"present_{kind}_{layer}" for kind in ("key", "value")]
        inputs |= dict.fromkeys(past, (FLOAT, cache))
        outputs |= dict.fromkeys(present, cache)
        mixed = g.node(
            "GroupQueryAttention",
            *(qkv, "", "", *past, "last", "total"),
            domain=FUSED,
            outputs=(f"mixed_{layer}", *present),
            num_heads=heads,
            kv_num_heads=heads,
        )  # (B, T, E)
        x = g.node("Add", x, g.linear(mixed, p["attn.c_proj.weight"], p["attn.c_proj.bias"]))
        normed = g.norm(x, p["ln_2.weight"], p["ln_2.bias"], 1e-5)
        product = g.node("MatMul", normed, g.weight(p["mlp.c_fc.weight"]))  # (B, T, 4E)
        activated = g.node("FastGelu", product, g.weight(p["mlp.c_fc.bias"]), domain=FUSED)
        x = g.node("Add", x, g.linear(activated, p["mlp.c_proj.weight"], p["mlp.c_proj.bias"]))
    x = g.node("Gather", x, g.weight(np.array(-1)), axis=1)  # (B, T, E) -> (B, E)
    x = g.norm(x, w["ln_f.weight"], w["ln_f.bias"], 1e-5)
    g.node("MatMul", x, g.weight(w["wte.weight"].T), outputs=("logits",))  # (B, V)
    g.save(path, inputs, outputs)


def distilbert_graph(folder: Path, path: Path) -> None:
    """Write DistilBERT: ids and the length of every text -> class probabilities (B, 2)."""
    settings, w = read_model(folder)
    g = Graph()

    def linear(x: str, *names: str, bias: bool = True) -> str:
        weight, biases = parameters(*names)
        return g.linear(x, weight, biases if bias else None)

    def parameters(*names: str) -> tuple[np.ndarray, np.ndarray]:
        weight = np.concatenate([w[f"{name}.weight"].T for name in names], axis=1)  # (in, out), out one after another
        return weight, np.concatenate([w[f"{name}.bias"] for name in names])

    def add_and_norm(x: str, skip: str, name: str) -> str:
        gain, bias = g.weight(w[f"{name}.weight"]), g.weight(w[f"{name}.bias"])
        return g.node("SkipLayerNormalization", x, skip, gain, bias, domain=FUSED, epsilon=1e-12)

    words = g.node("Gather", g.weight(w["distilbert.embeddings.word_embeddings.weight"]), "input_ids")  # (B, T, E)
    places = g.node("Gather", g.weight(w["distilbert.embeddings.position_embeddings.weight"]), "positions")  # (T, E)
    norm = "distilbert.embeddings.LayerNorm"
    x = g.norm(g.node("Add", words, places), w[f"{norm}.weight"], w[f"{norm}.bias"], 1e-12)
    for layer in range(settings["n_layers"]):
        p = f"distilbert.transformer.layer.{layer}."
        weight, bias = parameters(*(f"{p}attention.{kind}_lin" for kind in "qkv"))  # (E, 3E), (3E,)
        inputs = (x, g.weight(weight), g.weight(bias), "lengths")
        mixed = g.node("Attention", *inputs, domain=FUSED, num_heads=settings["n_heads"])  # (B, T, E)
        x = add_and_norm(x, linear(mixed, f"{p}attention.out_lin"), f"{p}sa_layer_norm")
        product = linear(x, f"{p}ffn.lin1", bias=False)  # (B, T, 4E)
        activated = g.node("BiasGelu", product, g.weight(w[f"{p}ffn.lin1.bias"]), domain=FUSED)
        x = add_and_norm(x, linear(activated, f"{p}ffn.lin2"), f"{p}output_layer_norm")
    x = g.node("Gather", x, g.weight(np.array(0)), axis=1)  # (B, T, E) -> (B, E)
    x = g.node("Relu", linear(x, "pre_classifier"))
    g.node("Softmax", linear(x, "classifier"), axis=-1, outputs=("probabilities",))  # (B, 2)
    shapes = {"input_ids": (INT64, ["B", "T"]), "positions": (INT64, ["T"]), "lengths": (INT32, ["B"])}
    g.save(path, shapes, {"probabilities": ["B", 2]})


def session(write: Any, folder: Path, precision: str, threads: int) -> Any:
    """Return an inference session of a graph, as it is or quantized."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    with tempfile.TemporaryDirectory() as target:
        path, quantized = Path(target) / "model.onnx", Path(target) / "int8.onnx"
        write(folder, path)
        if precision == "int8":
            operators = ["MatMul", "Attention"]
            float_tensors = {"DefaultTensorType": FLOAT}  # of the fused operators, which ONNX itself does not know
            kind = QuantType.QInt8
            quantize_dynamic(path, quantized, operators, True, weight_type=kind, extra_options=float_tensors)
            path = quantized
        return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def generator(folder: Path, precision: str, threads: int) -> Generator:
    """Return a function that continues prompts."""
    model = session(gpt2_graph, folder / "gpt2", precision, threads)
    settings, _ = read_model(folder / "gpt2")
    heads, head_size = settings["n_head"], settings["n_embd"] // settings["n_head"]
    names = [f"{kind}_{layer}" for layer in range(settings["n_layer"]) for kind in ("key", "value")]

    def run(prompts: Tokens, new_tokens: int) -> Tokens:
        ids = np.array(prompts)  # (B, T)
        batch, length = ids.shape
        binding = model.io_binding()
        for name in names:  # the buffer that is read is the one that is written
            empty = np.zeros((batch, heads, length + new_tokens, head_size), dtype=np.float32)
            cache = onnxruntime.OrtValue.ortvalue_from_numpy(empty)
            binding.bind_ortvalue_input(f"past_{name}", cache)
            binding.bind_ortvalue_output(f"present_{name}", cache)
        new, tokens = ids, []
        for total in range(length, length + new_tokens):
            binding.bind_cpu_input("input_ids", new)
            binding.bind_cpu_input("positions", np.arange(total - new.shape[1], total))
            binding.bind_cpu_input("last", np.full(batch, total - 1, dtype=np.int32))
            binding.bind_cpu_input("total", np.array(total, dtype=np.int32))
            binding.bind_output("logits", "cpu")
            model.run_with_iobinding(binding)
            logits = binding.get_outputs()[-1].numpy()  # (B, V)
            new = logits.argmax(axis=-1)[:, None]  # (B, 1)
            tokens.append(new)
        return np.concatenate(tokens, axis=1).tolist()

    return run


def classifier(folder: Path, precision: str, threads: int) -> Classifier:
    """Return a function that classifies texts."""
    model = session(distilbert_graph, folder / "distilbert", precision, threads)

    def run(texts: Tokens) -> Rows:
        lengths = np.array([len(text) for text in texts], dtype=np.int32)
        ids = np.zeros((len(texts), lengths.max()), dtype=np.int64)  # (B, T)
        for row, text in zip(ids, texts, strict=True):
            row[: len(text)] = text
        inputs = {"input_ids": ids, "positions": np.arange(ids.shape[1]), "lengths": lengths}
        return model.run(["probabilities"], inputs)[0].tolist()

    return in_batches(run)
