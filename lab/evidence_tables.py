"""The tables of the documentation, generated from the results files. A benchmark without results is named as such."""

import os
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from lab import results
from lab.evidence_claims import (
    PROOFS,
    Claim,
    correctness,
    graders,
    interval,
    learning_results,
    ratio_text,
)
from lab.evidence_speed import speed
from lab.exercises.catalog import exercises
from lab.exercises.hunts import hunts
from lab.results import Record, Run, read_json, read_runs, select, weakest


def markdown(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return rows of cells as a Markdown table."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines)


def not_measured(name: str) -> str:
    """Return the text that stands in for the table of a benchmark without results."""
    return f"*Not measured yet: `lab bench {name}`.*"


def image_link(name: str, text: str, folder: Path) -> str:
    """Return a Markdown image from the results for a page in `folder`; empty if it has not been drawn."""
    path = results.RESULTS / name
    return f"![{text}]({Path(os.path.relpath(path, folder)).as_posix()})\n\n" if path.exists() else ""


def first_run(name: str, entry: str) -> Run | None:
    """Return the run of a benchmark that tables and plots of a whole run show: the first that is complete.

    `entry` is what a complete run has.
    """
    return next((run for run in read_runs(name) if entry in run), None)


def weakest_records(name: str) -> list[Record]:
    """Return the records of a benchmark; where several processors have the same one, that with the weakest ratio."""
    groups: dict[tuple[str, str], list[Record]] = {}
    for run in read_runs(name):
        for record in run["records"]:
            groups.setdefault((record["configuration"], record["side"]), []).append(record)
    return [weakest([each for each in group if "not_measured" not in each] or group, name) for group in groups.values()]


# --- evidence ---------------------------------------------------------------------------------------------------------


def grouped(claims: Iterable[Claim]) -> list[list[Claim]]:
    """Return the claims in the order of their first appearance, the same claim on several processors together."""
    groups: dict[str, list[Claim]] = {}
    for claim in claims:
        groups.setdefault(claim.claim, []).append(claim)
    return list(groups.values())


def _cells(claims: Sequence[Claim]) -> tuple[str, ...]:
    """Return the row of a claim, with a line per processor, weakest result first."""
    ordered = sorted(claims, key=lambda claim: claim.strength)
    known = [claim.met for claim in ordered if claim.met is not None]
    met = "" if not known else "yes" if all(known) else "**no**"
    result = "<br>".join(claim.result for claim in ordered)
    processors = "<br>".join(claim.measured_on for claim in ordered)
    return ordered[0].claim, result, ordered[0].target, met, processors


def evidence(folder: Path) -> str:
    """Return the full table of claims about correctness, learning results and speed."""
    del folder
    sections = {
        "Correctness": correctness,
        "Learning results": learning_results,
        "Speed": speed,
        "Exercises": graders,
    }
    rows: list[tuple[str, ...]] = []
    for title, claims in sections.items():
        rows.append((f"**{title}**", "", "", "", ""))
        rows += [_cells(group) for group in grouped(claims())]
    names = ("maze", "ppo", "ppo_speed", "transformer", "inference_peers", "gpu", "training", "text_startup")
    rows += [(f"`lab bench {name}`", "not measured yet", "", "", "") for name in names if not read_runs(name)]
    return markdown(("claim", "result (interval)", "target", "met", "measured on"), rows)


def evidence_highlights(folder: Path) -> str:
    """Return the strongest claims as a short table for the front page."""
    del folder
    claims = [claim for section in (correctness, learning_results, speed) for claim in section() if claim.highlight]
    lowest = [min(group, key=lambda claim: claim.strength) for group in grouped(claims)]
    rows = [(claim.claim, claim.result, claim.measured_on) for claim in lowest]
    return markdown(("claim", "result (interval)", "measured on"), rows)


def proofs(folder: Path) -> str:
    """Return the tests that verify the claims about correctness."""
    del folder
    rows = [(each.claim, each.target, f"`{each.test}`", each.runs) for each in PROOFS]
    return markdown(("claim", "equal up to", "test", "verified by"), rows)


# --- PPO --------------------------------------------------------------------------------------------------------------


def ablation(folder: Path) -> str:
    """Return the PPO ablation: the return without each detail, and the difference from full PPO."""
    contents = first_run("ablation", "summary")
    if not contents:
        return not_measured("ablation")
    rows = []
    for row in contents["summary"]:
        diverged = f"; {row['diverged']} diverged" if row["diverged"] else ""
        result = interval(row["mean"], row["low"], row["high"]) + diverged
        if row["difference"] is None:
            rows.append((row["side"], result, "", ""))
            continue
        low, high = row["difference_low"], row["difference_high"]
        effect = "worse" if high < 0 else "better" if low > 0 else "no significant effect"
        rows.append((row["side"], result, interval(row["difference"], low, high, sign="+"), effect))
    header = ("variant", "return (95% interval)", "difference (95% interval)", "effect")
    return image_link("ablation.png", "Return with each detail switched off, with intervals", folder) + markdown(
        header, rows
    )


def ppo_speed(folder: Path) -> str:
    """Return the wall time for the same number of steps, relative to ours."""
    del folder
    records = weakest_records("ppo_speed")
    if not records:
        return not_measured("ppo_speed")
    rows = []
    for record in records:
        if "not_measured" in record:
            rows.append((record["side"], f"not measured: {record['not_measured']}"))
        elif record["side"] != "ours":
            rows.append((record["side"], ratio_text(record)))
    return markdown(("", "wall time relative to ours (interquartile range)"), rows)


def ppo_peers(folder: Path) -> str:
    """Return final returns and training times of our PPO and of other libraries."""
    contents = first_run("ppo_peers", "summary")
    if not contents:
        return not_measured("ppo_peers")
    rows = []
    for row in contents["summary"]:
        if "not_measured" in row:
            rows.append((row["side"], "", f"not measured: {row['not_measured']}", "", "", "", ""))
            continue
        steps, seconds = row["steps_to_threshold"], row["seconds_to_threshold"]
        rows.append(
            (
                row["side"],
                f"{row['seeds']}",
                interval(row["mean"], row["low"], row["high"]),
                f"{row['seconds']:.0f}",
                f"{row['reached']}",
                "" if steps is None else f"{steps:,.0f}",
                "" if seconds is None else f"{seconds:.1f}",
            )
        )
    header = (
        "",
        "seeds",
        "return (95% interval)",
        "seconds",
        "seeds that reached -3.75",
        "steps to -3.75",
        "seconds to -3.75",
    )
    return image_link("ppo_peers.png", "Return against steps and time, our PPO and other libraries", folder) + markdown(
        header, rows
    )


def scaling(folder: Path) -> str:
    """Return the peak rate of every scaling curve, with its fraction of the upper bound."""
    contents = first_run("scaling", "parts")
    if not contents:
        return not_measured("scaling")
    rows = []
    for part in contents["parts"]:
        records = select(contents["records"], configuration=part["configuration"])
        best = max(records, key=lambda record: record["per_second"])
        peak = f"{best['per_second']:,.0f} {part['unit']}"
        bound = f"{best['median_ratio']:.0%} of {part['limit']}" if best.get("median_ratio") else ""
        rows.append((part["configuration"], peak, best["side"], bound))
    header = ("", "peak rate", "configuration", "fraction of upper bound")
    return image_link("scaling.png", "Throughput against size, with upper bounds", folder) + markdown(header, rows)


# --- text -------------------------------------------------------------------------------------------------------------


def transformer(folder: Path) -> str:
    """Return GPT-2's speed in every precision relative to `transformers`, and its perplexity.

    All of it is of one processor, since it has tokens per second: of that whose fastest form gains the least.
    """
    del folder
    runs = [run["records"] for run in read_runs("transformer")]
    if not runs:
        return not_measured("transformer")
    records = min(runs, key=lambda run: max(record.get("median_ratio", 0) for record in run))
    rows = []
    for record in select(records, configuration="one prompt"):
        side = record["side"]
        reference = side == "transformers"
        batch = select(records, configuration="batch of 8", side=side)
        perplexity = select(records, configuration="perplexity", side=side)
        rows.append(
            (
                "`transformers`" if reference else f"ours, {side}" if side == "plain" else f"accelerated, {side}",
                f"{record['tokens_per_second']:.0f}",
                "1x" if reference else ratio_text(record),
                "" if not batch else "1x" if reference else ratio_text(batch[0]),
                f"{perplexity[0]['perplexity']:.2f}" if perplexity else "",
            )
        )
    return markdown(("", "tokens per second", "one prompt", "batch of 8", "perplexity"), rows)


def inference_peers(folder: Path) -> str:
    """Return the speed of our models relative to other libraries for inference."""
    del folder
    records = weakest_records("inference_peers")
    if not records:
        return not_measured("inference_peers")
    configurations = list(dict.fromkeys(record["configuration"] for record in records))
    rows = []
    for side in dict.fromkeys(record["side"] for record in records):
        own = {record["configuration"]: record for record in select(records, side=side)}
        compared = [record["compared_with"] for record in own.values() if "compared_with" in record]
        if compared:  # not one of our own sides
            rows.append((side, compared[0], *(_peer_cell(own.get(configuration)) for configuration in configurations)))
    return markdown(("library", "compared with", *configurations), rows)


def _peer_cell(record: Record | None) -> str:
    if record is None:
        return ""
    return f"not measured: {record['not_measured']}" if "not_measured" in record else ratio_text(record)


def sentiment(folder: Path) -> str:
    """Return the test accuracies of all training methods for the sentiment classifier."""
    del folder
    contents = read_json("02_transformer_basics/results/compare_sentiment.json")
    if not contents:
        return "*Not measured yet: `python compare_sentiment.py`.*"
    rows = []
    for row in contents["results"].values():
        tests = [row.get(name) for name in ("sst2_test", "uci_amazon", "uci_imdb")]
        if None in tests:  # trained on the reader's own sentences
            continue
        accuracies = [
            f"{test['accuracy']:.1%} ({test['interval'][0]:.1%} to {test['interval'][1]:.1%})" for test in tests
        ]
        rows.append(
            (
                row["title"],
                f"{row['seeds']}",
                f"{row['parameters']:,}",
                *accuracies,
                f"{tests[0]['calibration_error']:.3f}",
            )
        )
    header = ("method", "seeds", "parameters", "SST-2 test", "Amazon", "IMDb", "calibration error, SST-2")
    return markdown(header, rows)


# --- exercises --------------------------------------------------------------------------------------------------------


def exercise_list(folder: Path) -> str:
    """Return the exercises of the lesson in `folder`, in teaching order; the five of the short path are marked."""
    rows = [
        (
            exercise.number,
            ", ".join(f"`{name}`" for name in exercise.functions),
            exercise.task,
            f"{exercise.minutes}",
            "★" if exercise.short_path else "",
        )
        for exercise in exercises().values()
        if exercise.project == folder
    ]
    return markdown(("", "function", "task", "minutes", "short path"), rows)


def hunt_list(folder: Path) -> str:
    """Return the bug hunts of the lesson in `folder`."""
    rows = [(f"`{hunt.name}`", hunt.title, f"{hunt.minutes}") for hunt in hunts().values() if hunt.project == folder]
    return markdown(("bug hunt", "what you see", "minutes"), rows)


def grader_list(folder: Path) -> str:
    """Return for every exercise how its grader judges known answers."""
    del folder
    contents = first_run("exercises", "summary")
    if not contents:
        return "*Not measured yet: `lab exercises prove`.*"
    rows = [
        (
            row["number"],
            f"`{row['exercise']}`",
            f"{row['mistakes_named']} of {row['mistakes']}",
            f"{row['pairs_named']} of {row['pairs']}",
            f"{row['right_answers_passed']} of {row['right_answers']}",
            f"{row['unseen_named']} of {row['unseen']}",
            f"{row['mutants_caught']} of {row['mutants'] - row['mutants_equivalent']}",
            f"{len(row['probes'])}",
        )
        for row in contents["records"]
    ]
    header = (
        "",
        "exercise",
        "wrong answers named",
        "pairs named",
        "right answers passed",
        "unseen answers named",
        "mutants caught",
        "probes",
    )
    return markdown(header, rows)


def surviving_mutants(folder: Path) -> str:
    """Return the automatic mutants of the solutions that pass, and why."""
    del folder
    contents = first_run("exercises", "summary")
    if not contents:
        return "*Not measured yet: `lab exercises prove`.*"
    rows = [
        (f"`{mutant}`", reason or "**not explained**")
        for row in contents["records"]
        for mutant, reason in zip(row["surviving_mutants"], row["reasons"], strict=True)
    ]
    return markdown(("exercise: line: change", "why it is right"), rows)


TABLES: dict[str, Callable[[Path], str]] = {
    "evidence": evidence,
    "exercises": exercise_list,
    "hunts": hunt_list,
    "graders": grader_list,
    "surviving_mutants": surviving_mutants,
    "evidence_highlights": evidence_highlights,
    "proofs": proofs,
    "ablation": ablation,
    "ppo_peers": ppo_peers,
    "ppo_speed": ppo_speed,
    "scaling": scaling,
    "sentiment": sentiment,
    "transformer": transformer,
    "inference_peers": inference_peers,
}
