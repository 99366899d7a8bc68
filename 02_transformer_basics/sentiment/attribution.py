"""Which words carried a classifier's decision, by integrated gradients: shares of the probability that add up.

Hide all words and let them fade in together. On the way the label's probability rises from that of a text without words
to that of the text, and at every point the gradient says how much of the rise is due to which embedding. Summed up, the
shares of the words are exactly the whole rise: the sum property, "completeness", by which the result can be checked.

The obvious way, to hide one word and look again, was tried first and left: of three words that say the same, hiding any
one changes nothing ("wonderful, funny and moving": +0.01, 0.00, 0.00), though together they decided.

The text without words has [MASK], which encoders learn to read as "some word", in every word's place.

Shapes: T time (positions), E embedding, C classes, S steps on the way.

Source: Sundararajan, Taly and Yan 2017, "Axiomatic Attribution for Deep Networks"; equations are theirs.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from rich.text import Text
from torch import Tensor

from lab.errors import UserError
from lab.texts import printable
from models.hub import LoadedModel
from speed.onednn import use_onednn_linear

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from models.distilbert import DistilBertClassifier

STEPS, MOST_STEPS, CLOSE = 32, 512, 0.002  # doubled until the shares add up as closely as that
TOKENS_AT_A_TIME = 4096  # memory: every step keeps what its gradient needs
FOR, AGAINST = (47, 111, 176), (224, 128, 42)  # blue and orange, as in the lab's pictures
LINE, MOST_LINES, MOST_TEXTS = 118, 8, 10  # characters a line, lines a text, texts a picture


@dataclass(frozen=True)
class Explanation:
    """A text with the model's label for it, the label's probability with and without all words, and what each added."""

    text: str
    label: str
    score: float
    without_words: float
    words: list[tuple[int, int, float]]  # start and end in the text, share of `score - without_words`

    def shares(self) -> list[tuple[str, float]]:
        """The words, as they stand in the text, with their shares."""
        return [(self.text[start:end], share) for start, end, share in self.words]

    def as_dict(self) -> dict[str, Any]:
        """What goes into JSON beside text, label and score."""
        return {"without_words": self.without_words, "words": self.shares()}


def words_of(encoding: Any) -> list[tuple[list[int], int, int]]:
    """The words of a `tokenizers.Encoding`: positions of a word's pieces, its start and end in the text."""
    words: dict[int, list[int]] = {}
    for position, number in enumerate(encoding.word_ids):
        if number is not None:  # None: [CLS], [SEP]
            words.setdefault(number, []).append(position)
    places = encoding.offsets
    return [(pieces, places[pieces[0]][0], places[pieces[-1]][1]) for pieces in words.values()]


def explain(loaded: LoadedModel, text: str) -> Explanation:
    """What our DistilBERT says of `text`, and what each of its words added; words that are cut off are left out.

    Raises UserError where the tokenizer has no `[MASK]`.
    """
    model, mask, encoding = loaded.model, loaded.tokenizer.mask_token_id, loaded.tokenizer.encode(text)
    if mask is None:
        raise UserError(f"{loaded.name}: its tokenizer has no [MASK], with which --explain hides words")
    words = words_of(encoding)
    of_words = {piece for pieces, _, _ in words for piece in pieces}
    hidden = [mask if position in of_words else each for position, each in enumerate(encoding.ids)]
    both = torch.tensor([encoding.ids, hidden], device=model.word_embeddings.weight.device)  # (2, T)
    with torch.no_grad():
        probabilities = model(both).softmax(dim=-1)  # (2, C)
        shown, start = model.embed(both)  # (T, E) each
    label = int(probabilities[0].argmax())
    with_words, without = (float(p) for p in probabilities[:, label])
    shares = integrated_gradients(model, start, shown, label, with_words - without)  # (T,)
    spans = [(begin, end, float(shares[pieces].sum())) for pieces, begin, end in words]
    return Explanation(text, model.labels[label], with_words, without, spans)


def integrated_gradients(model: "DistilBertClassifier", start: Tensor, end: Tensor, label: int, rise: float) -> Tensor:
    """Embeddings (T, E) of two texts -> share (T,) of every position in the `rise` of the label's probability between.

    Equation 1, its integral as a sum (equation 3) of as many steps as it takes to add up to the rise (proposition 1).
    """
    steps = STEPS
    while True:
        shares = ((end - start) * _mean_gradient(model, start, end, label, steps)).sum(dim=-1)  # (T, E) -> (T,)
        if abs(float(shares.sum()) - rise) <= CLOSE or steps >= MOST_STEPS:
            return shares
        steps *= 2


def _mean_gradient(model: "DistilBertClassifier", start: Tensor, end: Tensor, label: int, steps: int) -> Tensor:
    """The gradient of the label's probability, averaged over the middles of `steps` parts of the way -> (T, E)."""
    ways = (torch.arange(steps, device=start.device) + 0.5) / steps  # (S,)
    total = torch.zeros_like(start)
    for part in ways.split(max(1, TOKENS_AT_A_TIME // len(start))):
        embedded = (start + part[:, None, None] * (end - start)).requires_grad_()  # (T, E) -> (S, T, E)
        with use_onednn_linear():
            probability = model.classify(embedded).softmax(dim=-1)[:, label]  # (S, T, E) -> (S, C) -> (S,)
        total += torch.autograd.grad(probability.sum(), embedded)[0].sum(dim=0)  # (S, T, E) -> (T, E)
    return total / steps


def strengths(shares: list[float]) -> list[float]:
    """Shares relative to the largest of them, from -1 to 1; below one hundredth of a probability all are pale."""
    largest = max([0.01, *map(abs, shares)])
    return [share / largest for share in shares]


def _blend(strength: float) -> tuple[int, ...]:
    """From white to the colour of FOR or AGAINST."""
    color = FOR if strength > 0 else AGAINST
    return tuple(round(255 + (channel - 255) * 0.8 * abs(strength)) for channel in color)


def coloured(explanation: Explanation) -> Text:
    """The text for a terminal: on blue what speaks for the label, on orange what speaks against it."""
    shown, end = Text(), 0
    for (start, stop, share), strength in zip(
        explanation.words, strengths([share for _, _, share in explanation.words]), strict=True
    ):
        shown.append(printable(explanation.text[end:start]))
        color = "rgb({},{},{})".format(*_blend(strength))
        shown.append(printable(explanation.text[start:stop]), f"black on {color}" if abs(strength) > 0.15 else "")
        end = stop
        if abs(strength) > 0.3:
            shown.append(f"{share:+.2f}", "dim")
    return shown.append(printable(explanation.text[end:]))


def plain(explanation: Explanation) -> str:
    """The same in figures: the probability without any words, and what each word adds to it."""
    words = "  ".join(f"{printable(word)} {share:+.2f}" for word, share in explanation.shares())
    return f"{explanation.without_words:.2f} without words  {words}"


def draw_explanations(explanations: list[Explanation], path: Path) -> None:
    """The first texts with their words on blue or orange, and the figures under them."""
    from lab.plots import drawable, new_figure, save_figure  # here: Matplotlib takes a second, and results come first

    shown = explanations[:MOST_TEXTS]
    flows = [_flow(explanation) for explanation in shown]
    heights = [2 + max((line for *_, line in flow), default=0) + 1 for flow in flows]  # lines: title, words, space
    figure, (axes,) = new_figure(width=9.5, height=0.5 + 0.28 * sum(heights))
    axes.set(xlim=(0, LINE), ylim=(sum(heights), 0), title="blue speaks for the label, orange against it")
    axes.axis("off")
    top = 0
    for explanation, flow, height in zip(shown, flows, heights, strict=True):
        rise = f"{explanation.label} {explanation.score:.2f}, from {explanation.without_words:.2f} without words"
        axes.text(0, top + 0.6, drawable(rise), weight="bold", size=9)
        _draw_words(axes, flow, top + 1.5)
        top += height
    save_figure(figure, path)


def _flow(explanation: Explanation) -> list[tuple[str, float, float, int, int]]:
    """Word, share, strength, column and line of each word in lines of `LINE` characters; what is too long is cut."""
    placed, column, line = [], 0, 0
    shares = [share for _, _, share in explanation.words]
    for (word, share), strength in zip(explanation.shares(), strengths(shares), strict=True):
        width = max(len(word), 5 if abs(share) >= 0.005 else 0) + 1  # room for the figure under it
        if column and column + width > LINE:
            column, line = 0, line + 1
        if line == MOST_LINES:
            return [*placed, ("...", 0.0, 0.0, 0, line)]
        placed.append((word if len(word) < LINE else word[: LINE - 4] + "...", share, strength, column, line))
        column += width
    return placed


def _draw_words(axes: "Axes", flow: list[tuple[str, float, float, int, int]], top: float) -> None:
    from lab.plots import drawable

    for word, share, strength, column, line in flow:
        color = "#{:02x}{:02x}{:02x}".format(*_blend(strength))
        box = {"facecolor": color, "edgecolor": "none", "boxstyle": "square,pad=0.15"}
        axes.text(column, top + line, drawable(word, "monospace"), family="monospace", size=9, bbox=box, va="center")
        if abs(share) >= 0.005:
            axes.text(column, top + line + 0.45, f"{share:+.2f}", size=6, color="#555555", va="center")
