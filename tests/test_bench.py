"""`lab bench`: what runs and what says why not, what is published, what a check notices; and the newer benchmarks."""

import importlib.util
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from lab import bench as benches
from lab import evidence, evidence_pictures, evidence_tables
from lab.bench import BENCHMARKS, Bench, Benchmark, Ratio, bench, check, missing, moved
from lab.errors import UserError
from lab.evidence import quoted
from lab.files import ROOT
from lab.rows import ResumableResults

MODELS = ROOT / "assets/models"
# A benchmark that notes its flags and finds the ratio in $RATIO.
SCRIPT = """
import json, os, sys
class Config:
    peers_python: str = ""
print(sys.argv[1:])
output = sys.argv[sys.argv.index("--output") + 1]
ratio = float(os.environ["RATIO"])
json.dump({"median_ratio": {"a": ratio}, "lowest_ratio": {"a": ratio - 1}, "highest_ratio": {"a": ratio + 1}},
          open(output, "w"))
sys.exit(int(os.environ.get("STATUS", "0")))
"""


def script_module(name: str) -> ModuleType:
    """A script of benchmarks/ as a module."""
    if str(ROOT / "benchmarks") not in sys.path:
        sys.path.append(str(ROOT / "benchmarks"))
    spec = importlib.util.spec_from_file_location(name, ROOT / "benchmarks" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def run_script(name: str, *flags: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(ROOT / f"benchmarks/{name}.py"), *flags]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run(command, capture_output=True, text=True, env=environment, timeout=240)


@pytest.fixture
def stub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A house of its own with one benchmark, called maze; gives the folder of what is committed."""
    results = tmp_path / "benchmarks/results"
    results.mkdir(parents=True)
    (tmp_path / "benchmarks/stub.py").write_text(SCRIPT)
    monkeypatch.setattr(benches, "ROOT", tmp_path)
    monkeypatch.setattr(benches, "RESULTS", results)
    monkeypatch.setattr(benches, "QUICK", tmp_path / "runs/bench")
    monkeypatch.setitem(BENCHMARKS, "maze", Benchmark("stub", ("--small",), BENCHMARKS["maze"].ratios))
    monkeypatch.setenv("RATIO", "10")
    return results


# --- running ----------------------------------------------------------------------------------------------------------


def test_a_quick_run_never_touches_what_is_committed(
    stub: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    assert bench(["maze"], Bench()) == 0
    committed = (stub / "stub.json").read_text()
    assert "--small" not in capfd.readouterr().out
    monkeypatch.setenv("RATIO", "99")
    assert bench(["maze"], Bench(quick=True)) == 0
    assert "--small" in capfd.readouterr().out
    assert (stub / "stub.json").read_text() == committed
    assert json.loads((stub.parent.parent / "runs/bench/stub.json").read_text())["median_ratio"] == {"a": 99}
    with pytest.raises(UserError, match="no quick run may write"):
        bench(["maze"], Bench(quick=True, output_dir=stub))


def test_a_benchmark_that_fails_is_said_to_and_ctrl_c_ends_all(stub: Path, monkeypatch: pytest.MonkeyPatch,
                                                               capfd: pytest.CaptureFixture[str]) -> None:  # fmt: skip
    monkeypatch.setenv("STATUS", "3")
    assert bench(["maze"], Bench()) == 1
    assert "maze: FAILED with status 3" in capfd.readouterr().out
    monkeypatch.setenv("STATUS", "130")
    with pytest.raises(KeyboardInterrupt):
        bench(["maze"], Bench())


def test_what_cannot_run_says_why(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert bench(["transformer"], Bench(quick=True)) == 0
    assert "transformer: not run: it needs --data" in capsys.readouterr().out
    nowhere = Bench(peers_python=Path("no/python"))
    absent = Benchmark("ppo_peers", (), packages=("no_such_library",))
    assert "no_such_library is not installed; make bench-setup" in missing(absent, nowhere)
    assert "there is no benchmarks/none.py" in missing(Benchmark("none", ()), nowhere)
    with pytest.raises(UserError, match="which benchmark"):
        bench([], Bench())


def test_every_benchmark_takes_the_flags_of_its_quick_run() -> None:
    for benchmark in BENCHMARKS.values():
        if benchmark.path.exists():  # one of them comes with the lesson that it measures
            text = benchmark.path.read_text()
            for flag in ("output", *(word[2:] for word in benchmark.quick if word.startswith("--"))):
                assert benches.takes(text, flag), f"{benchmark.path.name} --{flag}"
            assert f'ROOT / "benchmarks/results/{benchmark.file}"' in text


# --- checking ---------------------------------------------------------------------------------------------------------


def test_a_check_tells_what_moved(
    stub: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    assert bench(["maze"], Bench(check=True)) == 0
    assert "not checked: there is no" in capfd.readouterr().out
    bench(["maze"], Bench())
    for ratio, status, words in (("10.9", 0, "1 of 1 ratios as committed"), ("3", 1, "MOVED: a 10 (9 to 11) is now 3")):
        capfd.readouterr()
        monkeypatch.setenv("RATIO", ratio)
        assert bench(["maze"], Bench(check=True)) == status
        assert words in capfd.readouterr().out


@pytest.mark.parametrize(("measured", "said"), [(5, "x5 was not measured"), (1, "5 of 6 were not measured")])
def test_a_check_names_a_few_ratios_that_are_missing_and_counts_many(
    stub: Path, tmp_path: Path, measured: int, said: str
) -> None:
    for folder, count in ((stub, 6), (tmp_path, measured)):
        ratios = {f"x{number}": 1.0 for number in range(count)}
        sides = {f"{name}_ratio": ratios for name in ("median", "lowest", "highest")}
        (folder / "stub.json").write_text(json.dumps(sides))
    assert check("maze", tmp_path, Bench()) == f"{measured} of 6 ratios as committed; {said}"


def test_the_tolerance_widens_the_committed_spread() -> None:
    before = Ratio(10, 9, 11)
    assert moved("a", before, Ratio(12, 12, 12), 0.1) == ""
    assert "is now 12" in moved("a", before, Ratio(12, 12, 12), 0.0)
    assert "is now 8" in moved("a", before, Ratio(8, 8, 8), 0.1)


def test_the_committed_results_hold_the_ratios_that_a_check_compares() -> None:
    for name, benchmark in BENCHMARKS.items():
        committed = ROOT / "benchmarks/results" / benchmark.file
        if benchmark.ratios is not None and committed.exists():
            ratios = benchmark.ratios(json.loads(committed.read_text()))
            assert ratios, name
            for ratio in ratios.values():
                assert 0 < ratio.low <= ratio.middle <= ratio.high, name


def test_ratios_are_found_however_deep_they_lie() -> None:
    side = {"median_ratio": 2.0, "lowest_ratio": 1.5, "highest_ratio": 2.5, "median_seconds": 1.0}
    same = {"median_ratio": 1.0, "lowest_ratio": 1.0, "highest_ratio": 1.0}  # the other side, beside itself
    found = {"one_prompt": {"transformers": same, "int8": side}, "presets": {"books": side}, "median_ratio": {"a": 3}}
    ratios = BENCHMARKS["transformer"].ratios
    assert ratios is not None
    assert ratios(found) == {"one_prompt, int8": Ratio(2, 1.5, 2.5), "presets, books": Ratio(2, 1.5, 2.5)}


# --- publishing -------------------------------------------------------------------------------------------------------

PEERS = {
    "sides": ["ours", "theirs", "missing"],
    "baselines": {"threshold": -3.75, "random policy": -43.0},
    "rows": [
        {"side": side, "seed": seed, "return": -4.0, "seconds": 9.0,
         "curve": {"steps": [10, 20], "seconds": [1.0, 2.0], "return": [-9.0, -4.0 - seed]}}
        for side in ("ours", "theirs") for seed in (0, 1)
    ],
    "summary": [
        {"side": "ours", "seeds": 2, "mean": -4.0, "low": -4.1, "high": -3.9, "seconds": 9.0, "reached": 1,
         "steps_to_threshold": 1234, "seconds_to_threshold": 5.6},
        {"side": "theirs", "seeds": 2, "mean": -5.0, "low": -5.1, "high": -4.9, "seconds": 90.0, "reached": 0,
         "steps_to_threshold": None, "seconds_to_threshold": None},
        {"side": "missing", "not_measured": "no module"},
    ],
}  # fmt: skip


def variant(name: str, title: str, mean: float, difference: Any, diverged: int = 0) -> dict[str, Any]:
    ends = {"low": mean - 0.1, "high": mean + 0.1}
    returns = [mean, mean - 10 * diverged]
    return {"variant": name, "title": title, "mean": mean, **ends, "difference": difference,
            "diverged": diverged, "returns": returns}  # fmt: skip


ABLATION = {
    "rows": [],
    "summary": [
        variant("nothing", "nothing", -3.5, None),
        variant("a", "1 first", -4.5, {"mean": -1.0, "low": -1.2, "high": -0.8}, diverged=1),
        variant("b", "2 second", -3.4, {"mean": 0.1, "low": -0.1, "high": 0.3}),
        variant("c", "3 third", -3.2, {"mean": 0.3, "low": 0.1, "high": 0.5}),
    ],
}
SCALING = {
    "parts": {
        "ppo": {"title": "PPO", "unit": "steps a second", "limit": "the environments alone", "rows": [
            {"at": {"environments": n, "threads": t}, "per_second": 100.0 * n, "limit_per_second": 200.0 * n,
             "median_ratio": 0.5, "lowest_ratio": 0.4, "highest_ratio": 0.6} for t in (1, 2) for n in (1, 8)
        ]}
    }
}  # fmt: skip
SPEED = {"sides": {
    "ours": {"times_ours": 1.0},
    "theirs": {"times_ours": 29.46, "low": 26.5, "high": 31.68, "median": 30.0, "bar": 12},
    "missing": {"not_measured": "no module"},
}}  # fmt: skip
TEXTS = {
    "one_prompt": {
        "transformers": {"median_ratio": 1.0},
        "int8": {"median_ratio": 4.58, "lowest_ratio": 4.15, "highest_ratio": 4.78},
    },
    "batch_of_8": {}, "perplexity": {"int8": 31.8}, "tokens_per_second": {"transformers": 22.4, "int8": 104.1},
    "same_tokens_float32": True, "same_labels": False, "median_ratio": {},
}  # fmt: skip
SENTENCES = {"accuracy": 0.8666, "interval": [0.85, 0.883], "calibration_error": 0.019}
SENTIMENT = {"results": {
    "distill": {"title": "distilled", "seeds": 3, "parameters": 4712834}
    | dict.fromkeys(("sst2_test", "uci_amazon", "uci_imdb"), SENTENCES),
    "scratch": {"title": "of a CSV", "seeds": 1, "parameters": 1, "test": SENTENCES},
}}  # fmt: skip
MORE = {"ppo_speed": SPEED, "transformer": TEXTS}


@pytest.fixture
def house(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A lab with one page and results of its own."""
    results = tmp_path / "benchmarks/results"
    results.mkdir(parents=True)
    for module in (evidence, evidence_tables):
        monkeypatch.setattr(module, "ROOT", tmp_path)
    monkeypatch.setattr(evidence_tables, "RESULTS", results)
    monkeypatch.setattr(evidence, "draw_pictures", lambda: evidence_pictures.draw_pictures(results))
    tables = "\n".join(f"<!-- table {name} -->\nold\n<!-- end table -->\n" for name in evidence_tables.TABLES)
    figure = "<!-- from benchmarks/results/x.json a.b~c.1 .1f -->0<!-- end -->"
    (tmp_path / "README.md").write_text(f"before {figure} after\n{tables}the end\n")
    (results / "x.json").write_text(json.dumps({"a": {"b c": [1, 2.34]}}))
    return tmp_path


def test_what_was_not_measured_says_so(house: Path) -> None:
    evidence.publish()
    text = (house / "README.md").read_text()
    assert text.startswith("before <!-- from benchmarks/results/x.json a.b~c.1 .1f -->2.3<!-- end --> after\n")
    for name in ("ablation", "ppo_peers", "ppo_speed", "scaling", "transformer"):
        assert f"<!-- table {name} -->\n*Not measured yet: `lab bench {name}`.*\n<!-- end table -->" in text
    assert "old" not in text
    assert all(shown == source for _, shown, source in quoted())


def test_tables_and_pictures_come_from_the_results(house: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name, found in {"ppo_peers": PEERS, "ablation": ABLATION, "scaling": SCALING, **MORE}.items():
        (house / f"benchmarks/results/{name}.json").write_text(json.dumps(found))
    own = house / "02_transformer_basics/results/compare_sentiment.json"
    own.parent.mkdir(parents=True)
    own.write_text(json.dumps(SENTIMENT))
    evidence.publish()
    text = (house / "README.md").read_text()
    for line in (
        "| ours | 2 | -4.00 (-4.10 to -3.90) | 9 | 1 | 1,234 | 5.6 |",
        "| theirs | 2 | -5.00 (-5.10 to -4.90) | 90 | 0 |  |  |",
        "| 1 first | -4.50 (-4.60 to -4.40); 1 diverged | -1.00 (-1.20 to -0.80) | yes |",
        "| 2 second | -3.40 (-3.50 to -3.30) | +0.10 (-0.10 to +0.30) | not to be seen |",
        "| 3 third | -3.20 (-3.30 to -3.10) | +0.30 (+0.10 to +0.50) | better without |",
        "| PPO | 800 | environments 8, threads 1 | 50% of the environments alone |",
        "| `transformers` | 22 | 1.00 |  |  |",
        "| ours, int8 | 104 | 4.58 (4.15 to 4.78) |  | 31.80 |",
        "| DistilBERT: the labels of `transformers` | others | the same | **no** |",
        "| theirs | 29.5 | 26.5 to 31.7 |",
        "| missing |  | not measured: no module |",
        "| distilled | 3 | 4,712,834 |" + 3 * " 86.7% (85.0% to 88.3%) |" + " 0.019 |",
        "![Speed against size, and the limits](benchmarks/results/scaling.png)",
    ):
        assert line in text, line
    assert "of a CSV" not in text
    for name in ("ppo_peers", "ablation", "scaling"):
        assert (house / f"benchmarks/results/{name}.png").stat().st_size > 10_000
    capsys.readouterr()
    evidence.publish()
    assert "updated" not in capsys.readouterr().out
    (house / "benchmarks/results/x.json").write_text(json.dumps({"a": {"b c": [1, 9]}}))
    ((where, shown, source),) = [row for row in quoted() if row[1] != row[2]]
    assert ("x.json" in where, shown, source) == (True, "2.3", "9.0")


@pytest.mark.parametrize("key", ["none.json a", "x.json a.z", "x.json a.b~c.1.z", "text.json a"])
def test_a_figure_that_the_results_do_not_hold_stays_and_is_named(
    house: Path, capsys: pytest.CaptureFixture[str], key: str
) -> None:
    (house / "benchmarks/results/text.json").write_text('{"a": "many"}')
    lost = f"<!-- from benchmarks/results/{key} .1f -->5.0<!-- end -->"
    found = "<!-- from benchmarks/results/x.json a.b~c.1 .1f -->{}<!-- end -->"
    readme = house / "README.md"
    readme.write_text(lost + found.format(0))
    evidence.publish()
    assert f"left as it is: benchmarks/results/{key}: not to be had" in capsys.readouterr().err
    assert readme.read_text() == lost + found.format(2.3)
    with pytest.raises(UserError, match="not to be had"):
        quoted()


def test_a_table_that_nobody_makes_is_refused(house: Path) -> None:
    readme = house / "README.md"
    readme.write_text("<!-- table nonsense -->\n<!-- end table -->")
    with pytest.raises(UserError, match="nonsense"):
        evidence.publish()
    assert "nonsense" in readme.read_text()


def test_every_proof_that_the_pages_name_is_a_test() -> None:
    tests = "\n".join(path.read_text(encoding="utf-8") for path in ROOT.glob("0*/tests/test_*.py"))
    for _, _, name in evidence_tables.PROVEN:
        assert re.search(rf"^def {name}\(", tests, re.MULTILINE), name


# --- the benchmarks themselves, as short as they can be ---------------------------------------------------------------


def test_rows_are_kept_and_other_settings_refused(tmp_path: Path) -> None:
    rows = ResumableResults(tmp_path / "rows.json", {"episodes": 3})
    rows.add({"variant": "a", "seed": 0, "return": 1.0})
    again = ResumableResults(tmp_path / "rows.json", {"episodes": 3})
    assert again.find(variant="a", seed=0) == [{"variant": "a", "seed": 0, "return": 1.0}]
    assert again.find(variant="a", seed=1) == []
    again.finish(summary=[1])
    assert json.loads((tmp_path / "rows.json").read_text())["summary"] == [1]
    with pytest.raises(UserError, match="rows of other settings"):
        ResumableResults(tmp_path / "rows.json", {"episodes": 4})
    (tmp_path / "rows.json").write_text("{")
    with pytest.raises(UserError, match=r"rows\.json"):
        ResumableResults(tmp_path / "rows.json", {"episodes": 3})


def test_the_ablation_goes_on_and_counts_divergence_as_random_actions(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    ablation = script_module("ablation")
    trained: list[Any] = []

    def train_and_evaluate(settings: Any, episodes: int) -> tuple[float, float, None]:
        if not settings.clip_gradients:
            raise UserError("diverged in iteration 2")
        trained.append(settings)
        return 1.0, -3.5 - settings.seed / 10 - (not settings.normalize_observations), None

    monkeypatch.setattr(ablation, "train_and_evaluate", train_and_evaluate)
    output = tmp_path / "ablation.json"
    ablation.main(ablation.Config(output=output, seeds=1, episodes=20, num_iterations=1))
    assert len(trained) == 8
    off = [name for settings in trained for name in list(ablation.TITLES)[1:] if not getattr(settings, name)]
    assert off == [name for name in list(ablation.TITLES)[1:] if name != "clip_gradients"]
    ablation.main(ablation.Config(output=output, seeds=2, episodes=20, num_iterations=1))
    assert len(trained) == 16  # those of seed 0 were not trained again
    found = json.loads(output.read_text())
    summary = {row["variant"]: row for row in found["summary"]}
    assert summary["normalize_observations"]["difference"]["mean"] == pytest.approx(-1)
    assert summary["clip_gradients"]["diverged"] == 2
    assert summary["clip_gradients"]["mean"] == found["random_return"] < -20
    assert "diverged" in capsys.readouterr().out


def test_the_peers_are_measured_or_say_why_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    peers = script_module("ppo_peers")
    monkeypatch.setattr(peers, "SIDES", ("ours", "Stable-Baselines3, our settings", "SBX, our settings"))
    output = tmp_path / "peers.json"
    short = {"num_iterations": 2, "episodes": 4, "curve_episodes": 4, "seeds": 1, "our_seeds": 1}
    peers.main(peers.Config(output=output, **short))
    found = json.loads(output.read_text())
    measured = [row["side"] for row in found["rows"]]
    assert measured[:2] == ["ours", "Stable-Baselines3, our settings"]
    if importlib.util.find_spec("sbx") is None:
        assert "sbx" in found["summary"][2]["not_measured"] or "flax" in found["summary"][2]["not_measured"]
    for row in found["rows"]:
        assert row["curve"]["steps"] == [2048, 4096]
        assert 0 < row["curve"]["seconds"][0] < row["curve"]["seconds"][1]
        assert -60 < row["return"] < 0
    monkeypatch.setattr(peers, "run", lambda side, *_: {"side": side, "not_measured": "asked again"})
    peers.main(peers.Config(output=output, **short))
    assert [row["side"] for row in json.loads(output.read_text())["rows"]] == measured


def test_when_a_curve_gets_to_the_threshold() -> None:
    peers = script_module("ppo_peers")
    row = {"curve": {"steps": [1, 2, 3], "seconds": [0.1, 0.2, 0.3], "return": [-9, -3.7, -4]}}
    assert peers.reached(row, -3.75) == (2, 0.2)
    assert peers.reached(row, -3.0) is None


def test_scaling_measures_each_curve_beside_its_limit(tmp_path: Path) -> None:
    flags = (
        "--repetitions 1 --seconds 0 --threads 1 --environments 64 --batches 2 --contexts 8 9999 --agents 3 --mazes 4"
    )
    done = run_script(
        "scaling", "--output", str(tmp_path / "s.json"), "--model", str(MODELS / "language"), *flags.split()
    )
    assert done.returncode == 0, done.stderr
    parts = json.loads((tmp_path / "s.json").read_text())["parts"]
    where = {"environments": 64, "threads": 1}, {"batch": 2, "context": 8}, {"agents": 3, "maze": 4}
    for part, at in zip(parts.values(), where, strict=True):
        (row,) = part["rows"]
        assert row["at"] == at
        assert 0 < row["per_second"] < row["limit_per_second"]
