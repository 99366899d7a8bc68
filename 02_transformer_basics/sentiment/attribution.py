"""Attribution by integrated gradients: the contribution of each word to a classifier's prediction.

Replace every word by [MASK] (the *baseline*), then move all word embeddings together in a straight
line from [MASK] to the real words (the *input*). The probability of the predicted label changes
from its value for the baseline to its value for the input, and at every point of the line the
gradient tells how much of the change is due to which embedding. Integrated over the line, the
attributions of the words sum to the whole change: the paper calls this property *completeness*, and
it makes the result checkable.

Masking one word at a time does not work: of three words that say the same, masking any one changes
nothing ("wonderful, funny and moving": +0.01, 0.00, 0.00), although together they decide.

The baseline uses [MASK] because the encoder has learned to read it as "some word".

Shapes: T time (positions), E embedding, C classes, S points on the line.

Source: Sundararajan, Taly and Yan 2017, "Axiomatic Attribution for Deep Networks"; the equation
numbers are theirs.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from rich.text import Text
from torch import Tensor

from lab.errors import UserError
from lab.texts import one_line, printable
from models.hub import LoadedModel
from speed.onednn import use_onednn_linear

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from models.distilbert import DistilBertClassifier

INITIAL_STEPS, MAX_STEPS = (
    32,
    512,
)  # doubled until the attributions sum to the change within TOLERANCE
TOLERANCE = 0.002
TOKENS_PER_BATCH = 4096  # limits memory: every point keeps activations for its gradient
RAISES, LOWERS = (47, 111, 176), (224, 128, 42)  # RGB of blue and orange, as in the lab's plots
LINE_LENGTH, MAX_LINES, MAX_TEXTS = 118, 8, 10  # of the plot: characters, lines per text, texts
MIN_PRINTED = 0.005  # smaller attributions have no number in the plot


@dataclass(frozen=True)
class Explanation:
    """A text with its predicted label and the attribution of each word.

    `score` is the label's probability, `baseline_score` its probability with all words masked, and
    `spans` has start and end of each word in the text with its attribution; the attributions sum to
    `score - baseline_score`.
    """

    text: str
    label: str
    score: float
    baseline_score: float
    spans: list[tuple[int, int, float]]

    def attributions(self) -> list[tuple[str, float]]:
        """Return each word, spelled as in the text, with its attribution."""
        return [(self.text[start:end], attribution) for start, end, attribution in self.spans]

    def as_dict(self) -> dict[str, Any]:
        """Return the entries of the JSON output in addition to text, label and score."""
        return {"without_words": self.baseline_score, "words": self.attributions()}


# --- integrated gradients -------------------------------------------------------------------------


class Word(NamedTuple):
    """A word's token positions, and its start and end in the text."""

    positions: list[int]
    start: int
    end: int


def words_of(encoding: Any) -> list[Word]:
    """Return the words of a `tokenizers.Encoding`, without special tokens."""
    positions_by_word: dict[int, list[int]] = {}
    for position, word_id in enumerate(encoding.word_ids):
        if word_id is not None:  # None: [CLS] and [SEP]
            positions_by_word.setdefault(word_id, []).append(position)
    words = []
    for positions in positions_by_word.values():
        start, _ = encoding.offsets[positions[0]]
        _, end = encoding.offsets[positions[-1]]
        words.append(Word(positions, start, end))
    return words


def explain(loaded: LoadedModel, text: str) -> Explanation:
    """Classify `text` with our DistilBERT and attribute the probability of its label to the words.

    Words beyond the model's maximum length are left out. Raises UserError if the tokenizer has no
    [MASK].
    """
    model = loaded.model
    mask_id = loaded.tokenizer.mask_token_id
    if mask_id is None:
        raise UserError(f"{loaded.name}: its tokenizer has no [MASK], the baseline of --explain")
    encoding = loaded.tokenizer.encode(text)
    words = words_of(encoding)
    masked_ids = list(encoding.ids)
    for word in words:
        for position in word.positions:
            masked_ids[position] = mask_id
    input_ids = torch.tensor([encoding.ids, masked_ids], device=model.word_embeddings.weight.device)  # (2, T)
    with torch.no_grad():
        probs = model(input_ids).softmax(dim=-1)  # (2, T) -> (2, C)
        embeddings = model.embed(input_ids)  # (2, T) -> (2, T, E)
    label = int(probs[0].argmax())
    score, baseline_score = float(probs[0, label]), float(probs[1, label])
    attributions = integrated_gradients(
        model,
        baseline=embeddings[1],
        input=embeddings[0],
        label=label,
        delta=score - baseline_score,
    )  # (T,)
    # A word's attribution is the sum over its tokens.
    spans = [(word.start, word.end, float(attributions[word.positions].sum())) for word in words]
    return Explanation(text, model.labels[label], score, baseline_score, spans)


def integrated_gradients(
    model: "DistilBertClassifier",
    baseline: Tensor,
    input: Tensor,
    label: int,
    delta: float,
) -> Tensor:
    """Return the attribution (T,) of each position to the label's probability.

    Args:
        model: the classifier.
        baseline, input: embeddings (T, E).
        label: index of the class.
        delta: the label's probability for the input minus that for the baseline.
    """
    steps = INITIAL_STEPS
    while True:
        gradient = _mean_gradient(model, baseline, input, label, steps)  # (T, E)
        # equation 1, its integral as the sum of equation 3
        attributions = ((input - baseline) * gradient).sum(dim=-1)  # (T, E) -> (T,)
        # proposition 1, completeness: with enough steps, this is 0
        error = abs(float(attributions.sum()) - delta)
        if error <= TOLERANCE or steps >= MAX_STEPS:
            return attributions
        steps *= 2


def _mean_gradient(
    model: "DistilBertClassifier",
    baseline: Tensor,
    input: Tensor,
    label: int,
    steps: int,
) -> Tensor:
    """Return the gradient (T, E) of the label's probability, averaged over `steps` points."""
    midpoints = torch.arange(steps, device=baseline.device) + 0.5  # (S,)
    alphas = midpoints / steps  # (S,), from 0 at the baseline to 1 at the input
    points_per_batch = max(1, TOKENS_PER_BATCH // len(baseline))
    total = torch.zeros_like(baseline)  # (T, E)
    for some_alphas in alphas.split(points_per_batch):
        points = baseline + some_alphas[:, None, None] * (input - baseline)  # (T, E) -> (S, T, E)
        points.requires_grad_()
        with use_onednn_linear():
            logits = model.classify(points)  # (S, T, E) -> (S, C)
        label_probs = logits.softmax(dim=-1)[:, label]  # (S, C) -> (S,)
        gradients = torch.autograd.grad(label_probs.sum(), points)[0]  # (S, T, E)
        total += gradients.sum(dim=0)  # (S, T, E) -> (T, E)
    return total / steps


# --- display --------------------------------------------------------------------------------------


def strengths(attributions: list[float]) -> list[float]:
    """Return the attributions relative to the largest magnitude, from -1 to 1.

    They are relative to 0.01 if all are smaller: then no word gets a strong color.
    """
    largest = max([0.01, *map(abs, attributions)])
    return [attribution / largest for attribution in attributions]


def _blend(strength: float) -> tuple[int, ...]:
    """Return the RGB color of a strength from -1 (orange) over 0 (white) to 1 (blue)."""
    color = RAISES if strength > 0 else LOWERS
    return tuple(round(255 + (channel - 255) * 0.8 * abs(strength)) for channel in color)


def colored(explanation: Explanation) -> Text:
    """Return the text for a terminal: on blue words that raise the label's probability, on orange
    words that lower it.
    """
    marked = Text()
    previous_end = 0
    relative = strengths([attribution for _, _, attribution in explanation.spans])
    for (start, end, attribution), strength in zip(explanation.spans, relative, strict=True):
        marked.append(printable(explanation.text[previous_end:start]))
        background = "rgb({},{},{})".format(*_blend(strength))
        style = f"black on {background}" if abs(strength) > 0.15 else ""
        marked.append(printable(explanation.text[start:end]), style)
        if abs(strength) > 0.3:
            marked.append(f"{attribution:+.2f}", "dim")
        previous_end = end
    return marked.append(printable(explanation.text[previous_end:]))


def plain(explanation: Explanation) -> str:
    """Return the attributions as plain text, after the probability with all words masked."""
    parts = [f"{explanation.baseline_score:.2f} with all words masked"]
    for word, attribution in explanation.attributions():
        parts.append(f"{printable(word)} {attribution:+.2f}")
    return "  ".join(parts)


class PlacedWord(NamedTuple):
    """A word of the plot with its attribution, relative strength, column and line."""

    word: str
    attribution: float
    strength: float
    column: int
    line: int


def draw_explanations(explanations: list[Explanation], path: Path) -> None:
    """Write a plot of the first texts, each word on its color with its attribution below."""
    # imported here: Matplotlib takes a second to load, and the results come first
    from lab.plots import drawable, new_figure, save_figure

    drawn = explanations[:MAX_TEXTS]
    layouts = [_layout(explanation) for explanation in drawn]
    last_lines = [max((placed.line for placed in layout), default=0) for layout in layouts]
    heights = [last_line + 3 for last_line in last_lines]  # in lines: heading, words, space
    figure, (axes,) = new_figure(width=9.5, height=0.75 + 0.28 * sum(heights))
    axes.set(xlim=(0, LINE_LENGTH), ylim=(sum(heights), 0))
    axes.set_title(
        "Which words carried the decision (integrated gradients)\n"
        "blue raises the probability of the predicted label, orange lowers it; "
        "the numbers say by how much"
    )
    axes.axis("off")
    top = 0
    for explanation, layout, height in zip(drawn, layouts, heights, strict=True):
        axes.text(0, top + 0.6, drawable(_heading(explanation)), weight="bold", size=9)
        _draw_words(axes, layout, top + 1.5)
        top += height
    save_figure(figure, path)


def _heading(explanation: Explanation) -> str:
    """Return the line above a text: its label and its probability with and without the words."""
    score, baseline_score = explanation.score, explanation.baseline_score
    return f"{one_line(explanation.label)}: p = {score:.2f}; with all words masked p = {baseline_score:.2f}"


def _layout(explanation: Explanation) -> list[PlacedWord]:
    """Place the words in lines of LINE_LENGTH characters; long words and texts are cut."""
    placed: list[PlacedWord] = []
    column = line = 0
    relative = strengths([attribution for _, _, attribution in explanation.spans])
    for (word, attribution), strength in zip(explanation.attributions(), relative, strict=True):
        number_width = 5 if abs(attribution) >= MIN_PRINTED else 0
        width = max(len(word), number_width) + 1
        if column and column + width > LINE_LENGTH:
            column, line = 0, line + 1
        if line == MAX_LINES:
            return [*placed, PlacedWord("...", 0.0, 0.0, 0, line)]
        if len(word) >= LINE_LENGTH:
            word = word[: LINE_LENGTH - 4] + "..."
        placed.append(PlacedWord(word, attribution, strength, column, line))
        column += width
    return placed


def _draw_words(axes: "Axes", layout: list[PlacedWord], top: float) -> None:
    """Draw each word in a colored box, with its attribution below."""
    from lab.plots import drawable

    for word, attribution, strength, column, line in layout:
        color = "#{:02x}{:02x}{:02x}".format(*_blend(strength))
        box = {"facecolor": color, "edgecolor": "none", "boxstyle": "square,pad=0.15"}
        axes.text(
            column,
            top + line,
            drawable(word, "monospace"),
            family="monospace",
            size=9,
            bbox=box,
            va="center",
        )
        if abs(attribution) >= MIN_PRINTED:
            axes.text(
                column,
                top + line + 0.45,
                f"{attribution:+.2f}",
                size=6,
                color="#555555",
                va="center",
            )
