"""llama.cpp in benchmarks/inference_peers.py, through llama-cpp-python, with GGUF files written from the same weights.

int8 is its Q8_0: blocks of 32 weights with a scale each. The low-level interface is used, since the other decodes one
sequence at a time. llama.cpp keeps the keys and values in float16 unless it is told otherwise; here float32 is float32.

Shapes: B batch, T positions, E embedding, V vocabulary.
"""

import ctypes
import functools
import tempfile
from pathlib import Path
from typing import Any

import gguf  # pyright: ignore[reportMissingImports]
import llama_cpp  # pyright: ignore[reportMissingImports]
import numpy as np

from inference_common import Generator, Tokens, UnsupportedError, read_model

PACKAGES = ("llama-cpp-python", "gguf")
KINDS = {"float32": "F32", "float16": "F16", "int8": "Q8_0"}
NAMES = {  # those of the Hugging Face layout -> llama.cpp's
    "ln_1": "attn_norm",
    "attn.c_attn": "attn_qkv",
    "attn.c_proj": "attn_output",
    "ln_2": "ffn_norm",
    "mlp.c_fc": "ffn_up",
    "mlp.c_proj": "ffn_down",
}


def write_gguf(folder: Path, path: Path, precision: str) -> None:
    """Write GPT-2 as a GGUF file without a tokenizer; matrices are stored in `precision`."""
    settings, w = read_model(folder, "transformer.")
    vocabulary, width = w["wte.weight"].shape
    writer = gguf.GGUFWriter(path, "gpt2")
    writer.add_block_count(settings["n_layer"])
    writer.add_context_length(settings["n_positions"])
    writer.add_embedding_length(width)
    writer.add_feed_forward_length(4 * width)
    writer.add_head_count(settings["n_head"])
    writer.add_layer_norm_eps(1e-5)
    writer.add_tokenizer_model("none")
    writer.add_vocab_size(vocabulary)
    tensors = {"token_embd.weight": w["wte.weight"], "position_embd.weight": w["wpe.weight"]}
    tensors |= {f"output_norm.{kind}": w[f"ln_f.{kind}"] for kind in ("weight", "bias")}
    for layer in range(settings["n_layer"]):
        for theirs, name in NAMES.items():
            weight, bias = (w[f"h.{layer}.{theirs}.{kind}"] for kind in ("weight", "bias"))
            tensors[f"blk.{layer}.{name}.weight"] = weight.T  # (in, out) -> (out, in); vectors stay
            tensors[f"blk.{layer}.{name}.bias"] = bias
    for name, value in tensors.items():
        is_product = value.ndim == 2 and name != "position_embd.weight"
        kind = gguf.GGMLQuantizationType[KINDS[precision] if is_product else "F32"]
        writer.add_tensor(name, gguf.quants.quantize(np.ascontiguousarray(value), kind), raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


@llama_cpp.llama_log_callback
def _say_nothing(level: int, text: bytes, data: Any) -> None:
    """Drop a message of llama.cpp."""


class Decoder:
    """A context of llama.cpp with room for B sequences."""

    def __init__(self, model: Any, batch: int, capacity: int, precision: str, threads: int) -> None:
        options = llama_cpp.llama_context_default_params()
        options.n_ctx = batch * capacity
        options.n_batch = options.n_ubatch = 512
        options.n_seq_max = batch
        options.n_threads = options.n_threads_batch = threads
        if precision == "float32":
            options.type_k = options.type_v = llama_cpp.GGML_TYPE_F32
        self.context = llama_cpp.llama_init_from_model(model, options)
        if not self.context:
            raise UnsupportedError("llama.cpp made no context")
        self.tokens = llama_cpp.llama_batch_init(512, 0, 1)
        self.vocabulary = llama_cpp.llama_vocab_n_tokens(llama_cpp.llama_model_get_vocab(model))

    def clear(self) -> None:
        """Forget all tokens."""
        llama_cpp.llama_memory_clear(llama_cpp.llama_get_memory(self.context), True)

    def next_tokens(self, ids: np.ndarray, start: int) -> np.ndarray:
        """Read ids (B, T), at the positions from `start`; return the most likely next tokens (B,)."""
        batch, length = ids.shape
        self.tokens.n_tokens = batch * length
        for i, (sequence, offset) in enumerate(np.ndindex(batch, length)):
            self.tokens.token[i] = int(ids[sequence, offset])
            self.tokens.pos[i] = start + offset
            self.tokens.n_seq_id[i] = 1
            self.tokens.seq_id[i][0] = sequence
            self.tokens.logits[i] = offset == length - 1
        if llama_cpp.llama_decode(self.context, self.tokens) != 0:
            raise RuntimeError("llama.cpp could not decode")
        rows = [llama_cpp.llama_get_logits_ith(self.context, (row + 1) * length - 1) for row in range(batch)]
        return np.array([np.ctypeslib.as_array(row, (self.vocabulary,)).argmax() for row in rows])


def generator(folder: Path, precision: str, threads: int) -> Generator:
    """Return a function that continues prompts."""
    llama_cpp.llama_log_set(_say_nothing, ctypes.c_void_p(0))
    llama_cpp.llama_backend_init()
    with tempfile.TemporaryDirectory() as target:
        path = Path(target) / "gpt2.gguf"
        write_gguf(folder / "gpt2", path, precision)
        options = llama_cpp.llama_model_default_params()
        options.use_mmap = False  # the file is removed
        model = llama_cpp.llama_load_model_from_file(str(path).encode(), options)
    if not model:
        raise UnsupportedError("llama.cpp could not load the model")

    @functools.cache
    def decoder(batch: int, capacity: int) -> Decoder:
        return Decoder(model, batch, capacity, precision, threads)

    def run(prompts: Tokens, new_tokens: int) -> Tokens:
        ids = np.array(prompts)  # (B, T)
        length = ids.shape[1]
        context = decoder(len(ids), length + new_tokens)
        context.clear()
        tokens = [context.next_tokens(ids, 0)]
        for position in range(length, length + new_tokens - 1):
            tokens.append(context.next_tokens(tokens[-1][:, None], position))
        return np.stack(tokens, axis=1).tolist()  # (B, new tokens)

    return run
