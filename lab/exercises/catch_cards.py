"""Cards and files of `lab catch`: the file to fill in, the result, the list. They fit 80 x 24. Imports no torch."""

import textwrap
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

from lab.exercises.cards import HEADLINES, WIDTH, output_lines, wrapped
from lab.exercises.catalog import Exercise, exercises
from lab.exercises.catch import CatchTask, Caught, Score, counted_mistakes, scores, tasks
from lab.exercises.checking import Checked
from lab.texts import printable

FILE_WIDTH = 88
INDENT = " " * 4
CARD_HEADLINES = HEADLINES | {
    "passed": "ALL THAT THE BEST KNOWN INPUT CATCHES",
    "incomplete": "NOT ALL OF THEM YET",
    "invalid": "NOT A VALID INPUT",
}
DETAIL_LINES = 4
SMALL = 30  # characters of a matrix on one line
FILE = '''"""Catch the mistakes of {name}: write one input on which its wrong answers show.

{call}
{task}

{arguments}

{rules}

Run it: lab catch {name}
"""


def inputs():
    """Return the arguments of `{name}`."""
    return {{
{values}
    }}
'''


def file_text(exercise: Exercise, task: CatchTask, values: Mapping[str, Any]) -> str:
    """Return the file that makes an input; the learner changes it."""
    width = max(map(len, task.arguments))
    arguments = [
        textwrap.fill(
            f"{name:{width}}  {argument.describe()}",
            FILE_WIDTH,
            initial_indent="  ",
            subsequent_indent=" " * (width + 4),
        )
        for name, argument in task.arguments.items()
    ]
    rules = (
        f"Write plain numbers and lists. {len(counted_mistakes(exercise))} known wrong answers run on your input, and "
        "several right ones, which must agree on it. A mistake is caught if its result is another than the right one."
    )
    return FILE.format(
        name=exercise.name,
        call=f"{exercise.name}({', '.join(task.arguments)})",
        task=textwrap.fill(exercise.task, FILE_WIDTH),
        arguments="\n".join(arguments),
        rules=textwrap.fill(rules, FILE_WIDTH),
        values="\n".join(f'{INDENT * 2}"{name}": {_literal(values[name], INDENT * 2)},' for name in task.arguments),
    )


def _literal(value: Any, indent: str) -> str:
    """Return a value as Python code, a matrix with one row per line unless it is small."""
    if len(repr(value)) > SMALL and isinstance(value, list) and isinstance(value[0], (list, tuple)):
        rows = "".join(f"{indent}{INDENT}{_literal(each, indent + INDENT)},\n" for each in value)
        return f"[\n{rows}{indent}]"
    return repr(value)


def result_lines(exercise: Exercise, checked: Checked) -> list[str]:
    """Return the card of an input: what it catches, and a hint at what it does not."""
    verdict = checked.verdict
    assert isinstance(verdict, Caught)
    lines = [f"{exercise.number}  {exercise.name}: write one input that catches its mistakes", ""]
    lines += [CARD_HEADLINES[verdict.status], *wrapped(verdict.message, "  ")]
    lines += [f"  {printable(line)}"[:WIDTH] for line in verdict.details[:DETAIL_LINES]]
    if verdict.status in ("passed", "incomplete"):
        lines += _caught_lines(exercise, verdict)
    return lines + output_lines(checked)


def _caught_lines(exercise: Exercise, verdict: Caught) -> Iterator[str]:
    """Yield the mistakes that are caught by name, and the others by their kind, with a question about one of them."""
    if verdict.status == "incomplete":
        yield f"  the best known input catches {verdict.best}"
    if verdict.caught:
        yield ""
        yield from wrapped(f"caught: {', '.join(verdict.caught)}")
    if not verdict.missed:
        return
    yield ""
    if verdict.status == "passed":
        yield from wrapped(f"not caught by one input together with the others: {', '.join(verdict.missed)}")
        return
    families = Counter(exercise.mistakes[id].family for id in verdict.missed)
    kinds = ", ".join(f"{family} {count}" for family, count in families.most_common())
    yield from wrapped(f"not caught yet: {len(verdict.missed)} ({kinds}). One of them:")
    yield from wrapped(exercise.mistakes[verdict.missed[0]].question, "  ")


def catch_lines() -> Iterator[str]:
    """Yield the list of all functions that have a test to write, with the best score so far."""
    saved = scores()
    yield f"{'':6}{'function':24}{'best so far':>12}  lesson"
    for name in tasks():
        exercise, score = exercises()[name], saved.get(name)
        mark = "[ ]" if score is None else ("[x]" if score.passed else "[.]")
        yield f"{mark} {exercise.number:>5} {name:22}{_score(exercise, score):>10}  {exercise.lesson}"[:WIDTH]
    yield "write the first input: lab catch NAME --start; run it: lab catch NAME"


def _score(exercise: Exercise, score: Score | None) -> str:
    return f"{score.caught if score else 0} of {len(counted_mistakes(exercise))}"
