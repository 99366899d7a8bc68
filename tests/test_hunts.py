"""Bug hunts: starters are wrong and named, mended ones pass, cards are whole, every claimed symptom was measured."""

import functools
import importlib
import inspect
import json
import operator
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from lab.exercises import hunts_cards, hunts_commands, progress
from lab.exercises.cards import WIDTH
from lab.exercises.catalog import find
from lab.exercises.hunts import Claim, Hunt, changed_lines, find_hunt, hunts, mended, starter
from lab.exercises.hunts_cards import RESULTS, SIDES, card, file_of, list_lines, read_records, value_of
from lab.exercises.hunts_check import HuntExaminer, check_hunt, run_code
from lab.exercises.hunts_commands import HuntCommand
from lab.exercises.progress import State
from lab.files import ROOT

ALL = list(hunts().values())
SEEDS = 5
each_hunt = pytest.mark.parametrize("hunt", ALL, ids=lambda hunt: hunt.name)


@functools.cache
def examiner(name: str) -> HuntExaminer:
    return HuntExaminer(find_hunt(name))


def status_of(hunt: Hunt, code: str) -> tuple[str, str | None]:
    verdict = examiner(hunt.name).examine({hunt.defined: run_code(code, hunt.defined)})
    return verdict.status, verdict.mistake


# --- the files --------------------------------------------------------------------------------------------------------


def test_there_are_three_hunts_per_project() -> None:
    assert [hunt.project.name[:2] for hunt in ALL] == ["01"] * 3 + ["02"] * 3 + ["03"] * 3


@each_hunt
def test_the_starter_is_caught_and_its_mistake_named(hunt: Hunt) -> None:
    assert status_of(hunt, starter(hunt)) == ("mistake", hunt.mistake)
    known = {id for name in hunt.exercises for id in find(name).mistakes}
    assert not hunt.exercises or set(hunt.mistake.split("+")) <= known


@each_hunt
def test_the_mended_file_passes(hunt: Hunt) -> None:
    assert status_of(hunt, mended(hunt)) == ("passed", None)
    assert 1 <= changed_lines(hunt, mended(hunt)) <= 3


@each_hunt
def test_the_files_hold_the_code_of_the_lab(hunt: Hunt) -> None:
    source = [line.strip() for line in hunt.source.read_text(encoding="utf-8").splitlines()]
    code = mended(hunt)
    body = code[code.index(f"def {hunt.defined}(") :]
    assert all(line.strip() in source for line in body.splitlines())
    assert changed_lines(hunt, starter(hunt)) == 0


def test_a_line_that_the_source_does_not_hold_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    hunt = find_hunt("stuck_mouse")
    gone = Hunt(**{**vars(hunt), "replace": (("return a_line_of_an_earlier_version", "pass"),)})
    with pytest.raises(LookupError, match=r"QLearningAgent\.act holds 0 lines"):
        starter(gone)


def test_too_many_changed_lines_do_not_pass(tmp_path: Path) -> None:
    hunt = find_hunt("great_hopes")
    file = tmp_path / "mended.py"
    file.write_text(mended(hunt), encoding="utf-8")
    assert check_hunt(hunt, file).verdict.status == "passed"
    file.write_text(mended(hunt) + "\n# 1\n# 2\n# 3\n", encoding="utf-8")
    verdict = check_hunt(hunt, file).verdict
    assert verdict.status == "wrong"
    assert "differ from the start; change at most 3" in verdict.message


@pytest.mark.parametrize(
    ("name", "line", "wrong", "mistake"),
    [
        ("stuck_mouse", "return best_actions[0]", "return best_actions[-1]", "last"),
        ("stuck_mouse", "self._random.random() < self.epsilon", "self._random.random() > self.epsilon", "first"),
        ("great_hopes", "max(self.q_values(next_state))", "0.0 if not terminated else 1.0", None),
        ("gloomy_mouse", "next_state, terminated or truncated)", "next_state, truncated)", "truncated_as_terminated"),
        ("lost_words", "torch.arange(new,", "torch.arange(past, new,", None),
        ("wonderful_loss", "keys - queries + 1", "queries - keys", "sign_of_diagonal"),
        ("too_good", "x.reshape(x.shape[0], x.shape[2], -1)", "x.permute(0, 2, 3, 1).flatten(2)", "merge_interleaved"),
        ("weak_critic", "~(terminated | truncated) - values", "~truncated - values", "wrong_death_flag"),
        ("wild_arm", "actions.append(bounded)", "actions.append(mean.numpy())", None),
    ],
)  # fmt: skip
def test_another_mistake_does_not_pass(name: str, line: str, wrong: str, mistake: str | None) -> None:
    hunt = find_hunt(name)
    assert line in starter(hunt)
    status, found = status_of(hunt, starter(hunt).replace(line, wrong))
    assert status != "passed"
    assert mistake is None or mistake in str(found).split("+")


def test_statistics_that_are_loaded_in_part_do_not_pass() -> None:
    hunt = find_hunt("failed_exam")
    line = '    self.normalizer.statistics.mean = state["normalizer"]["mean"].clone()\n'
    assert status_of(hunt, starter(hunt) + line)[0] == "wrong"


# --- the question -----------------------------------------------------------------------------------------------------


@each_hunt
def test_one_of_four_choices_is_right(hunt: Hunt) -> None:
    assert list(hunt.choices) == ["a", "b", "c", "d"]
    assert hunt.answer in hunt.choices
    assert len({choice.text for choice in hunt.choices.values()}) == 4
    assert all(choice.because.endswith(".") for choice in hunt.choices.values())
    lesson = (hunt.project / "README.md").read_text(encoding="utf-8")
    assert f"# {hunt.lesson}\n" in lesson


@each_hunt
def test_the_card_fits_the_terminal_and_does_not_tell_the_answer(hunt: Hunt) -> None:
    lines = card(hunt, {})
    assert len(lines) <= 24
    assert max(map(len, lines)) <= WIDTH
    assert lines[-1] == f"answer: lab hunt {hunt.name} --answer a|b|c|d"
    text = "\n".join(lines)
    assert all(choice.because not in text for choice in hunt.choices.values())
    plot = RESULTS.with_name(f"hunt_{hunt.name}.png")
    assert plot.relative_to(ROOT).as_posix() in text
    assert plot.stat().st_size > 10_000


def test_the_card_shows_the_median_and_the_range_of_the_results() -> None:
    hunt = find_hunt("gloomy_mouse")
    values = [record["table_error"] for record in read_records(hunt)[SIDES[1]]]
    shown = f"{statistics.median(values):.2f} ({min(values):.2f} to {max(values):.2f})"
    assert any(line.startswith("mean error of the table") and shown in line for line in card(hunt, {}))


# --- the symptoms -----------------------------------------------------------------------------------------------------


def holds(claim: Claim, healthy: float, buggy: float) -> bool:
    if claim.direction == "equal":
        return buggy == pytest.approx(healthy, rel=1e-3, abs=1e-6)
    return buggy > healthy if claim.direction == "higher" else buggy < healthy


@each_hunt
def test_every_claimed_symptom_was_measured(hunt: Hunt) -> None:
    healthy, buggy = read_records(hunt).values()
    assert [record["seed"] for record in healthy] == [record["seed"] for record in buggy] == list(range(SEEDS))
    columns = {column.key: column for column in (hunt.curve, *hunt.metrics)}
    assert any(claim.direction != "equal" for claim in hunt.claims)
    for claim in hunt.claims:
        column = columns[claim.metric]
        sides = [[value_of(record, column) for record in side] for side in (healthy, buggy)]
        assert all(holds(claim, *pair) for pair in zip(*sides, strict=True)), claim


@each_hunt
def test_ranges_of_the_sides_do_not_overlap_where_they_are_claimed_to_differ(hunt: Hunt) -> None:
    """So that the symptom shows in one run, as a learner has it, and not only in the median."""
    healthy, buggy = read_records(hunt).values()
    columns = {column.key: column for column in (hunt.curve, *hunt.metrics)}
    for claim in hunt.claims:
        low, high = ([value_of(record, columns[claim.metric]) for record in side] for side in (healthy, buggy))
        if claim.direction == "lower":
            low, high = high, low
        assert claim.direction == "equal" or max(low) < min(high), claim


@pytest.fixture
def bug_hunts(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The script of the benchmark as a module."""
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    return importlib.import_module("bug_hunts")


@each_hunt
def test_the_benchmark_runs_the_wrong_line_and_puts_the_lab_s_back(hunt: Hunt, bug_hunts: Any) -> None:
    module = importlib.import_module(".".join(hunt.source.relative_to(hunt.project).with_suffix("").parts))
    function = operator.attrgetter(hunt.function)
    before = function(module)
    with bug_hunts.wrong_line(hunt):
        assert inspect.unwrap(function(module)).__code__.co_filename == hunt.key
    assert function(module) is before


def test_the_benchmark_measures_the_hunts_that_are_named(tmp_path: Path) -> None:
    output = tmp_path / "bug_hunts.json"
    flags = ["--hunts", "stuck_mouse", "--seeds", "1", "--length", "0.2", "--output", str(output)]
    subprocess.run([sys.executable, ROOT / "benchmarks/bug_hunts.py", *flags], check=True, capture_output=True)
    (run,) = json.loads(output.read_text())["runs"]
    records = run["records"]
    assert [(record["configuration"], record["side"]) for record in records] == [
        ("stuck_mouse", side) for side in SIDES
    ]
    healthy, buggy = records
    assert healthy["goals_percent"] > buggy["goals_percent"] == 0
    assert (tmp_path / "hunt_stuck_mouse.png").stat().st_size > 10_000


# --- the command line -------------------------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for module in (progress, hunts_cards):
        monkeypatch.setattr(module, "FOLDER", tmp_path / "my_exercises")
    return tmp_path / "my_exercises"


def hunt(*arguments: Any, **flags: Any) -> int:
    return hunts_commands.run(HuntCommand(*arguments, **flags))


@pytest.mark.usefixtures("folder")
def test_a_hunt_from_the_question_to_the_mended_line(capsys: pytest.CaptureFixture[str]) -> None:
    name = "wonderful_loss"
    assert hunt(name, answer="b") == 1
    assert "b: no." in capsys.readouterr().out
    with pytest.raises(ValueError, match="first say which detail is wrong"):
        hunt(name, start=True)
    assert "0 of 27 points" in list(list_lines(progress.states()))[-1]

    assert hunt(name, answer="d") == 0
    out = capsys.readouterr().out
    assert "d: right. 1 point." in out
    assert "--start" in out
    assert "1 of 27 points" in list(list_lines(progress.states()))[-1]

    assert hunt(name, start=True) == 0
    file = file_of(find_hunt(name))
    assert file.read_text(encoding="utf-8") == starter(find_hunt(name))
    with pytest.raises(ValueError, match="is there already"):
        hunt(name, start=True)
    capsys.readouterr()
    assert hunt(name, check=True) == 1
    out = capsys.readouterr().out
    assert "THE WRONG LINE IS STILL THERE" in out
    assert find_hunt(name).choices["d"].because[:40] in out

    file.write_text(mended(find_hunt(name)), encoding="utf-8")
    assert hunt(name, check=True) == 0
    assert "PASSED" in capsys.readouterr().out
    assert "3 of 27 points" in list(list_lines(progress.states()))[-1]
    file.write_text(starter(find_hunt(name)), encoding="utf-8")
    assert hunt(name, check=True) == 1
    assert "1 of 27 points" in list(list_lines(progress.states()))[-1]


def test_checking_another_file_leaves_the_progress_alone(folder: Path, tmp_path: Path) -> None:
    file = tmp_path / "answer.py"
    file.write_text(mended(find_hunt("too_good")), encoding="utf-8")
    assert hunt("too_good", check=True, file=file) == 0
    assert not folder.exists()


def test_progress_on_hunts_and_exercises_is_kept_apart(folder: Path) -> None:
    progress.store("hunt_too_good.answer", State(passed=True))
    progress.update(find("softmax"), State(passed=True))
    assert json.loads((folder / ".progress.json").read_text()).keys() == {"hunt_too_good.answer", "softmax"}
    assert hunts_cards.answered(find_hunt("too_good"), progress.states())


def lab(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "lab", *arguments], cwd=ROOT, capture_output=True, text=True)


def test_the_lists_lead_to_the_hunts() -> None:
    listed = lab("hunt")
    assert listed.returncode == 0
    assert len(listed.stdout.splitlines()) == len(ALL) + 2
    assert all(hunt.name in listed.stdout for hunt in ALL)
    assert "lab hunt" in lab("exercises").stdout.splitlines()[-1]


@pytest.mark.parametrize(
    "arguments",
    [("nothing",), ("too_good", "--answer", "e"), ("too_good", "--check", "--file", "no/such.py"), ("--start",),
     ("too_good", "--answer", "a", "--start"), ("too_good", "--file", "x.py"), ("--answer", "a")],
)  # fmt: skip
def test_wrong_arguments_give_one_line(arguments: tuple[str, ...]) -> None:
    done = lab("hunt", *arguments)
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.startswith("error: ")
    assert done.stderr.count("\n") == 1


def test_listing_and_cards_import_no_torch() -> None:
    code = (
        "import sys; from lab.exercises import hunts_commands\n"
        "hunts_commands.run(hunts_commands.HuntCommand())\n"
        "hunts_commands.run(hunts_commands.HuntCommand('stuck_mouse'))\n"
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True).returncode == 0
