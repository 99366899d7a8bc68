"""`lab compare` and `lab repeat`: comparison of runs, many seeds of a script, confidence intervals."""

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from committed import extract_committed
from PIL import Image

from lab import command_line
from lab import repeat as repeating
from lab.compare import (
    Compare,
    compare,
    flatten,
    format_difference,
    group_curve,
    read_groups,
    read_run,
    settings_that_differ,
)
from lab.errors import UserError
from lab.files import ROOT
from lab.intervals import Estimate, band, bootstrap, difference, estimate, interquartile_mean
from lab.metrics import read_metrics, write_metrics
from lab.repeat import Repeat, default_folder, find_script, repeat
from lab.runner import takes_flag

# A script with score = skill + small noise that depends on the seed. With $FAIL_AT=SEED that seed fails half-way.
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
    calls.write(f"{config.seed} {'resumed' if config.resume else 'new'}\\n")
if os.environ.get("FAIL_AT") == str(config.seed):
    (config.output_dir / "checkpoint.pth").write_text("half-way")
    sys.exit(3)
noise = random.Random(config.seed).random() / 10
(config.output_dir / "metrics.csv").write_text(
    "step,loss,note\\n" + "".join(f"{i},{config.skill / i + noise},\\n" for i in range(1, 30))
)
record = {
    "script": "learner", "seconds": 1.5, "figures": [{"name": "score", "value": config.skill + noise}],
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
    """Return a function that runs seeds of the script with a given skill and returns their folder."""

    def run(skill: float, count: int = 5, name: str | None = None) -> Path:
        folder = tmp_path / (name or f"skill_{skill:g}")
        repeat(count, [str(learner), "--skill", str(skill)], Repeat(output_dir=folder))
        return folder

    return run


# --- confidence intervals ---------------------------------------------------------------------------------------------


def test_interquartile_mean_drops_the_lowest_and_highest_quarter() -> None:
    assert interquartile_mean([1, 2, 3, 1000]) == pytest.approx(2.5)
    assert interquartile_mean([7]) == pytest.approx(7)
    assert interquartile_mean([1, 2, 6]) == pytest.approx((0.25 * 1 + 1 * 2 + 0.25 * 6) / 1.5)
    assert interquartile_mean([[1, 2, 3, 1000], [5, 5, 5, 5]]) == pytest.approx([2.5, 5])


def test_committed_interval_equals_the_estimate_from_committed_seeds() -> None:
    for run in json.loads((ROOT / "benchmarks/results/ppo.json").read_text())["runs"]:
        mean, low, high = estimate([record["return"] for record in run["records"]])
        ours = run["summary"][0]
        assert ours["side"] == "ours"
        assert mean == pytest.approx(ours["mean"], abs=1e-12)
        assert [low, high] == pytest.approx([ours["low"], ours["high"]], abs=1e-12)


def test_intervals_have_95_percent_coverage() -> None:
    generator = np.random.default_rng(0)
    covered = 0
    for _ in range(200):
        values, others = generator.normal(1.0, 1.0, 20), generator.normal(0.0, 1.0, 20)
        interval = difference(values, others)
        covered += interval.low <= 1.0 <= interval.high
    assert 183 <= covered <= 196  # intervals of 90% cover 175 of these 200, intervals of 99% cover 198


def test_intervals_end_at_two_and_a_half_percent_on_either_side() -> None:
    values, others = np.random.default_rng(0).normal(size=(2, 300))  # so many that the resamples are nearly normal
    spread = bootstrap(values).std()
    difference_spread = (bootstrap(values) - bootstrap(others, seed=1)).std()
    means, lows, highs = band(values[:, None])
    in_a_band = Estimate(means[0], lows[0], highs[0])
    for interval, deviation in (
        (estimate(values), spread),
        (difference(values, others), difference_spread),
        (in_a_band, spread),
    ):
        assert interval.mean - interval.low == pytest.approx(1.96 * deviation, rel=0.05)
        assert interval.high - interval.mean == pytest.approx(1.96 * deviation, rel=0.05)


def test_both_sides_of_a_difference_are_resampled_independently() -> None:
    """Their seeds do not belong together in pairs, even if the numbers of both sides happen to be alike."""
    values = np.random.default_rng(0).normal(size=300)
    interval = difference(values + 1, values)
    assert interval.mean == pytest.approx(1)
    assert interval.high - interval.low == pytest.approx(2 * 1.96 * 2**0.5 * bootstrap(values).std(), rel=0.05)


def test_significance_requires_an_interval_without_zero() -> None:
    assert difference([2, 2.1, 2.2, 2.1], [1, 1.1, 1.2, 1.1]).excludes_zero()
    assert not difference([1, 2, 3, 4], [1.1, 2.1, 3.1, 3.9]).excludes_zero()
    assert difference([1, 1], [2, 2]) == (-1, -1, -1)


def test_band_equals_the_estimate_at_every_point() -> None:
    curves = np.random.default_rng(0).normal(size=(6, 3))
    mean, low, high = band(curves)
    for point in range(3):
        expected = estimate(curves[:, point])
        assert [mean[point], low[point], high[point]] == pytest.approx(list(expected), abs=0.2)


def test_metrics_round_trip_and_damaged_files_are_named(tmp_path: Path) -> None:
    path = tmp_path / "metrics.csv"
    write_metrics(path, [{"step": 1, "loss": None, "reached": True}, {"step": 2, "loss": 0.25, "reached": False}])
    assert read_metrics(path)["reached"] == [1, 0]
    assert np.isnan(read_metrics(path)["loss"][0])
    for text in ("", "a,b\n", "a,b\n1\n", "a,b\n1,two\n"):
        path.write_text(text)
        with pytest.raises(UserError, match=r"metrics\.csv"):
            read_metrics(path)


# --- lab repeat -------------------------------------------------------------------------------------------------------


def test_finished_seeds_are_not_rerun(seeds: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = seeds(2.0, count=3)
    assert (tmp_path / "calls").read_text().split("\n")[:-1] == ["0 new", "1 new", "2 new"]
    summary = json.loads((folder / "repeat.json").read_text())
    scores = [json.loads((folder / f"seed_{i}/learner.json").read_text())["figures"][0]["value"] for i in range(3)]
    assert summary["figures"]["score"] == estimate(scores)._asdict()
    assert summary["figures"]["nested.twice"]["mean"] == 4.0
    assert "score" in capsys.readouterr().out
    with Image.open(folder / "curve.png") as image:
        assert min(image.size) > 300
    seeds(2.0, count=4)  # one more
    assert (tmp_path / "calls").read_text().endswith("2 new\n3 new\n")
    assert json.loads((folder / "repeat.json").read_text())["seeds"] == 4


def test_failed_seed_resumes_from_its_checkpoint(seeds: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAIL_AT", "1")
    with pytest.raises(UserError, match="seed 1 exited with status 3"):
        seeds(1.0, count=3)
    monkeypatch.delenv("FAIL_AT")
    seeds(1.0, count=3)
    lines = (tmp_path / "calls").read_text().split("\n")
    assert lines[:-1] == ["0 new", "1 new", "1 resumed", "2 new"]


def test_seeds_without_a_curve_are_still_reported(
    learner: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The metrics of a very short run of PPO have no value of `mean_return`."""
    learner.write_text(
        SCRIPT.replace("step,loss,note", "step,mean_return,note").replace("{config.skill / i + noise}", "")
    )
    folder = tmp_path / "out"
    repeat(2, [str(learner)], Repeat(output_dir=folder))
    captured = capsys.readouterr()
    assert "score" in captured.out
    assert "repeat.json" in captured.out
    assert "curve.png" not in captured.out
    assert captured.err.splitlines()[-1].startswith("note: no curve: ")
    assert "mean_return" in captured.err.splitlines()[-1]
    assert json.loads((folder / "repeat.json").read_text())["seeds"] == 2
    assert not (folder / "curve.png").exists()
    with pytest.raises(UserError, match="mean_return"):
        repeat(2, [str(learner)], Repeat(output_dir=folder, y="mean_return"))


def test_ctrl_c_stops_all_seeds(seeds: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(repeating, "run_script", lambda *_: 130)
    with pytest.raises(KeyboardInterrupt):
        seeds(1.0)


def test_invalid_repeat_commands_give_one_line(learner: Path, seeds: Any, tmp_path: Path) -> None:
    wrong: list[tuple[int, list[str], str]] = [
        (0, [str(learner)], "number of seeds is 0"),
        (2, [], "no script to repeat"),
        (2, ["nonsense"], "nonsense: neither"),
        (2, [str(tmp_path / "missing.py")], "neither"),
        (2, [str(learner), "--seed", "3"], "--seed"),
        (2, [str(learner), "--output_dir=x"], "--output_dir"),
        (2, [str(learner), "--ppo.seed", "3"], r"--ppo\.seed"),
        (2, [str(learner), "--output-dir", "x"], "--output-dir"),
    ]
    for count, command, words in wrong:
        with pytest.raises(UserError, match=words):
            repeat(count, command, Repeat(output_dir=tmp_path / "out"))
    folder = seeds(1.0, count=1)
    with pytest.raises(UserError, match=r"holds seeds of .*--skill 1\.0"):
        repeat(1, [str(learner), "--skill", "2"], Repeat(output_dir=folder))


def test_values_may_look_like_reserved_flags(learner: Path, tmp_path: Path) -> None:
    for value in ("seed", "a.seed", "output_dir", "-seed"):
        with pytest.raises(UserError, match="exited with status"):  # the script itself refuses them
            repeat(1, [str(learner), "--skill", value], Repeat(output_dir=tmp_path / value))


def test_a_folder_without_seeds_takes_another_command(learner: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="exited with status"):
        repeat(1, [str(learner), "--nope", "3"], Repeat(output_dir=tmp_path / "out"))
    repeat(1, [str(learner), "--skill", "1"], Repeat(output_dir=tmp_path / "out"))
    assert json.loads((tmp_path / "out/repeat.json").read_text())["flags"] == ["--skill", "1"]


@pytest.mark.parametrize("damaged", ["", "{", '{"x": 1}', "[]"])
def test_a_seed_with_a_damaged_record_is_run_again(damaged: str, seeds: Any) -> None:
    folder = seeds(1.0, count=2)
    (folder / "seed_1/learner.json").write_text(damaged)
    seeds(1.0, count=2)
    assert json.loads((folder / "repeat.json").read_text())["seeds"] == 2


@pytest.mark.parametrize("damaged", [b"", b"\xff", b"step,loss\n1\n"])
def test_a_seed_with_damaged_metrics_is_run_again(damaged: bytes, seeds: Any) -> None:
    folder = seeds(1.0, count=2)
    before = (folder / "seed_1/metrics.csv").read_bytes()
    (folder / "seed_1/metrics.csv").write_bytes(damaged)
    seeds(1.0, count=2)
    assert (folder / "seed_1/metrics.csv").read_bytes() == before


@pytest.mark.parametrize("damaged", ["", "null", "[1]", '{"script": "x", "flags": [1]}', '{"script": 1, "flags": []}'])
def test_a_damaged_command_gives_one_line(damaged: str, seeds: Any) -> None:
    folder = seeds(1.0, count=1)
    (folder / "repeat.json").write_text(damaged)
    with pytest.raises(UserError, match=r"repeat\.json: "):
        seeds(1.0, count=1)


def test_scripts_are_found_by_name_and_default_folders_are_descriptive() -> None:
    assert find_script("reacher") == ROOT / "03_ppo_reacher/train.py"
    assert takes_flag(find_script("reacher"), "--resume")
    assert takes_flag(ROOT / "02_transformer_basics/train_language_model.py", "--resume")
    assert not takes_flag(find_script("maze"), "--resume")
    assert default_folder("maze", ["--episodes", "50"]) == ROOT / "runs/repeat/maze_episodes_50"
    assert default_folder("03_ppo_reacher/train.py", []).name == "03_ppo_reacher_train"


def test_seeds_of_an_input_file_that_changed_are_not_mixed(learner: Path, tmp_path: Path) -> None:
    (tmp_path / "maze.txt").write_text("SG")
    (tmp_path / "folder").mkdir()
    own = learner.with_name("own.py")
    own.write_text(learner.read_text().replace('"--skill", type=float', '"--maze_file"').replace("config.skill", "1"))
    for flags in (["--maze_file", f"{tmp_path / 'maze.txt'}"], [f"--maze_file={tmp_path / 'maze.txt'}"]):
        folder = tmp_path / f"seeds_{len(flags)}"
        (tmp_path / "maze.txt").write_text("SG")
        repeat(1, [str(own), *flags], Repeat(output_dir=folder))
        repeat(2, [str(own), *flags], Repeat(output_dir=folder))
        (tmp_path / "maze.txt").write_text("S.G")
        with pytest.raises(UserError, match=r"with another version of .*maze\.txt; choose another"):
            repeat(3, [str(own), *flags], Repeat(output_dir=folder))
    repeat(1, [str(own), "--maze_file", str(tmp_path / "folder")], Repeat(output_dir=tmp_path / "third"))
    repeat(1, [str(own), "--maze_file", "x" * 5000], Repeat(output_dir=tmp_path / "fourth"))


def test_seeds_of_earlier_versions_have_no_files(seeds: Any) -> None:
    folder = seeds(1.0, count=1)
    command = json.loads((folder / "repeat.json").read_text())
    assert command.pop("files") == {}
    (folder / "repeat.json").write_text(json.dumps(command))
    seeds(1.0, count=2)


def test_a_metric_that_some_seeds_lack_says_how_many_have_it(
    seeds: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, other = seeds(1.0), seeds(2.0)
    for number in (0, 3):
        path = folder / f"seed_{number}/learner.json"
        path.write_text(path.read_text().replace("score", "other score"))
    capsys.readouterr()
    seeds(1.0)
    out = " ".join(capsys.readouterr().out.split())
    assert ", 3 of 5 seeds" in out
    assert ", 2 of 5 seeds" in out
    compare([folder, other], Compare(output_dir=tmp_path / "out"))
    out = capsys.readouterr().out
    assert "3 of 5 seeds" in out.replace("\n", " ")
    first, better = read_groups([folder, other])
    assert format_difference(better, first, "score").endswith(": too few seeds")


# --- lab compare ------------------------------------------------------------------------------------------------------


def test_significant_differences_are_reported(seeds: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    few, many, same = seeds(1.0), seeds(2.0), seeds(1.0, name="same")
    capsys.readouterr()
    compare([few, many, same], Compare(output_dir=tmp_path / "out"))
    out = capsys.readouterr().out
    for words in ("skill", "score", "significant"):
        assert words in out
    first, better, again = read_groups([few, many, same])
    assert format_difference(better, first, "score").startswith("+1 (")
    assert format_difference(better, first, "score").endswith(": significant")
    assert format_difference(again, first, "score").endswith(": not significant")
    assert format_difference(again, first, "seconds") == ""  # equal in all groups
    with Image.open(tmp_path / "out/compare.png") as image:
        assert min(image.size) > 300


def test_single_runs_are_compared_without_significance(
    seeds: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    one, other = seeds(1.0, count=1), seeds(3.0, count=1)
    capsys.readouterr()
    compare([one / "seed_0", other / "seed_0"], Compare(output_dir=tmp_path / "out", y="loss"))
    out = capsys.readouterr().out
    assert "A single run cannot separate a real difference from chance" in out
    assert "significant" not in out
    first, second = read_groups([one / "seed_0", other / "seed_0"])
    assert settings_that_differ([first, second]) == {"skill": ["1.0", "3.0"]}
    assert np.asarray(group_curve(second, "loss").y)[0] > np.asarray(group_curve(first, "loss").y)[0] + 1.5


def test_run_without_metrics_has_no_curve(seeds: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = seeds(1.0, count=2)
    (folder / "seed_1/metrics.csv").unlink()
    compare([folder / "seed_0", folder / "seed_1"], Compare(output_dir=tmp_path / "out"))
    assert "no curves" in capsys.readouterr().out
    assert not (tmp_path / "out/compare.png").exists()


def test_incomparable_runs_give_one_line(seeds: Any, tmp_path: Path) -> None:
    folder = seeds(1.0, count=2)
    good, empty, torn = folder / "seed_0", tmp_path / "empty", tmp_path / "torn"
    empty.mkdir()
    torn.mkdir()
    (torn / "learner.json").write_text('{"script": "learner", "fig')
    unfinished = tmp_path / "unfinished"
    (unfinished / "seed_0").mkdir(parents=True)
    wrong: list[tuple[list[Path], str]] = [
        ([good], "at least two runs"),
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
    with pytest.raises(UserError, match="no column 'nonsense'; available: step, loss"):
        compare([good, folder / "seed_1"], Compare(output_dir=tmp_path / "out", y="nonsense"))
    with pytest.raises(UserError, match="no values in column 'note'"):
        compare([good, folder / "seed_1"], Compare(output_dir=tmp_path / "out", y="note"))


def test_names_from_files_are_shown_escaped(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name, rate in (("first", 1), ("second", 2)):
        (tmp_path / name).mkdir()
        config = {"rate \x1b[2J": rate, "text": f"\x1b]0;{rate}\x07"}
        figure = {"name": "mean \x1b[31m", "value": rate, "expected": "", "ok": True}
        record = {"script": "train", "seconds": 1, "figures": [figure], "results": {}, "config": config}
        (tmp_path / name / "train.json").write_text(json.dumps(record, indent=2))
        write_metrics(tmp_path / name / "metrics.csv", [{"step": step, "$\\frac": step} for step in range(3)])
    options = Compare(output_dir=tmp_path / "out", y="$\\frac")
    compare([tmp_path / "first", tmp_path / "second"], options)
    out = capsys.readouterr().out
    for text in (r"rate \x1b[2J", r"\x1b]0;2\x07", r"mean \x1b[31m"):
        assert text in out
    assert "\x1b" not in out
    assert (tmp_path / "out/compare.png").exists()


@pytest.mark.parametrize("change", [("1.5", "1" + "0" * 400), ("{}", "[" * 9999)], ids=["huge", "deep"])
def test_a_damaged_record_is_named(tmp_path: Path, change: tuple[str, str]) -> None:
    record = {"script": "train", "seconds": 1.5, "figures": [], "results": {}, "config": {}}
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "train.json").write_text(json.dumps(record, indent=2))
    damaged = tmp_path / "second/train.json"
    damaged.write_text(damaged.read_text().replace(*change, 1))
    with pytest.raises(UserError, match=r"second.train\.json: damaged") as error:
        compare([tmp_path / "first", tmp_path / "second"], Compare(output_dir=tmp_path / "out"))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(("folder", "figure", "column"), [
    ("01_q_learning_maze", "path length", "total_reward"),
    ("03_ppo_reacher", "mean return", "mean_return"),
])  # fmt: skip
def test_committed_runs_of_the_projects_can_be_read(tmp_path: Path, folder: str, figure: str, column: str) -> None:
    run = read_run(extract_committed(tmp_path, f"{folder}/results") / folder / "results")
    assert run.script == "train"
    assert figure in run.final_metrics
    assert len(run.metrics[column]) >= 200


def test_nested_settings_are_flattened_with_dots() -> None:
    assert flatten({"a": 1, "b": {"c": [2], "d": {}}}) == {"a": 1, "b.c": [2]}


def test_repeat_and_compare_through_the_command_line(
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
    assert capsys.readouterr().err == "error: missing: no such folder; give the --output_dir of a run\n"
