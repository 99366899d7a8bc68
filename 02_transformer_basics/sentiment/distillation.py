"""The transfer set for distillation, and the teacher's outputs for it, cached in a file.

A teacher can label any text, also one that nobody wrote: unlabeled sentences, clauses of sentences,
and augmented copies of the labeled ones, in which words are dropped or replaced by their nearest
neighbors (Tang et al. 2019, "Distilling Task-Specific Knowledge from BERT into Simple Neural
Networks"; Jiao et al. 2020, "TinyBERT", algorithm 1).

Shapes: N texts, C classes, E embedding, V words.
"""

import hashlib
import random
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from lab.checkpoints import load_checkpoint, save_checkpoint
from lab.distributed import any_rank, gather, rank, world_size
from lab.launch import warn_once
from lab.progress import track
from lab.training import deferred_interrupt
from models.batching import batches_by_length
from models.distilbert import DistilBertClassifier
from optimization import Precision
from sentiment.metrics import pooled_and_logits

KIND = "a teacher's answers"  # what the file says it holds
NUM_NEIGHBORS = 8
TOKENS_PER_BATCH = 2048
CHUNK_SIZE = 2000  # texts per process between two updates of the progress bar
CHUNKS_PER_SAVE = 10
MIN_WORDS = 8  # shorter texts are neither split into clauses nor augmented
MIN_CLAUSE_WORDS = 3
CLAUSE_BOUNDARY = re.compile(
    r"(?:\s*[,;:()]+\s+|\s+--+\s+|\s+(?=(?:but|and|although|though|yet|while)\s))",
)


class TeacherOutputs(NamedTuple):
    """A teacher's pooled outputs (N, E), half precision, and logits (N, C)."""

    pooled: Tensor
    logits: Tensor


def split_clauses(text: str) -> list[str]:
    """Return the parts of a text between commas and conjunctions that have at least three words.

    The list is empty if the text has only one part.
    """
    parts = [part.strip() for part in CLAUSE_BOUNDARY.split(text)]
    if len(parts) == 1:
        return []
    return [part for part in parts if len(part.split()) >= MIN_CLAUSE_WORDS]


def nearest_neighbors(vocabulary: dict[str, int], embeddings: Tensor) -> dict[str, list[str]]:
    """Return, for each whole word of the vocabulary, the words with the most similar embeddings.

    `embeddings` is (V, E), a row per id; similar means a high cosine similarity.
    """
    # Sorted by id: the dictionary's order differs between runs, and ties must not depend on it.
    by_id = sorted(vocabulary.items(), key=lambda item: item[1])
    whole_words = [(word, index) for word, index in by_id if word.isalpha() and word.isascii()]
    words = [word for word, _ in whole_words]
    directions = F.normalize(embeddings[[index for _, index in whole_words]], dim=-1)  # (V, E)
    neighbors: dict[str, list[str]] = {}
    for start in range(0, len(words), 1024):
        chunk = directions[start : start + 1024]  # (1024, E)
        similarity = chunk @ directions.T  # (1024, E) @ (E, V) -> (1024, V)
        nearest = similarity.topk(NUM_NEIGHBORS + 1).indices.tolist()  # one more: the word itself
        for row, columns in enumerate(nearest, start):
            neighbors[words[row]] = [words[column] for column in columns if column != row]
    return neighbors


def augment(text: str, neighbors: dict[str, list[str]], rng: random.Random) -> str:
    """Return a copy of the text with some words replaced by a neighbor and some dropped."""
    replace_probability = rng.choice((0.1, 0.2, 0.4))
    drop_probability = rng.choice((0.0, 0.1))
    words = []
    for word in text.split():
        if rng.random() < drop_probability:
            continue
        candidates = neighbors.get(word.lower())
        if candidates and rng.random() < replace_probability:
            words.append(rng.choice(candidates))
        else:
            words.append(word)
    return " ".join(words) or text


def transfer_set(
    labeled: Sequence[str],
    unlabeled: Sequence[str],
    copies: int,
    neighbors: dict[str, list[str]],
    seed: int,
) -> list[str]:
    """Return all texts that the teacher labels, without duplicates.

    These are `labeled`, `unlabeled` and, of labeled texts of at least eight words, the clauses and
    `copies` augmented copies.
    """
    rng = random.Random(seed)
    long_texts = [text for text in labeled if len(text.split()) >= MIN_WORDS]
    texts = [*labeled, *unlabeled]
    for text in long_texts:
        texts += split_clauses(text)
    for text in long_texts:
        texts += [augment(text, neighbors, rng) for _ in range(copies)]
    return list(dict.fromkeys(texts))


def cached_teacher_outputs(
    teacher: DistilBertClassifier,
    ids: list[list[int]],
    precision: Precision,
    path: Path,
) -> TeacherOutputs:
    """Return the teacher's outputs for N tokenized texts, as far as possible from the file `path`.

    The rest is computed, and saved there at intervals. On Ctrl-C the current chunk is finished and
    saved, then KeyboardInterrupt raised.
    """
    key = fingerprint(teacher, ids, precision)
    cached = load_teacher_outputs(path, key)
    if cached is not None:
        done, outputs = cached
    else:
        done = 0
        pooled = torch.empty(len(ids), teacher.config.dim, dtype=torch.half)  # (N, E)
        outputs = TeacherOutputs(pooled, torch.empty(len(ids), len(teacher.labels)))
    done = min(gather(done))  # processes on other machines may not see the file
    chunks = teacher_predictions(teacher, ids, precision, done)
    if rank() == 0:
        num_chunks = -(-(len(ids) - done) // (CHUNK_SIZE * world_size()))
        chunks = track(chunks, num_chunks, "teacher outputs", lambda _: "")
    with deferred_interrupt() as interrupted:
        for count, (rows, chunk) in enumerate(chunks, 1):
            outputs.pooled[rows] = chunk.pooled
            outputs.logits[rows] = chunk.logits
            done += len(rows)
            stopping = any_rank(interrupted())
            if rank() == 0 and (stopping or done == len(ids) or count % CHUNKS_PER_SAVE == 0):
                save_teacher_outputs(path, key, done, outputs)
            if stopping:
                if rank() == 0:
                    warn_once(
                        "interrupted; the teacher's outputs are saved: rerun the same command to continue",
                    )
                raise KeyboardInterrupt(f"{path.name} is new, other files were left unchanged")
    return outputs


def teacher_predictions(
    teacher: DistilBertClassifier,
    ids: list[list[int]],
    precision: Precision = "float32",
    done: int = 0,
) -> Iterator[tuple[list[int], TeacherOutputs]]:
    """Yield the teacher's outputs for N tokenized texts in chunks, with the indices of their texts.

    The first `done` texts, sorted by length, are skipped. Each process computes a part of every
    chunk and receives the whole of it.
    """
    batches = batches_by_length([len(text) for text in ids], TOKENS_PER_BATCH)
    order = [index for batch in batches for index in batch]
    for start in range(done, len(order), CHUNK_SIZE * world_size()):
        rows = order[start : start + CHUNK_SIZE * world_size()]
        own_rows = rows[rank() * CHUNK_SIZE : (rank() + 1) * CHUNK_SIZE]
        pooled, logits = pooled_and_logits(teacher, [ids[i] for i in own_rows], precision)
        parts = gather((pooled.half(), logits))  # one pair per process
        all_pooled = torch.cat([part[0] for part in parts])  # (rows, E)
        all_logits = torch.cat([part[1] for part in parts])  # (rows, C)
        yield rows, TeacherOutputs(all_pooled, all_logits)


def fingerprint(
    teacher: DistilBertClassifier,
    ids: Sequence[Sequence[int]],
    precision: Precision,
) -> str:
    """Return a hash of everything that the outputs depend on."""
    digest = hashlib.sha256(repr((ids, precision, teacher.config)).encode())
    for parameter in teacher.parameters():
        digest.update(parameter.detach().cpu().numpy().tobytes())
    return digest.hexdigest()


def load_teacher_outputs(path: Path, key: str) -> tuple[int, TeacherOutputs] | None:
    """Return the number of texts done and the outputs in a file.

    None if there is no file, or one with another fingerprint.
    """
    if not path.exists():
        return None
    state: dict[str, Any] = load_checkpoint(path, KIND)
    if state.get("fingerprint") != key or "done" not in state:
        return None
    return state["done"], TeacherOutputs(state["summaries"], state["logits"])


def save_teacher_outputs(path: Path, key: str, done: int, outputs: TeacherOutputs) -> None:
    """Write the outputs, of which the first `done` texts, sorted by length, are complete."""
    contents = {
        "fingerprint": key,
        "done": done,
        "summaries": outputs.pooled,
        "logits": outputs.logits,
    }
    save_checkpoint(path, KIND, contents)
