"""`lab compare` and `lab repeat`: runs side by side, many seeds of a script, and how sure they make us."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from lab import __main__ as command_line
from lab import repeat as repeating
from lab.compare import Compare, compare, compared, curve, flat, read_groups, read_run, settings_that_differ
from lab.errors import UserError
from lab.files import ROOT
from lab.intervals import band, difference, estimate, interquartile_mean
from lab.metrics import read_metrics, write_metrics
from lab.repeat import Repeat, find_script, folder_of, repeat

# Learns `skill`: its score is that and a little luck of the seed. --fail_at SEED stops that seed half-way.
SCRIPT = """
import argparse, json, os, random, sys
from pathlib import Path

class Config:
    resume: bool = False

parser = argparse.ArgumentParser()
parser.add_argument("--seed", type=int)
parser.add_argument("--skill", type=float, default=1.0)
parser.add_argument("--output_dir", type=Path)
parser.add_argument("--resume", action="store_true")
config = parser.parse_args()
config.output_dir.mkdir(parents=True, exist_ok=True)
with open(os.environ["CALLS"], "a") as calls:
    calls.write(f"{config.seed} {'resumed' if config.resume else 'afresh'}\\n")
if os.environ.get("FAIL_AT") == str(config.seed):
    (config.output_dir / "checkpoint.pth").write_text("half-way")
    sys.exit(3)
luck = random.Random(config.seed).random() / 10
(config.output_dir / "metrics.csv").write_text(
    "step,loss,note\\n" + "".join(f"{i},{config.skill / i + luck},\\n" for i in range(1, 30))
)
record = {
    "script": "learner", "seconds": 1.5, "figures": [{"name": "score", "value": config.skill + luck}],
    "results": {"nested": {"twice": 2 * config.skill}}, "config": {k: str(v) for k, v in vars(config).items()},
}
(config.output_dir / "learner.json").write_text(json.dumps(record))
"""


@pytest.fixture
def learner(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "learner.py"
    path.write_text(SCRIPT)
    monkeypatch.setenv("CALLS", str(tmp_path / "calls"))
    return path


@pytest.fixture
def seeds(learner: Path, tmp_path: Path) -> Callable[..., Path]:
    """Runs seeds of the script with a skill; gives their folder."""

    def run(skill: float, count: int = 5, name: str | None = None) -> Path:
        folder = tmp_path / (name or f"skill_{skill:g}")
        repeat(count, [str(learner), "--skill", str(skill)], Repeat(output_dir=folder))
        return folder

    return run


# --- how sure a few seeds make us -------------------------------------------------------------------------------------


def test_the_interquartile_mean_drops_a_quarter_at_either_end() -> None:
    assert interquartile_mean([1, 2, 3, 1000]) == pytest.approx(2.5)
    assert interquartile_mean([7]) == pytest.approx(7)
    assert interquartile_mean([1, 2, 6]) == pytest.approx((0.25 * 1 + 1 * 2 + 0.25 * 6) / 1.5)
    assert interquartile_mean([[1, 2, 3, 1000], [5, 5, 5, 5]]) == pytest.approx([2.5, 5])


def test_the_committed_interval_is_what_the_committed_seeds_give() -> None:
    found = json.loads((ROOT / "benchmarks/results/ppo.json").read_text())
    mean, low, high = estimate([run["return"] for run in found["runs"]])
    assert mean == pytest.approx(found["interquartile_mean_return"], abs=1e-12)
    assert [low, high] == pytest.approx(found["interval_95"], abs=1e-12)


def test_intervals_cover_the_truth_nineteen_times_in_twenty() -> None:
    generator = np.random.default_rng(0)
    covered = 0
    for _ in range(200):
        values, others = generator.normal(1.0, 1.0, 20), generator.normal(0.0, 1.0, 20)
        found = difference(values, others)
        covered += found.low <= 1.0 <= found.high
    assert 175 <= covered <= 198


def test_more_than_noise_needs_the_whole_interval_on_one_side() -> None:
    assert difference([2, 2.1, 2.2, 2.1], [1, 1.1, 1.2, 1.1]).excludes_zero()
    assert not difference([1, 2, 3, 4], [1.1, 2.1, 3.1, 3.9]).excludes_zero()
    assert difference([1, 1], [2, 2]) == (-1, -1, -1)


def test_a_band_is_the_estimate_at_every_point() -> None:
    curves = np.random.default_rng(0).normal(size=(6, 3))
    mean, low, high = band(curves)
    for point in range(3):
        expected = estimate(curves[:, point])
        assert [mean[point], low[point], high[point]] == pytest.approx(list(expected), abs=0.2)


def test_metrics_come_back_and_damage_is_named(tmp_path: Path) -> None:
    path = tmp_path / "metrics.csv"
    write_metrics(path, [{"step": 1, "loss": None, "reached": True}, {"step": 2, "loss": 0.25, "reached": False}])
    assert read_metrics(path)["reached"] == [1, 0]
    assert np.isnan(read_metrics(path)["loss"][0])
    for text in ("", "a,b\n", "a,b\n1\n", "a,b\n1,two\n"):
        path.write_text(text)
        with pytest.raises(UserError, match=r"metrics\.csv"):
            read_metrics(path)


# --- lab repeat -------------------------------------------------------------------------------------------------------


def test_seeds_are_run_once_and_summed_up(seeds: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = seeds(2.0, count=3)
    assert (tmp_path / "calls").read_text().split("\n")[:-1] == ["0 afresh", "1 afresh", "2 afresh"]
    summary = json.loads((folder / "repeat.json").read_text())
    scores = [json.loads((folder / f"seed_{i}/learner.json").read_text())["figures"][0]["value"] for i in range(3)]
    assert summary["figures"]["score"] == estimate(scores)._asdict()
    assert summary["figures"]["nested.twice"]["mean"] == 4.0
    assert "score" in capsys.readouterr().out
    with Image.open(folder / "curve.png") as picture:
        assert min(picture.size) > 300
    seeds(2.0, count=4)  # one more
    assert (tmp_path / "calls").read_text().endswith("2 afresh\n3 afresh\n")
    assert json.loads((folder / "repeat.json").read_text())["seeds"] == 4


def test_a_stopped_seed_goes_on_from_its_checkpoint(
    seeds: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAIL_AT", "1")
    with pytest.raises(UserError, match="seed 1 ended with status 3"):
        seeds(1.0, count=3)
    monkeypatch.delenv("FAIL_AT")
    seeds(1.0, count=3)
    lines = (tmp_path / "calls").read_text().split("\n")
    assert lines[:-1] == ["0 afresh", "1 afresh", "1 resumed", "2 afresh"]


def test_ctrl_c_stops_it(seeds: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(repeating, "run_script", lambda *_: 130)
    with pytest.raises(KeyboardInterrupt):
        seeds(1.0)


def test_wrong_repetitions_cost_one_line(learner: Path, seeds: Any, tmp_path: Path) -> None:
    wrong: list[tuple[int, list[str], str]] = [
        (0, [str(learner)], "number of seeds is 0"),
        (2, [], "what is to be repeated"),
        (2, ["nonsense"], "nonsense: neither"),
        (2, [str(tmp_path / "missing.py")], "neither"),
        (2, [str(learner), "--seed", "3"], "--seed"),
        (2, [str(learner), "--output_dir=x"], "--output_dir"),
        (2, [str(learner), "--ppo.seed", "3"], r"--ppo\.seed"),
    ]
    for count, command, words in wrong:
        with pytest.raises(UserError, match=words):
            repeat(count, command, Repeat(output_dir=tmp_path / "out"))
    folder = seeds(1.0, count=1)
    with pytest.raises(UserError, match=r"holds seeds of .*--skill 1\.0"):
        repeat(1, [str(learner), "--skill", "2"], Repeat(output_dir=folder))


def test_projects_scripts_are_known_by_name_and_runs_get_a_folder_that_names_them() -> None:
    assert find_script("reacher") == ROOT / "03_ppo_reacher/train.py"
    assert repeating.has_flag(find_script("reacher"), "resume")
    assert not repeating.has_flag(find_script("maze"), "resume")
    assert folder_of("maze", ["--episodes", "50"]) == ROOT / "runs/repeat/maze_episodes_50"
    assert folder_of("03_ppo_reacher/train.py", []).name == "03_ppo_reacher_train"


# --- lab compare ------------------------------------------------------------------------------------------------------


def test_what_is_more_than_noise_is_told(seeds: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    few, many, same = seeds(1.0), seeds(2.0), seeds(1.0, name="same")
    capsys.readouterr()
    compare([few, many, same], Compare(output_dir=tmp_path / "out"))
    out = capsys.readouterr().out
    for words in ("skill", "score", "noise"):
        assert words in out
    first, better, again = read_groups([few, many, same])
    assert compared(better, first, "score").startswith("+1 (")
    assert compared(better, first, "score").endswith("more than noise")
    assert compared(again, first, "score").endswith("may be noise")
    assert compared(again, first, "seconds") == ""  # the same everywhere
    with Image.open(tmp_path / "out/compare.png") as picture:
        assert min(picture.size) > 300


def test_single_runs_are_compared_without_a_verdict(
    seeds: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    one, other = seeds(1.0, count=1), seeds(3.0, count=1)
    capsys.readouterr()
    compare([one / "seed_0", other / "seed_0"], Compare(output_dir=tmp_path / "out", y="loss"))
    out = capsys.readouterr().out
    assert "One run cannot tell a difference from luck" in out
    assert "noise" not in out
    first, second = read_groups([one / "seed_0", other / "seed_0"])
    assert settings_that_differ([first, second]) == {"skill": ["1.0", "3.0"]}
    assert np.asarray(curve(second, "loss").y)[0] > np.asarray(curve(first, "loss").y)[0] + 1.5


def test_a_run_without_metrics_has_no_curve(seeds: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = seeds(1.0, count=2)
    (folder / "seed_1/metrics.csv").unlink()
    compare([folder / "seed_0", folder / "seed_1"], Compare(output_dir=tmp_path / "out"))
    assert "no curves" in capsys.readouterr().out
    assert not (tmp_path / "out/compare.png").exists()


def test_runs_that_cannot_be_compared_cost_one_line(seeds: Any, tmp_path: Path) -> None:
    folder = seeds(1.0, count=2)
    good, empty, torn = folder / "seed_0", tmp_path / "empty", tmp_path / "torn"
    empty.mkdir()
    torn.mkdir()
    (torn / "learner.json").write_text('{"script": "learner", "fig')
    unfinished = tmp_path / "unfinished"
    (unfinished / "seed_0").mkdir(parents=True)
    wrong: list[tuple[list[Path], str]] = [
        ([good], "two runs at least"),
        ([good, tmp_path / "missing"], "no such folder"),
        ([good, empty], "no finished run"),
        ([good, torn], r"learner\.json: damaged"),
        ([good, unfinished], "no seed in it has finished"),
        ([good, ROOT / "03_ppo_reacher/results"], "different kinds"),
        ([ROOT / "01_q_learning_maze/results", ROOT / "03_ppo_reacher/results"], "different kinds"),
        ([good, ROOT / "02_transformer_basics/results"], "several records"),
    ]
    for folders, words in wrong:
        with pytest.raises(UserError, match=words):
            compare(folders, Compare(output_dir=tmp_path / "out"))
    with pytest.raises(UserError, match="no column 'nonsense'; there are step, loss"):
        compare([good, folder / "seed_1"], Compare(output_dir=tmp_path / "out", y="nonsense"))
    with pytest.raises(UserError, match="nothing in column 'note'"):
        compare([good, folder / "seed_1"], Compare(output_dir=tmp_path / "out", y="note"))


@pytest.mark.parametrize(("folder", "figure", "column"), [
    ("01_q_learning_maze", "path length", "total_reward"),
    ("03_ppo_reacher", "mean return", "mean_return"),
])  # fmt: skip
def test_the_committed_runs_of_the_projects_can_be_read(tmp_path: Path, folder: str, figure: str, column: str) -> None:
    archive = subprocess.run(["git", "archive", "HEAD", f"{folder}/results"], cwd=ROOT, capture_output=True, check=True)
    subprocess.run(["tar", "-x"], cwd=tmp_path, input=archive.stdout, check=True)
    run = read_run(tmp_path / folder / "results")
    assert run.script == "train"
    assert figure in run.figures
    assert len(run.metrics[column]) >= 200


def test_nested_settings_are_named_by_their_way() -> None:
    assert flat({"a": 1, "b": {"c": [2], "d": {}}}) == {"a": 1, "b.c": [2]}


def test_both_through_the_command_line(
    learner: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def lab(*arguments: str) -> object:
        monkeypatch.setattr(sys, "argv", ["lab", *arguments])
        try:
            command_line.main()
        except SystemExit as stop:
            return stop.code
        return 0

    monkeypatch.chdir(tmp_path)
    for skill in ("1", "2"):
        words = ("repeat", "2", "--output_dir", f"out_{skill}", "--", "learner.py", "--skill", skill)
        assert lab(*words) == 0
    assert lab("compare", "out_1", "out_2", "--output_dir", "compared") == 0
    assert "Intervals from fewer than 5 seeds" in capsys.readouterr().out
    assert os.listdir("compared") == ["compare.png"]
    assert lab("compare", "out_1", "missing") == 2
    assert capsys.readouterr().err == "error: missing: no such folder; name the --output_dir of a run\n"
