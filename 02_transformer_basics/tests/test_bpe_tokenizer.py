"""The tokenizer from scratch equals the `tokenizers` library: merges, ids, and the decoded text."""

import io
import itertools
import json
import random
import re
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

import bpe_tokenizer
from bpe_tokenizer import BytePairTokenizer, Rule, merge_by_queue, merge_by_scanning
from lab.errors import UserError
from lab.files import ROOT
from tokenizer.byte_level import ALPHABET, BYTE_TO_CHAR, pre_tokenize
from tokenizer.demo import EXAMPLE, STORY
from tokenizer.training import Merge, learn_merges, merge_pair

Both = tuple[BytePairTokenizer, Tokenizer]  # ours and the library's, of one vocabulary
GPT2 = ROOT.parent / "shared/data/gpt2_bpe"
needs_gpt2 = pytest.mark.skipif(not GPT2.is_dir(), reason="GPT-2's vocabulary is not at ../shared/data/gpt2_bpe")
BUNDLED = ROOT / "assets/models/language/tokenizer.json"
AWKWARD = [
    "I'll, he's, they've, IT'S, 's's''t 'LL 're",
    " ".join(f"x'{letter}{letter}" for letter in "abcdefghijklmnopqrstuvwxyzé"),
    "  two  spaces \t\n\n  and\r\nlines \u00a0\u2003\u3000\u200b ends   ",
    "\x00\x01\x07\x1b\x1c\x1d\x1e\x1f\x7f\x85\u2028\u2029\ufeff\ufffe\uffff\U0010ffff",
    "a\x1cb\x85c\u180ed",  # white space for some and not for others
    "😀👩\u200d👩\u200d👧🏽🇪🇺",
    "e\u0301 n\u0303\u0303 \u0915\u094d\u0937\u093f \u0301",
    "naïve Übergröße ΑΩ 日本語 عربى ½ ² Ⅷ ٣ 1234567",
    "<|endoftext|>a <|endoftext|><|endoftext|",
    "\u0558\u088f\U00033000 \U00011de0\U0003d000",  # letters and digits newer than the library's Unicode
    "",
]
FRAGMENTS = [*" \n\t'\r\x1c\x85aAe1!", "'s", "😀", "\u0301", "é", "日", "<|endoftext|>"]
anything = st.text() | st.lists(st.sampled_from(FRAGMENTS)).map("".join)


def library_of(model: models.BPE, *special: str) -> Tokenizer:
    library = Tokenizer(model)
    library.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    library.decoder = decoders.ByteLevel()
    library.add_special_tokens(list(special))
    return library


@pytest.fixture(scope="module")
def gpt2() -> Both:
    """GPT-2's tokenizer, ours and the library's."""
    model = models.BPE.from_file(str(GPT2 / "encoder.json"), str(GPT2 / "vocab.bpe"))
    return BytePairTokenizer.from_folder(GPT2), library_of(model, "<|endoftext|>")


@pytest.fixture(scope="module")
def bundled(tmp_path_factory: pytest.TempPathFactory) -> Both:
    """The tokenizer of the bundled language model, whose bytes do not begin at id 0, and the library's."""
    library, folder = Tokenizer.from_file(str(BUNDLED)), tmp_path_factory.mktemp("bundled")
    library.model.save(str(folder))
    return BytePairTokenizer.from_folder(folder), library


def assert_equal(ours: BytePairTokenizer, library: Tokenizer, text: str) -> None:
    ids = ours.encode(text)
    assert ids == library.encode(text).ids
    assert ours.decode(ids) == text == library.decode(ids, skip_special_tokens=False)


# --- encoding and decoding --------------------------------------------------------------------------------------------


@needs_gpt2
@settings(max_examples=500, deadline=None)
@given(text=anything)
def test_ids_equal_the_librarys_with_gpt2s_vocabulary(gpt2: Both, text: str) -> None:
    assert_equal(*gpt2, text)


@settings(max_examples=200, deadline=None)
@given(text=anything)
def test_ids_equal_the_librarys_with_the_bundled_vocabulary(bundled: Both, text: str) -> None:
    assert_equal(*bundled, text)


@pytest.mark.parametrize("text", AWKWARD)
def test_awkward_texts_with_the_bundled_vocabulary(bundled: Both, text: str) -> None:
    assert_equal(*bundled, text)


@needs_gpt2
@pytest.mark.parametrize("text", AWKWARD)
def test_awkward_texts_with_gpt2s_vocabulary(gpt2: Both, text: str) -> None:
    assert_equal(*gpt2, text)


@needs_gpt2
def test_known_ids_of_gpt2(gpt2: Both) -> None:
    assert gpt2[0].encode("Hello world") == [15496, 995]
    assert gpt2[0].special == {"<|endoftext|>": 50256}
    assert len(gpt2[0].tokens) == 50257


LETTERS = "".join(random.Random(0).choices("abcdefghijklmnopqrstuvwxyz", k=100_000))  # one piece, all kinds of pairs
LONG = ["a", " ", "\n", "ab", "the", "日本", "😀", "!", "x\x00", "1", " \n\t", LETTERS]


@pytest.mark.parametrize("unit", LONG, ids=lambda unit: ascii(unit[:5]))
def test_ids_of_a_long_text_without_words_equal_the_librarys(bundled: Both, unit: str) -> None:
    assert_equal(*bundled, unit * (100_000 // len(unit)) + "x")


class CountingRules(dict):
    """Rules that count their look-ups, which measure work independently of the machine's load."""

    lookups = 0

    def __contains__(self, pair: object) -> bool:
        self.lookups += 1
        return super().__contains__(pair)


@pytest.mark.parametrize(
    "text", ["a" * 9000, "the" * 3000, "😀" * 3000, LETTERS[:9000]], ids=lambda text: ascii(text[:5])
)
def test_work_grows_with_the_length_and_not_with_its_square(
    bundled: Both, monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    rules = CountingRules(bundled[0].rules)
    monkeypatch.setattr(bundled[0], "rules", rules)
    bundled[0].encode(text)
    assert len(text) - 1 <= rules.lookups <= 3 * len(text.encode())  # at least once for every two neighbors


@settings(max_examples=200, deadline=None)
@given(st.text(alphabet="ab c", max_size=60), st.text(alphabet="ab c", max_size=60))
def test_merging_by_queue_equals_merging_by_scanning(learn_from: str, text: str) -> None:
    rules = {merge.pair: Rule(rank, merge.token) for rank, merge in enumerate(learn_merges(learn_from, 300))}
    symbols = [ALPHABET.index(BYTE_TO_CHAR[byte]) for byte in text.encode()]
    original = list(symbols)
    assert merge_by_queue(symbols, rules) == merge_by_scanning(symbols, rules)
    assert symbols == original


@settings(max_examples=200, deadline=None)
@given(ids=st.lists(st.integers(0, 300)))
def test_decoding_equals_the_librarys_for_any_ids(bundled: Both, ids: list[int]) -> None:
    assert bundled[0].decode(ids) == bundled[1].decode(ids, skip_special_tokens=False)


def test_half_a_character_becomes_a_replacement_character() -> None:
    tokenizer = BytePairTokenizer.train("", 256)
    ids = tokenizer.encode("a😀")
    assert len(ids) == 5
    assert tokenizer.decode(ids[:-1]) == "a\ufffd"


def test_merges_apply_in_their_order_and_not_in_that_of_the_ids() -> None:
    ours = BytePairTokenizer.train(STORY, 500)
    last = max(ours.vocabulary.values())
    ours = BytePairTokenizer({token: last - id for token, id in ours.vocabulary.items()}, ours.merges)
    assert_equal(ours, library_of(models.BPE(ours.vocabulary, ours.merges)), STORY + EXAMPLE)


def test_the_longest_special_token_is_matched() -> None:
    plain = BytePairTokenizer.train("", 256)
    ours = BytePairTokenizer({**plain.vocabulary, "<end>": 256, "<end>>": 257, "(.*)": 258}, [])
    assert_equal(ours, library_of(models.BPE(ours.vocabulary, []), *ours.special), "<end>>x<end> (.*) <end")
    assert ours.encode("<end>><end>(.*)") == [257, 256, 258]


@pytest.mark.parametrize("ids", [[256], [-1], [5, 99999]])
def test_unknown_ids_are_refused(ids: list[int]) -> None:
    with pytest.raises(UserError, match=f"token id {ids[-1]} is not in the vocabulary of 256 tokens"):
        BytePairTokenizer.train("", 256).decode(ids)


@pytest.mark.parametrize("text", ["a\ud800", "\udc80", "\ud83d\ude00"])
def test_half_a_surrogate_pair_is_refused(text: str) -> None:
    for refusing in (
        BytePairTokenizer.train("", 256).encode,
        pre_tokenize,
        lambda text: BytePairTokenizer.train(text, 300),
    ):
        with pytest.raises(UserError, match=r"U\+D[8C][0-9A-F]{2}, half a surrogate pair"):
            refusing(text)


# --- pre-tokens -------------------------------------------------------------------------------------------------------


@settings(max_examples=300, deadline=None)
@given(text=anything)
@example("a\x1cb 12ab!?  x")
def test_pre_tokens_equal_the_librarys_and_join_to_the_text(text: str) -> None:
    pre_tokens = pre_tokenize(text)
    assert "".join(pre_tokens) == text
    library = pre_tokenizers.ByteLevel(add_prefix_space=False)
    written = ["".join(BYTE_TO_CHAR[byte] for byte in word.encode()) for word in pre_tokens]
    assert written == [word for word, _ in library.pre_tokenize_str(text)]


def test_every_unicode_character_is_classified_as_in_the_library() -> None:
    library = pre_tokenizers.ByteLevel(add_prefix_space=False)
    codes = [*range(0xD800), *range(0xE000, 0x40000), *range(0x40000, 0x110000, 64)]  # from 0x40000 on hardly any
    for start in range(0, len(codes), 512):
        # a letter joins the x, a digit the 1, other symbols the !, white space none of them
        text = "".join("x{0}1{0}!{0} ".format(chr(code)) for code in codes[start : start + 512])
        assert pre_tokenize(text) == [text[slice(*span)] for _, span in library.pre_tokenize_str(text)], hex(
            codes[start]
        )


def test_bytes_to_unicode_gives_the_librarys_alphabet() -> None:
    assert sorted(BYTE_TO_CHAR) == sorted(pre_tokenizers.ByteLevel.alphabet())
    assert len(set(BYTE_TO_CHAR)) == 256
    assert (BYTE_TO_CHAR[ord(" ")], BYTE_TO_CHAR[ord("\n")], BYTE_TO_CHAR[ord("a")]) == ("Ġ", "Ċ", "a")


# --- training ---------------------------------------------------------------------------------------------------------


def library_training(text: str, vocab_size: int, min_frequency: int = 0) -> tuple[list[tuple[str, str]], dict]:
    library = library_of(models.BPE())
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size, min_frequency=min_frequency, initial_alphabet=alphabet, show_progress=False
    )
    library.train_from_iterator([text], trainer)
    model = json.loads(library.to_str())["model"]
    return [tuple(merge) for merge in model["merges"]], model["vocab"]


def shuffled_words(seed: int) -> str:
    """Few characters and many ties: words of a small alphabet, each a few times."""
    generator = random.Random(seed)
    return " ".join("".join(generator.choices("abcé ", k=generator.randint(1, 9))) for _ in range(400))


CORPORA = {
    "story": STORY,
    "awkward": "\n".join(AWKWARD),
    "this file": Path(__file__).read_text(encoding="utf-8"),
    "runs": "aaaa aaaaaaa aaa aaaaa aaaaaaaaaaaaaaaa abababab babab " * 3,
    "a long piece": "abracadabra" * 500,
    "once each": "the quick brown fox jumps over the lazy dog",
    **{f"random {seed}": shuffled_words(seed) for seed in range(4)},
}


@pytest.mark.parametrize("corpus", CORPORA)
@pytest.mark.parametrize("min_frequency", [1, 3])
def test_learned_merges_and_ids_equal_the_librarys(corpus: str, min_frequency: int) -> None:
    ours = BytePairTokenizer.train(CORPORA[corpus], 1200, min_frequency)
    merges, vocabulary = library_training(CORPORA[corpus], 1200, min_frequency)
    assert ours.merges == merges
    assert ours.vocabulary == vocabulary
    assert len(merges) > 5 or (corpus, min_frequency) == ("once each", 3)


@settings(max_examples=300, deadline=None)
@given(st.text(alphabet="abc 1\u00e9", max_size=200))
def test_ties_are_broken_as_in_the_library(text: str) -> None:
    assert BytePairTokenizer.train(text, 400).merges == library_training(text, 400)[0]


def learn_by_recounting(text: str, vocab_size: int) -> list[Merge]:
    """The algorithm of the paper in its plainest form: count all pairs again for every merge."""
    words, merges = [[ALPHABET.index(BYTE_TO_CHAR[byte]) for byte in word.encode()] for word in pre_tokenize(text)], []
    for token in range(256, vocab_size):
        pairs = [pair for word in words for pair in itertools.pairwise(word)]
        if not pairs:
            break
        count, pair = max(
            ((pairs.count(pair), pair) for pair in set(pairs)), key=lambda it: (it[0], -it[1][0], -it[1][1])
        )
        merges.append(Merge(pair, token, count))
        words = [merge_pair(word, pair, token) for word in words]
    return merges


@settings(max_examples=50, deadline=None)
@given(st.text(alphabet="ab c", max_size=60))
def test_incremental_counting_equals_recounting(text: str) -> None:
    assert list(learn_merges(text, 290)) == learn_by_recounting(text, 290)


def test_merges_do_not_cross_word_boundaries() -> None:
    tokens = BytePairTokenizer.train("dog. dog! dog? " * 9, 300).tokens.values()
    assert b" dog" in tokens
    assert not any(b"dog" in token and token.strip() != b"dog" for token in tokens)


def test_merges_are_yielded_one_by_one() -> None:
    stream = learn_merges("low lower lowest", 10**9)
    assert next(stream) == Merge((ALPHABET.index("l"), ALPHABET.index("o")), 256, 3)


@pytest.mark.parametrize("size", [255, 0, -1])
def test_a_vocabulary_without_room_for_the_bytes_is_refused(size: int) -> None:
    with pytest.raises(UserError, match=f"vocab_size is {size}; it must be at least 256"):
        BytePairTokenizer.train("some text", size)


# --- files ------------------------------------------------------------------------------------------------------------


def test_saved_files_are_read_by_us_and_by_the_library(tmp_path: Path) -> None:
    ours = BytePairTokenizer.train(STORY + "日本 #version # !", 400)
    ours.save(tmp_path)
    again = BytePairTokenizer.from_folder(tmp_path)
    assert (again.vocabulary, again.merges) == (ours.vocabulary, ours.merges)
    model = models.BPE.from_file(str(tmp_path / "vocab.json"), str(tmp_path / "merges.txt"))
    assert_equal(again, library_of(model), EXAMPLE)


def damage(folder: Path, name: str, content: bytes) -> Path:
    BytePairTokenizer.train("some text", 260).save(folder)
    (folder / name).write_bytes(content)
    return folder


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("vocab.json", b"", "vocab.json: not JSON"),
        ("vocab.json", b"[1]", "vocab.json: not a vocabulary"),
        ("vocab.json", b'{"a": "b"}', "vocab.json: not a vocabulary"),
        ("vocab.json", b'{"a": 1, "b": 1}', "vocab.json: not a vocabulary"),
        ("vocab.json", b'{"a": 0}', "lacks '\u0100'"),
        ("vocab.json", b"\xff", "vocab.json: not UTF-8"),
        ("merges.txt", b"#version: 0.2\na\n", "merges.txt, line 2"),
        ("merges.txt", b"a b c", "merges.txt, line 1"),
        ("merges.txt", b"q z", "lacks 'qz'"),
    ],
)
def test_damaged_files_are_refused_by_name(tmp_path: Path, name: str, content: bytes, words: str) -> None:
    with pytest.raises(UserError) as caught:
        BytePairTokenizer.from_folder(damage(tmp_path, name, content))
    assert words in str(caught.value)
    assert str(tmp_path) in str(caught.value)


# --- the demonstration ------------------------------------------------------------------------------------------------


@pytest.fixture(autouse=True)
def no_gpt2_next_to_the_lab(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(bpe_tokenizer, "GPT2_FILES", tmp_path / "nowhere")


def test_the_demonstration_prints_merges_tokens_and_checks(call: Callable, tmp_path: Path) -> None:
    result = call(bpe_tokenizer, "the mouse 🐭", "--vocab_size", "300")
    assert (result.status, result.err) == (0, "")
    assert "     1    256      38  [ ] [t] -> [ t]\n" in result.out
    assert "after 0 merges: 14 tokens\n[t][h][e][ ][m][o][u][s][e][ ][\\xf0][\\x9f][\\x90][\\xad]\n" in result.out
    assert "[ mouse]" in result.out.split("after 44 merges")[1]
    assert re.search(r"\nencoded: [0-9 ]+ 275 220 172 253 238 255\ndecoded: the mouse 🐭\n", result.out)
    assert "merges equal to the library's: 44 of 44" in result.out
    record = json.loads((tmp_path / "out/bpe_tokenizer.json").read_text())
    assert all(check["ok"] for check in record["figures"])
    assert set(record["results"]["tokens"]) == {"after 0 merges", "after 11 merges", "after 44 merges"}
    learned = BytePairTokenizer.from_folder(tmp_path / "out/bpe_tokenizer")
    assert len(learned.encode("the mouse 🐭")) == record["results"]["tokens"]["after 44 merges"]


@needs_gpt2
def test_the_demonstration_compares_with_gpt2(call: Callable) -> None:
    result = call(bpe_tokenizer, "--gpt2", str(GPT2))
    assert "\nGPT-2: 19 tokens\n[The][ mouse][ thinks]" in result.out
    assert "ids, GPT-2, compared with the library: 179 equal, text restored" in result.out


def test_it_trains_on_a_file_and_warns_when_the_text_is_exhausted(call: Callable, tmp_path: Path) -> None:
    (tmp_path / "text").write_text("aa aa", encoding="utf-8")
    result = call(bpe_tokenizer, "aa\x1b[31m", "--data", str(tmp_path / "text"), "--vocab_size", "1000")
    assert result.status == 0
    assert result.err == "note: stopped after 2 of 744 merges: every word of the text is one token\n"
    assert "after 2 merges: 6 tokens\n[aa][\\x1b]" in result.out


def test_a_long_text_is_printed_in_part(call: Callable) -> None:
    result = call(bpe_tokenizer, "z" * 5000)
    assert "after 64 merges: 5,000 tokens" in result.out
    assert "[z] and 4,900 more" in result.out


def test_a_difference_from_the_library_is_reported(
    call: Callable, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(BytePairTokenizer, "encode", lambda self, text: [0] * len(text))
    result = call(bpe_tokenizer)
    assert "NOT equal, text NOT restored" in result.out
    checks = json.loads((tmp_path / "out/bpe_tokenizer.json").read_text())["figures"]
    assert [check["ok"] for check in checks] == [True, False]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--vocab_size", "255"), ("--vocab_size is 255", "at least 256")),
        (("--vocab_size", "many"), ("--vocab_size",)),
        (("--vocab_sizes", "300"), ("--vocab_sizes", "--vocab_size")),
        (("--data", "no/such.txt"), ("no/such.txt", "No such file")),
        (("--data", "."), (".:", "directory")),
        (("--gpt2", "no/such"), ("no/such", "vocab.json")),
        (("",), ("text 1 is empty",)),
        (("a\udc80",), ("text 1 is not UTF-8",)),
    ],
)
def test_invalid_input_is_refused_in_one_line(
    refused: Callable, arguments: tuple[str, ...], words: tuple[str, ...]
) -> None:
    refused(bpe_tokenizer, arguments, *words)


@pytest.mark.parametrize(("content", "words"), [(b"", "no text in it"), (b" \n", "no text"), (b"a\xff", "not UTF-8")])
def test_unusable_training_files_are_refused(refused: Callable, tmp_path: Path, content: bytes, words: str) -> None:
    (tmp_path / "data.txt").write_bytes(content)
    refused(bpe_tokenizer, ("--data", str(tmp_path / "data.txt")), "data.txt", words)


def test_texts_are_read_from_standard_input(call: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(b"the maze\nthe cheese")))
    result = call(bpe_tokenizer, "-")
    assert "after 64 merges: 2 tokens\n[the][ maze]\n" in result.out
    assert "after 64 merges: 2 tokens\n[the][ cheese]\n" in result.out
