"""Cards on the terminal: exercises, verdicts, hints, the list. They fit 80 x 24. Imports no torch."""

import textwrap
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from lab.exercises.catalog import Exercise, exercises
from lab.exercises.checking import Checked
from lab.exercises.progress import State, file_of
from lab.exercises.stubs import solution
from lab.files import display_path
from lab.texts import printable

WIDTH = 78
RUNS = {  # script -> the exercises whose functions it takes by --with
    "first_steps": "train_step",
    "network": "sgd_step backward",
    "maze": (
        "greedy epsilon_greedy td_target q_update decayed_epsilon value_iteration play_and_learn "
        "batched_act batched_update"
    ),
    "generate": (
        "attention causal_mask masked_attention split_heads layer_norm transformer_block embed KVCache "
        "sampling_probabilities top_p_filter"
    ),
    "reacher": (
        "log_prob true_next_observations td_errors compute_gae value_targets normalize_advantages policy_loss "
        "value_loss RunningMeanStd RewardScaler"
    ),
}
HEADLINES = {
    "passed": "PASSED",
    "convention": "ANOTHER CONVENTION",
    "mistake": "A KNOWN MISTAKE",
    "wrong": "NOT RIGHT YET",
    "not_started": "NOT STARTED",
    "error": "IT DOES NOT RUN",
    "timeout": "IT DOES NOT END",
}
DETAIL_LINES = 12
PRINTED_LINES = 4


def wrapped(text: str, indent: str = "") -> list[str]:
    """Return a text in lines of at most WIDTH characters."""
    return textwrap.wrap(printable(text), WIDTH, initial_indent=indent, subsequent_indent=indent) or [""]


def title(exercise: Exercise) -> list[str]:
    """Return the head of a card: number, name, minutes, and where to read."""
    return [f"{exercise.number}  {exercise.name}   ({exercise.minutes} minutes)", *wrapped(f"read: {exercise.section}")]


def card(exercise: Exercise) -> list[str]:
    """Return the card of an exercise that is not started: what to do, and in which file."""
    return [
        *title(exercise),
        "",
        *wrapped(exercise.task),
        "",
        f"file: {display_path(file_of(exercise))}   (the lab's own answer: {exercise.lines} lines)",
    ]


def verdict_lines(exercise: Exercise, checked: Checked, file: Path | None = None) -> list[str]:
    """Return the card of a check: verdict, counter-example, hint, and what the learner's code printed.

    `file` is the file that was checked, by default the one in the learner's folder.
    """
    verdict = checked.verdict
    file = file or file_of(exercise)
    lines = [*title(exercise), ""]
    name = f": {verdict.mistake}" if verdict.status in ("mistake", "convention") else ""
    lines += [f"{HEADLINES[verdict.status]}{name}", *wrapped(verdict.message, "  ")]
    if verdict.details:
        room = DETAIL_LINES - (PRINTED_LINES + 2 if checked.output else 0)
        lines += ["", *(printable(line)[:WIDTH] for line in verdict.details[:room])]
    lines += output_lines(checked)
    if verdict.status == "passed":
        lines += [f"let it do the work: {command}" for command in run_commands(exercise, file)]
    if verdict.status not in ("passed", "not_started"):
        lines += ["", f"for a hint: lab hint {exercise.name}"]
    if verdict.status == "not_started":
        lines += ["", *wrapped(f"Fill in {display_path(file)}, save, and check again. {exercise.task}")]
    return lines


def run_commands(exercise: Exercise, file: Path) -> list[str]:
    """Return the command that runs the lab with the learner's function; nothing where no script takes it."""
    return [
        f"lab run {script} --with {display_path(file)}"
        for script, names in RUNS.items()
        if exercise.name in names.split()
    ]


def output_lines(checked: Checked) -> list[str]:
    """Return the first lines that the learner's code printed."""
    if not checked.output:
        return []
    printed = (f"  {printable(line)[: WIDTH - 2]}" for line in checked.output[:PRINTED_LINES])
    more = len(checked.output) - PRINTED_LINES
    return ["", "your code printed:", *printed, *([f"  ... and {more} lines more"] if more > 0 else [])]


def hint_levels(exercise: Exercise, mistake: str) -> list[str]:
    """Return all hints, from vague to the solution, for the mistake that the last check found ("" for none)."""
    known = [exercise.mistakes[id] for id in mistake.split("+") if id in exercise.mistakes]
    first = f"{exercise.hints[0]} (read: {exercise.section})"
    if known:
        second = f"{known[0].question} (read: {exercise.section})"
        third = " ".join(each.hint for each in known)
    else:
        second = f"{exercise.hints[1]} (read: {exercise.section})"
        third = f"Compare each line of yours with the definition: {exercise.section}."
    return [first, second, third, f"The line in question: {exercise.blank}", solution(exercise)]


def hint_lines(exercise: Exercise, state: State) -> list[str]:
    """Return the next hint; after the last one, the last one again."""
    levels = hint_levels(exercise, state.mistake)
    number = min(state.hints, len(levels) - 1)
    lines = [f"hint {number + 1} of {len(levels)} for {exercise.number} {exercise.name}"]
    last = number == len(levels) - 1
    return [*lines, "", *(levels[number].splitlines() if last else wrapped(levels[number]))]


def list_lines(states: Mapping[str, State]) -> Iterator[str]:
    """Yield the list of all exercises, with what is solved."""
    yield f"{'':6}{'exercise':24}{'minutes':>8}  lesson"
    for exercise in exercises().values():
        state = states.get(exercise.name, State())
        mark = "[x]" if state.passed else ("[.]" if state.mistake else "[ ]")
        yield f"{mark} {exercise.number:>5} {exercise.name:22}{exercise.minutes:>5}  {exercise.lesson}"[:WIDTH]
    solved = sum(states.get(name, State()).passed for name in exercises())
    yield f"{solved} of {len(exercises())} solved; two other kinds of exercise: lab hunt, lab catch"


def summary_lines(results: Sequence[tuple[Exercise, Checked]]) -> Iterator[str]:
    """Yield one line for each of several checks."""
    for exercise, checked in results:
        verdict = checked.verdict
        yield printable(f"{exercise.number:>5} {exercise.name:24} {verdict.status:12} {verdict.message}")[:WIDTH]
