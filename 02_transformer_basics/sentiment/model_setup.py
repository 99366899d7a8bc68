"""Where the three ways of training start from: random weights, a pre-trained encoder, and a teacher's own parts.

Shapes: V vocabulary, E embedding, F feed-forward size, C classes.
"""

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from torch import Tensor, nn
from transformers import PreTrainedTokenizerFast

from lab.errors import UserError
from models.checkpoints import assign_state_dict, read_checkpoint, read_settings, write_checkpoint
from models.distilbert import DistilBertClassifier, DistilBertConfig
from transformer_block import TransformerBlock

SPECIAL_TOKENS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
MAX_LENGTH = 256


def wrap(tokenizer: Tokenizer) -> PreTrainedTokenizerFast:
    """The tokenizer as the library's, for texts of MAX_LENGTH tokens."""
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        model_max_length=MAX_LENGTH,
        model_input_names=["input_ids", "attention_mask"],
        **{f"{token[1:-1].lower()}_token": token for token in SPECIAL_TOKENS},
    )


def train_tokenizer(texts: Sequence[str], vocab_size: int) -> PreTrainedTokenizerFast:
    """Learn a lower-case WordPiece vocabulary, with BERT's special tokens and its [CLS] text [SEP] template."""
    learner = bert_tokenizer({token: number for number, token in enumerate(SPECIAL_TOKENS)})
    # Pairs that are equally frequent are merged in the order of their pieces, and the library numbers pieces within
    # words as its hash table happens to give them: numbered beforehand, the vocabulary is the same in every run.
    normal = (learner.normalizer.normalize_str(text) for text in texts)
    inner = [f"##{character}" for character in sorted({c for text in normal for c in text if not c.isspace()})]
    special = [*SPECIAL_TOKENS, *inner[: max(vocab_size - len(SPECIAL_TOKENS), 0)]]
    trainer = trainers.WordPieceTrainer(vocab_size=vocab_size, special_tokens=special, show_progress=False)
    learner.train_from_iterator(texts, trainer)
    return wrap(bert_tokenizer(learner.get_vocab()))


def bert_tokenizer(vocabulary: dict[str, int]) -> Tokenizer:
    """BERT's lower-case tokenizer with this vocabulary."""
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    special = [(token, vocabulary[token]) for token in ("[CLS]", "[SEP]")]
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B [SEP]", special_tokens=special
    )
    return tokenizer


def encode(tokenizer: PreTrainedTokenizerFast, texts: Sequence[str]) -> list[list[int]]:
    """Ids of the texts, each cut to the tokenizer's length."""
    return tokenizer(list(texts), truncation=True)["input_ids"] if texts else []


def smaller_tokenizer(
    whole: PreTrainedTokenizerFast, texts: Iterable[str], vocab_size: int
) -> tuple[PreTrainedTokenizerFast, list[int]]:
    """A tokenizer with the `vocab_size` entries of `whole` that `texts` use most, and the ids that they had there.

    Every printable ASCII character stays, alone and within a word, so that no plain word becomes [UNK].
    """
    vocabulary: dict[str, int] = whole.get_vocab()
    counts = Counter(i for ids in encode(whole, list(texts)) for i in ids)
    kept = [vocabulary[token] for token in SPECIAL_TOKENS]
    characters = [chr(code) for code in range(33, 127)]
    kept += [vocabulary[p + c] for p in ("", "##") for c in characters if p + c in vocabulary]
    if vocab_size < len(kept):
        raise UserError(f"--vocab_size is {vocab_size}; the characters alone are {len(kept)}")
    first = set(kept)
    kept += [i for i, _ in sorted(counts.items(), key=lambda pair: (-pair[1], pair[0])) if i not in first]
    kept = kept[:vocab_size]
    tokens: Any = whole.convert_ids_to_tokens(kept)
    state = json.loads(whole.backend_tokenizer.to_str())
    state["model"]["vocab"] = {token: number for number, token in enumerate(tokens)}
    state["added_tokens"] = [
        {**entry, "id": tokens.index(entry["content"])} for entry in state["added_tokens"] if entry["content"] in tokens
    ]
    for entry in (state["post_processor"] or {}).get("special_tokens", {}).values():
        entry["ids"] = [tokens.index(token) for token in entry["tokens"]]
    for key in ("sep", "cls"):
        if key in (state["post_processor"] or {}):
            token = state["post_processor"][key][0]
            state["post_processor"][key] = [token, tokens.index(token)]
    return wrap(Tokenizer.from_str(json.dumps(state))), kept


def initialise(model: nn.Module) -> None:
    """First weights as BERT's: normal with deviation 0.02, biases 0 (Devlin et al. 2018)."""
    for module in model.modules():
        if isinstance(module, (nn.Linear, nn.Embedding)):
            nn.init.normal_(module.weight, std=0.02)
        if isinstance(module, nn.Linear):
            nn.init.zeros_(module.bias)


def from_scratch(config: DistilBertConfig, labels: Sequence[str]) -> DistilBertClassifier:
    """A classifier of random weights."""
    model = DistilBertClassifier(config, labels)
    initialise(model)
    return model


def from_encoder(folder: Path, labels: Sequence[str], dropout: float) -> DistilBertClassifier:
    """A pre-trained DistilBERT encoder with a classifier of random weights on it.

    Raises UserError where `folder` holds no such encoder.
    """
    checkpoint = read_checkpoint(folder, "distilbert")
    settings = read_settings(DistilBertConfig, checkpoint)
    config = DistilBertConfig(
        **{**vars(settings), "dropout": dropout, "attention_dropout": dropout, "seq_classif_dropout": dropout}
    )
    model = from_scratch(config, labels)
    heads = ("pre_classifier.", "classifier.", "vocab_")
    body = {
        name if name.startswith("distilbert.") else f"distilbert.{name}": tensor
        for name, tensor in checkpoint.tensors.items()
        if not name.startswith(heads)
    }
    head = {
        name: tensor
        for name, tensor in model.state_dict().items()
        if name.startswith(("pre_classifier.", "classifier."))
    }
    assign_state_dict(model, {**model.convert_hf_state_dict(body), **head}, str(folder))
    return model


def from_teacher(teacher: DistilBertClassifier, kept: list[int], config: DistilBertConfig) -> DistilBertClassifier:
    """A student of the teacher's width with its parts: the words `kept`, its first blocks, its classifier.

    Of each feed-forward network the neurons with the largest weights stay.
    """
    student = DistilBertClassifier(config, teacher.labels)
    with torch.no_grad():
        student.word_embeddings.weight.copy_(teacher.word_embeddings.weight[kept])  # (V, E)
        student.position_embeddings.weight.copy_(teacher.position_embeddings.weight[: config.max_position_embeddings])
    for name in ("norm", "pre_classifier", "classifier"):
        getattr(student, name).load_state_dict(getattr(teacher, name).state_dict())
    for own, theirs in zip(student.blocks, teacher.blocks, strict=False):
        own.load_state_dict(_narrower(theirs, config.hidden_dim))
    return student


def _narrower(block: TransformerBlock, ff_dim: int) -> dict[str, Tensor]:
    """The weights of a block with `ff_dim` of its feed-forward neurons."""
    importance = block.ff_in.weight.norm(dim=1) * block.ff_out.weight.norm(dim=0)  # (F, E), (E, F) -> (F,)
    chosen = importance.topk(min(ff_dim, len(importance))).indices
    state = block.state_dict()
    return {
        **state,
        "ff_in.weight": state["ff_in.weight"][chosen],  # (F, E), fewer F
        "ff_in.bias": state["ff_in.bias"][chosen],
        "ff_out.weight": state["ff_out.weight"][:, chosen],  # (E, F), fewer F
    }


def save_classifier(
    folder: Path, model: DistilBertClassifier, tokenizer: PreTrainedTokenizerFast, dtype: torch.dtype
) -> None:
    """Write the model in the Hugging Face layout, its weights in `dtype`; readers compute in float32 all the same."""
    names = model.hf_parameter_names()
    tensors = {}
    for key, tensor in model.state_dict().items():
        part, _, kind = key.rpartition(".")
        tensors[f"{names[part]}.{kind}"] = tensor.to("cpu", dtype)
    settings = {
        "architectures": ["DistilBertForSequenceClassification"],
        "model_type": "distilbert",
        **vars(model.config),
        "dtype": "float32",
        "id2label": {str(number): label for number, label in enumerate(model.labels)},
        "label2id": {label: number for number, label in enumerate(model.labels)},
        "pad_token_id": 0,
        "sinusoidal_pos_embds": False,
    }
    write_checkpoint(folder, settings, tensors)
    tokenizer.save_pretrained(folder)
