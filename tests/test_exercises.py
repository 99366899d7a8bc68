"""The graders: every known wrong answer fails with its own name, every right one passes, whatever a file does."""

import functools
import json
import subprocess
import sys
import time
from pathlib import Path

import pytest

from lab.exercises import own, progress
from lab.exercises.cards import RUNS
from lab.exercises.catalog import Exercise, exercises, find
from lab.exercises.checking import Checker, check_file
from lab.exercises.probe_work import idle_probes
from lab.exercises.prove import Proof
from lab.exercises.stubs import PLACEHOLDER, solution, stub
from lab.exercises.verdicts import Verdict
from lab.exercises.watch import INTRODUCTION
from lab.files import ROOT
from lab.runner import SCRIPTS

ALL = list(exercises().values())
each_exercise = pytest.mark.parametrize("exercise", ALL, ids=lambda exercise: exercise.name)


@functools.cache
def proof(name: str) -> Proof:
    return Proof(find(name))


@each_exercise
def test_every_wrong_answer_fails_with_its_own_name(exercise: Exercise) -> None:
    verdicts = proof(exercise.name).wrong_answers()
    assert verdicts.keys() == exercise.mistakes.keys()
    for id, verdict in verdicts.items():
        status = "convention" if exercise.mistakes[id].convention else "mistake"
        assert (verdict.status, verdict.mistake) == (status, id)
        assert verdict.message == exercise.mistakes[id].hint


@each_exercise
def test_pairs_of_mistakes_fail_and_are_named(exercise: Exercise) -> None:
    """A sample of them; `lab exercises prove` tries all."""
    pairs = proof(exercise.name).pairs(at_most=50)
    assert "right" not in pairs.values()
    assert len(proof(exercise.name).unrelated_pairs(pairs)) <= 0.1 * len(pairs)


@each_exercise
def test_right_answers_in_other_styles_pass(exercise: Exercise) -> None:
    right = proof(exercise.name).right_answers()
    assert len(right) >= 4  # the lab's own, and three more
    assert set(right.values()) == {"passed"}


@each_exercise
def test_the_switched_reference_without_mistakes_is_right(exercise: Exercise) -> None:
    assert proof(exercise.name).examine(proof(exercise.name).grading.build(frozenset())).status == "passed"


@each_exercise
def test_files_without_an_answer_fail(exercise: Exercise) -> None:
    verdicts = proof(exercise.name).empty_answers()
    assert verdicts.pop("stub").status == "not_started"
    assert {label for label, verdict in verdicts.items() if verdict.status == "passed"} == set()
    assert {verdicts[label].status for label in ("empty file", "syntax error", "wrong name", "exit")} == {"error"}


@each_exercise
def test_stub_and_solution(exercise: Exercise) -> None:
    """The solution is the lab's code and passes; the stub holds its signature and comments, and no code."""
    assert proof(exercise.name).solution_passes()
    source = exercise.source.read_text(encoding="utf-8")
    for line in solution(exercise).splitlines()[8:]:
        assert line in source or line.startswith(("from ", "import "))  # only the names that are used
    assert PLACEHOLDER in stub(exercise)
    assert len(stub(exercise)) < len(solution(exercise)) + len(PLACEHOLDER) * len(exercise.functions) * 3
    compile(stub(exercise), exercise.name, "exec")


@each_exercise
def test_hints_are_short_and_name_a_section_that_exists(exercise: Exercise) -> None:
    assert proof(exercise.name).long_hints() == []
    lesson = (exercise.project / "README.md").read_text(encoding="utf-8")
    assert f"# {exercise.lesson}\n" in lesson
    assert "____" in exercise.blank
    assert len(exercise.hints) == 2


@each_exercise
def test_no_probe_is_idle(exercise: Exercise) -> None:
    """Without it a wrong answer passes, mistakes look alike, a card shows a larger input, or a kind is wrong."""
    assert idle_probes(proof(exercise.name).examiner, solution(exercise)) == []


def test_numbers_and_names_are_unique() -> None:
    assert len({exercise.number for exercise in ALL}) == len(ALL)
    names = [name for exercise in ALL for name in exercise.functions]
    assert len(set(names)) == len(names)
    assert find("3.5") is find("compute_gae")
    assert find("merge_heads") is find("split_heads")


# --- files of a learner -----------------------------------------------------------------------------------------------


def verdict_on(code: str, folder: Path, name: str = "td_target") -> Verdict:
    path = folder / "answer with spaces ü.py"
    path.write_bytes(code.encode("utf-8", "surrogateescape"))
    return check_file(find(name), path).verdict


RIGHT = """
def td_target(reward, next_values, terminated, truncated, gamma):
    return reward + gamma * (0.0 if terminated else max(next_values))
"""
HOSTILE = {
    "os._exit": ("import os\nos._exit(0)\n", "error"),
    "sys.exit in the function": ("def td_target(*a, **k):\n    raise SystemExit\n", "error"),
    "input": ("def td_target(*a, **k):\n    return input()\n", "error"),
    "recursion": ("def td_target(*a, **k):\n    return td_target(*a, **k)\n", "error"),
    "memory": ("def td_target(*a, **k):\n    return bytearray(2**40)\n", "error"),
    "a changed argument": (
        "def td_target(reward, next_values, terminated, truncated, gamma):\n"
        "    next_values.sort()\n    return reward + gamma * (0.0 if terminated else next_values[-1])\n",
        "wrong",
    ),
    "another folder": ("import os\nos.chdir('/')\n" + RIGHT, "passed"),
    "patched functions": ("import builtins\nbuiltins.sorted = builtins.len = builtins.zip = None\n" + RIGHT, None),
    "Windows": ("\ufeff" + RIGHT.replace("\n", "\r\n"), "passed"),
    "printing": ("def td_target(*a, **k):\n    print('x' * 10**6)\n    return 0.0\n", "wrong"),
    "another encoding": ("# caf\udce9\n" + RIGHT, "error"),
    "threads": ("import threading, time\nthreading.Thread(target=time.sleep, args=(60,)).start()\n" + RIGHT, "passed"),
}


@pytest.mark.parametrize("label", HOSTILE)
def test_a_hostile_file_gets_a_verdict(label: str, tmp_path: Path) -> None:
    code, status = HOSTILE[label]
    verdict = verdict_on(code, tmp_path)
    assert status is None or verdict.status == status
    assert "\n" not in verdict.message


def test_an_endless_loop_is_stopped(tmp_path: Path) -> None:
    verdict = verdict_on("def td_target(*a, **k):\n    while True:\n        pass\n", tmp_path)
    assert verdict.status == "timeout"


def test_an_exception_names_the_line_and_the_shapes(tmp_path: Path) -> None:
    code = "def attention(query, key, value):\n    scores = query @ key\n    return scores, scores\n"
    checked = verdict_on(code.replace("@ key", "@ key[..., 1:]"), tmp_path, "attention")
    assert checked.status == "error"
    assert checked.details[0] == "line 2: scores = query @ key[..., 1:]"
    assert "  query: shape (2, 4)" in checked.details
    assert "  key: shape (3, 4)" in checked.details


def test_a_checker_that_waits_gives_the_same_verdict(tmp_path: Path) -> None:
    path = tmp_path / "answer.py"
    path.write_text(RIGHT, encoding="utf-8")
    checker = Checker(find("td_target"))
    assert checker.check(path).verdict.status == "passed"
    assert checker.process.poll() is not None


def test_exercises_without_tensors_import_no_torch() -> None:
    code = (
        "import sys; from lab.exercises.catalog import exercises; from lab.exercises.prove import Proof\n"
        "import lab.exercises.commands\n"
        "for exercise in exercises().values():\n"
        "    if not exercise.needs_torch: Proof(exercise)\n"
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0


# --- the command line -------------------------------------------------------------------------------------------------


def lab(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "lab", *arguments], cwd=ROOT, capture_output=True, text=True)


def test_json_is_one_line_and_the_exit_status_tells(tmp_path: Path) -> None:
    path = tmp_path / "answer.py"
    path.write_text(RIGHT.replace("0.0 if terminated else", ""), encoding="utf-8")
    done = lab("check", "1.4", "--file", str(path), "--json")
    assert done.returncode == 1
    verdict = json.loads(done.stdout)
    assert list(verdict) == ["exercise", "status", "mistake", "message"]
    assert (verdict["exercise"], verdict["status"], verdict["mistake"]) == ("td_target", "mistake", "through_the_goal")
    path.write_text(RIGHT, encoding="utf-8")
    done = lab("check", "td_target", "--file", str(path), "--json")
    assert done.returncode == 0
    assert json.loads(done.stdout)["mistake"] is None


def test_the_card_names_the_file_that_was_checked(tmp_path: Path) -> None:
    def card() -> str:
        command = [sys.executable, "-m", "lab", "check", "log_prob", "--file", "answer.py"]
        return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True).stdout

    path = tmp_path / "answer.py"
    path.write_text(stub(find("log_prob")), encoding="utf-8")
    assert "Fill in answer.py, save" in card()
    path.write_text(solution(find("log_prob")), encoding="utf-8")
    assert "lab run reacher --with answer.py" in card()


@pytest.mark.parametrize(
    "arguments",
    [("check", "nothing"), ("check", "td_target", "--file", "no/such.py"), ("check", "--file", "x.py"),
     ("check", "td_target", "--watch", "--file", "x.py"), ("check", "td_target", "--watch", "--json"),
     ("check", "td_target", "--file", "tests"), ("check", "all", "--watch"), ("hint", "9.9"),
     ("solution", "nothing"), ("exercises", "stop")],
)  # fmt: skip
def test_wrong_arguments_give_one_line(arguments: tuple[str, ...]) -> None:
    done = lab(*arguments)
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.startswith("error: ")
    assert done.stderr.count("\n") == 1


# --- progress ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(progress, "FOLDER", tmp_path / "my_exercises")
    return tmp_path / "my_exercises"


def test_start_writes_what_is_missing_and_reset_keeps_a_copy(folder: Path) -> None:
    assert len(progress.start()) == len(ALL)
    file = folder / "td_target.py"
    file.write_text("mine", encoding="utf-8")
    assert progress.start() == []
    backup = progress.reset(find("td_target"))
    assert backup is not None
    assert backup.read_text(encoding="utf-8") == "mine"
    assert file.read_text(encoding="utf-8") == stub(find("td_target"))


def test_every_reset_keeps_another_copy(folder: Path) -> None:
    progress.start()
    file = folder / "td_target.py"
    for text in ("first", "second", "third"):
        file.write_text(text, encoding="utf-8")
        progress.reset(find("td_target"))
    assert sorted(each.read_text(encoding="utf-8") for each in folder.glob("*.backup")) == ["first", "second", "third"]


CHECK_IN_FOLDER = (  # python -c CODE FOLDER ARGUMENTS...
    "import sys; from pathlib import Path; from lab.exercises import commands, progress\n"
    "progress.FOLDER = Path(sys.argv.pop(1))\n"
    "commands.main()\n"
)


def test_a_kill_during_a_check_loses_no_progress(folder: Path) -> None:
    progress.start()
    (folder / "td_target.py").write_text(RIGHT, encoding="utf-8")
    others = [exercise for exercise in ALL if exercise.name != "td_target"]
    for exercise in others:
        progress.update(exercise, progress.State(passed=True))
    command = [sys.executable, "-c", CHECK_IN_FOLDER, str(folder), "check", "td_target"]
    started = time.perf_counter()
    assert subprocess.run(command, cwd=ROOT, capture_output=True, check=False).returncode == 0
    seconds = time.perf_counter() - started
    for number in range(8):
        progress.update(find("td_target"), progress.State(mistake="mean"))
        process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        time.sleep(seconds * (0.3 + 0.1 * number))
        process.kill()
        process.wait()
        states = progress.states()
        assert all(states[exercise.name].passed for exercise in others)
        assert states["td_target"] in (progress.State(mistake="mean"), progress.State(passed=True))
    assert subprocess.run(command, cwd=ROOT, capture_output=True, check=False).returncode == 0
    assert progress.state(find("td_target")).passed


def run_in(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", CHECK_IN_FOLDER, str(folder), *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


def test_untouched_files_need_no_run_and_leave_no_mark(folder: Path) -> None:
    progress.start()
    (folder / "td_target.py").write_text(RIGHT, encoding="utf-8")
    done = run_in(folder, "check", "all")
    assert done.returncode == 1
    assert done.stdout.splitlines()[-1] == f"1 of {len(ALL)} passed"
    assert progress.states() == {"td_target": progress.State(passed=True)}


def test_a_passed_check_names_the_next_exercise(folder: Path) -> None:
    progress.start()
    (folder / "td_target.py").write_text(RIGHT, encoding="utf-8")
    done = run_in(folder, "check", "td_target")
    assert done.stdout.splitlines()[-1] == f"next: lab check {ALL[0].name}"


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("answer.py", b"\0", "error"),
        ("answer.py", b"\xff\xfe\0\0", "error"),
        ("answer", RIGHT.encode(), "passed"),
        ("answer.txt", RIGHT.encode(), "passed"),
    ],
)
def test_files_of_any_name_and_content_get_a_verdict(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    (tmp_path / name).write_bytes(content)
    verdict = check_file(find("td_target"), tmp_path / name).verdict
    assert verdict.status == message
    assert "None" not in verdict.message
    assert "Assertion" not in verdict.message


def test_names_are_found_in_any_case_and_similar_ones_are_suggested() -> None:
    assert find("o3") is find("O3")
    assert find("kvcache") is find("KVCache")
    assert find("td_target.py") is find("td_target")
    with pytest.raises(ValueError, match="did you mean standardize"):
        find("standardise")


def test_progress_of_another_version_is_read(folder: Path) -> None:
    folder.mkdir()
    saved = {"td_target": {"passed": True, "stars": 5}, "an exercise of another version": {"passed": True}}
    (folder / ".progress.json").write_text(json.dumps(saved), encoding="utf-8")
    assert progress.state(find("td_target")) == progress.State(passed=True)
    progress.update(find("greedy"), progress.State(passed=True))
    assert progress.states().keys() == {*saved, "greedy"}


def test_a_passed_card_names_the_script_that_takes_the_function() -> None:
    """RUNS is what the tables of `--with` say, which import torch."""
    import lab.projects  # noqa: F401 - puts the projects on the search path

    for script, names in RUNS.items():
        takes = own.script_at(SCRIPTS[script])
        assert takes is not None
        taken = [exercise.name for exercise in ALL if takes.takes.checks().keys() & {*exercise.functions}]
        assert sorted(names.split()) == sorted(taken)


def test_progress_is_kept_and_a_failure_takes_it_back(folder: Path) -> None:
    exercise = find("td_target")
    assert progress.next_open() is ALL[0]
    progress.record(exercise, Verdict("mistake", "", "mean"))
    assert progress.state(exercise) == progress.State(mistake="mean")
    progress.record(exercise, Verdict("passed", ""))
    progress.record(find("q_update"), Verdict("passed", ""))
    assert progress.states().keys() == {"td_target", "q_update"}
    progress.record(exercise, Verdict("mistake", "", "mean"))
    assert not progress.state(exercise).passed


def test_no_progress_is_lost_between_two_terminals(folder: Path) -> None:
    folder.mkdir()
    code = (
        "import sys; from pathlib import Path; from lab.exercises import progress\n"
        "from lab.exercises.catalog import exercises\n"
        f"progress.FOLDER = Path({str(folder)!r})\n"
        "for exercise in list(exercises().values())[int(sys.argv[1])::2]:\n"
        "    progress.update(exercise, progress.State(passed=True))\n"
    )
    both = [subprocess.Popen([sys.executable, "-c", code, number], cwd=ROOT) for number in "01"]
    assert [process.wait() for process in both] == [0, 0]
    assert len(progress.states()) == len(ALL)


WRONG_STATES = ('{"hints": "2"}', '{"hints": -99}', '{"mistake": 3}', '{"passed": "x"}', '{"hints": true}', "3")


@pytest.mark.parametrize("contents", ["{", "[1]", *(f'{{"attention": {state}}}' for state in WRONG_STATES)])
def test_a_damaged_progress_file_gives_one_line(contents: str, folder: Path) -> None:
    folder.mkdir()
    (folder / ".progress.json").write_text(contents, encoding="utf-8")
    with pytest.raises(ValueError, match="damaged; delete it"):
        progress.states()


def test_watching_checks_at_every_save(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from lab.exercises.watch import Watcher

    progress.start()
    watcher = Watcher(find("td_target"))
    try:
        watcher.introduction = INTRODUCTION
        assert watcher.saved()
        watcher.check()
        screen = capsys.readouterr().out
        assert screen.startswith("This is an exercise, not an error")
        assert "NOT STARTED" in screen
        assert not watcher.saved()
        new = folder / "td_target.new"
        new.write_text(RIGHT, encoding="utf-8")
        new.replace(watcher.file)  # as many editors save
        time.sleep(0.01)
        assert watcher.saved()
        watcher.check()
        screen = capsys.readouterr().out
        assert "PASSED" in screen
        assert "not an error" not in screen
        assert "lab run maze --with " in screen
        assert watcher.passed
    finally:
        watcher.close()
