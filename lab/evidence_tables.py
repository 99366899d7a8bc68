"""The tables on the pages, made from benchmarks/results. What has not been measured says so."""

import json
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from lab.files import ROOT

RESULTS = ROOT / "benchmarks/results"
Row = tuple[str, str, str, str]  # what, measured, asked for at least, held


def read_result(path: Path) -> Any:
    """A results file as data; None where there is none."""
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else None


def markdown(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Rows of cells as a Markdown table."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines)


def not_yet(name: str) -> str:
    """What stands in place of figures that nobody has measured yet."""
    return f"*Not measured yet: `lab bench {name}`.*"


def picture(name: str, text: str, folder: Path) -> str:
    """A picture among the results, shown on a page in `folder`; nothing where it has not been drawn."""
    path = RESULTS / name
    return f"![{text}]({Path(os.path.relpath(path, folder)).as_posix()})\n\n" if path.exists() else ""


def span(mean: float, low: float, high: float, digits: int = 2, sign: str = "") -> str:
    """A figure with its interval."""
    return f"{mean:{sign}.{digits}f} ({low:{sign}.{digits}f} to {high:{sign}.{digits}f})"


# --- what was proven, how good, how fast ------------------------------------------------------------------------------


def _held(held: bool) -> str:
    return "yes" if held else "**no**"


def _times(what: str, ratio: float, low: float | None, high: float | None, least: float | None) -> Row:
    """A row about how many times as fast one side is."""
    spread = "" if low is None or high is None else f" ({low:.3g} to {high:.3g})"
    held = "" if least is None else _held(ratio >= least)
    return what, f"{ratio:.3g}x{spread}", "" if least is None else f"{least:.3g}x", held


PROVEN = (  # what, how equal, the test that proves it
    ("attention, heads and the encoder block: `torch.nn`'s", "to rounding", "test_block_equals_torch_for_all_sizes"),
    ("GPT-2 and DistilBERT at the official sizes: `transformers`'", "to rounding", "test_equal_at_the_official_size"),
    (
        "byte-level BPE: GPT-2's ids",
        "the same",
        "test_ids_equal_the_librarys_with_the_vocabulary_of_gpt2",
    ),
    (
        "Q-learning in a tensor: the dictionary's",
        "exactly",
        "test_with_the_same_random_choices_it_equals_the_dictionary_exactly",
    ),
    ("many Reachers in one world: Gymnasium's", "to the bit", "test_equal_to_gymnasium_over_a_thousand_episodes"),
    ("advantages: Stable-Baselines3's", "to rounding", "test_gae_equals_stable_baselines3_where_episodes_terminate"),
    (
        "PPO's steps: Stable-Baselines3's",
        "to rounding",
        "test_three_steps_of_learning_equal_stable_baselines3",
    ),
)
SENTENCES = (  # the data set, what it is called here, how many must be right
    ("sst2_test", "SST-2 test", 0.84),
    ("uci_amazon", "Amazon sentences", 0.82),
    ("uci_imdb", "IMDb sentences", 0.82),
)


def _proof() -> Iterator[Row]:
    for what, how, test in PROVEN:
        yield what, how, f"`{test}`", "tested"
    if block := read_result(ROOT / "02_transformer_basics/results/transformer_block.json"):
        figure = block["figures"][0]
        held = _held(figure["ok"])
        yield "transformer block: equal to `torch.nn`", f"{figure['value']:.1e} apart at most", figure["expected"], held
    if maze := read_result(ROOT / "01_q_learning_maze/results/train.json"):
        shortest, figure = maze["results"]["shortest_path_length"], maze["figures"][0]
        held = _held(figure["ok"])
        yield "maze: the learned way is a shortest one", f"{figure['value']} steps", f"{shortest} steps (search)", held
    if speed := read_result(RESULTS / "transformer.json"):
        for key, what in (("same_tokens_float32", "GPT-2: the tokens of `transformers`"),
                          ("same_labels", "DistilBERT: the labels of `transformers`")):  # fmt: skip
            yield what, "the same" if speed[key] else "others", "the same", _held(speed[key])


def _quality() -> Iterator[Row]:
    if ppo := read_result(RESULTS / "ppo.json"):
        mean, (low, high) = ppo["interquartile_mean_return"], ppo["interval_95"]
        what = f"PPO on Reacher-v5: return over {len(ppo['runs'])} seeds"
        yield what, span(mean, low, high), "-3.75 (the environment's threshold)", _held(mean >= -3.75)
        hand = ppo["controller_return"]
        yield "the same, above inverse kinematics + PD", f"{mean - hand:+.2f}", "-0.07", _held(mean >= hand - 0.07)
        worst = ppo["worst_return"]
        yield "the same, worst seed", f"{worst:.2f}", "-4.1", _held(worst >= -4.1)
    measured = [row for row in (read_result(RESULTS / "ppo_peers.json") or {}).get("summary", ()) if "mean" in row]
    peers = [row for row in measured if row["side"] != "ours"]
    if peers:
        best, worst = max(peers, key=lambda row: row["mean"]), min(peers, key=lambda row: row["mean"])
        for name, row in {"best": best, "worst": worst}.items():
            yield f"the {name} of {len(peers)} peers: {row['side']}", span(row["mean"], row["low"], row["high"]), "", ""
    if classifier := read_result(ROOT / "assets/models/sentiment/metrics.json"):
        for name, what, least in SENTENCES:
            if f"{name}_accuracy" in classifier:
                right, (low, high) = classifier[f"{name}_accuracy"], classifier[f"{name}_interval"]
                shown = f"{right:.1%} ({low:.1%} to {high:.1%})"
                yield f"sentiment model that ships: {what}", shown, f"{least:.0%}", _held(right >= least)
    ways = (read_result(ROOT / "02_transformer_basics/results/compare_sentiment.json") or {}).get("results", {})
    tuned = ways.get("finetune", {})
    if test := tuned.get("sst2_test"):  # not of sentences of the reader's own
        right, (low, high) = test["accuracy"], test["interval"]
        what = f"MiniLM fine-tuned, {tuned['seeds']} seed(s): SST-2 test"
        yield what, f"{right:.1%} ({low:.1%} to {high:.1%})", "89%", _held(right >= 0.89)
    if test := ways.get("average", {}).get("sst2_test"):
        right, (low, high) = test["accuracy"], test["interval"]
        yield "the weights of these averaged", f"{right:.1%} ({low:.1%} to {high:.1%})", "89%", _held(right >= 0.89)
    language = read_result(ROOT / "assets/models/language/metrics.json")
    shakespeare = read_result(ROOT / "02_transformer_basics/results/shakespeare/train_language_model.json")
    if language and shakespeare:
        bits, books = language["bits_per_byte_in_all"], len(language["bits_per_byte"])
        what = f"language model that ships: bits a byte of {books} unseen books"
        yield what, f"{bits:.3f}", "at most 1.75", _held(bits <= 1.75)
        loss, seconds = shakespeare["results"]["validation_loss"], shakespeare["seconds"]
        held = _held(loss <= 1.58 and seconds <= 180)
        yield "Tiny Shakespeare: nats a letter", f"{loss:.3f} in {seconds:.0f} s", "at most 1.58 in 180 s", held


def _speed() -> Iterator[Row]:
    if maze := read_result(RESULTS / "maze.json"):
        last = list(maze["median_ratio"])[-1]
        ends = maze["lowest_ratio"][last], maze["highest_ratio"][last]
        least = maze.get("least_ratio")
        yield _times("Q-learning in a tensor, steps/s beside a dictionary", maze["median_ratio"][last], *ends, least)
    if speed := read_result(RESULTS / "ppo_speed.json"):
        for name, row in speed["sides"].items():
            if name == "ours":
                continue
            what = f"PPO beside ours, time of: {name}"
            yield (
                (what, row["not_measured"], "", "")
                if "not_measured" in row
                else _times(what, row["median"], row["low"], row["high"], row["bar"])
            )
    if models := read_result(RESULTS / "transformer.json"):
        for name, ratio in models["median_ratio"].items():
            yield _times(
                f"inference beside `transformers`: {name}", ratio, None, None, models.get("least", {}).get(name)
            )
    if training := read_result(RESULTS / "training.json"):
        for name, row in training["presets"].items():
            ends = row["lowest_ratio"], row["highest_ratio"]
            what = f"training beside `transformers`: {name}"
            yield _times(what, row["median_ratio"], *ends, training.get("least_ratio"))
            kept = row["freed_memory_kept"]
            ends = kept["lowest_ratio"], kept["highest_ratio"]
            yield _times(f"{what}, if that keeps freed memory as well", kept["median_ratio"], *ends, None)
    if startup := read_result(RESULTS / "text_startup.json"):
        for name, row in startup["results"].items():
            held = _held(row["median_ratio"] <= row["bar"])
            what, most = f"{name}: time beside the pipeline's", f"at most {row['bar']}x"
            yield what, f"{row['median_ratio']:.2f}x", most, held


def evidence(folder: Path) -> str:
    """What was proven equal to what, how good, how fast against whom."""
    rows: list[Row] = [("**Proven**", "", "", ""), *_proof(), ("**How good**", "", "", ""), *_quality()]
    rows += [("**How fast**", "", "", ""), *_speed()]
    names = ("maze", "ppo", "ppo_speed", "transformer", "training", "text_startup")
    rows += [(f"`lab bench {name}`", "not measured yet", "", "") for name in names if not _has(name)]
    return markdown(("", "measured (spread or 95% interval)", "asked for", "held"), rows)


def _has(name: str) -> bool:
    return (RESULTS / f"{name}.json").exists()


# --- PPO --------------------------------------------------------------------------------------------------------------


def ablation(folder: Path) -> str:
    """Each detail of PPO switched off: the return, and how far it lies from that of the whole."""
    found = read_result(RESULTS / "ablation.json")
    if not found or "summary" not in found:
        return not_yet("ablation")
    rows = []
    for row in found["summary"]:
        if row["variant"] == "nothing":
            rows.append(("nothing", span(row["mean"], row["low"], row["high"]), "", ""))
            continue
        change = row["difference"]
        matters = "yes" if change["high"] < 0 else "better without" if change["low"] > 0 else "not to be seen"
        shown = span(change["mean"], change["low"], change["high"], sign="+")
        lost = f"; {row['diverged']} diverged" if row["diverged"] else ""
        rows.append((row["title"], span(row["mean"], row["low"], row["high"]) + lost, shown, matters))
    head = picture("ablation.png", "The return with each detail switched off, with intervals", folder)
    return head + markdown(("switched off", "return (95% interval)", "change (95% interval)", "matters?"), rows)


def ppo_speed(folder: Path) -> str:
    """Wall time of as many steps, in times of ours."""
    del folder
    found = read_result(RESULTS / "ppo_speed.json")
    if not found:
        return not_yet("ppo_speed")
    rows = []
    for name, row in found["sides"].items():
        if "not_measured" in row:
            rows.append((name, "", f"not measured: {row['not_measured']}"))
        elif name != "ours":
            rows.append((name, f"{row['times_ours']:.3g}", f"{row['low']:.3g} to {row['high']:.3g}"))
    return markdown(("", "times ours", "middle half of the turns"), rows)


def ppo_peers(folder: Path) -> str:
    """Final returns of ours and of the peers, and the time that they took."""
    found = read_result(RESULTS / "ppo_peers.json")
    if not found or "summary" not in found:
        return not_yet("ppo_peers")
    rows = []
    for row in found["summary"]:
        if "not_measured" in row:
            rows.append((row["side"], "", f"not measured: {row['not_measured']}", "", "", "", ""))
            continue
        reached = f"{row['reached']}"
        steps = f"{row['steps_to_threshold']:,.0f}" if row["steps_to_threshold"] is not None else ""
        seconds = f"{row['seconds_to_threshold']:.1f}" if row["seconds_to_threshold"] is not None else ""
        cells = (span(row["mean"], row["low"], row["high"]), f"{row['seconds']:.0f}", reached, steps, seconds)
        rows.append((row["side"], f"{row['seeds']}", *cells))
    header = (
        "",
        "seeds",
        "return (95% interval)",
        "seconds",
        "seeds to reach -3.75",
        "after steps",
        "after seconds",
    )
    return picture("ppo_peers.png", "Return against steps, ours and the peers'", folder) + markdown(header, rows)


def scaling(folder: Path) -> str:
    """How fast things get with more of everything, beside what the machine could do at best."""
    found = read_result(RESULTS / "scaling.json")
    if not found:
        return not_yet("scaling")
    rows = []
    for part in found["parts"].values():
        best = max(part["rows"], key=lambda row: row["per_second"])
        at = ", ".join(f"{name} {value}" for name, value in best["at"].items())
        limit = f"{best['median_ratio']:.0%} of {part['limit']}" if best.get("median_ratio") else ""
        rows.append((part["title"], f"{best['per_second']:,.0f}", at, limit))
    return picture("scaling.png", "Speed against size, and the limits", folder) + markdown(
        ("", "most a second", "at", "of the limit"), rows
    )


# --- text -------------------------------------------------------------------------------------------------------------


def transformer(folder: Path) -> str:
    """GPT-2's speed in every precision, beside the library's, and what the precision costs."""
    del folder
    found = read_result(RESULTS / "transformer.json")
    if not found:
        return not_yet("transformer")
    rows = []
    for name, one in found["one_prompt"].items():
        eight = found["batch_of_8"].get(name, {}).get("median_ratio")
        perplexity = found["perplexity"].get(name)
        spread = f" ({one['lowest_ratio']:.2f} to {one['highest_ratio']:.2f})" if name != "transformers" else ""
        rows.append(
            (
                "`transformers`" if name == "transformers" else f"ours, {name}",
                f"{found['tokens_per_second'][name]:.0f}",
                f"{one['median_ratio']:.2f}{spread}",
                f"{eight:.2f}" if eight else "",
                f"{perplexity:.2f}" if perplexity else "",
            )
        )
    return markdown(("", "tokens/s", "one prompt", "batch of 8", "perplexity"), rows)


def sentiment(folder: Path) -> str:
    """What each way of training a classifier achieves."""
    del folder
    found = read_result(ROOT / "02_transformer_basics/results/compare_sentiment.json")
    if not found:
        return "*Not measured yet: `python compare_sentiment.py`.*"
    rows = []
    for row in found["results"].values():
        tests = [row.get(name) for name in ("sst2_test", "uci_amazon", "uci_imdb")]
        if None in tests:  # of sentences of the reader's own
            continue
        shown = [f"{test['accuracy']:.1%} ({test['interval'][0]:.1%} to {test['interval'][1]:.1%})" for test in tests]
        rows.append(
            (row["title"], f"{row['seeds']}", f"{row['parameters']:,}", *shown, f"{tests[0]['calibration_error']:.3f}")
        )
    header = ("method", "seeds", "parameters", "SST-2 test", "Amazon", "IMDb", "calibration error, SST-2")
    return markdown(header, rows)


TABLES: dict[str, Callable[[Path], str]] = {
    "evidence": evidence,
    "ablation": ablation,
    "ppo_peers": ppo_peers,
    "ppo_speed": ppo_speed,
    "scaling": scaling,
    "sentiment": sentiment,
    "transformer": transformer,
}
