"""Sentiment of sentences with a fine-tuned DistilBERT and the Hugging Face pipeline.

python sentiment_analysis.py                                   # built-in examples
python sentiment_analysis.py "What a film!" "I want my money back."
python sentiment_analysis.py --file reviews.txt --json         # one text a line in, one JSON object a line out
echo "Not bad at all." | python sentiment_analysis.py -
"""

import json
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import tyro
from transformers import pipeline

from lab.errors import require_at_least
from lab.launch import launch, note
from lab.plots import BLUE, GREY, ORANGE, new_figure, save_figure
from lab.record import RunRecord
from lab.texts import collect_texts, printable
from pretrained import SENTIMENT, LoadedModel, load_model

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
    """Say of each text whether it is positive or negative."""

    texts: tyro.conf.Positional[tuple[str, ...]] = ()
    """Texts to classify; `-` reads them from standard input, one a line. Built-in examples if there are none."""
    file: Path | None = None
    """UTF-8 file with one text a line."""
    model: str | None = None
    """Folder or Hugging Face hub name of a model. Default: the official DistilBERT, or the lab's own offline."""
    batch_size: int = 32
    """Texts that go through the model together."""
    json: bool = False
    """Print one JSON object a line instead of a table."""
    output_dir: Path = Path(__file__).parent / "results"
    """Folder for the picture and the record of the run."""

    def __post_init__(self) -> None:
        require_at_least(1, self, "batch_size")


def classify(loaded: LoadedModel, texts: list[str], batch_size: int) -> list[dict[str, Any]]:
    """Label and score, the label's probability, of each text. Longer texts are cut to the model's length."""
    classifier = pipeline("text-classification", model=loaded.model, tokenizer=loaded.tokenizer, device="cpu")
    with torch.inference_mode():
        answers: Any = classifier(texts, batch_size=batch_size, truncation=True)
    return [{"text": text, **answer} for text, answer in zip(texts, answers, strict=True)]


def warn_of_cut_texts(loaded: LoadedModel, texts: list[str]) -> None:
    """Say on standard error which texts are longer than the model can read."""
    longest = loaded.tokenizer.model_max_length
    lengths = [len(ids) for ids in loaded.tokenizer(texts, verbose=False)["input_ids"]]
    for number, length in enumerate(lengths, 1):
        if length > longest:
            note(f"text {number} has {length} tokens; only the first {longest} are read")


def draw(results: list[dict[str, Any]], path: Path) -> None:
    """A bar for each of the first texts: how sure the model is, coloured by label."""
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
            f"{result['label']} {result['score']:.2f}",
            color="white",
            ha="right",
            va="center",
        )
    axes.set_yticks(rows, [label.replace("$", r"\$") for label in labels])
    axes.invert_yaxis()
    axes.set(xlim=(0, 1), xlabel="probability of the label", title="Sentiment")
    save_figure(figure, path)


def main(config: Config) -> None:
    """Load, classify, print, draw, record."""
    texts = collect_texts(config.texts, config.file, tuple(EXAMPLES))
    record = RunRecord(__file__, config.output_dir, config)
    loaded = load_model(SENTIMENT, config.model)
    if loaded.note:
        note(loaded.note)
    warn_of_cut_texts(loaded, texts)
    results = classify(loaded, texts, config.batch_size)
    for result in results:
        if config.json:
            print(json.dumps({**result, "model": loaded.name}))
        else:
            print(f"{result['label']:<8} {result['score']:.4f}  {printable(result['text'])}")
    draw(results, record.file("sentiment_analysis.png"))
    record.results = {"model": loaded.name, "texts": results[:MAX_BARS], "labels": Counter(r["label"] for r in results)}
    if texts == list(EXAMPLES):
        right = sum(result["label"] == EXAMPLES[result["text"]] for result in results)
        first = f"{results[0]['label']} {results[0]['score']:.2f}"
        expected = f"POSITIVE above 0.5; {len(EXAMPLES)} of {len(EXAMPLES)}"
        value = f"{first}; {right} of {len(EXAMPLES)} examples as a reader would"
        record.check("label and score", value, expected, ok=right == len(EXAMPLES))
    record.save(quiet=config.json)


if __name__ == "__main__":
    launch(Config, main)
