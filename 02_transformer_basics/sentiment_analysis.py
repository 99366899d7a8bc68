"""Classify the sentiment of texts with a fine-tuned DistilBERT: the Hugging Face pipeline's, or our own from scratch.

python sentiment_analysis.py                                   # built-in examples
python sentiment_analysis.py "What a film!" "I want my money back."
python sentiment_analysis.py --file reviews.txt --json         # one text per line in, one JSON object per line out
echo "Not bad at all." | python sentiment_analysis.py -
python sentiment_analysis.py --engine scratch --explain        # our own model, and each word's part in its decision
python sentiment_analysis.py --engine scratch --accelerate     # the same model, faster
python sentiment_analysis.py --show_attention --layer 1 --head 2
python sentiment_analysis.py --compare                         # both engines side by side
"""

if __name__ == "__main__":
    import lab.startup  # noqa: F401 - first: Ctrl-C works while the libraries load

import json
import math
from collections import Counter
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy
import torch
import tyro
from rich.console import Console

from engines import EngineOptions, load_own, loader, note_form, time_interleaved
from lab.devices import pick_device
from lab.errors import UserError, require_at_least
from lab.launch import launch, warn_once
from lab.record import FLAT, RunRecord
from lab.texts import collect_texts, one_line, printable
from models.batching import check_ids
from models.distilbert import DistilBertClassifier
from models.hub import SENTIMENT, LoadedModel, load_folder, load_model
from models.internals import check_layer_and_head
from sentiment.attribution import Explanation, colored, draw_explanations, explain, plain

EXAMPLES = {
    "A wonderful film, funny and moving from start to finish.": "POSITIVE",
    "The plot is dull and the acting is worse.": "NEGATIVE",
    "Great battery life and a sharp screen, I love it.": "POSITIVE",
    "It broke after two days and nobody answers my letters.": "NEGATIVE",
    "One of the best performances of the year.": "POSITIVE",
    "A tedious, predictable waste of two hours.": "NEGATIVE",
}
MAX_BARS = 25


@dataclass(frozen=True)
class Config:
    """Classify each text as positive or negative."""

    texts: tyro.conf.Positional[tuple[str, ...]] = ()
    """Texts to classify; `-` reads them from standard input, one per line. Default: built-in examples."""
    file: Path | None = None
    """UTF-8 file with one text per line."""
    model: str | None = None
    """Folder or Hugging Face hub name of a model. Default: the official DistilBERT, or the bundled one offline."""
    engine: Literal["pipeline", "scratch"] = "pipeline"
    """Hugging Face's pipeline, or our own DistilBERT (models/distilbert.py)."""
    own_model: EngineOptions = field(default_factory=EngineOptions, metadata=FLAT)
    compare: bool = False
    """Run the pipeline and our own model on the same texts and show them side by side, with the time of each."""
    explain: bool = False
    """Show how much each word contributed to the decision (sentiment/attribution.py), as text and as a plot."""
    show_attention: bool = False
    """Draw the attention weights of one head of our own model over the first text."""
    layer: int = 0
    """Layer to draw, from 0."""
    head: int = 0
    """Head to draw, from 0."""
    device: str = "auto"
    """auto (a GPU if available), cpu, cuda or mps."""
    batch_size: int = 32
    """Texts per batch of the pipeline; our own engine groups texts of similar length by itself."""
    json: bool = False
    """Print one JSON object per line instead of a table."""
    output_dir: Path = Path(__file__).parent / "results"
    """Folder for the plots and the record of the run."""

    def __post_init__(self) -> None:
        require_at_least(1, self, "batch_size")
        self.own_model.check(self.engine, self.compare)
        if (self.layer or self.head) and not self.show_attention:
            raise UserError("--layer and --head choose what --show_attention draws; add --show_attention")


def classify(
    loaded: LoadedModel, texts: list[str], batch_size: int, device: torch.device | str = "cpu"
) -> list[dict[str, Any]]:
    """Return label and score (its probability) of each text. Longer texts are truncated to the model's length."""
    if isinstance(loaded.model, DistilBertClassifier):
        probabilities = loaded.model.predict(loaded.tokenizer(texts, truncation=True)["input_ids"])  # (N, C)
        scores, labels = (each.tolist() for each in probabilities.max(dim=-1))  # (N,), (N,)
        answers: Any = [{"label": loaded.model.labels[n], "score": p} for n, p in zip(labels, scores, strict=True)]
    else:
        from transformers import pipeline  # here: it takes seconds, and our own model does not need it

        classifier = pipeline("text-classification", model=loaded.model, tokenizer=loaded.tokenizer, device=device)
        size = batch_size if can_pad(loaded) else 1
        with torch.inference_mode(), numpy.errstate(invalid="ignore"):  # NaN is refused below
            answers = classifier(texts, batch_size=size, truncation=True, function_to_apply="softmax")
    if not all(math.isfinite(answer["score"]) for answer in answers):
        raise UserError(f"{loaded.name}: its probabilities are not finite; its weights are damaged")
    return [{"text": text, **answer} for text, answer in zip(texts, answers, strict=True)]


def can_pad(loaded: LoadedModel) -> bool:
    """Return True if the library's tokenizer has a token for padding that the model has and knows as such."""
    padding, config = loaded.tokenizer.pad_token_id, loaded.model.config
    return padding is not None and padding == config.pad_token_id and padding < config.vocab_size


def check_texts(loaded: LoadedModel, texts: list[str]) -> None:
    """Warn on standard error about texts that are longer than the model's maximum length.

    Raises UserError for a text whose ids the model has no embeddings for.
    """
    longest = loaded.tokenizer.model_max_length
    for number, ids in enumerate(loaded.tokenizer(texts, verbose=False)["input_ids"], 1):
        if len(ids) > longest:
            side = "first" if loaded.tokenizer.truncation_side == "right" else "last"
            warn_once(f"text {number} has {len(ids)} tokens; only the {side} {longest} are used")
        try:
            check_ids(torch.tensor([ids]), loaded.model.config.vocab_size, len(ids))
        except UserError as error:
            raise UserError(f"{loaded.name}: the tokenizer does not fit the model: text {number}: {error}") from None


def compare(
    pipeline: LoadedModel, plain_model: LoadedModel, texts: list[str], config: Config, record: RunRecord
) -> None:
    """Run the pipeline and both forms of our model on `texts`, print the labels, and record agreement and speed."""
    device = pick_device(config.device)
    options = config.own_model if config.own_model.form != "plain" else EngineOptions(accelerate=True)
    accelerated = load_own(SENTIMENT, plain_model.folder, plain_model.name, options, device)
    engines = {"pipeline": pipeline, "scratch": plain_model, options.form: accelerated}
    runs = {name: partial(classify, each, texts, config.batch_size, device) for name, each in engines.items()}
    answers = time_interleaved(runs)
    labels = {name: results for name, (results, _) in answers.items()}
    speeds = {name: len(texts) / seconds for name, (_, seconds) in answers.items()}
    record.results["texts_per_second"] = speeds
    pairs = list(zip(labels["pipeline"], labels["scratch"], strict=True))
    differences = [abs(a["score"] - b["score"]) if a["label"] == b["label"] else 1.0 for a, b in pairs]
    if not config.json:
        print(f"{'pipeline':<17}{'scratch':<17}{'difference':<12}text")
        for (theirs, ours), difference in zip(pairs, differences, strict=True):
            sides = "".join(f"{one_line(side['label']):<9}{side['score']:.4f}  " for side in (theirs, ours))
            print(f"{sides}{difference:<12.1e}{printable(theirs['text'])}")
    record.check("largest difference of the scores", max(differences), "at most 1e-4", max(differences) <= 1e-4)
    for name in ("scratch", options.form) if options.precision != "float32" else ("scratch",):
        same = sum(a["label"] == b["label"] for a, b in zip(labels["pipeline"], labels[name], strict=True))
        expected = "all" if name == "scratch" else f"may be fewer; {options.precision} rounds the weights"
        ok = name != "scratch" or same == len(texts)
        record.check(f"labels that agree, {name}", f"{same} of {len(texts)}", expected, ok)
    ratio = speeds[options.form] / speeds["pipeline"]
    per_engine = ", ".join(f"{name} {speed:.0f}" for name, speed in speeds.items())
    expected = "accelerated is faster than the pipeline"
    record.check("texts per second", f"{per_engine}, {ratio:.2f} times", expected, ratio > 1.0)


def draw(results: list[dict[str, Any]], path: Path) -> None:
    """Draw a bar for each of the first texts: the probability of its label, colored by label."""
    from lab.plots import BLUE, GREY, ORANGE, drawable, new_figure, save_figure  # here: it takes a second

    shown = results[:MAX_BARS]
    names = sorted({str(result["label"]) for result in shown}, reverse=True)
    colors = dict(zip(names, (BLUE, ORANGE, *[GREY] * len(names)), strict=False))
    figure, (axes,) = new_figure(width=9, height=1.4 + 0.35 * len(shown))
    labels = [text if len(text) <= 60 else text[:57] + "..." for text in (printable(r["text"]) for r in shown)]
    rows = list(range(len(shown)))
    axes.barh(rows, [r["score"] for r in shown], color=[colors[r["label"]] for r in shown])
    for row, result in zip(rows, shown, strict=True):
        axes.text(
            result["score"] - 0.01,
            row,
            drawable(f"{one_line(result['label'])} {result['score']:.2f}"),
            color="white",
            ha="right",
            va="center",
        )
    axes.set_yticks(rows, [drawable(label) for label in labels])
    axes.invert_yaxis()
    axes.set(xlim=(0, 1), xlabel="probability of the label", title="Sentiment")
    save_figure(figure, path)


def draw_attention_of(plain_model: LoadedModel, text: str, config: Config, path: Path) -> None:
    """Draw the chosen head of our own model over the tokens of `text`."""
    from lab.attention_plots import draw_head

    encoding = plain_model.tokenizer.encode(text)
    input_ids = torch.tensor([encoding.ids], device=pick_device(config.device))  # (1, T)
    with torch.inference_mode():
        attentions = plain_model.model.forward_with_internals(input_ids).attentions
    draw_head(attentions, config.layer, config.head, [printable(token) for token in encoding.tokens], path)


def show(results: list[dict[str, Any]], explanations: list[Explanation], config: Config, name: str) -> None:
    """Print a line for each text, and its words' contributions with --explain, colored on a terminal."""
    console = Console(highlight=False, soft_wrap=True)
    for number, result in enumerate(results):
        if config.json:
            words = explanations[number].as_dict() if explanations else {}
            print(json.dumps({**result, **words, "model": name}))
            continue
        print(f"{one_line(result['label']):<8} {result['score']:.4f}  {printable(result['text'])}")
        if explanations and console.is_terminal:
            console.print(" " * 17, colored(explanations[number]), sep="")
        elif explanations:
            print(" " * 17 + plain(explanations[number]))
    print(end="", flush=True)  # before drawing, which takes a second


def main(config: Config) -> None:
    """Load, classify, print, draw, record."""
    texts = collect_texts(config.texts, config.file, tuple(EXAMPLES))
    note_form(config.own_model)
    device = pick_device(config.device)
    record = RunRecord(__file__, config.output_dir, config)
    load = loader(config.own_model, device) if config.engine == "scratch" else None
    loaded = load_model(SENTIMENT, config.model, load)
    if loaded.note:
        warn_once(loaded.note)
    plain_model = loaded  # the form with gradients and attention weights
    is_plain = config.engine == "scratch" and config.own_model.form == "plain"
    if not is_plain and (config.compare or config.explain or config.show_attention):
        plain_model = load_own(SENTIMENT, loaded.folder, loaded.name, device=device)
    if config.show_attention:
        sizes = plain_model.model.config
        check_layer_and_head(sizes.n_layers, sizes.n_heads, config.layer, config.head)
    check_texts(loaded, texts)
    results = classify(loaded, texts, config.batch_size, device)
    explanations = [explain(plain_model, text) for text in texts] if config.explain else []
    form = config.own_model.form if config.engine == "scratch" else None
    record.results = {"model": loaded.name, "engine": config.engine, "form": form, "texts": results[:MAX_BARS]}
    record.results["labels"] = Counter(result["label"] for result in results)
    if config.compare:
        pipeline = loaded if config.engine == "pipeline" else load_folder(SENTIMENT, loaded.folder, loaded.name)
        compare(pipeline, plain_model, texts, config, record)
    if config.json or not config.compare:
        show(results, explanations, config, loaded.name)
    draw_plots(results, explanations, plain_model, config, record)
    if form and not config.json:
        print(f"engine: scratch, {form}")
    if texts == list(EXAMPLES):
        check_examples(results, record)
    record.save(quiet=config.json)


def draw_plots(
    results: list[dict[str, Any]],
    explanations: list[Explanation],
    plain_model: LoadedModel,
    config: Config,
    record: RunRecord,
) -> None:
    """Draw the bars and, with their flags, the explanations and the attention head."""
    draw(results, record.file("sentiment_analysis.png"))
    if explanations:
        draw_explanations(explanations, record.file("sentiment_explanation.png"))
        record.results["explanations"] = [explanation.as_dict() for explanation in explanations[:MAX_BARS]]
    if config.show_attention:
        draw_attention_of(plain_model, results[0]["text"], config, record.file("sentiment_attention.png"))
        record.results["attention"] = {"text": results[0]["text"], "layer": config.layer, "head": config.head}


def check_examples(results: list[dict[str, Any]], record: RunRecord) -> None:
    """Add a check to the record: are the built-in examples labeled correctly?"""
    correct = sum(result["label"] == EXAMPLES[result["text"]] for result in results)
    first = f"{one_line(results[0]['label'])} {results[0]['score']:.2f}"
    expected = f"POSITIVE above 0.5; {len(EXAMPLES)} of {len(EXAMPLES)}"
    value = f"{first}; {correct} of {len(EXAMPLES)} examples labeled correctly"
    record.check("label and score", value, expected, ok=correct == len(EXAMPLES))


if __name__ == "__main__":
    launch(Config, main)
