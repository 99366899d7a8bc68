"""The transformer pane: its job without a browser, compared with the library, and the pane in Chromium."""

import json
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest
import torch
from play_browser import WatchedPage, browser, running_server, server, violations, wait_until, watched  # noqa: F401

import lab.projects  # noqa: F401 - puts the projects on the search path
from engines import load_own
from lab.errors import UserError
from lab.play import transformer_job
from lab.play.messages import MESSAGES, BadMessage, parse
from lab.play.sentiment_job import classify
from lab.play.transformer_job import MAX_SHOWN, bundled, generate
from lab.play.worker import Control, Replaced
from models import generation
from models.generation import Sampling
from models.gpt2 import GPT2
from models.hub import GENERATION, SENTIMENT
from sentiment.attribution import explain

SENTENCE = "The old man looked at the sea and"
REVIEW = "A wonderful film, funny and moving from start to finish."
HEAD = {"layer": 3, "head": 1, "causal": True}
UNUSUAL = {
    "emoji": "I ❤️ 👩‍👩‍👧 and 🇺🇦!",
    "right to left": "שלום עולם, مرحبا بالعالم",
    "control characters": "a\x00b\x01c\x1b[2J\u202edef\u200b",
    "only control characters": "\x01\x02",
    "markup": "<img src=x onerror=alert(1)> & </script>",
    "5,000 characters": "The film was not bad. " * 227 + "Truly.",
    "a long word": "a" * 5000,
}


def start(**changes: Any) -> dict[str, Any]:
    """A message that starts a text."""
    sampling = {"temperature": 0.8, "top_k": 0, "top_p": 1.0}
    job = {"number": 1, "sentence": SENTENCE, "heads": [HEAD], "seed": 0, "running": False, "tokens_per_second": 100.0}
    return {"pane": "transformer", "do": "generate", **job, **sampling, **changes}


def review(**changes: Any) -> dict[str, Any]:
    """A message that asks for the sentiment of a text."""
    return {"pane": "transformer", "do": "classify", "number": 1, "sentence": REVIEW, "heads": [HEAD], **changes}


class Page(Control):
    """A page that sends one message whenever the job waits, and wants another job at the end."""

    def __init__(self, *messages: dict[str, Any], own_files: tuple[Path, ...] = (), max_frames: int = 1000) -> None:
        super().__init__(self, own_files)  # type: ignore[arg-type] - it is its own connection
        self.waiting = deque(messages)
        self.frames: list[dict[str, Any]] = []
        self.problems: list[str] = []
        self.max_frames = max_frames

    def send(self, frame: tuple[str, str]) -> None:
        """Keep a frame."""
        values = json.loads(frame[1])
        if values["kind"] == "error":
            self.problems.append(values["message"])
        else:
            self.frames.append(values)

    def messages(self, wait: float | None = 0.0) -> Iterator[dict[str, Any]]:
        """Yield the next message if the job waits for one."""
        if len(self.frames) >= self.max_frames or (wait is None and not self.waiting):
            raise Replaced({})
        if wait is None:
            yield self.waiting.popleft()


def frames_of(job: dict[str, Any], *messages: dict[str, Any], **options: Any) -> list[dict[str, Any]]:
    """Return the frames of a job that gets these messages."""
    page = Page(*messages, **options)
    with pytest.raises(Replaced):
        (generate if job["do"] == "generate" else classify)(page, job)
    assert page.problems == [""]
    return page.frames


def do(action: str, **fields: Any) -> dict[str, Any]:
    return {"pane": "transformer", "do": action, **fields}


@pytest.fixture(scope="module")
def model() -> GPT2:
    """The bundled model, loaded without the page."""
    return load_own(GENERATION, GENERATION.bundled, "bundled").model


def prompt(text: str = SENTENCE) -> torch.Tensor:
    return torch.tensor(bundled(GENERATION).tokenizer([text])["input_ids"])


def logits(model: GPT2, ids: torch.Tensor) -> torch.Tensor:
    with torch.inference_mode():
        return model(ids)[:, -1]


def shown_probabilities(frame: dict[str, Any]) -> dict[int, float]:
    return dict(zip(frame["ids"], frame["probabilities"], strict=True))


# --- generation ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "sampling",
    [Sampling(0.0), Sampling(0.8), Sampling(1.7), Sampling(1.0, 5), Sampling(1.3, None, 0.3), Sampling(0.5, 40, 0.9)],
)
def test_the_next_token_is_the_librarys(model: GPT2, sampling: Sampling) -> None:
    options = {"temperature": sampling.temperature, "top_k": sampling.top_k or 0, "top_p": sampling.top_p or 1.0}
    (frame,) = frames_of(start(**options))
    expected = generation.token_probabilities(logits(model, prompt()), prompt(), None, sampling)[0]
    plain = logits(model, prompt())[0].softmax(dim=-1)
    assert frame["ids"] == plain.topk(len(frame["ids"])).indices.tolist()
    assert frame["tokens"] == [bundled(GENERATION).tokenizer.decode([token]) for token in frame["ids"]]
    assert frame["probabilities"] == pytest.approx(expected[frame["ids"]].tolist(), abs=1e-6)
    assert frame["model_probabilities"] == pytest.approx(plain[frame["ids"]].tolist(), abs=1e-6)
    assert frame["others"]["probability"] + sum(frame["probabilities"]) == pytest.approx(1, abs=1e-5)
    if sampling.top_k == 5:
        assert sum(probability > 0 for probability in frame["probabilities"]) == 5


def test_the_streamed_tokens_are_the_generators(model: GPT2) -> None:
    frames = frames_of(start(running=True, seed=3), max_frames=12)
    generator = torch.Generator().manual_seed(3)
    expected = generation.generate(
        model, prompt(), max_new_tokens=40, sampling=Sampling(0.8), generator=generator, slide=True
    )[0].tolist()
    assert frames[-1]["new"] >= 10
    for frame in frames:
        assert frame["context_ids"] == expected[: frame["count"]][-MAX_SHOWN:]
        assert frame["text"] == bundled(GENERATION).tokenizer.decode(expected[: frame["count"]])
        plain = logits(model, torch.tensor([expected[: frame["count"]]]))[0]
        assert frame["probabilities"] == pytest.approx((plain / 0.8).softmax(dim=-1)[frame["ids"]].tolist(), abs=1e-6)


def test_steps_are_the_generators_tokens_also_after_other_messages(model: GPT2) -> None:
    frames = frames_of(start(), do("step"), do("heads", heads=[HEAD, HEAD]), do("step"), do("step"))
    generator = torch.Generator().manual_seed(0)
    expected = generation.generate(model, prompt(), max_new_tokens=3, sampling=Sampling(0.8), generator=generator)
    assert [frame["new"] for frame in frames] == [0, 1, 1, 2, 3]
    assert frames[-1]["context_ids"] == expected[0].tolist()
    assert not frames[-1]["is_running"]


def test_a_taken_token_is_continued(model: GPT2) -> None:
    (first,) = frames_of(start())
    taken = first["ids"][4]
    frames = frames_of(start(temperature=0.0), do("step"), do("take", id=taken), do("step"))
    greedy = generation.generate(model, prompt(), max_new_tokens=1)[0].tolist()
    continued = generation.generate(model, torch.tensor([[*greedy, taken]]), max_new_tokens=1)[0].tolist()
    assert frames[-1]["context_ids"] == continued
    assert frames[-1]["text"].startswith(SENTENCE)


def test_other_sampling_is_used_from_the_next_token_on() -> None:
    greedy = do("sampling", temperature=0.0, top_k=0, top_p=1.0)
    frames = frames_of(start(temperature=5.0), do("step"), greedy, do("step"), do("step"))
    for before, after in ((frames[2], frames[3]), (frames[3], frames[4])):
        assert after["context_ids"][-1] == before["ids"][0]


def test_pause_resume_and_speed() -> None:
    frames = frames_of(start(tokens_per_second=0.5), do("speed", tokens_per_second=100.0), do("resume"), max_frames=8)
    assert [frame["is_running"] for frame in frames[:3]] == [False, False, True]
    assert frames[-1]["new"] > 3


def test_a_text_ends_at_the_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transformer_job, "MAX_NEW_TOKENS", 3)
    frames = frames_of(start(running=True), do("step"), do("resume"), do("take", id=7))
    assert frames[-1]["new"] == 3
    assert not frames[-1]["is_running"]
    assert "Reset" in frames[-1]["note"]


def test_the_heads_are_those_of_the_model(model: GPT2) -> None:
    with torch.inference_mode():
        attentions = model.forward_with_internals(prompt()).attentions
    heads = [{"layer": 1, "head": 2, "causal": True}, {"layer": 99, "head": 99, "causal": True}]
    (frame,) = frames_of(start(heads=heads))
    assert torch.tensor(frame["heads"][0]["weights"]) == pytest.approx(attentions[1][0, 2], abs=1e-6)
    assert torch.tensor(frame["heads"][1]["weights"]) == pytest.approx(attentions[-1][0, -1], abs=1e-6)
    assert (frame["heads"][1]["layer"], frame["heads"][1]["head"]) == (frame["num_layers"] - 1, frame["num_heads"] - 1)


def test_without_the_mask_tokens_look_at_later_ones_and_the_model_predicts_worse(model: GPT2) -> None:
    (frame,) = frames_of(start(heads=[HEAD, {**HEAD, "causal": False}]))
    masked, unmasked = (torch.tensor(head["weights"]) for head in frame["heads"])
    assert not masked.triu(1).any()
    assert unmasked.triu(1).sum() > 0.5
    assert unmasked.sum(dim=1).numpy() == pytest.approx(1, abs=1e-5)
    ids = prompt()
    with torch.no_grad():
        expected = torch.nn.functional.cross_entropy(model(ids)[0, :-1], ids[0, 1:])
    assert frame["losses"][0] == pytest.approx(float(expected), abs=1e-5)
    assert frame["losses"][1] > frame["losses"][0]
    (again,) = frames_of(start())
    assert again["probabilities"] == frame["probabilities"], "the mask is there again"
    assert again["losses"] is None


def test_a_long_text_is_cut_and_continued(model: GPT2) -> None:
    text = UNUSUAL["5,000 characters"]
    frames = frames_of(start(sentence=text, temperature=0.0), do("step"))
    ids = prompt(text)
    context = model.config.n_positions
    window = ids[:, generation.window_start(ids.shape[1], context) :]
    assert frames[0]["count"] == ids.shape[1] > context
    assert f"{window.shape[1]} of {ids.shape[1]:,} tokens" in frames[0]["note"]
    assert frames[0]["first"] + MAX_SHOWN == frames[0]["count"]
    assert frames[1]["context_ids"][-1] == int(logits(model, window).argmax())


def test_a_message_that_fits_no_text_says_why() -> None:
    with pytest.raises(UserError, match="at least one token"):
        generate(Page(), start(sentence=""))
    with pytest.raises(UserError, match="nothing to classify"):
        classify(Page(), review(sentence=" \n"))
    with pytest.raises(UserError, match="vocabulary"):
        generate(Page(do("take", id=1_000_000)), start())


# --- sentiment ----------------------------------------------------------------------------------------


def test_the_sentiment_is_the_librarys() -> None:
    expected = explain(load_own(SENTIMENT, SENTIMENT.bundled, "bundled"), REVIEW)
    first, last = frames_of(review())
    assert first["words"] is None
    for frame in (first, last):
        assert frame["label"] == expected.label == "POSITIVE"
        assert frame["probability"] == pytest.approx(expected.score, abs=1e-6)
    assert [word for word, _ in last["words"]] == [word for word, _ in expected.attributions()]
    assert [value for _, value in last["words"]] == pytest.approx(
        [value for _, value in expected.attributions()], abs=1e-6
    )
    assert last["baseline"] == pytest.approx(expected.baseline_score, abs=1e-6)


def test_another_head_of_the_encoder_is_shown_on_request() -> None:
    frames = frames_of(review(), do("heads", heads=[{"layer": 1, "head": 7, "causal": True}]))
    loaded = bundled(SENTIMENT)
    with torch.inference_mode():
        ids = torch.tensor(loaded.tokenizer([REVIEW])["input_ids"])
        expected = loaded.model.forward_with_internals(ids).attentions[1][0, 7]
    assert torch.tensor(frames[-1]["heads"][0]["weights"]) == pytest.approx(expected, abs=1e-6)
    assert frames[-1]["words"] == frames[-2]["words"]


def test_a_newer_job_need_not_wait_for_the_attributions() -> None:
    class Impatient(Page):
        calls = 0

        def messages(self, wait: float | None = 0.0) -> Iterator[dict[str, Any]]:
            self.calls += 1
            if self.calls == 5:
                raise Replaced({})
            yield from ()

    page = Impatient()
    with pytest.raises(Replaced):
        classify(page, review(sentence="good " * 400))
    assert [frame["words"] for frame in page.frames] == [None]
    assert "Only the first 256 of 402 tokens" in page.frames[0]["note"]
    assert not any(block._forward_pre_hooks for block in bundled(SENTIMENT).model.blocks)


# --- any text, the learner's own functions, messages ----------------------------------------------------


@pytest.mark.parametrize("text", UNUSUAL.values(), ids=UNUSUAL)
def test_any_text_works(text: str) -> None:
    frames = frames_of(start(sentence=text), do("step"))
    assert all(frame["text"].startswith(text) for frame in frames)
    assert len(frames[-1]["context"]) == len(frames[-1]["context_ids"]) <= MAX_SHOWN
    page = Page(max_frames=1)
    with pytest.raises(Replaced):
        classify(page, review(sentence=text))
    assert page.frames[0]["label"] in ("NEGATIVE", "POSITIVE")


def test_the_models_are_loaded_once_and_the_threads_put_back() -> None:
    before = torch.get_num_threads()
    frames_of(start())
    loaded = bundled(GENERATION)
    frames_of(start())
    assert bundled(GENERATION) is loaded
    assert torch.get_num_threads() == before


UNIFORM = """
import torch

def masked_attention(query, key, value, mask):
    weights = mask.expand(*query.shape[:-1], key.shape[-2]).to(query.dtype)
    weights = weights / weights.sum(-1, keepdim=True)
    return weights @ value, weights
"""
NEVER_THE_BEST = """
def sampling_probabilities(logits, temperature, top_k):
    return logits.scatter(-1, logits.argmax(-1, keepdim=True), float("-inf")).softmax(-1)
"""


def test_own_functions_do_the_work_and_are_named(tmp_path: Path) -> None:
    (tmp_path / "masked_attention.py").write_text(UNIFORM)
    (tmp_path / "sampling_probabilities.py").write_text(NEVER_THE_BEST)
    files = tmp_path / "masked_attention.py", tmp_path / "sampling_probabilities.py"
    (plain,) = frames_of(start())
    frames = frames_of(start(), own_files=files)
    assert len(frames[-1]["own_functions"]) == 2
    assert "masked_attention" in frames[-1]["own_functions"][0]
    weights = torch.tensor(frames[-1]["heads"][0]["weights"])
    counts = torch.arange(1, len(weights) + 1)[:, None]
    assert weights == pytest.approx(torch.ones_like(weights).tril() / counts, abs=1e-6)
    assert frames[-1]["tokens"] != plain["tokens"]
    judged = frames_of(review(), own_files=files)[-1]
    assert len(judged["own_functions"]) == 1
    assert torch.tensor(judged["heads"][0]["weights"]).numpy() == pytest.approx(1 / judged["count"], abs=1e-6)
    (again,) = frames_of(start())
    assert again["probabilities"] == plain["probabilities"]
    assert again["own_functions"] == []


def test_an_own_function_that_fails_is_named(tmp_path: Path) -> None:
    file = tmp_path / "masked_attention.py"
    file.write_text("def masked_attention(query, key, value, mask):\n    return query @ key, None\n")
    with pytest.raises(UserError, match=r"masked_attention\.py"):
        generate(Page(own_files=(file,)), start())


def test_messages_are_checked() -> None:
    assert parse(json.dumps(start())) == start()
    assert parse(json.dumps(review())) == review()
    assert set(MESSAGES["transformer"]) >= {"pause", "resume", "step", "take", "sampling", "heads", "speed"}
    wrong = [
        {"heads": []}, {"heads": [HEAD] * 3}, {"heads": HEAD}, {"heads": [{"layer": 0, "head": 0}]}, {"heads": [3]},
        {"heads": [{**HEAD, "layer": -1}]}, {"heads": [{**HEAD, "causal": 1}]}, {"heads": [{**HEAD, "path": "x"}]},
        {"sentence": 3}, {"sentence": "a" * 20_001}, {"temperature": -0.1}, {"temperature": "1"}, {"top_k": 1.5},
        {"top_p": 0}, {"top_p": float("nan")}, {"seed": -1}, {"running": 1}, {"number": None}, {"more": 1},
    ]  # fmt: skip
    for changes in wrong:
        with pytest.raises(BadMessage):
            parse(json.dumps(start(**changes)))
    with pytest.raises(BadMessage):
        parse(json.dumps(do("take", id="7")))


# --- in the browser -----------------------------------------------------------------------------------


def generated(watched: WatchedPage, new: int) -> dict[str, Any]:  # noqa: F811
    return watched.wait_for(lambda frame: frame.get("new") == new and not frame["is_running"])


def test_the_pane_shows_the_librarys_numbers_before_it_is_touched(watched: WatchedPage, model: GPT2) -> None:  # noqa: F811
    watched.open("transformer")
    frame = watched.frame()
    assert watched.page.get_by_label("Sentence", exact=True).input_value() == frame["text"] == SENTENCE
    expected = generation.token_probabilities(logits(model, prompt()), prompt(), None, Sampling(0.8))[0]
    assert frame["probabilities"] == pytest.approx(expected[frame["ids"]].tolist(), abs=1e-6)
    row = watched.page.locator("#transformer [role=row]").first
    assert row.inner_text().split() == ["␣saw", "762", "18%", "33%"]
    assert violations(watched.page) == []


def test_a_token_is_taken_by_click_and_by_enter_and_reset_takes_it_back(watched: WatchedPage) -> None:  # noqa: F811
    watched.open("transformer")
    page, box = watched.page, watched.page.get_by_label("Sentence", exact=True)
    rows = page.locator("#transformer [role=row]")
    rows.nth(1).click()
    frame = generated(watched, 1)
    assert box.input_value() == frame["text"] == f"{SENTENCE} looked"
    rows.nth(0).get_by_role("button").focus()
    page.keyboard.press("ArrowDown")
    wanted = frame["tokens"][1]
    page.keyboard.press("Enter")
    generated(watched, 2)
    assert box.input_value() == f"{SENTENCE} looked{wanted}"
    page.get_by_role("button", name="Reset").click()
    generated(watched, 0)
    assert box.input_value() == SENTENCE


def test_start_streams_what_the_generator_yields(watched: WatchedPage, model: GPT2) -> None:  # noqa: F811
    watched.open("transformer?speed=20&seed=5")
    page = watched.page
    page.get_by_role("button", name="Start").click()
    watched.wait_for(lambda frame: frame["new"] >= 5)
    page.get_by_role("button", name="Pause").click()
    paused = watched.wait_for(lambda frame: not frame["is_running"])
    page.get_by_role("button", name="Step").click()
    frame = generated(watched, paused["new"] + 1)
    generator = torch.Generator().manual_seed(5)
    expected = generation.generate(
        model, prompt(), max_new_tokens=frame["new"], sampling=Sampling(0.8), generator=generator, slide=True
    )[0].tolist()
    assert frame["context_ids"] == expected[-MAX_SHOWN:]
    assert page.get_by_label("Sentence", exact=True).input_value() == frame["text"]
    wait_until(lambda: urlencode({"sentence": frame["text"]}) in page.evaluate("location.hash"))
    page.reload()
    again = watched.wait_for(lambda each: each["pane"] == "transformer")
    assert again["text"] == frame["text"], "the address holds the text"


def test_typing_starts_a_new_job_and_wins_over_what_is_streamed(watched: WatchedPage) -> None:  # noqa: F811
    watched.open("transformer?speed=30")
    watched.page.get_by_role("button", name="Start").click()
    watched.wait_for(lambda frame: frame["new"] >= 3)
    box = watched.page.get_by_label("Sentence", exact=True)
    for text in UNUSUAL.values():
        box.fill(text)
        wait_until(lambda: watched.frame()["sentence"] == box.input_value())
        assert box.input_value() == watched.frame()["text"]
    box.fill("")
    wait_until(lambda: "type a sentence" in watched.page.locator("#transformer .problem").inner_text())
    box.fill(SENTENCE)
    watched.wait_for(lambda frame: frame["sentence"] == SENTENCE)
    assert watched.page.locator("#transformer .problem").inner_text() == ""


def test_hover_focus_and_click_choose_the_same_token(watched: WatchedPage) -> None:  # noqa: F811
    watched.open("transformer")
    page = watched.page
    looks, chosen = page.locator("#transformer .looks").first, page.locator("#transformer tr.chosen th")
    frame = watched.frame()
    most = max(range(4), key=frame["heads"][0]["weights"][3].__getitem__)
    visible = [token.replace(" ", "␣") for token in frame["context"]]
    page.locator("#transformer .tokens button").nth(3).hover()
    by_hover = looks.inner_text()
    assert by_hover.startswith(f"{visible[3]} looks most at {visible[most]}")
    page.locator("#transformer .attention tbody tr").nth(2).locator("button").focus()
    assert chosen.first.inner_text() == visible[2]
    page.keyboard.press("ArrowDown")
    assert looks.inner_text() == by_hover
    page.locator("#transformer .tokens button").nth(5).click()
    assert chosen.first.inner_text() == visible[5]


def test_two_heads_with_and_without_the_mask(watched: WatchedPage) -> None:  # noqa: F811
    watched.open("transformer?head=1.2")
    page = watched.page
    page.get_by_label("Compare with a second head").check()
    page.get_by_label("Second layer", exact=True).select_option("1")
    page.get_by_label("Second head", exact=True).select_option("2")
    page.get_by_label("Second causal mask").uncheck()
    frame = watched.wait_for(
        lambda frame: (
            [[head[key] for key in ("layer", "head", "causal")] for head in frame["heads"]]
            == [[1, 2, True], [1, 2, False]]
        )
    )
    assert f"{frame['losses'][1]:.2f} without" in page.locator("#transformer .view").nth(1).inner_text()
    first_rows = [view.locator("tbody tr").first.inner_text() for view in page.locator("#transformer .view").all()]
    assert first_rows[0].count("×") == frame["count"] - 1
    assert "×" not in first_rows[1]
    assert violations(page) == []


def test_the_sentiment_is_shown_word_by_word(watched: WatchedPage) -> None:  # noqa: F811
    watched.open("transformer")
    watched.page.get_by_role("radio", name="Sentiment").check()
    frame = watched.wait_for(lambda frame: frame.get("words"))
    expected = explain(bundled(SENTIMENT), frame["sentence"])
    assert frame["probability"] == pytest.approx(expected.score, abs=1e-6)
    assert [value for _, value in frame["words"]] == pytest.approx(
        [value for _, value in expected.attributions()], abs=1e-6
    )
    assert watched.page.locator("#transformer .label").inner_text() == "POSITIVE 99.8%"
    assert watched.page.locator("#transformer .words > span").nth(1).inner_text().split() == ["wonderful", "+0.14"]
    assert violations(watched.page) == []
    watched.page.get_by_label("Sentence", exact=True).fill("A dull, tedious waste of time.")
    assert watched.wait_for(lambda frame: frame.get("label") == "NEGATIVE" and frame["words"])


def test_the_sliders_are_the_librarys_options(watched: WatchedPage, model: GPT2) -> None:  # noqa: F811
    watched.open("transformer?temperature=1.5&top_k=5&top_p=0.9")
    frame = watched.frame()
    expected = generation.token_probabilities(logits(model, prompt()), prompt(), None, Sampling(1.5, 5, 0.9))[0]
    assert frame["probabilities"] == pytest.approx(expected[frame["ids"]].tolist(), abs=1e-6)
    assert "removed" in watched.page.locator("#transformer [role=row]").nth(5).inner_text()
    watched.page.get_by_label("Top-k").fill("2")
    watched.wait_for(lambda frame: sum(each > 0 for each in frame["probabilities"]) == 2)
    wait_until(lambda: "top_k=2" in watched.page.evaluate("location.hash"))


SMALL_TARGETS = """
[...document.querySelectorAll("#transformer button, #transformer select, #transformer input")]
    .map((each) => [each.outerHTML, each.getBoundingClientRect()])
    .filter(([html, box]) => box.height > 0 && Math.min(box.width, box.height) < 23.9)
    .map(([html, box]) => `${html} ${box.width} x ${box.height}`)
"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_fits_a_narrow_page(browser: Any, server: str, scheme: str) -> None:  # noqa: F811
    page = browser.new_page(viewport={"width": 360, "height": 740}, color_scheme=scheme)
    narrow = WatchedPage(page, server)
    long_word = "transformer?task=sentiment&sentence=" + "x" * 300
    for fragment in ("transformer?second=0.0n&sentence=" + "word%20" * 40, long_word):
        narrow.open(fragment)
        page.reload()
        wait_until(lambda: page.locator("#transformer .attention").first.is_visible())
        assert page.evaluate("document.documentElement.scrollWidth") == 360
        assert page.evaluate(SMALL_TARGETS) == []
        assert violations(page) == []
    page.close()
    assert narrow.problems == []


def test_with_reduced_motion_the_stream_is_shown_on_demand(browser: Any, server: str) -> None:  # noqa: F811
    page = browser.new_page(reduced_motion="reduce")
    calm = WatchedPage(page, server)
    calm.open("transformer?speed=20")
    page.get_by_role("button", name="Start").click()
    calm.wait_for(lambda frame: frame["new"] >= 10)
    box = page.get_by_label("Sentence", exact=True)
    shown = box.input_value()
    assert len(shown) < len(calm.frame()["text"])
    page.get_by_role("button", name="Show the newest").click()
    wait_until(lambda: len(box.input_value()) > len(shown))
    page.close()


def test_own_functions_are_named_on_the_page(browser: Any, tmp_path: Path) -> None:  # noqa: F811
    file = tmp_path / "masked_attention.py"
    file.write_text(UNIFORM)
    with running_server("--with", str(file)) as (address, _):
        page = browser.new_page()
        own = WatchedPage(page, address)
        own.open("transformer")
        assert "Runs your own masked_attention of" in page.locator("#transformer .own").inner_text()
        weights = own.frame()["heads"][0]["weights"]
        assert weights[3][:4] == pytest.approx([0.25] * 4, abs=1e-6)
        page.close()


def test_what_comes_too_late_leaves_another_pane_alone(watched: WatchedPage) -> None:  # noqa: F811
    watched.open("transformer")
    page = watched.page
    page.get_by_role("button", name="Step", exact=True).click()
    page.get_by_label("Sentence", exact=True).fill("Call me")
    page.get_by_role("tab", name="Maze").click()
    page.wait_for_timeout(1000)
    wait_until(lambda: page.evaluate("location.hash").startswith("#maze"))
    assert watched.frame()["pane"] == "maze"
    page.get_by_role("tab", name="Transformer").click()
    assert watched.wait_for(lambda frame: frame.get("sentence") == "Call me")
    wait_until(lambda: "Call+me" in page.evaluate("location.hash"))


def test_start_works_while_the_models_are_loaded(watched: WatchedPage) -> None:  # noqa: F811
    watched.page.goto(f"{watched.address}#transformer?speed=30")
    watched.page.get_by_role("button", name="Start", exact=True).click()
    watched.wait_for(lambda frame: frame["new"] > 3)


def test_nonsense_in_the_address_is_ignored(watched: WatchedPage, model: GPT2) -> None:  # noqa: F811
    watched.open("transformer?task=constructor&head=x&second=99.99&temperature=-3&top_k=1e9&top_p=&seed=a&speed=0&y=1")
    frame = watched.frame()
    expected = generation.token_probabilities(logits(model, prompt()), prompt(), None, Sampling(0.8))[0]
    assert frame["probabilities"] == pytest.approx(expected[frame["ids"]].tolist(), abs=1e-6)
    assert frame["heads"][1]["layer"] == model.config.n_layer - 1
    assert watched.page.get_by_label("Second layer", exact=True).input_value() == str(model.config.n_layer - 1)


def test_markup_stays_text(watched: WatchedPage) -> None:  # noqa: F811
    watched.open("transformer?task=sentiment&sentence=" + "%3Cimg%20src%3Dx%20onerror%3Dalert(1)%3E")
    watched.wait_for(lambda frame: frame["words"])
    assert watched.page.locator("#transformer img").count() == 0
    assert watched.page.locator("#transformer .words > span").nth(1).inner_text().startswith("img")
