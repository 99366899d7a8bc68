"""Cards of the bug hunts: what was measured, the question, the list. They fit 80 x 24. Imports no torch."""

import json
import statistics
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from lab.errors import UserError
from lab.exercises.cards import DETAIL_LINES, HEADLINES, WIDTH, wrapped
from lab.exercises.checking import Checked
from lab.exercises.hunts import ANSWER_POINTS, MEND_POINTS, Column, Hunt, changed_lines, hunts, starter
from lab.exercises.progress import FOLDER, State
from lab.files import ROOT, display_path, read_text
from lab.texts import printable

RESULTS = ROOT / "benchmarks/results/bug_hunts.json"
SIDES = ("healthy", "with the wrong line")  # as in the results
LABEL_WIDTH, CELL_WIDTH = 32, 23
Record = Mapping[str, Any]


def file_of(hunt: Hunt) -> Path:
    """Return the file that a learner mends."""
    return FOLDER / f"{hunt.key}.py"


def answered(hunt: Hunt, states: Mapping[str, State]) -> bool:
    """Return True if the learner has said which detail is wrong."""
    return states.get(f"{hunt.key}.answer", State()).passed


def mended(hunt: Hunt, states: Mapping[str, State]) -> bool:
    """Return True if the learner has mended the line."""
    return states.get(f"{hunt.key}.mend", State()).passed


def points(states: Mapping[str, State]) -> int:
    """Return the points of all hunts together."""
    each = [ANSWER_POINTS * answered(hunt, states) + MEND_POINTS * mended(hunt, states) for hunt in hunts().values()]
    return sum(each)


def read_records(hunt: Hunt) -> dict[str, list[Record]]:
    """Return the measured runs of a hunt, by side. Raises UserError if there are none."""
    runs = json.loads(RESULTS.read_text(encoding="utf-8"))["runs"] if RESULTS.exists() else []
    records = runs[0]["records"] if runs else []  # those of one processor
    sides = {
        side: [each for each in records if (each["configuration"], each["side"]) == (hunt.name, side)] for side in SIDES
    }
    if not all(sides.values()):
        raise UserError(f"{display_path(RESULTS)}: no runs of {hunt.name}; measure them: lab bench bug_hunts")
    return sides


def value_of(record: Record, column: Column, point: int | None = None) -> float:
    """Return a metric of a run; of a curve its value at x = point, or the last one."""
    value = record[column.key]
    if not isinstance(value, list):
        return value
    return value[-1] if point is None else value[record["x"].index(point)]


def spread(values: Sequence[float], form: str) -> str:
    """Return the median with the range over the seeds; the number alone where all print the same."""
    shown = [f"{value:{form}}" for value in (statistics.median(values), min(values), max(values))]
    shown = [each if float(each) else each.removeprefix("-") for each in shown]  # no -0.00
    return shown[0] if len(set(shown)) == 1 else f"{shown[0]} ({shown[1]} to {shown[2]})"


def cells(column: Column, sides: Mapping[str, Sequence[Record]], point: int | None = None) -> list[str]:
    """Return a quantity of both sides, of a curve its value at a point."""
    return [spread([value_of(each, column, point) for each in side], column.format) for side in sides.values()]


def _row(label: str, *cells: str) -> str:
    return f"{label:{LABEL_WIDTH}}" + "".join(f"{cell:{CELL_WIDTH}}" for cell in cells).rstrip()


def measured_lines(hunt: Hunt) -> Iterator[str]:
    """Yield the table of a card: a few points of the curve, the metrics, and text if the runs wrote some."""
    sides = read_records(hunt)
    seeds = len(sides[SIDES[0]])
    yield _row(f"median (range) of {seeds} seeds", "healthy run", "this run")
    label = f"{hunt.curve.label}, {hunt.x_label}"
    digits = len(str(max(hunt.points)))
    for point in hunt.points:
        yield _row(f"{label} {point:>{digits}}", *cells(hunt.curve, sides, point))
        label = " " * len(label)
    for column in hunt.metrics:
        yield _row(column.label, *cells(column, sides))
    for name, side in zip(("healthy", "this"), sides.values(), strict=True):
        if "sample" in side[0]:
            yield printable(f"  text, {name + ' run:':12} {side[0]['sample']}")[:WIDTH]


def title(hunt: Hunt) -> str:
    """Return the first line of a card."""
    return f"{hunt.name}: {hunt.title}   (lesson {int(hunt.project.name[:2])}, {hunt.minutes} minutes)"


def card(hunt: Hunt, states: Mapping[str, State]) -> list[str]:
    """Return the card of a hunt: what was run, what was measured, the question, and what to do next."""
    picture = display_path(RESULTS.with_name(f"hunt_{hunt.name}.png"))
    options = [line for letter, choice in hunt.choices.items() for line in wrapped(f"{letter}  {choice.text}", "  ")]
    return [
        title(hunt),
        *wrapped(hunt.setting),
        "",
        *measured_lines(hunt),
        f"plot: {picture}",
        "",
        "One line of the code differs. Which detail is wrong in this run?",
        *options,
        *wrapped(next_step(hunt, states)),
    ]


def next_step(hunt: Hunt, states: Mapping[str, State]) -> str:
    """Return what there is to do next in a hunt, and the command."""
    if not answered(hunt, states):
        return f"answer: lab hunt {hunt.name} --answer {'|'.join(hunt.choices)}"
    if mended(hunt, states):
        return f"solved: {hunt.answer}, and the line is mended"
    if not file_of(hunt).is_file():
        return f"it is {hunt.answer}; now mend the line: lab hunt {hunt.name} --start"
    return f"it is {hunt.answer}; mend {display_path(file_of(hunt))}, then: lab hunt {hunt.name} --check"


def verdict_lines(hunt: Hunt, checked: Checked, file: Path) -> list[str]:
    """Return the card of a check."""
    verdict = checked.verdict
    unchanged = verdict.status == "mistake" and changed_lines(hunt, read_text(file)) == 0
    headline = "THE WRONG LINE IS STILL THERE" if unchanged else HEADLINES[verdict.status]
    lines = [title(hunt), "", headline, *wrapped(verdict.message, "  ")]
    lines += ["", *(printable(line)[:WIDTH] for line in verdict.details[:DETAIL_LINES])] if verdict.details else []
    if checked.output:
        lines += ["", "your code printed:", *(f"  {printable(line)[: WIDTH - 2]}" for line in checked.output[:3])]
    return lines


def list_lines(states: Mapping[str, State]) -> Iterator[str]:
    """Yield the list of all hunts, with what is solved."""
    yield f"{'say':4}{'mend':5} {'bug hunt':18}{'minutes':>8}"
    for hunt in hunts().values():
        marks = [f"[{'x' if done else ' '}]" for done in (answered(hunt, states), mended(hunt, states))]
        yield f"{marks[0]:4}{marks[1]:5} {hunt.name:18}{hunt.minutes:>8}  {hunt.title}"[:WIDTH]
    most = len(hunts()) * (ANSWER_POINTS + MEND_POINTS)
    yield f"{points(states)} of {most} points; look at one: lab hunt {next(iter(hunts()))}"


def starter_text(hunt: Hunt) -> str:
    """Return the file to mend. Raises UserError if the lab's code has changed so that the wrong line has no place."""
    try:
        return starter(hunt)
    except LookupError as error:
        raise UserError(f"{hunt.name} does not fit the lab's code any more: {error}") from None
