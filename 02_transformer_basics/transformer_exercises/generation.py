"""Probes of the exercises on generation: the cache, what the next token is sampled from, and the loss.

Where logits are equal, any choice among them is right: such probes compare how much probability the equal tokens get
together, or how many of them stay.

Shapes: B batch, T new positions, H heads, D head size, V vocabulary.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from lab.exercises.probes import Answer, Changed, Invariant, Probe, call, plain, same
from transformer_exercises.inputs import dyadic, not_contiguous, numbered

# --- cache ------------------------------------------------------------------------------------------------------------


def _pieces(sizes: Sequence[int], shape: tuple[int, int, int] = (2, 3, 4), **settings: Any) -> list[list[Tensor]]:
    """Return [key, value] for each of several calls: together `numbered` tensors (B, H, T, D)."""
    batch, heads, width = shape
    key = numbered(batch, heads, sum(sizes), width).to(**settings)
    pieces = zip(key.split(list(sizes), dim=2), (-key - 1).split(list(sizes), dim=2), strict=True)
    return [[key.contiguous(), value.contiguous()] for key, value in pieces]


def _appended(cache: Any, pieces: Sequence[Sequence[Tensor]]) -> Changed:
    """Return the results of several calls, and which of key and value were changed."""
    results, changed = [], set()
    for piece in pieces:
        given = [each.clone() for each in piece]
        results.append(plain(cache.append(*given)))
        names = ("key", "value")
        changed |= {name for name, one, other in zip(names, given, piece, strict=True) if not torch.equal(one, other)}
    return Changed(results, tuple(sorted(changed)))


def _cache(name: str, sizes: Sequence[int], shape: tuple[int, int, int] = (2, 3, 4), **settings: Any) -> Probe:
    """Return a probe that appends pieces of these sizes to one cache."""
    pieces = _pieces(sizes, shape, **settings)
    return Probe(name, lambda answer: _appended(answer["KVCache"](), pieces), lambda: {"T": list(sizes)})


def _second_text(answer: Answer) -> Changed:
    """Return what a second cache returns, used in turn with the first."""
    pieces = _pieces([2, 1, 1])
    first, second = answer["KVCache"](), answer["KVCache"]()
    first.append(*pieces[0])
    results = [plain(second.append(*pieces[1])), plain(first.append(*pieces[2])), plain(second.append(*pieces[2]))]
    return Changed(results, ())


def _strided(answer: Answer) -> Changed:
    return _appended(answer["KVCache"](), [[not_contiguous(each) for each in piece] for piece in _pieces([2, 1])])


def _long_text(answer: Answer) -> Any:
    """Return shapes, sums and last numbers of 3040 positions: no cache of a fixed size is enough."""
    cache = answer["KVCache"]()
    key = torch.arange(3040, dtype=torch.float64).reshape(1, 1, 3040, 1)
    results: Any = ()
    for piece in (*key[:, :, :40].split(1, dim=2), key[:, :, 40:]):
        results = cache.append(piece.clone(), 2 * piece)
    if not isinstance(results, (list, tuple)):
        return plain(results)
    return [[plain(each) for each in (each.shape, each.sum(), each.flatten()[-1])] for each in results]


KV_CACHE = (
    _cache("3 positions, then 1, 1 and 2; B 2, H 3, D 4", [3, 1, 1, 2]),
    Probe("two caches, used in turn", _second_text),
    _cache("a single call", [4]),
    _cache("one position after the other", [1, 1, 1]),
    _cache("float32", [2, 1], dtype=torch.float32),
    Probe("tensors that are not contiguous", _strided),
    _cache("B, H, T and D are 2", [2, 2], (2, 2, 2)),
    _cache("B 1, H 1, D 3", [1, 4], (1, 1, 3)),
    Probe("3040 positions", _long_text),
)


def _all_at_once(answer: Answer) -> bool:
    """Return True if three pieces give the same keys and values as one."""
    pieces = _pieces([2, 1, 3])
    cache = answer["KVCache"]()
    found: Any = [cache.append(*piece) for piece in pieces][-1]
    return all(torch.equal(torch.cat(both, dim=2), each) for both, each in zip(zip(*pieces, strict=True), found))  # noqa: B905


# --- probabilities of the next token ----------------------------------------------------------------------------------

LOGITS = torch.tensor([[0.0, 2.0, -1.0, 1.0, 0.5], [-3.0, -2.0, -0.5, -1.0, -4.0]], dtype=torch.float64)
TIED = torch.tensor([[1.0, 3.0, 1.0, 0.0, 1.0]], dtype=torch.float64)


def _sampling(
    name: str, logits: Tensor, temperature: float, top_k: int | None, relative: float = 1e-9, **settings: Any
) -> Probe:
    def arguments() -> dict[str, Any]:
        return {"logits": logits.clone(), "temperature": temperature, "top_k": top_k}

    return call("sampling_probabilities", name, arguments, relative=relative, **settings)


def _reading(probe: Probe, readings: Callable[[Any], Any]) -> Probe:
    """Return a probe whose results are the same for all readings that the exercise leaves open."""

    def run(answer: Answer) -> Any:
        result = probe.run(answer)
        return Changed(readings(result.value), result.names)

    return Probe(probe.name, run, probe.arguments, probe.relative, probe.absolute)


def _any_of(*accepted: Tensor) -> Callable[[Any], Any]:
    """Return a function that replaces each of the accepted results by the first of them."""
    first, *others = (plain(each) for each in accepted)
    return lambda value: first if any(same(value, other, 1e-9, 1e-12) for other in others) else value


def _kept_of_tied(*kept: int) -> Tensor:
    """Return the probabilities for TIED, if only these tokens stay."""
    hidden = torch.full_like(TIED, -math.inf)
    hidden[0, list(kept)] = TIED[0, list(kept)]
    return hidden.softmax(-1)


SAMPLING_PROBABILITIES = (
    _sampling("temperature 1, all tokens", LOGITS, 1.0, None),
    _sampling("temperature 2", LOGITS, 2.0, None),
    _sampling("temperature 1/2, the 2 most likely tokens", LOGITS, 0.5, 2),
    _sampling("the most likely token only", LOGITS, 1.0, 1),
    _sampling("top_k is the size of the vocabulary", LOGITS, 1.0, 5),
    _sampling("top_k is more than the vocabulary", LOGITS, 2.0, 8),
    _sampling("all but one token", LOGITS, 1.0, 4),
    _sampling("temperature 0", LOGITS, 0.0, None),
    _sampling("temperature 0, top_k 3", LOGITS, 0, 3),
    _sampling("temperature 0, nearly equal logits", LOGITS[:1] / 1024, 0.0, None),
    _sampling("as many rows as tokens", dyadic(3, 3, seed=4) + torch.tensor([0.0, 0.125, 0.0625]), 0.5, 2),
    _sampling("logits around -1000", LOGITS - 1000, 2.0, 3),
    _sampling("logits around 1000", LOGITS + 1000, 1.0, None),
    _sampling("a low temperature", LOGITS, 2**-10, 4),
    _sampling("a vocabulary of one token", LOGITS[:, :1], 1.0, 2),
    _sampling("float32", (LOGITS - 100).float(), 0.5, 3, relative=1e-4),
    _sampling("float32, temperature 0", LOGITS.float(), 0.0, None, relative=1e-4),
    _sampling("not contiguous", not_contiguous(LOGITS), 2.0, 3),
    _reading(
        _sampling("three logits are equal, two of them are among the 3 highest", TIED, 1.0, 3),
        _any_of(_kept_of_tied(0, 1, 2, 4), _kept_of_tied(0, 1, 2), _kept_of_tied(0, 1, 4), _kept_of_tied(1, 2, 4)),
    ),
    _reading(
        _sampling("temperature 0, two logits are equal", TIED[:, [0, 2, 3]], 0.0, None),
        _any_of(*(torch.tensor([row], dtype=torch.float64) for row in ([1.0, 0, 0], [0.0, 1, 0], [0.5, 0.5, 0]))),
    ),
)


def _probabilities(answer: Answer) -> list[Tensor]:
    settings = ((1.0, None), (0.5, 3), (2.0, 1), (0.0, None))
    return [answer["sampling_probabilities"](LOGITS.clone(), *each) for each in settings]


def _sum_to_1(answer: Answer) -> bool:
    return all(torch.allclose(each.sum(-1), LOGITS.sum(-1) * 0 + 1) for each in _probabilities(answer))


def _most_likely_stays(answer: Answer) -> bool:
    return all(torch.equal(each.argmax(-1), LOGITS.argmax(-1)) for each in _probabilities(answer))


# --- top-p ------------------------------------------------------------------------------------------------------------


def _top_p(name: str, logits: Tensor, p: float, relative: float = 1e-9) -> Probe:
    return call("top_p_filter", name, lambda: {"logits": logits.clone(), "p": p}, relative=relative)


def _number_kept(accepted: Mapping[int, int]) -> Callable[[Any], Any]:
    """Return a function that forgets which of equal logits stay; `accepted` maps other counts to the right one."""

    def read(value: Any) -> Any:
        if not hasattr(value, "values") or any(each not in (1.0, -math.inf) for each in value.values):
            return value
        kept = sum(each == 1.0 for each in value.values)
        kept = accepted.get(kept, kept)
        return replace(value, values=tuple(1.0 if i < kept else -math.inf for i in range(len(value.values))))

    return read


# Probabilities of 0.1, 0.4, 0.05, 0.3, 0.15 and of 0.02, 0.9, 0.03, 0.01, 0.04; both rows far from 0.
SHARES = torch.tensor([[0.1, 0.4, 0.05, 0.3, 0.15], [0.02, 0.9, 0.03, 0.01, 0.04]], dtype=torch.float64)
EQUAL = torch.ones(1, 4, dtype=torch.float64)
TOP_P_FILTER = (
    _top_p("p 3/4: the third token reaches it", SHARES.log() + 2, 0.75),
    _top_p("p 3/8: the first token alone", SHARES.log() + 2, 0.375),
    _top_p("p is just above the first probability", SHARES.log() - 1, 0.42),
    _top_p("p 7/8: other tokens in each row", SHARES.log() + 2, 0.875),
    _top_p("p 15/16", SHARES.log() + 2, 0.9375),
    _top_p("p is below every probability", SHARES.log() + 2, 2**-10),
    _top_p("p is 1", SHARES.log() + 2, 1.0),
    _top_p("nearly equal logits", LOGITS / 64, 0.5),
    _top_p("as many rows as tokens", SHARES[:, [1, 3, 0]][[0, 1, 0]].log() + 1, 0.75),
    _top_p("logits around -1000", SHARES.log() - 1000, 0.75),
    _top_p("logits around 1000", SHARES.log() + 1000, 0.875),
    _top_p("a vocabulary of one token", LOGITS[:, :1], 0.5),
    _top_p("float32", (SHARES.log() - 100).float(), 0.75, relative=1e-4),
    _top_p("not contiguous", not_contiguous(SHARES.log() + 2), 0.875),
    _reading(_top_p("four equal logits, p 1/2: two of them have exactly p", EQUAL, 0.5), _number_kept({4: 2})),
)


def _filtered(answer: Answer) -> list[tuple[Tensor, float]]:
    logits = SHARES.log() + 2
    return [(answer["top_p_filter"](logits.clone(), p), p) for p in (0.25, 0.75, 0.9375)]


def _enough_stays(answer: Answer) -> bool:
    return all(bool(((each > -math.inf) * SHARES).sum(-1).ge(p).all()) for each, p in _filtered(answer))


def _kept_as_they_were(answer: Answer) -> bool:
    logits = SHARES.log() + 2
    return all(bool(((each == -math.inf) | torch.isclose(each, logits)).all()) for each, _ in _filtered(answer))


# --- loss -------------------------------------------------------------------------------------------------------------


def _loss(
    name: str, mask: Sequence[Sequence[int]], vocabulary: int = 5, seed: int = 0, shift: float = 0.0, **settings: Any
) -> Probe:
    """Return a probe of the loss; a number, a tensor without dimensions, and one of NumPy are the same."""
    relative = settings.pop("relative", 1e-9)

    def arguments() -> dict[str, Any]:
        attention_mask = torch.tensor(mask)
        logits = dyadic(*attention_mask.shape, vocabulary, seed=seed, **settings) + shift
        generator = torch.Generator().manual_seed(seed)
        ids = torch.randint(0, vocabulary, attention_mask.shape, generator=generator)
        return {"logits": logits, "token_ids": ids, "attention_mask": attention_mask}

    return _reading(call("next_token_loss", name, arguments, relative=relative), _as_number)


def _as_number(value: Any) -> Any:
    return value.values[0] if getattr(value, "shape", None) == () else value


def _copying_model() -> dict[str, Tensor]:
    """Return a text, and the logits of a model that is sure of the token that it has just read."""
    ids = torch.tensor([[1, 0, 2, 2]])
    return {
        "logits": 4.0 * torch.nn.functional.one_hot(ids, 3).double(),
        "token_ids": ids,
        "attention_mask": torch.ones(1, 4, dtype=torch.long),
    }


NEXT_TOKEN_LOSS = (
    _loss("two tokens", [[1, 1]], vocabulary=3),
    _reading(call("next_token_loss", "a model that copies the token it reads", _copying_model), _as_number),
    _loss("one text", [[1, 1, 1, 1]]),
    _loss("two texts of the same length", [[1, 1, 1, 1], [1, 1, 1, 1]], seed=1),
    _loss("padding on the right", [[1, 1, 1, 1], [1, 1, 0, 0]], seed=2),
    _loss("padding on the left", [[1, 1, 1, 1, 1], [0, 0, 1, 1, 1]], seed=3),
    _loss("texts of lengths 4, 2 and 1", [[1, 1, 1, 1], [1, 1, 0, 0], [1, 0, 0, 0]], seed=4),
    _loss("as many texts as positions and tokens", [[1, 1, 1], [1, 1, 0], [0, 1, 1]], vocabulary=3, seed=5),
    _loss("padding in the middle", [[1, 1, 0, 1], [1, 0, 1, 1]], seed=6),
    _loss("a vocabulary of two", [[1, 1, 1], [1, 1, 0]], vocabulary=2, seed=7),
    _loss("logits around 1000", [[1, 1, 1], [0, 1, 1]], seed=8, shift=1000.0),
    _loss(
        "float32, logits around -120", [[1, 1, 1], [1, 1, 0]], seed=9, shift=-120, dtype=torch.float32, relative=1e-4
    ),
)


def _uniform(answer: Answer) -> bool:
    """Return True if equal logits give ln V."""
    ids = torch.tensor([[1, 4, 2], [0, 3, 1]])
    loss = answer["next_token_loss"](torch.zeros(2, 3, 5, dtype=torch.float64), ids, torch.ones_like(ids))
    return math.isclose(float(loss), math.log(5), rel_tol=1e-6)


def _padding_is_ignored(answer: Answer) -> bool:
    """Return True if other ids in the padding change nothing."""
    logits, ids = dyadic(1, 4, 5, seed=2), torch.tensor([[1, 2, 0, 0]])
    mask = torch.tensor([[1, 1, 0, 0]])
    losses = [answer["next_token_loss"](logits.clone(), each, mask.clone()) for each in (ids, ids + 2 * (1 - mask))]
    return math.isclose(float(losses[0]), float(losses[1]), rel_tol=1e-6)


PROBES = {
    "KVCache": KV_CACHE,
    "sampling_probabilities": SAMPLING_PROBABILITIES,
    "top_p_filter": TOP_P_FILTER,
    "next_token_loss": NEXT_TOKEN_LOSS,
}
INVARIANTS: dict[str, tuple[Invariant, ...]] = {
    "KVCache": (Invariant("all_at_once", _all_at_once, "pieces of a text must give the same keys as all at once"),),
    "sampling_probabilities": (
        Invariant("sum_to_1", _sum_to_1, "the probabilities of a row must sum to 1; yours do not"),
        Invariant("most_likely_stays", _most_likely_stays, "the most likely token must stay the most likely one"),
    ),
    "top_p_filter": (
        Invariant("enough_stays", _enough_stays, "the tokens that stay must have p together; yours have less"),
        Invariant("kept_as_they_were", _kept_as_they_were, "a logit that stays must not change; yours does"),
    ),
    "next_token_loss": (
        Invariant("uniform", _uniform, "equal logits must give the loss ln V; yours is another"),
        Invariant("padding_is_ignored", _padding_is_ignored, "other ids in the padding must change nothing"),
    ),
}
