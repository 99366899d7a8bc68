"""`lab catch`: inputs that are valid are scored, those that are not get one line, whatever a learner's file does."""

import functools
import json
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from lab.exercises import progress
from lab.exercises.catalog import exercises, find
from lab.exercises.catch import Caught, Score, find_task, record, scores, tasks
from lab.exercises.catch_cards import WIDTH, catch_lines, file_text, result_lines
from lab.exercises.catch_child import Catcher
from lab.exercises.catch_commands import Catch, check_input, run, start
from lab.exercises.catch_inputs import read_inputs
from lab.exercises.checking import Checked
from lab.exercises.probes import outcome
from lab.exercises.prove import Proof
from lab.files import ROOT

each_task = pytest.mark.parametrize("name", tasks())


@functools.cache
def catcher(name: str) -> Catcher:
    return Catcher(find(name), tasks()[name])


def examined(name: str, **changes: Any) -> Caught:
    """The verdict on the best known input of a function, with some arguments changed."""
    task = tasks()[name]
    return catcher(name).examine(read_inputs({**task.best, **changes}, task.arguments))


# --- the tasks --------------------------------------------------------------------------------------------------------


def test_every_lesson_has_tasks() -> None:
    required = {
        "compute_gae", "td_errors", "td_target", "policy_loss", "attention", "masked_attention", "backup",
        "discounted_return", "layer_norm", "top_p_filter", "normalize_advantages", "next_token_loss",
    }  # fmt: skip
    assert required <= tasks().keys()
    assert {find(name).project.name[:2] for name in tasks()} == {"01", "02", "03"}


@each_task
def test_the_start_is_valid_and_catches_few(name: str) -> None:
    verdict = examined(name, **tasks()[name].start)
    assert verdict.status == "incomplete"
    assert 0 < len(verdict.caught) <= 0.75 * verdict.best
    assert set(verdict.caught) | set(verdict.missed) == set(catcher(name).wrong)


@each_task
def test_the_best_known_input_is_better_than_every_probe(name: str) -> None:
    """It catches all that any probe of the exercise catches, float32 included; what it misses is known."""
    verdict = examined(name)
    assert (verdict.status, len(verdict.caught)) == ("passed", verdict.best)
    proof = Proof(find(name))
    wrong = [proof.examiner.wrong[id] for id in catcher(name).wrong]
    for number, probe in enumerate(proof.grading.probes):
        caught = [outcomes for outcomes in wrong if not proof.examiner.agrees_on(outcomes, number)]
        assert verdict.best >= len(caught), probe.name


NOT_CAUGHT_TOGETHER = {  # by the best known input; every other best input catches all mistakes
    "td_target": {"through_the_goal", "reward_lost", "truncated_wins", "both_needed"},
    "decayed_epsilon": {"decay_squared"},
    "embed": {"squeezed"},
    "sampling_probabilities": {
        "zero_temperature", "zero_is_one", "zero_is_uniform", "zero_is_least", "zero_returns_ids", "zero_over_batch",
        "zero_takes_all_highest", "k_past_V", "temperature_not_low",
    },
    "normalize_advantages": {"no_eps", "single_nan", "constant_kept"},
    "value_loss": {"outer"},
}  # fmt: skip


@each_task
def test_what_the_best_known_input_misses(name: str) -> None:
    assert set(examined(name).missed) == NOT_CAUGHT_TOGETHER.get(name, set())


@each_task
def test_right_answers_and_other_readings_are_never_caught(name: str) -> None:
    judge = catcher(name)
    assert len(judge.right) >= 4
    for values in (tasks()[name].start, tasks()[name].best):
        probe = judge.probe(read_inputs(values, tasks()[name].arguments))
        expected = [outcome(probe, answer) for answer in judge.readings]
        assert judge.disagreement(probe, expected) == ""
    conventions = {id for id, mistake in find(name).mistakes.items() if mistake.convention}
    assert not conventions & judge.wrong.keys()


def test_without_the_end_of_an_episode_few_mistakes_at_ends_are_caught() -> None:
    """The input that catches all of them catches nearly none of them without its flags, as the lesson says."""
    nowhere = [[False] * 4] * 2
    verdict = examined("compute_gae", terminated=nowhere, truncated=nowhere)
    mistakes = find("compute_gae").mistakes
    at_ends = Counter(mistakes[id].family in ("sum mask", "value mask") for id in verdict.missed)[True]
    assert at_ends >= 17
    assert sum(mistakes[id].family in ("sum mask", "value mask") for id in verdict.caught) <= 1
    assert len(verdict.caught) < 0.65 * verdict.best
    assert len(examined("masked_attention", mask=[[True] * 3] * 3).caught) < 0.25 * examined("masked_attention").best


def test_mistakes_that_the_best_input_catches_are_asked_about_first() -> None:
    verdict = examined("td_target", **tasks()["td_target"].start)
    unreachable = NOT_CAUGHT_TOGETHER["td_target"]
    assert set(verdict.missed[-len(unreachable) :]) == unreachable


def test_another_best_input_is_not_needed_to_pass() -> None:
    """An input that catches as many as the best known one passes, whichever they are."""
    ended = examined("td_target", terminated=True, truncated=True)
    assert "through_the_goal" in ended.caught
    assert ended.status == ("passed" if len(ended.caught) >= ended.best else "incomplete")


# --- files of a learner -----------------------------------------------------------------------------------------------

VALID = (
    "def inputs():\n    return {'reward': 1.0, 'next_values': [0, 2], 'terminated': 0, 'truncated': 0, 'gamma': 1}\n"
)
FILES = {
    "valid": (VALID, "incomplete", "catches"),
    "best": (file_text(find("td_target"), tasks()["td_target"], tasks()["td_target"].best), "passed", "catches"),
    "invalid": (VALID.replace("1.0", "'one'"), "invalid", "reward is of type str"),
    "another name": (VALID.replace("inputs", "input"), "error", "no function called `inputs`"),
    "syntax": ("def inputs(:\n", "error", "line 1"),
    "raises": ("def inputs():\n    return 1 / 0\n", "error", "ZeroDivisionError"),
    "not started": ("def inputs():\n    raise NotImplementedError\n", "not_started", "NotImplementedError"),
    "exit": ("def inputs():\n    raise SystemExit\n", "error", "ends the program"),
    "os._exit": ("import os\ndef inputs():\n    os._exit(3)\n", "error", "ended the process"),
    "memory": ("def inputs():\n    return bytearray(2**40)\n", "error", "memory"),
    "a list in itself": (
        "def inputs():\n    x = []\n    x.append(x)\n" + VALID[13:].replace("[0, 2]", "x"),
        "invalid",
        "dimensions",
    ),
}


def checked_input(code: str, folder: Path, name: str = "td_target") -> Checked:
    path = folder / "input with spaces ü.py"
    path.write_text(code, encoding="utf-8")
    return check_input(find(name), path)


@pytest.mark.parametrize("label", FILES)
def test_a_file_gets_a_card(label: str, tmp_path: Path) -> None:
    code, status, message = FILES[label]
    checked = checked_input("print('hello')\n" + code if label == "valid" else code, tmp_path)
    assert isinstance(checked.verdict, Caught)
    assert checked.verdict.status == status
    assert message in checked.verdict.message
    card = result_lines(find("td_target"), checked)
    assert len(card) <= 24
    assert all(len(line) <= WIDTH for line in card)
    assert ("  hello" in card) == (label == "valid")


def test_an_endless_loop_is_stopped(tmp_path: Path) -> None:
    checked = checked_input("def inputs():\n    while True:\n        pass\n", tmp_path)
    assert (type(checked.verdict), checked.verdict.status) == (Caught, "timeout")


def test_what_is_not_caught_is_asked_about_and_not_named() -> None:
    exercise = find("compute_gae")
    verdict = examined("compute_gae", **tasks()["compute_gae"].start)
    card = "\n".join(result_lines(exercise, Checked(verdict)))
    assert all(id in card for id in verdict.caught)
    assert not [id for id in verdict.missed if id in card]
    assert exercise.mistakes[verdict.missed[0]].question in " ".join(card.split())
    assert exercise.mistakes[verdict.missed[0]].hint not in " ".join(card.split())
    assert f"the best known input catches {verdict.best}" in card


@each_task
def test_cards_fit_the_terminal(name: str) -> None:
    for values in (tasks()[name].start, tasks()[name].best):
        card = result_lines(find(name), Checked(examined(name, **values)))
        assert len(card) <= 24
        assert all(len(line) <= WIDTH for line in card)
    assert all(len(line) <= WIDTH for line in catch_lines())


@each_task
def test_the_file_holds_the_input_that_it_is_made_from(name: str) -> None:
    task = tasks()[name]
    for values in (task.start, task.best):
        text = file_text(find(name), task, values)
        module: dict[str, Any] = {}
        exec(compile(text, name, "exec"), module)
        assert module["inputs"]() == values
        assert all(len(line) <= 120 for line in text.splitlines())


# --- the command and the scores ---------------------------------------------------------------------------------------


def lab(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "lab", *arguments], cwd=ROOT, capture_output=True, text=True)


def test_json_is_one_line_and_the_exit_status_tells(tmp_path: Path) -> None:
    path = tmp_path / "input.py"
    path.write_text(VALID, encoding="utf-8")
    done = lab("catch", "1.4", "--file", str(path), "--json")
    assert done.returncode == 1
    values = json.loads(done.stdout)
    assert list(values) == ["exercise", "status", "caught", "total", "missed"]
    assert (values["exercise"], values["status"]) == ("td_target", "incomplete")
    assert values["caught"] + len(values["missed"]) == values["total"] == len(catcher("td_target").wrong)
    path.write_text(lab("catch", "td_target", "--give_up").stdout, encoding="utf-8")
    done = lab("catch", "td_target", "--file", str(path), "--json")
    assert done.returncode == 0
    assert set(json.loads(done.stdout)["missed"]) == NOT_CAUGHT_TOGETHER["td_target"]
    path.write_text(VALID.replace("reward", "rewards"), encoding="utf-8")
    done = lab("catch", "td_target", "--file", str(path), "--json")
    assert done.returncode == 1
    expected = {"exercise": "td_target", "status": "invalid", "caught": 0, "total": values["total"], "missed": []}
    assert json.loads(done.stdout) == expected


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("nothing",), "no exercise is called"),
        (("greedy",), "no test to write for greedy"),
        (("--start",), "name the exercise"),
        (("td_target", "--file", "no/such.py"), "no/such.py: no such file"),
        (("td_target", "--start", "--give_up"), "give one of"),
    ],
)
def test_wrong_arguments_give_one_line(arguments: tuple[str, ...], message: str) -> None:
    done = lab("catch", *arguments)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert message in done.stderr


def test_the_list_needs_no_torch_and_is_named_by_the_other_list() -> None:
    code = "import sys; from lab.exercises.catch_cards import catch_lines; print(*catch_lines(), sep='\\n')\n"
    done = subprocess.run(
        [sys.executable, "-c", code + "sys.exit('torch' in sys.modules)"], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0
    assert len(done.stdout.splitlines()) == len(tasks()) + 2
    assert "lab catch" in lab("exercises").stdout.splitlines()[-1]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(progress, "FOLDER", tmp_path / "my_exercises")
    return tmp_path / "my_exercises"


def test_start_run_and_list(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    exercise = find_task("td_target")
    start(exercise)
    file = folder / "catch_td_target.py"
    assert "wrote" in capsys.readouterr().out
    assert run(exercise, Catch("td_target")) == 1
    first = scores()["td_target"]
    assert not first.passed
    file.write_text(file_text(exercise, tasks()["td_target"], tasks()["td_target"].best), encoding="utf-8")
    assert run(exercise, Catch("td_target")) == 0
    best = scores()["td_target"]
    assert (best.passed, best.caught > first.caught) == (True, True)
    file.write_text(VALID, encoding="utf-8")
    start(exercise)
    assert file.read_text(encoding="utf-8") == VALID
    assert run(exercise, Catch("td_target")) == 1
    assert scores() == {"td_target": best}  # a worse input takes nothing back
    row = next(line for line in catch_lines() if " td_target " in line)
    assert row.startswith("[x]")
    assert f"{best.caught} of {len(catcher('td_target').wrong)}" in row


def test_a_given_file_leaves_the_scores_alone(folder: Path, tmp_path: Path) -> None:
    path = tmp_path / "input.py"
    path.write_text(VALID, encoding="utf-8")
    assert run(find("td_target"), Catch("td_target", file=path)) == 1
    assert not folder.exists()


def test_no_score_is_lost_between_two_terminals(folder: Path) -> None:
    folder.mkdir()
    code = (
        "import sys; from pathlib import Path; from lab.exercises import progress\n"
        "from lab.exercises.catalog import exercises\n"
        "from lab.exercises.catch import Caught, record\n"
        f"progress.FOLDER = Path({str(folder)!r})\n"
        "for exercise in list(exercises().values())[int(sys.argv[1])::2]:\n"
        "    record(exercise, Caught('incomplete', '', caught=('x',)))\n"
    )
    both = [subprocess.Popen([sys.executable, "-c", code, number], cwd=ROOT) for number in "01"]
    assert [process.wait() for process in both] == [0, 0]
    assert scores() == dict.fromkeys(exercises(), Score(caught=1))


def test_scores_stand_apart_from_the_progress(folder: Path) -> None:
    record(find("td_target"), Caught("passed", "", caught=("x", "y")))
    assert progress.states() == {}
    assert scores() == {"td_target": Score(2, passed=True)}
    (folder / ".catch.json").write_text("[", encoding="utf-8")
    with pytest.raises(ValueError, match="damaged; delete it"):
        scores()
