"""Which words carried a decision: on a model whose decision is known, and the sum property on one that was trained."""

from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors

import sentiment_analysis
from engines import FileTokenizer, reader
from lab.errors import UserError
from models.distilbert import DistilBertClassifier, DistilBertConfig
from models.hub import SENTIMENT, LoadedModel, load_model
from sentiment.attribution import (
    CLOSE,
    LINE,
    MOST_LINES,
    Explanation,
    _flow,
    coloured,
    draw_explanations,
    explain,
    plain,
)

VOCABULARY = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "the", "good", "bad", "won", "##derful", "film", ".", "é"]
NEUTRAL, DIRECTION = torch.tensor([0.0, 0.0, 3.0, -3.0]), torch.tensor([3.0, -3.0, 0.0, 0.0])


def tokenizer() -> FileTokenizer:
    """WordPiece with a handful of words."""
    made = Tokenizer(models.WordPiece({token: i for i, token in enumerate(VOCABULARY)}, unk_token="[UNK]"))
    made.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    made.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    return FileTokenizer(made, {}, positions=16)


@pytest.fixture
def known() -> LoadedModel:
    """A model in which "good", "bad" and "wonderful" alone count: the average over the text decides."""
    model = DistilBertClassifier(DistilBertConfig(len(VOCABULARY), 16, 4, 1, 1, 4)).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
        for norm in (model.norm, model.blocks[0].norm1, model.blocks[0].norm2):
            norm.weight.fill_(1.0)
        for linear in (model.blocks[0].attention.value, model.blocks[0].attention.output, model.hidden):
            linear.weight.copy_(torch.eye(4))
        model.words.weight.copy_(NEUTRAL.expand(len(VOCABULARY), -1))
        for word, sign in (("good", 1.0), ("bad", -1.0), ("won", 0.5), ("##derful", 0.5)):
            model.words.weight[VOCABULARY.index(word)] += sign * DIRECTION
        model.classifier.weight[1, 0] = 30.0
        model.classifier.weight[0, 1] = 30.0
    return LoadedModel("known", model, tokenizer(), Path())


@pytest.mark.parametrize(
    ("text", "label", "word"),
    [
        ("the good film.", "POSITIVE", "good"),
        ("bad, the film", "NEGATIVE", "bad"),
        ("film wonderful", "POSITIVE", "wonderful"),
    ],
)
def test_the_word_that_decides_is_found(known: LoadedModel, text: str, label: str, word: str) -> None:
    found = explain(known, text)
    assert found.label == label
    assert found.without_words == pytest.approx(0.5)
    shares = dict(found.shares())
    assert "".join(shares) == text.replace(" ", "")  # words as they stand in the text, pieces put together
    assert shares.pop(word) == pytest.approx(found.score - 0.5, abs=CLOSE)
    assert found.score > 0.7
    assert all(share == pytest.approx(0.0, abs=1e-6) for share in shares.values())


def test_a_word_that_speaks_against_the_label_gets_a_negative_share(known: LoadedModel) -> None:
    shares = explain(known, "good good bad film").shares()
    assert [word for word, share in shares if share < -0.01] == ["bad"]
    assert [word for word, share in shares if share > 0.01] == ["good", "good"]


def test_two_words_that_say_the_same_share_alike(known: LoadedModel) -> None:
    """Hiding either would say that neither matters."""
    found, one_hidden = explain(known, "good good film"), explain(known, "film good film")
    first, second = (share for word, share in found.shares() if word == "good")
    assert first == pytest.approx(second, abs=1e-3)
    assert first + second == pytest.approx(found.score - found.without_words, abs=CLOSE)
    assert found.score - one_hidden.score < 0.5 * first


@pytest.mark.parametrize("text", [*sentiment_analysis.EXAMPLES, "Not bad at all, not bad!", "😀 \x1b", "dull " * 300])
def test_shares_add_up_to_the_rise_of_the_probability(text: str) -> None:
    loaded = load_model(SENTIMENT, str(SENTIMENT.bundled), reader())
    found = explain(loaded, text)
    ids = loaded.tokenizer([text], truncation=True)["input_ids"]
    whole, hidden = loaded.model.predict([ids[0], [i if i < 4 and i != 1 else 4 for i in ids[0]]])  # 4: [MASK]
    label = loaded.model.labels.index(found.label)
    assert found.score == pytest.approx(float(whole.max()), abs=1e-5)
    assert found.without_words == pytest.approx(float(hidden[label]), abs=1e-5)
    assert sum(share for _, share in found.shares()) == pytest.approx(found.score - found.without_words, abs=2 * CLOSE)


def test_a_tokenizer_without_a_mask_is_refused(known: LoadedModel) -> None:
    known.tokenizer.mask_token_id = None
    with pytest.raises(UserError, match="MASK"):
        explain(known, "the good film")


def test_colours_follow_the_shares_and_the_text_stays_whole() -> None:
    shown = coloured(
        Explanation("good \x07 bad film", "POSITIVE", 0.9, 0.5, [(0, 4, 0.5), (7, 10, -0.2), (11, 15, 0.001)])
    )
    assert shown.plain == r"good+0.50 \x07 bad-0.20 film"
    styles = {shown.plain[span.start : span.end]: str(span.style) for span in shown.spans}
    assert styles["good"] == "black on rgb(89,140,192)"
    assert styles["bad"].startswith("black on rgb(2")
    assert "film" not in styles
    words = [(0, 4, 0.25), (5, 9, -0.125)]
    assert plain(Explanation("fine film", "P", 0.9, 0.5, words)) == "0.50 without words  fine +0.25  film -0.12"


def test_words_are_laid_out_in_lines_and_what_is_too_much_is_cut(tmp_path: Path) -> None:
    text = "word " * 400 + "x" * 500
    words = [(5 * i, 5 * i + 4, 0.1) for i in range(400)] + [(2000, 2500, 0.1)]
    long = Explanation(text, "P$", 0.9, 0.5, words)
    flow = _flow(long)
    assert all(column + len(word) <= LINE for word, _, _, column, _ in flow)
    assert max(line for *_, line in flow) == MOST_LINES
    assert flow[-1][0] == "..."
    draw_explanations(
        [long, Explanation("", "N", 0.5, 0.5, []), Explanation("é漢😀", "N", 0.5, 0.5, [(0, 3, 0.1)])],
        tmp_path / "x.png",
    )
    assert (tmp_path / "x.png").stat().st_size > 5000
