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


def _times(what: str, ratio: float, low: float | None, high: float | None, least: float | None) -> Row:
    """A row about how many times as fast one side is."""
    spread = "" if low is None or high is None else f" ({low:.3g} to {high:.3g})"
    held = "" if least is None else "yes" if ratio >= least else "**no**"
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


def _proof() -> Iterator[Row]:
    for what, how, test in PROVEN:
        yield what, how, f"`{test}`", "tested"
    if block := read_result(ROOT / "02_transformer_basics/results/transformer_block.json"):
        figure = block["figures"][0]
        held = "yes" if figure["ok"] else "**no**"
        yield "transformer block: equal to `torch.nn`", f"{figure['value']:.1e} apart at most", figure["expected"], held
    if maze := read_result(ROOT / "01_q_learning_maze/results/train.json"):
        shortest, figure = maze["results"]["shortest_path_length"], maze["figures"][0]
        held = "yes" if figure["ok"] else "**no**"
        yield "maze: the learned way is a shortest one", f"{figure['value']} steps", f"{shortest} steps (search)", held
    if speed := read_result(RESULTS / "transformer.json"):
        for key, what in (("same_tokens_float32", "GPT-2: the tokens of `transformers`"),
                          ("same_labels", "DistilBERT: the labels of `transformers`")):  # fmt: skip
            yield what, "the same" if speed[key] else "others", "the same", "yes" if speed[key] else "**no**"


def _quality() -> Iterator[Row]:
    if ppo := read_result(RESULTS / "ppo.json"):
        mean, (low, high) = ppo["interquartile_mean_return"], ppo["interval_95"]
        what = f"PPO on Reacher-v5: return over {len(ppo['runs'])} seeds"
        yield what, span(mean, low, high), "-3.75 (the environment's threshold)", "yes" if mean >= -3.75 else "**no**"
        hand = ppo["controller_return"]
        held = "yes" if mean >= hand else "**no**"
        yield "the same beside inverse kinematics + PD", f"{mean - hand:+.2f}", f"{hand:.2f} (by hand)", held
        worst = ppo["worst_return"]
        yield "the same, worst seed", f"{worst:.2f}", "-3.75", "yes" if worst >= -3.75 else "**no**"


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
    if startup := read_result(RESULTS / "text_startup.json"):
        for name, row in startup["results"].items():
            held = "yes" if row["median_ratio"] <= row["bar"] else "**no**"
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


TABLES: dict[str, Callable[[Path], str]] = {
    "evidence": evidence,
    "ablation": ablation,
    "ppo_peers": ppo_peers,
    "scaling": scaling,
}
