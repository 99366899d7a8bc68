"""Attributions of words: on a model whose decision is known, and completeness on the bundled model."""

from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors

import sentiment_analysis
from engines import FileTokenizer, loader
from lab.errors import UserError
from models.distilbert import DistilBertClassifier, DistilBertConfig
from models.hub import SENTIMENT, LoadedModel, load_model
from sentiment.attribution import (
    LINE_LENGTH,
    MAX_LINES,
    TOLERANCE,
    Explanation,
    _layout,
    colored,
    draw_explanations,
    explain,
    plain,
)

VOCABULARY = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "the", "good", "bad", "won", "##derful", "film", ".", "é"]
NEUTRAL, DIRECTION = torch.tensor([0.0, 0.0, 3.0, -3.0]), torch.tensor([3.0, -3.0, 0.0, 0.0])


def small_tokenizer() -> FileTokenizer:
    """Return a WordPiece tokenizer with a handful of words."""
    tokenizer = Tokenizer(models.WordPiece({token: i for i, token in enumerate(VOCABULARY)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    return FileTokenizer(tokenizer, {}, positions=16)


@pytest.fixture
def known() -> LoadedModel:
    """Return a model in which only "good", "bad" and "wonderful" count: their average over the text decides."""
    model = DistilBertClassifier(DistilBertConfig(len(VOCABULARY), 16, 4, 1, 1, 4)).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
        for norm in (model.norm, model.blocks[0].norm1, model.blocks[0].norm2):
            norm.weight.fill_(1.0)
        for linear in (model.blocks[0].attention.value, model.blocks[0].attention.output, model.pre_classifier):
            linear.weight.copy_(torch.eye(4))
        model.word_embeddings.weight.copy_(NEUTRAL.expand(len(VOCABULARY), -1))
        for word, sign in (("good", 1.0), ("bad", -1.0), ("won", 0.5), ("##derful", 0.5)):
            model.word_embeddings.weight[VOCABULARY.index(word)] += sign * DIRECTION
        model.classifier.weight[1, 0] = 30.0
        model.classifier.weight[0, 1] = 30.0
    return LoadedModel("known", model, small_tokenizer(), Path())


@pytest.mark.parametrize(
    ("text", "label", "word"),
    [
        ("the good film.", "POSITIVE", "good"),
        ("bad, the film", "NEGATIVE", "bad"),
        ("film wonderful", "POSITIVE", "wonderful"),
    ],
)
def test_the_deciding_word_gets_the_attribution(known: LoadedModel, text: str, label: str, word: str) -> None:
    explanation = explain(known, text)
    assert explanation.label == label
    assert explanation.baseline_score == pytest.approx(0.5)
    attributions = dict(explanation.attributions())
    assert "".join(attributions) == text.replace(" ", "")  # spelled as in the text, word pieces joined
    assert attributions.pop(word) == pytest.approx(explanation.score - 0.5, abs=TOLERANCE)
    assert explanation.score > 0.7
    assert all(attribution == pytest.approx(0.0, abs=1e-6) for attribution in attributions.values())


def test_a_word_against_the_label_gets_a_negative_attribution(known: LoadedModel) -> None:
    attributions = explain(known, "good good bad film").attributions()
    assert [word for word, attribution in attributions if attribution < -0.01] == ["bad"]
    assert [word for word, attribution in attributions if attribution > 0.01] == ["good", "good"]


def test_equal_words_get_equal_attributions(known: LoadedModel) -> None:
    """Masking one of them at a time would say that neither matters."""
    explanation, one_masked = explain(known, "good good film"), explain(known, "film good film")
    first, second = (attribution for word, attribution in explanation.attributions() if word == "good")
    assert first == pytest.approx(second, abs=1e-3)
    assert first + second == pytest.approx(explanation.score - explanation.baseline_score, abs=TOLERANCE)
    assert explanation.score - one_masked.score < 0.5 * first


@pytest.mark.parametrize("text", [*sentiment_analysis.EXAMPLES, "Not bad at all, not bad!", "😀 \x1b", "dull " * 300])
def test_attributions_sum_to_the_change_of_the_probability(text: str) -> None:
    loaded = load_model(SENTIMENT, str(SENTIMENT.bundled), loader())
    explanation = explain(loaded, text)
    ids = loaded.tokenizer([text], truncation=True)["input_ids"]
    probs, masked_probs = loaded.model.predict([ids[0], [i if i < 4 and i != 1 else 4 for i in ids[0]]])  # 4: [MASK]
    label = loaded.model.labels.index(explanation.label)
    assert explanation.score == pytest.approx(float(probs.max()), abs=1e-5)
    assert explanation.baseline_score == pytest.approx(float(masked_probs[label]), abs=1e-5)
    total = sum(attribution for _, attribution in explanation.attributions())
    assert total == pytest.approx(explanation.score - explanation.baseline_score, abs=2 * TOLERANCE)


def test_json_keeps_its_keys() -> None:
    explanation = Explanation("fine film", "P", 0.9, 0.5, [(0, 4, 0.25), (5, 9, -0.125)])
    assert explanation.as_dict() == {"without_words": 0.5, "words": [("fine", 0.25), ("film", -0.125)]}


def test_a_tokenizer_without_a_mask_is_refused(known: LoadedModel) -> None:
    known.tokenizer.mask_token_id = None
    with pytest.raises(UserError, match="MASK"):
        explain(known, "the good film")


def test_colors_follow_the_attributions_and_the_text_stays_complete() -> None:
    shown = colored(
        Explanation("good \x07 bad film", "POSITIVE", 0.9, 0.5, [(0, 4, 0.5), (7, 10, -0.2), (11, 15, 0.001)])
    )
    assert shown.plain == r"good+0.50 \x07 bad-0.20 film"
    styles = {shown.plain[span.start : span.end]: str(span.style) for span in shown.spans}
    assert styles["good"] == "black on rgb(89,140,192)"
    assert styles["bad"].startswith("black on rgb(2")
    assert "film" not in styles
    words = [(0, 4, 0.25), (5, 9, -0.125)]
    assert plain(Explanation("fine film", "P", 0.9, 0.5, words)) == "0.50 with all words masked  fine +0.25  film -0.12"


def test_words_are_placed_in_lines_and_long_ones_are_cut(tmp_path: Path) -> None:
    text = "word " * 400 + "x" * 500
    words = [(5 * i, 5 * i + 4, 0.1) for i in range(400)] + [(2000, 2500, 0.1)]
    long = Explanation(text, "P$", 0.9, 0.5, words)
    layout = _layout(long)
    assert all(column + len(word) <= LINE_LENGTH for word, _, _, column, _ in layout)
    assert max(line for *_, line in layout) == MAX_LINES
    assert layout[-1].word == "..."
    draw_explanations(
        [long, Explanation("", "N", 0.5, 0.5, []), Explanation("é漢😀", "N", 0.5, 0.5, [(0, 3, 0.1)])],
        tmp_path / "x.png",
    )
    assert (tmp_path / "x.png").stat().st_size > 5000
