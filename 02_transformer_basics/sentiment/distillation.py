"""What a student learns from: many texts, and a teacher's answer to each, asked for once and kept.

A teacher can label any text, also one that nobody wrote: sentences without labels, their clauses, and copies of the
labelled ones in which words are replaced by like ones or left out (Tang et al. 2019, "Distilling Task-Specific
Knowledge from BERT into Simple Neural Networks"; Jiao et al. 2020, "TinyBERT", algorithm 1).

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
from sentiment.metrics import summaries_and_logits

KIND = "a teacher's answers"
NEIGHBOURS = 8
PORTION = 2000  # texts that the teacher is asked about before there is something to report
KEPT_AFTER = 10  # times that something was reported
SENTENCE = 8  # words: of shorter texts no copies are made
CLAUSE = re.compile(r"(?:\s*[,;:()]+\s+|\s+--+\s+|\s+(?=(?:but|and|although|though|yet|while)\s))")


class Answers(NamedTuple):
    """A teacher's summaries (N, E), half precision, and logits (N, C)."""

    summaries: Tensor
    logits: Tensor


def clauses(text: str) -> list[str]:
    """The parts of a text of three words or more between commas and conjunctions; none if it has but one."""
    parts = [part.strip() for part in CLAUSE.split(text)]
    return [part for part in parts if len(part.split()) >= 3] if len(parts) > 1 else []


def neighbours(vocabulary: dict[str, int], words: Tensor) -> dict[str, list[str]]:
    """For every whole word of the vocabulary those whose embeddings, rows of words (V, E), are most alike."""
    # A library's dictionary has another order in each process; sorted, words that are equally like keep their places.
    by_number = sorted(vocabulary.items(), key=lambda entry: entry[1])
    whole = [(word, number) for word, number in by_number if word.isalpha() and word.isascii()]
    rows = F.normalize(words[[number for _, number in whole]], dim=-1)  # (V, E)
    found: dict[str, list[str]] = {}
    for start in range(0, len(whole), 1024):
        alike = rows[start : start + 1024] @ rows.T  # (1024, E) @ (E, V) -> (1024, V)
        for row, others in enumerate(alike.topk(NEIGHBOURS + 1).indices.tolist(), start):
            found[whole[row][0]] = [whole[other][0] for other in others if other != row]
    return found


def varied(text: str, alike: dict[str, list[str]], chance: random.Random) -> str:
    """A copy of the text in which a few words are replaced by like ones, a few left out."""
    replace, leave_out = chance.choice((0.1, 0.2, 0.4)), chance.choice((0.0, 0.1))
    words = []
    for word in text.split():
        if chance.random() < leave_out:
            continue
        others = alike.get(word.lower())
        words.append(chance.choice(others) if others and chance.random() < replace else word)
    return " ".join(words) or text


def transfer_texts(
    labelled: Sequence[str], unlabelled: Sequence[str], copies: int, alike: dict[str, list[str]], seed: int
) -> list[str]:
    """All that the teacher is asked about, each once: the texts, and of labelled sentences clauses and `copies`."""
    chance = random.Random(seed)
    whole = [text for text in labelled if len(text.split()) >= SENTENCE]
    texts = [*labelled, *unlabelled, *(clause for text in whole for clause in clauses(text))]
    texts += [varied(text, alike, chance) for text in whole for _ in range(copies)]
    return list(dict.fromkeys(texts))


def teachers_answers(teacher: DistilBertClassifier, ids: list[list[int]], precision: Precision, path: Path) -> Answers:
    """The teacher's answers to N texts: those that a file has, and what is asked for now, which is kept there.

    On Ctrl-C the portion under way is finished and kept, then KeyboardInterrupt raised.
    """
    mark = fingerprint(teacher, ids, precision)
    nothing = (torch.empty(len(ids), teacher.config.dim, dtype=torch.half), torch.empty(len(ids), len(teacher.labels)))
    done, answers = kept_answers(path, mark) or (0, Answers(*nothing))
    done = min(gather(done))  # processes that do not share the file know less
    portions = ask(teacher, ids, precision, done)
    if rank() == 0:
        rounds = -(-(len(ids) - done) // (PORTION * world_size()))
        portions = track(portions, rounds, "asking the teacher", lambda _: "")
    with deferred_interrupt() as interrupted:
        for count, (chosen, (summaries, logits)) in enumerate(portions, 1):
            answers.summaries[chosen], answers.logits[chosen] = summaries, logits
            done += len(chosen)
            stopping = any_rank(interrupted())
            if rank() == 0 and (stopping or done == len(ids) or count % KEPT_AFTER == 0):
                keep_answers(path, mark, done, answers)
            if stopping:
                if rank() == 0:
                    warn_once("stopped; what the teacher said is kept, and the same command goes on from there")
                raise KeyboardInterrupt
    return answers


def ask(
    teacher: DistilBertClassifier, ids: list[list[int]], precision: Precision = "float32", done: int = 0
) -> Iterator[tuple[list[int], Answers]]:
    """The teacher's answers to N texts but the first `done` that it is asked about, some at a time with their numbers.

    Each process asks about a portion of them; all get all answers.
    """
    order = [number for batch in batches_by_length([len(text) for text in ids], 2048) for number in batch]
    for start in range(done, len(order), PORTION * world_size()):
        chosen = order[start : start + PORTION * world_size()]
        own = chosen[rank() * PORTION : (rank() + 1) * PORTION]
        summaries, logits = summaries_and_logits(teacher, [ids[i] for i in own], precision)
        parts = gather((summaries.half(), logits))
        yield chosen, Answers(*(torch.cat(each) for each in zip(*parts, strict=True)))


def fingerprint(teacher: DistilBertClassifier, ids: Sequence[Sequence[int]], precision: Precision) -> str:
    """What the answers depend on, in a few letters."""
    digest = hashlib.sha256(repr((ids, precision)).encode())
    for parameter in teacher.parameters():
        digest.update(parameter.detach().cpu().numpy().tobytes())
    return digest.hexdigest()


def kept_answers(path: Path, mark: str) -> tuple[int, Answers] | None:
    """How many texts were asked about and the answers in a file, if they are those of this fingerprint."""
    if not path.exists():
        return None
    state: dict[str, Any] = load_checkpoint(path, KIND)
    if state.get("fingerprint") != mark or "done" not in state:
        return None
    return state["done"], Answers(state["summaries"], state["logits"])


def keep_answers(path: Path, mark: str, done: int, answers: Answers) -> None:
    """Write the answers to the first `done` texts that the teacher was asked about, to go on from there."""
    save_checkpoint(path, KIND, {"fingerprint": mark, "done": done, **answers._asdict()})
