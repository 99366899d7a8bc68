"""`lab`: runs the projects' scripts with unchanged arguments, runs all steps, shows what is installed."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lab import command_line, runner
from lab.files import ROOT
from lab.record import PACKAGES
from lab.runner import SCRIPTS, Step, read_record, run_everything, show_table, tour

ECHO = "import json, os, sys\nprint(json.dumps([os.getcwd(), *sys.argv[1:]]))\nsys.exit(int(os.environ['STATUS']))\n"


def lab(*arguments: str, cwd: Path = ROOT, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "lab", *arguments],
        capture_output=True,
        text=True,
        cwd=cwd,
        env={**os.environ, **environment},
        timeout=240,
    )


@pytest.fixture
def call(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Callable[..., tuple[object, str, str]]:
    """Return a function that calls `lab` in this process: exit status, standard output, standard error."""

    def run(*arguments: str) -> tuple[object, str, str]:
        monkeypatch.setattr(sys, "argv", ["lab", *arguments])
        status: object = 0
        try:
            command_line.main()
        except SystemExit as stop:
            status = stop.code
        captured = capfd.readouterr()
        return status, captured.out, captured.err

    return run


@pytest.fixture
def echo(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Make `lab run maze` start a script that prints its folder and arguments and exits with $STATUS."""
    script = tmp_path / "echo.py"
    script.write_text(ECHO)
    monkeypatch.setitem(SCRIPTS, "maze", script)
    monkeypatch.setenv("STATUS", "0")
    return script


# --- commands ---------------------------------------------------------------------------------------------------------


def test_help_lists_commands_and_scripts(call: Any) -> None:
    status, out, err = call("--help")
    assert (status, err) == (0, "")
    assert out.startswith("usage: lab ")
    assert "run" in out
    assert "doctor" in out
    status, out, err = call("run", "--help")
    assert (status, err) == (0, "")
    assert "{first_steps,network,maze,attention,sentiment,generate,reacher,all}" in out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((), ("run", "doctor")),
        (("run",), ("maze", "all")),
        (("run", "nonsense"), ("nonsense", "maze", "reacher")),
        (("nonsense",), ("nonsense",)),
        (("doctor", "--loud"), ("--loud",)),
        (("run", "all", "--output_folder", "x"), ("--output_folder", "--output_dir")),
        (("run", "all", "stray"), ("stray",)),
    ],
)
def test_invalid_commands_give_one_line(call: Any, arguments: tuple[str, ...], words: tuple[str, ...]) -> None:
    status, out, err = call(*arguments)
    assert (status, out) == (2, "")
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    for word in words:
        assert word in err


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("--help",),
        ("-h",),
        ("--version", "--no-such-flag=3"),
        ("--", "-x"),
        ("-", "--", "--"),
        ("a b", "", "'quoted'", "*", "naïve 😀", "-1", "--seed", "3"),
        ("maze", "run", "--output_dir", "x/y"),
    ],
)
def test_arguments_reach_the_script_unchanged(
    call: Any, echo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...]
) -> None:
    monkeypatch.chdir(tmp_path)
    status, out, err = call("run", "maze", *arguments)
    assert (status, err) == (0, "")
    folder, *received = json.loads(out)
    assert received == list(arguments)
    assert Path(folder) == tmp_path.resolve()  # relative paths are relative to the caller's folder


@pytest.mark.parametrize("code", ["0", "1", "2", "7", "130"])
def test_exit_status_of_the_script_is_passed_on(
    call: Any, echo: Path, monkeypatch: pytest.MonkeyPatch, code: str
) -> None:
    monkeypatch.setenv("STATUS", code)
    assert call("run", "maze")[0] == int(code)


def test_ctrl_c_waits_for_the_script_to_save_and_exits_with_130(tmp_path: Path) -> None:
    script, saved = tmp_path / "slow.py", tmp_path / "saved"
    script.write_text(f"""
import signal, sys, time

def save(*_):
    time.sleep(1)
    open({str(saved)!r}, "w").close()
    sys.exit(130)

signal.signal(signal.SIGINT, save)
print("ready", flush=True)
time.sleep(60)
""")
    run = f"import sys; from lab.runner import run_script; sys.exit(run_script({str(script)!r}, ()))"
    with subprocess.Popen([sys.executable, "-c", run], stdout=subprocess.PIPE, start_new_session=True) as process:
        assert process.stdout is not None
        process.stdout.readline()
        os.killpg(process.pid, signal.SIGINT)
        assert process.wait(30) == 130
    assert saved.exists()


def test_registered_scripts_exist() -> None:
    for script in SCRIPTS.values():
        assert script.is_file()
    for step in tour(ROOT / "runs"):
        assert step.script.is_file()
        assert step.output_dir(ROOT / "runs").name == step.script.parent.name


# --- real scripts, in subprocesses ------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", SCRIPTS)
def test_every_script_runs_by_its_name(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[tuple[Path, list[str]]] = []
    monkeypatch.setattr("lab.command_line.run_script", lambda script, rest: started.append((script, list(rest))) or 7)
    monkeypatch.setattr(sys, "argv", ["lab", "run", name, "--seed", "3"])
    with pytest.raises(SystemExit) as ended:
        command_line.main()
    assert ended.value.code == 7
    assert started == [(SCRIPTS[name], ["--seed", "3"])]


def test_script_help_and_error_messages_are_passed_on(tmp_path: Path) -> None:
    shown = lab("run", "maze", "--help")
    assert (shown.returncode, shown.stderr) == (0, "")
    for flag in ("--episodes", "--epsilon_decay", "--maze_file"):
        assert flag in shown.stdout
    refused = lab("run", "maze", "--episodes", "0", "--output_dir", str(tmp_path))
    assert (refused.returncode, refused.stdout, refused.stderr.count("\n")) == (2, "", 1)
    assert refused.stderr.startswith("error: --episodes is 0")


def test_sentiment_through_the_lab_writes_relative_to_the_caller(tmp_path: Path) -> None:
    model = str(ROOT / "assets/models/sentiment")
    arguments = ("run", "sentiment", "What a great film!", "--json", "--model", model, "--output_dir", "here/it is")
    done = lab(*arguments, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout)["label"] == "POSITIVE"
    assert (tmp_path / "here/it is/sentiment_analysis.json").is_file()


def test_doctor_works_in_any_folder_and_without_opengl(tmp_path: Path) -> None:
    settings = {"MUJOCO_GL": "disable", "HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path)}
    done = lab("doctor", cwd=tmp_path, **settings)
    assert (done.returncode, done.stderr) == (0, "")
    lines = {line[:20].strip(): line[20:].strip() for line in done.stdout.splitlines()}
    expected = {
        "python",
        "system",
        *PACKAGES,
        "threads",
        "devices",
        "rendering",
        "official models",
        "bundled models",
        "hub",
    }
    assert expected <= lines.keys()
    assert all(lines.values())
    assert lines["rendering"].startswith("does not work (")
    assert lines["rendering"].endswith("drawn in 2D instead")
    assert lines["official models"].startswith("none cached")
    assert lines["bundled models"] == "assets/models/language, assets/models/sentiment"
    assert lines["hub"] == "offline (HF_HUB_OFFLINE is set)"
    installed = [Path(sys.executable).parent / "lab", "doctor"]
    if installed[0].exists():
        same = subprocess.run(installed, capture_output=True, text=True, cwd=tmp_path, env={**os.environ, **settings})
        assert (same.returncode, same.stdout) == (0, done.stdout)


# --- lab run all ------------------------------------------------------------------------------------------------------

WALKER = """
import json, os, sys
from pathlib import Path
folder = Path(sys.argv[sys.argv.index("--output_dir") + 1])
folder.mkdir(parents=True, exist_ok=True)
if "--fail" in sys.argv:
    sys.exit("error: no")
if "--silent" in sys.argv:
    sys.exit()
figure = {"name": "mean", "value": 3, "expected": "below 4", "ok": "--bad" not in sys.argv}
record = {"figures": [figure], "files": ["curve.png"], "offline": os.environ.get("HF_HUB_OFFLINE")}
(folder / f"{Path(__file__).stem}.json").write_text("{" if "--truncated" in sys.argv else json.dumps(record))
if "--late" in sys.argv:
    sys.exit("error: no")
"""


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., Path]:
    """Return a function that replaces the steps of `lab run all` by two scripts with the given flags."""

    def make(*first_flags: str, reacher: bool = False) -> Path:
        for name in ("walk.py", "swim.py"):
            (tmp_path / name[:4]).mkdir()
            (tmp_path / name[:4] / name).write_text(WALKER)
        walk, swim = tmp_path / "walk/walk.py", tmp_path / "swim/swim.py"
        fake = [Step("step one", walk, first_flags), Step("step two", swim)]
        monkeypatch.setattr(runner, "tour", lambda root: fake)
        monkeypatch.setenv("HF_HUB_OFFLINE", "0")
        if reacher:
            monkeypatch.setitem(SCRIPTS, "reacher", walk)
        return tmp_path / "runs"

    return make


def test_run_all_prints_the_results(steps: Any, capfd: pytest.CaptureFixture[str]) -> None:
    root = steps()
    assert run_everything(root) == 0
    out = capfd.readouterr().out
    for text in (
        "[1/2] step one",
        "[2/2] step two",
        "Results",
        "mean: 3",
        "below 4",
        "ok",
        "curve.png",
    ):
        assert text in out
    assert json.loads((root / "walk/walk.json").read_text())["offline"] == "1"


@pytest.mark.parametrize(("flag", "shown"), [("--bad", "NO"), ("--fail", "failed"), ("--late", "failed")])
def test_failed_check_or_failed_script_fails_run_all(
    steps: Any, capfd: pytest.CaptureFixture[str], flag: str, shown: str
) -> None:
    root = steps(flag)
    (root / "walk").mkdir(parents=True)
    (root / "walk/walk.json").write_text(json.dumps({"figures": [], "files": []}))  # from an earlier run
    assert run_everything(root) == 1
    out = capfd.readouterr().out
    assert shown in out
    assert "step two" in out.split("Results")[1]


def test_evaluation_is_skipped_if_training_failed(steps: Any, capfd: pytest.CaptureFixture[str]) -> None:
    assert run_everything(steps("--fail", reacher=True)) == 1
    assert "step two" not in capfd.readouterr().out


def test_run_all_through_the_command_line(call: Any, steps: Any, tmp_path: Path) -> None:
    root = steps("--bad")
    status, out, err = call("run", "all", "--output_dir", str(root))
    assert (status, err) == (1, "")
    assert "NO" in out
    (tmp_path / "file").write_text("mine")
    status, out, err = call("run", "all", "--output_dir", str(tmp_path / "file"))
    assert (status, out, err.count("\n")) == (1, "", 1)
    assert err.startswith("error: ")


def test_ctrl_c_stops_run_all(call: Any, steps: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    root = steps()
    monkeypatch.setattr(runner, "run_script", lambda *_: 130)
    status, out, _ = call("run", "all", "--output_dir", str(root))
    assert status == 130
    assert "step two" not in out


def test_record_of_an_earlier_run_is_not_reused(call: Any, steps: Any) -> None:
    root = steps("--silent")
    (root / "walk").mkdir(parents=True)
    (root / "walk/walk.json").write_text(json.dumps({"figures": [], "files": []}))
    status, _, err = call("run", "all", "--output_dir", str(root))
    assert status == 1
    assert err.startswith("error: ")
    assert "walk.json" in err


def test_truncated_record_is_named(call: Any, steps: Any) -> None:
    root = steps("--truncated")
    status, _, err = call("run", "all", "--output_dir", str(root))
    assert status == 2
    assert err.startswith("error: ")
    assert "walk.json" in err
    with pytest.raises(FileNotFoundError):
        read_record(root / "missing.json")


def test_results_table_escapes_markup(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    check = {"name": "text", "value": "[bold] [/] ends [red] \x1b[2J", "expected": "[1, 2]", "ok": True}
    show_table([(Step("a [title]", tmp_path / "a.py"), {"figures": [check], "files": ["a[b].png"]}, 1.0)], tmp_path)
    out = capsys.readouterr().out
    for text in ("a [title]", "[bold] [/] ends [red]", r"\x1b[2J", "[1, 2]", "a[b].png"):
        assert text in out
    assert "\x1b" not in out
