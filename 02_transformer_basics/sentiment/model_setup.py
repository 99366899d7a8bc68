"""Tokenizers and initial weights: random, from a pre-trained encoder, or from a teacher; and saving a classifier.

Shapes: V vocabulary, P positions, E embedding, F feed-forward size, C classes.
"""

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import torch
from tokenizers import (
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
    trainers,
)
from torch import Tensor, nn
from transformers import BertTokenizer, PreTrainedTokenizerFast

from lab.errors import UserError
from lab.files import read_text
from models.checkpoints import Checkpoint, assign_state_dict, read_checkpoint, read_settings, write_checkpoint
from models.distilbert import DistilBertClassifier, DistilBertConfig
from transformer_block import TransformerBlock

SPECIAL_TOKENS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
PRINTABLE_ASCII = [chr(code) for code in range(33, 127)]
MAX_LENGTH = 256
INIT_STD = 0.02  # BERT's (Devlin et al. 2018)


# --- tokenizers -------------------------------------------------------------------------------------------------------


def wrap_tokenizer(tokenizer: Tokenizer, max_length: int = MAX_LENGTH) -> PreTrainedTokenizerFast:
    """Return the tokenizer as one of `transformers`, for texts of at most `max_length` tokens."""
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        model_max_length=max_length,
        model_input_names=["input_ids", "attention_mask"],
        **{f"{token[1:-1].lower()}_token": token for token in SPECIAL_TOKENS},
    )


def load_tokenizer(folder: Path) -> PreTrainedTokenizerFast:
    """Read the tokenizer of a model's folder: `tokenizer.json`, or `vocab.txt` of the older layout.

    It cuts texts to MAX_LENGTH tokens, or to the positions of the model. Raises UserError, naming the folder, if there
    is none, if it is damaged, if it is not BERT's, or if it does not fit the model.
    """
    tokenizer = _read_tokenizer(folder)
    for token in SPECIAL_TOKENS:
        if tokenizer.token_to_id(token) is None:
            raise UserError(f"{folder}: not BERT's tokenizer, it lacks {token}")
    config = _read_sizes(folder)
    ids = tokenizer.get_vocab().values()
    if len(ids) <= len(SPECIAL_TOKENS) or max(ids) >= config.vocab_size:
        sizes = f"{len(ids)} tokens up to id {max(ids)}, and the model {config.vocab_size} embeddings"
        raise UserError(f"{folder}: its tokenizer does not fit the model; it has {sizes}")
    return wrap_tokenizer(tokenizer, min(MAX_LENGTH, config.max_position_embeddings))


def _read_tokenizer(folder: Path) -> Tokenizer:
    try:
        if (folder / "tokenizer.json").is_file():
            return Tokenizer.from_str(read_text(folder / "tokenizer.json"))
        if (folder / "vocab.txt").is_file():
            return BertTokenizer.from_pretrained(str(folder)).backend_tokenizer
    except UserError:
        raise
    except Exception as error:  # the libraries raise errors of many kinds
        reason = " ".join(str(error).split())[:100]
        raise UserError(f"{folder}: its tokenizer cannot be read ({reason})") from None
    raise UserError(f"{folder}: no tokenizer in it (tokenizer.json or vocab.txt is expected)")


def _read_sizes(folder: Path) -> DistilBertConfig:
    path = folder / "config.json"
    try:
        settings = json.loads(read_text(path))
    except ValueError:
        settings = None
    if not isinstance(settings, dict):
        raise UserError(f"{path}: not the settings of a model")
    return read_settings(DistilBertConfig, Checkpoint(str(folder), settings, {}))


def train_tokenizer(texts: Sequence[str], vocab_size: int) -> PreTrainedTokenizerFast:
    """Learn a lower-case WordPiece vocabulary, with BERT's special tokens and its template [CLS] text [SEP]."""
    tokenizer = bert_tokenizer({token: index for index, token in enumerate(SPECIAL_TOKENS)})
    # The library breaks ties between equally frequent pairs by the ids of their pieces, and numbers the characters
    # within words in the order of a hash table. Given ids in advance, the vocabulary is the same in every run.
    normalized = [tokenizer.normalizer.normalize_str(text) for text in texts]
    characters = sorted({character for text in normalized for character in text if not character.isspace()})
    inner_characters = [f"##{character}" for character in characters]
    room = max(vocab_size - len(SPECIAL_TOKENS), 0)
    trainer = trainers.WordPieceTrainer(
        vocab_size=vocab_size,
        special_tokens=[*SPECIAL_TOKENS, *inner_characters[:room]],
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return wrap_tokenizer(bert_tokenizer(tokenizer.get_vocab()))


def bert_tokenizer(vocabulary: dict[str, int]) -> Tokenizer:
    """Return BERT's lower-case tokenizer with this vocabulary."""
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B [SEP]",
        special_tokens=[(token, vocabulary[token]) for token in ("[CLS]", "[SEP]")],
    )
    return tokenizer


def encode(tokenizer: PreTrainedTokenizerFast, texts: Sequence[str]) -> list[list[int]]:
    """Return the token ids of each text, truncated to the tokenizer's maximum length."""
    return tokenizer(list(texts), truncation=True)["input_ids"] if texts else []


def shrink_tokenizer(
    tokenizer: PreTrainedTokenizerFast,
    texts: Iterable[str],
    vocab_size: int,
) -> tuple[PreTrainedTokenizerFast, list[int]]:
    """Return a tokenizer with the `vocab_size` tokens that `texts` use most, and the old id of each of its tokens.

    Every printable ASCII character is kept, alone and within a word, so that no plain word becomes [UNK]. Raises
    UserError if these alone are too many.
    """
    vocabulary: dict[str, int] = tokenizer.get_vocab()
    kept_ids = [vocabulary[token] for token in SPECIAL_TOKENS]
    for prefix in ("", "##"):
        kept_ids += [vocabulary[prefix + c] for c in PRINTABLE_ASCII if prefix + c in vocabulary]
    if vocab_size < len(kept_ids):
        raise UserError(f"--vocab_size is {vocab_size}; the single characters alone are {len(kept_ids)}")
    always_kept = set(kept_ids)
    counts = Counter(index for ids in encode(tokenizer, list(texts)) for index in ids)
    by_frequency = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    kept_ids += [index for index, _ in by_frequency if index not in always_kept]
    kept_ids = kept_ids[:vocab_size]
    tokens: Any = tokenizer.convert_ids_to_tokens(kept_ids)
    return _with_vocabulary(tokenizer, tokens), kept_ids


def _with_vocabulary(tokenizer: PreTrainedTokenizerFast, tokens: list[str]) -> PreTrainedTokenizerFast:
    """Return the tokenizer with `tokens` as its vocabulary, wherever its JSON mentions ids."""
    state = json.loads(tokenizer.backend_tokenizer.to_str())
    state["model"]["vocab"] = {token: index for index, token in enumerate(tokens)}
    state["added_tokens"] = [
        {**entry, "id": tokens.index(entry["content"])} for entry in state["added_tokens"] if entry["content"] in tokens
    ]
    post_processor = state["post_processor"] or {}
    for entry in post_processor.get("special_tokens", {}).values():
        entry["ids"] = [tokens.index(token) for token in entry["tokens"]]
    for key in ("sep", "cls"):
        if key in post_processor:
            token = post_processor[key][0]
            post_processor[key] = [token, tokens.index(token)]
    return wrap_tokenizer(Tokenizer.from_str(json.dumps(state)), tokenizer.model_max_length)


# --- initial weights --------------------------------------------------------------------------------------------------


def init_weights(model: nn.Module) -> None:
    """Initialize as BERT does: normal weights with standard deviation 0.02, zero biases."""
    for module in model.modules():
        if isinstance(module, (nn.Linear, nn.Embedding)):
            nn.init.normal_(module.weight, std=INIT_STD)
        if isinstance(module, nn.Linear):
            nn.init.zeros_(module.bias)


def from_scratch(config: DistilBertConfig, labels: Sequence[str]) -> DistilBertClassifier:
    """Return a classifier with random weights."""
    model = DistilBertClassifier(config, labels)
    init_weights(model)
    return model


def from_encoder(folder: Path, labels: Sequence[str], dropout: float) -> DistilBertClassifier:
    """Return a pre-trained DistilBERT encoder with a randomly initialized classification head.

    Raises UserError if `folder` holds no such encoder, or one with weights that are not finite.
    """
    checkpoint = read_checkpoint(folder, "distilbert")
    settings = vars(read_settings(DistilBertConfig, checkpoint))
    dropouts = {"dropout": dropout, "attention_dropout": dropout, "seq_classif_dropout": dropout}
    model = from_scratch(DistilBertConfig(**{**settings, **dropouts}), labels)
    encoder = {}
    for name, tensor in checkpoint.tensors.items():
        if name.startswith(("pre_classifier.", "classifier.", "vocab_")):  # heads of other tasks
            continue
        encoder[name if name.startswith("distilbert.") else f"distilbert.{name}"] = tensor
    initial = model.state_dict()
    head_names = ("pre_classifier.", "classifier.")
    head = {name: tensor for name, tensor in initial.items() if name.startswith(head_names)}
    assign_state_dict(model, {**model.convert_hf_state_dict(encoder), **head}, str(folder))
    check_finite(model, str(folder))
    return model


def check_finite(model: nn.Module, name: str) -> None:
    """Raise UserError, beginning with `name`, if a weight of the model is NaN or infinite."""
    for key, tensor in model.state_dict().items():
        if not tensor.isfinite().all():
            raise UserError(f"{name}: its weights for {key} contain NaN or infinity")


def from_teacher(teacher: DistilBertClassifier, kept_ids: list[int], config: DistilBertConfig) -> DistilBertClassifier:
    """Return a student initialized from its teacher, as wide as it is, with fewer words, blocks and neurons.

    It copies the embeddings of the words `kept_ids`, the first blocks and the classification head; of each
    feed-forward network, the neurons with the largest weights.
    """
    student = DistilBertClassifier(config, teacher.labels)
    with torch.no_grad():
        student.word_embeddings.weight.copy_(teacher.word_embeddings.weight[kept_ids])  # (V, E)
        student.position_embeddings.weight.copy_(
            teacher.position_embeddings.weight[: config.max_position_embeddings]
        )  # (P, E)
    for name in ("norm", "pre_classifier", "classifier"):
        getattr(student, name).load_state_dict(getattr(teacher, name).state_dict())
    for student_block, teacher_block in zip(student.blocks, teacher.blocks, strict=False):
        student_block.load_state_dict(_pruned_block(teacher_block, config.hidden_dim))
    return student


def _pruned_block(block: TransformerBlock, ff_dim: int) -> dict[str, Tensor]:
    """Return the weights of a block with only the `ff_dim` most important feed-forward neurons."""
    incoming = block.ff_in.weight.norm(dim=1)  # (F, E) -> (F,)
    outgoing = block.ff_out.weight.norm(dim=0)  # (E, F) -> (F,)
    importance = incoming * outgoing
    kept = importance.topk(min(ff_dim, len(importance))).indices
    state = block.state_dict()
    return {
        **state,
        "ff_in.weight": state["ff_in.weight"][kept],  # (F, E), fewer F
        "ff_in.bias": state["ff_in.bias"][kept],  # (F,), fewer F
        "ff_out.weight": state["ff_out.weight"][:, kept],  # (E, F), fewer F
    }


# --- saving -----------------------------------------------------------------------------------------------------------


def save_classifier(
    folder: Path,
    model: DistilBertClassifier,
    tokenizer: PreTrainedTokenizerFast,
    dtype: torch.dtype,
) -> None:
    """Write model and tokenizer in the Hugging Face layout, the weights stored in `dtype`; they load as float32."""
    hf_names = model.hf_parameter_names()
    tensors = {}
    for name, tensor in model.state_dict().items():
        module, _, kind = name.rpartition(".")
        tensors[f"{hf_names[module]}.{kind}"] = tensor.to("cpu", dtype)
    settings = {
        "architectures": ["DistilBertForSequenceClassification"],
        "model_type": "distilbert",
        **vars(model.config),
        "dtype": "float32",
        "id2label": {str(index): label for index, label in enumerate(model.labels)},
        "label2id": {label: index for index, label in enumerate(model.labels)},
        "pad_token_id": 0,
        "sinusoidal_pos_embds": False,
    }
    write_checkpoint(folder, settings, tensors)
    tokenizer.save_pretrained(folder)
