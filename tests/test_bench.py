"""`lab bench`: running, checking and publishing benchmarks; the schema of results files; the benchmark scripts."""

import dataclasses
import importlib.util
import json
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
import transformers

from batched_q_learning import BatchedQLearning
from lab import bench as benches
from lab import evidence, evidence_claims, evidence_tables, results
from lab import record as record_module
from lab.bench import BENCHMARKS, Bench, Benchmark, Ratio, bench, check, drift, ratios, unmet_requirement
from lab.errors import UserError
from lab.evidence import quoted
from lab.files import ROOT
from lab.results import (
    ResumableResults,
    new_record,
    ratio_statistics,
    run_problems,
    schema_problems,
    write_results,
)
from ppo_config import config_to_file

MODELS = ROOT / "assets/models"
# A benchmark that prints its flags and writes the ratio in $RATIO.
SCRIPT = """
import json, os, sys
class Config:
    peers_python: str = ""
print(sys.argv[1:])
output = sys.argv[sys.argv.index("--output") + 1]
ratio = float(os.environ["RATIO"])
processor = os.environ.get("PROCESSOR", "here")
record = {"configuration": "", "side": "a", "processor": processor, "date": "2026-11-26", "versions": {}}
record |= {"median_ratio": ratio, "lowest_ratio": ratio - 1, "highest_ratio": ratio + 1}
run = {"settings": {}, "environment": {"processor": processor}, "records": [record]}
json.dump({"benchmark": "maze", "runs": [run]}, open(output, "w"))
sys.exit(int(os.environ.get("STATUS", "0")))
"""


def of_one_processor(run: dict[str, Any]) -> dict[str, Any]:
    """Return the contents of a results file with one run."""
    return {"benchmark": "x", "runs": [{"environment": {"processor": "here"}} | run]}


def script_module(name: str) -> ModuleType:
    """Return a script of benchmarks/ as a module."""
    if str(ROOT / "benchmarks") not in sys.path:
        sys.path.append(str(ROOT / "benchmarks"))
    spec = importlib.util.spec_from_file_location(name, ROOT / "benchmarks" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def one_run(path: Path) -> dict[str, Any]:
    """Return the only run of a results file, which must follow the schema."""
    contents = json.loads(path.read_text())
    assert schema_problems(contents) == []
    (run,) = contents["runs"]
    return run


def run_script(name: str, *flags: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(ROOT / f"benchmarks/{name}.py"), *flags]
    return subprocess.run(command, capture_output=True, text=True, timeout=240)


@pytest.fixture
def stub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A temporary lab with one benchmark, called maze; returns the folder of committed results."""
    results = tmp_path / "benchmarks/results"
    results.mkdir(parents=True)
    (tmp_path / "benchmarks/stub.py").write_text(SCRIPT)
    monkeypatch.setattr(benches, "ROOT", tmp_path)
    monkeypatch.setattr(benches, "RESULTS", results)
    monkeypatch.setattr(benches, "QUICK", tmp_path / "runs/bench")
    monkeypatch.setitem(BENCHMARKS, "maze", Benchmark("stub", ("--small",)))
    monkeypatch.setenv("RATIO", "10")
    return results


# --- running ----------------------------------------------------------------------------------------------------------


def test_quick_run_never_changes_committed_results(
    stub: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    assert bench(["maze"], Bench()) == 0
    committed = (stub / "stub.json").read_text()
    assert "--small" not in capfd.readouterr().out
    monkeypatch.setenv("RATIO", "99")
    assert bench(["maze"], Bench(quick=True)) == 0
    assert "--small" in capfd.readouterr().out
    assert (stub / "stub.json").read_text() == committed
    (fresh,) = json.loads((stub.parent.parent / "runs/bench/stub.json").read_text())["runs"]
    assert fresh["records"][0]["median_ratio"] == 99
    with pytest.raises(UserError, match="quick runs must not change"):
        bench(["maze"], Bench(quick=True, output_dir=stub))


def test_failed_benchmark_is_reported_and_ctrl_c_stops_all(stub: Path, monkeypatch: pytest.MonkeyPatch,
                                                               capfd: pytest.CaptureFixture[str]) -> None:  # fmt: skip
    monkeypatch.setenv("STATUS", "3")
    assert bench(["maze"], Bench()) == 1
    assert "maze: FAILED with status 3" in capfd.readouterr().out
    monkeypatch.setenv("STATUS", "130")
    with pytest.raises(KeyboardInterrupt):
        bench(["maze"], Bench())


def test_skipped_benchmarks_give_a_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(benches, "QUICK", tmp_path)
    assert bench(["transformer"], Bench(quick=True)) == 0
    assert "transformer: skipped: it needs --data" in capsys.readouterr().out
    nowhere = Bench(peers_python=Path("no/python"))
    absent = Benchmark("ppo_peers", (), packages=("no_such_library",))
    assert "no_such_library is not installed; run make bench-setup" in unmet_requirement(absent, nowhere)
    assert "there is no benchmarks/none.py" in unmet_requirement(Benchmark("none", ()), nowhere)
    with pytest.raises(UserError, match="no benchmark named"):
        bench([], Bench())


def test_every_benchmark_has_the_options_of_its_quick_run() -> None:
    for benchmark in BENCHMARKS.values():
        options = {field.name for field in dataclasses.fields(script_module(benchmark.script).Config)}
        assert ("data" in options, "peers_python" in options) == (benchmark.needs_data, benchmark.uses_peers)
        for flag in ("output", *(word[2:] for word in benchmark.quick if word.startswith("--"))):
            assert flag in options, f"{benchmark.path.name} --{flag}"
        assert f'ROOT / "benchmarks/results/{benchmark.file}"' in benchmark.path.read_text()


# --- checking ---------------------------------------------------------------------------------------------------------


def test_check_reports_changed_ratios(
    stub: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    assert bench(["maze"], Bench(check=True)) == 0
    assert "not checked: there is no" in capfd.readouterr().out
    bench(["maze"], Bench())
    for ratio, status, words in (
        ("10.9", 0, "1 of 1 ratios as committed"),
        ("3", 1, "CHANGED: a 10 (9 to 11) is now 3"),
    ):
        capfd.readouterr()
        monkeypatch.setenv("RATIO", ratio)
        assert bench(["maze"], Bench(check=True)) == status
        assert words in capfd.readouterr().out


def test_check_compares_with_the_run_of_the_same_processor(
    stub: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    bench(["maze"], Bench())
    monkeypatch.setenv("RATIO", "3")
    monkeypatch.setenv("PROCESSOR", "elsewhere")
    assert bench(["maze"], Bench(check=True)) == 0
    assert "has no run of this processor, elsewhere" in capfd.readouterr().out


def test_damaged_results_are_refused_before_anything_is_measured(stub: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (stub / "stub.json").write_text("{")
    with pytest.raises(UserError, match=r"stub\.json"):
        bench(["maze"], Bench())
    assert (stub / "stub.json").read_text() == "{"
    assert "--output" not in capfd.readouterr().out


@pytest.mark.parametrize(("measured", "said"), [(5, "x5 was not measured"), (1, "5 of 6 were not measured")])
def test_check_lists_few_missing_ratios_and_counts_many(stub: Path, tmp_path: Path, measured: int, said: str) -> None:
    for folder, count in ((stub, 6), (tmp_path, measured)):
        one = {f"{name}_ratio": 1.0 for name in ("median", "lowest", "highest")}
        records = [{"side": f"x{number}", **one} for number in range(count)]
        (folder / "stub.json").write_text(json.dumps(of_one_processor({"records": records})))
    assert check("maze", tmp_path, Bench()) == f"{measured} of 6 ratios as committed; {said}"


def test_tolerance_widens_the_committed_range() -> None:
    before = Ratio(10, 9, 11)
    assert drift("a", before, Ratio(12, 12, 12), 0.1) == ""
    assert "is now 12" in drift("a", before, Ratio(12, 12, 12), 0.0)
    assert drift("a", before, Ratio(8.5, 8, 9), 0.1) == ""  # below the median, above the low end less 10%
    assert "is now 8" in drift("a", before, Ratio(8, 8, 8), 0.1)
    assert "is now 12.2" in drift("a", before, Ratio(12.2, 12, 13), 0.1)


def test_committed_results_hold_the_ratios_that_a_check_compares() -> None:
    for name, benchmark in BENCHMARKS.items():
        committed = ROOT / "benchmarks/results" / benchmark.file
        if benchmark.checkable:
            for run in json.loads(committed.read_text())["runs"]:
                committed_ratios = ratios(run)
                assert committed_ratios, name
                for ratio in committed_ratios.values():
                    assert 0 < ratio.low <= ratio.median <= ratio.high, name


def test_ratios_come_from_records_and_summary_under_their_names() -> None:
    ratio = {"median_ratio": 2.0, "lowest_ratio": 1.5, "highest_ratio": 2.5}
    reference = {"configuration": "one prompt", "side": "transformers"}  # has no ratio
    contents = {
        "records": [reference, {"configuration": "one prompt", "side": "int8", **ratio}],
        "summary": [{"side": "ours", **ratio}, {"side": "controller", "median_ratio": None}],
    }
    assert ratios(contents) == {"one prompt, int8": Ratio(2, 1.5, 2.5), "ours": Ratio(2, 1.5, 2.5)}


# --- the schema of results files --------------------------------------------------------------------------------------


ENVIRONMENT = {"processor": "AMD EPYC 9B45 128-Core Processor", "date": "2026-11-26", "packages": {"torch": "2.13.0"}}


@pytest.mark.parametrize("path", sorted((ROOT / "benchmarks/results").glob("*.json")), ids=lambda path: path.stem)
def test_committed_results_follow_the_schema(path: Path) -> None:
    contents = json.loads(path.read_text())
    assert schema_problems(contents) == []
    assert contents["benchmark"] == path.stem
    for record in (record for run in contents["runs"] for record in run["records"]):
        assert record["processor"], path.stem
        assert re.fullmatch(r"20\d\d-\d\d-\d\d", record["date"]), path.stem
        assert record["versions"]["torch"], path.stem


def test_every_benchmark_has_committed_results() -> None:
    names = {path.name for path in (ROOT / "benchmarks/results").glob("*.json")}
    graders = {"exercises.json"}  # from lab exercises prove
    assert names == {benchmark.file for benchmark in BENCHMARKS.values()} | graders


def test_schema_problems_are_named(tmp_path: Path) -> None:
    record = new_record("one prompt", "ours", ENVIRONMENT, seconds=[1.0, 2.0], same=True, target=None)
    valid = {"settings": {}, "environment": ENVIRONMENT, "records": [record]}
    assert run_problems(valid) == []
    assert run_problems([]) == ["not an object"]
    assert run_problems(valid | {"records": []}) == ["records: empty"]
    assert run_problems({"records": []}) == ["settings: dict expected", "environment: dict expected"]
    assert run_problems(valid | {"records": [{**record, "curve": {"steps": [1]}}]}) == ["records.0.curve: nested value"]
    without = {name: value for name, value in record.items() if name != "date"}
    assert run_problems(valid | {"records": [record, without]}) == ["records.1: no date"]
    assert run_problems(valid | {"records": [record | {"processor": "b"}]}) == ["records.0: another processor"]
    assert run_problems(valid | {"summary": [{"mean": 1.0}]}) == ["summary.0: no side"]
    assert schema_problems({"benchmark": "x", "runs": [valid]}) == []
    assert schema_problems([]) == ["not an object"]
    assert schema_problems({"benchmark": "x", "records": []}) == ["runs: list expected"]
    assert schema_problems({"benchmark": "x", "runs": [valid, valid | {"records": []}]}) == ["runs.1.records: empty"]
    twice = schema_problems({"benchmark": "x", "runs": [valid, valid]})
    assert twice == [f"runs: several of {ENVIRONMENT['processor']}"]
    with pytest.raises(ValueError, match="no processor"):
        write_results(tmp_path / "x.json", "x", [{"side": "ours"}], settings={}, environment={})
    assert not (tmp_path / "x.json").exists()


def measurement(processor: str, ratio: float, date: str = "2026-11-26") -> dict[str, Any]:
    """Return the arguments of `write_results` for one record."""
    environment = {"processor": processor, "date": date, "packages": {"torch": "2.13.0"}}
    values = {"median_ratio": ratio, "lowest_ratio": ratio, "highest_ratio": ratio, "target": 2.0}
    record = new_record("one prompt", "int8", environment, tokens_per_second=ratio * 10, **values)
    return {"records": [record], "settings": {}, "environment": environment}


def test_a_run_is_kept_for_every_processor(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    zen3, zen4 = "AMD EPYC (family 25, model 1)", "AMD EPYC (family 25, model 17)"
    for processor, ratio, date in ((zen3, 3.0, "2026-11-26"), (zen4, 5.0, "2026-11-26"), (zen3, 4.0, "2026-11-27")):
        write_results(path, "x", **measurement(processor, ratio, date), ratio="speed")
    runs = json.loads(path.read_text())["runs"]
    records = [record for run in runs for record in run["records"]]
    assert [(r["processor"], r["median_ratio"], r["date"]) for r in records] == [
        (zen3, 4.0, "2026-11-27"),
        (zen4, 5.0, "2026-11-26"),
    ]
    assert [run["environment"]["date"] for run in runs] == ["2026-11-27", "2026-11-26"]


@pytest.mark.parametrize(
    ("damaged", "message"),
    [
        ("{", "not the record of a run"),
        ('{"benchmark": "x", "records": []}', "runs: list expected"),
        ('{"benchmark": "y", "runs": []}', "belongs to the benchmark y"),
    ],
)
def test_a_damaged_file_is_refused_in_one_line(tmp_path: Path, damaged: str, message: str) -> None:
    path = tmp_path / "x.json"
    path.write_text(damaged)
    with pytest.raises(UserError, match=message) as refused:
        write_results(path, "x", **measurement("a", 1.0))
    assert "x.json" in str(refused.value)
    assert "\n" not in str(refused.value)
    with pytest.raises(UserError, match=message):
        ResumableResults(path, "x", {}, ENVIRONMENT)
    assert path.read_text() == damaged


def processor_from(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, cpuinfo: str) -> str:
    path = tmp_path / "cpuinfo"
    path.write_text(cpuinfo)
    monkeypatch.setattr(record_module, "Path", lambda _: path)
    return record_module.processor()


def test_processors_of_different_generations_have_different_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    generations = {
        "Zen 3": ("AMD EPYC", 25, 1),
        "Zen 4": ("AMD EPYC", 25, 17),
        "Zen 5": ("AMD EPYC", 26, 2),
        "Ice Lake": ("Intel(R) Xeon(R) Processor @ 2.60GHz", 6, 106),
        "Sapphire Rapids": ("Intel(R) Xeon(R) Processor @ 2.60GHz", 6, 143),
    }
    names = [
        processor_from(monkeypatch, tmp_path, f"cpu family\t: {family}\nmodel\t\t: {model}\nmodel name\t: {name}\n")
        for name, family, model in generations.values()
    ]
    assert names[0] == "AMD EPYC (family 25, model 1)"
    assert len(set(names)) == len({evidence_claims.short_processor(name) for name in names}) == len(generations)


def test_ratio_statistics_are_those_of_the_rounds() -> None:
    statistics = ratio_statistics([2.0, 4.0, 6.0, 8.0, 10.0], [1.0, 2.0, 1.0, 1.0, 1.0])  # ratios 2, 2, 6, 8, 10
    assert statistics == {"median_ratio": 6, "q1_ratio": 2, "q3_ratio": 9, "lowest_ratio": 2, "highest_ratio": 10}
    assert set(ratio_statistics([3.0], [2.0]).values()) == {1.5}
    two = ratio_statistics([1.0, 2.0], [1.0, 1.0])
    assert (two["q1_ratio"], two["median_ratio"], two["q3_ratio"]) == (1, 1.5, 2)


# --- publishing -------------------------------------------------------------------------------------------------------

PEERS = {
    "baselines": {"threshold": -3.75, "random policy": -43.0},
    "records": [
        {"side": side, "seed": seed, "return": -4.0, "seconds": 9.0,
         "curve_steps": [10, 20], "curve_seconds": [1.0, 2.0], "curve_return": [-9.0, -4.0 - seed]}
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


def variant(side: str, mean: float, difference: float | None, diverged: int = 0) -> dict[str, Any]:
    ends = {"low": mean - 0.1, "high": mean + 0.1}
    low, high = (None, None) if difference is None else (difference - 0.2, difference + 0.2)
    change = {"difference": difference, "difference_low": low, "difference_high": high}
    return {"side": side, "mean": mean, **ends, **change, "diverged": diverged}


VARIANTS = [
    variant("full PPO", -3.5, None),
    variant("without first (1)", -4.5, -1.0, diverged=1),
    variant("without second (2)", -3.4, 0.1),
    variant("without third (3)", -3.2, 0.3),
]
ABLATION = {
    "records": [{"side": row["side"], "return": row["mean"] - 10 * row["diverged"]} for row in VARIANTS],
    "summary": VARIANTS,
}
SCALING = {
    "parts": [{"configuration": "PPO", "unit": "steps per second", "limit": "environment-only throughput",
               "axis": "environments", "series": "threads"}],
    "records": [
        {"configuration": "PPO", "side": f"environments {n}, threads {t}", "environments": n, "threads": t,
         "per_second": 100.0 * n, "limit_per_second": 200.0 * n, "median_ratio": 0.5} for t in (1, 2) for n in (1, 8)
    ],
}  # fmt: skip
SPEED = {"records": [
    {"configuration": "Reacher-v5", "side": "ours", "seconds": [1.0]},
    {"configuration": "Reacher-v5", "side": "theirs", "median_ratio": 29.46, "q1_ratio": 26.5, "q3_ratio": 31.68,
     "target": 12, "processor": "Intel(R) Xeon(R) Platinum 8481C CPU @ 2.70GHz"},
    {"configuration": "Reacher-v5", "side": "missing", "not_measured": "no module"},
]}  # fmt: skip
TEXTS = {"records": [
    {"configuration": "one prompt", "side": "transformers", "tokens_per_second": 22.4},
    {"configuration": "one prompt", "side": "int8", "tokens_per_second": 104.1, "median_ratio": 4.58,
     "q1_ratio": None, "q3_ratio": None, "lowest_ratio": 4.15, "highest_ratio": 4.78, "target": 5.0},
    {"configuration": "sentiment", "side": "ours", "same_labels": False},
    {"configuration": "perplexity", "side": "int8", "perplexity": 31.8},
]}  # fmt: skip
STARTUP = {"records": [
    {"configuration": "first token", "side": form, "median_ratio": 0.5, "q1_ratio": 0.4,
     "q3_ratio": 0.6, "target": 0.7} for form in ("plain", "accelerated")
]}  # fmt: skip
SENTENCES = {"accuracy": 0.8666, "interval": [0.85, 0.883], "calibration_error": 0.019}
SENTIMENT = {"results": {
    "distill": {"title": "distilled", "seeds": 3, "parameters": 4712834}
    | dict.fromkeys(("sst2_test", "uci_amazon", "uci_imdb"), SENTENCES),
    "scratch": {"title": "from a CSV", "seeds": 1, "parameters": 1, "test": SENTENCES},
}}  # fmt: skip
MORE = {"ppo_speed": SPEED, "transformer": TEXTS, "text_startup": STARTUP}


@pytest.fixture
def house(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A temporary lab with one page and its own results."""
    folder = tmp_path / "benchmarks/results"
    folder.mkdir(parents=True)
    for module in (evidence, results):
        monkeypatch.setattr(module, "ROOT", tmp_path)
    monkeypatch.setattr(results, "RESULTS", folder)
    tables = "\n".join(f"<!-- table {name} -->\nold\n<!-- end table -->\n" for name in evidence_tables.TABLES)
    figure = "<!-- from benchmarks/results/x.json a.b~c.1 .1f -->0<!-- end -->"
    (tmp_path / "README.md").write_text(f"before {figure} after\n{tables}the end\n")
    (folder / "x.json").write_text(json.dumps({"a": {"b c": [1, 2.34]}}))
    return tmp_path


def test_unmeasured_benchmarks_are_named_in_the_tables(house: Path) -> None:
    evidence.publish()
    text = (house / "README.md").read_text()
    assert text.startswith("before <!-- from benchmarks/results/x.json a.b~c.1 .1f -->2.3<!-- end --> after\n")
    for name in ("ablation", "ppo_peers", "ppo_speed", "scaling", "transformer"):
        assert f"<!-- table {name} -->\n*Not measured yet: `lab bench {name}`.*\n<!-- end table -->" in text
    assert "old" not in text
    assert all(shown == source for _, shown, source in quoted())


def test_tables_and_plots_come_from_the_results(house: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name, contents in {"ppo_peers": PEERS, "ablation": ABLATION, "scaling": SCALING, **MORE}.items():
        (house / f"benchmarks/results/{name}.json").write_text(json.dumps(of_one_processor(contents)))
    own = house / "02_transformer_basics/results/compare_sentiment.json"
    own.parent.mkdir(parents=True)
    own.write_text(json.dumps(SENTIMENT))
    evidence.publish()
    text = (house / "README.md").read_text()
    for line in (
        "| ours | 2 | -4.00 (-4.10 to -3.90) | 9 | 1 | 1,234 | 5.6 |",
        "| theirs | 2 | -5.00 (-5.10 to -4.90) | 90 | 0 |  |  |",
        "| without first (1) | -4.50 (-4.60 to -4.40); 1 diverged | -1.00 (-1.20 to -0.80) | worse |",
        "| without second (2) | -3.40 (-3.50 to -3.30) | +0.10 (-0.10 to +0.30) | no significant effect |",
        "| without third (3) | -3.20 (-3.30 to -3.10) | +0.30 (+0.10 to +0.50) | better |",
        "| PPO | 800 steps per second | environments 8, threads 1 | 50% of environment-only throughput |",
        "| `transformers` | 22 | 1x |  |  |",
        "| accelerated, int8 | 104 | 4.58x (range 4.15 to 4.78) |  | 31.80 |",
        "GPT-2, one prompt, int8 | 4.58x (range 4.15 to 4.78) | at least 5x | **no** | not recorded |",
        "| DistilBERT predicts the same labels as `transformers` | different | exact | **no** | not recorded |",
        "| theirs | 29.5x (26.5 to 31.7) |",
        "our PPO: theirs | 29.5x (26.5 to 31.7) | at least 12x | yes | Intel Xeon Platinum 8481C |",
        "| missing | not measured: no module |",
        "pipeline, plain form of our model | 0.5x (0.4 to 0.6) | at most 0.7x | yes | not recorded |",
        "pipeline, accelerated form of our model | 0.5x (0.4 to 0.6) | at most 0.7x | yes | not recorded |",
        "| distilled | 3 | 4,712,834 |" + 3 * " 86.7% (85.0% to 88.3%) |" + " 0.019 |",
        "![Throughput against size, with upper bounds](benchmarks/results/scaling.png)",
    ):
        assert line in text, line
    assert "from a CSV" not in text
    for name in ("ppo_peers", "ablation", "scaling"):
        assert (house / f"benchmarks/results/{name}.png").stat().st_size > 10_000
    capsys.readouterr()
    evidence.publish()
    assert "updated" not in capsys.readouterr().out
    (house / "benchmarks/results/x.json").write_text(json.dumps({"a": {"b c": [1, 9]}}))
    ((where, shown, source),) = [row for row in quoted() if row[1] != row[2]]
    assert ("x.json" in where, shown, source) == (True, "2.3", "9.0")


@pytest.mark.parametrize(
    ("key", "shown"),
    [("side=a~b.seconds", "1.5"), ("side=c&seed=2.seconds", "2.5"), ("side=c.seconds", None), ("side=d.seconds", None)],
)
def test_number_of_a_selected_record(house: Path, key: str, shown: str | None) -> None:
    records = [
        {"side": "a b", "seconds": 1.5},
        {"side": "c", "seed": 1, "seconds": 0.5},
        {"side": "c", "seed": 2, "seconds": 2.5},
    ]
    (house / "benchmarks/results/y.json").write_text(json.dumps({"records": records}))
    (house / "README.md").write_text(f"<!-- from benchmarks/results/y.json records.{key} .1f -->0<!-- end -->")
    if shown is None:  # several records, or none
        with pytest.raises(UserError, match="entries with side="):
            quoted()
    else:
        assert [source for _, _, source in quoted()] == [shown]


@pytest.mark.parametrize("key", ["none.json a", "x.json a.z", "x.json a.b~c.1.z", "text.json a"])
def test_number_without_a_source_is_left_unchanged_and_named(
    house: Path, capsys: pytest.CaptureFixture[str], key: str
) -> None:
    (house / "benchmarks/results/text.json").write_text('{"a": "many"}')
    lost = f"<!-- from benchmarks/results/{key} .1f -->5.0<!-- end -->"
    resolved = "<!-- from benchmarks/results/x.json a.b~c.1 .1f -->{}<!-- end -->"
    readme = house / "README.md"
    readme.write_text(lost + resolved.format(0))
    evidence.publish()
    assert f"left unchanged: benchmarks/results/{key}: not found" in capsys.readouterr().err
    assert readme.read_text() == lost + resolved.format(2.3)
    with pytest.raises(UserError, match="not found"):
        quoted()


def test_tables_and_numbers_quote_the_weakest_of_several_processors(house: Path) -> None:
    path = house / "benchmarks/results/transformer.json"
    for processor, ratio in (("AMD Zen 3", 3.0), ("AMD Zen 4", 1.5), ("Intel", 2.5)):
        write_results(path, "transformer", **measurement(processor, ratio))
    mark = "<!-- from benchmarks/results/transformer.json records.side=int8.tokens_per_second .0f -->0<!-- end -->"
    with (house / "README.md").open("a") as readme:
        readme.write(mark)
    evidence.publish()
    text = (house / "README.md").read_text()
    assert ".0f -->15<!-- end -->" in text
    claim = "Inference speed relative to `transformers`: GPT-2, one prompt, int8"
    measured = "<br>".join(f"{ratio}x (range {ratio} to {ratio})" for ratio in ("1.5", "2.5", "3"))
    assert f"| {claim} | {measured} | at least 2x | **no** | AMD Zen 4<br>Intel<br>AMD Zen 3 |" in text
    assert f"| {claim} | 1.5x (range 1.5 to 1.5) | AMD Zen 4 |" in text
    assert "| accelerated, int8 | 15 | 1.5x (range 1.5 to 1.5) |" in text


def test_of_relative_times_the_weakest_is_the_highest(house: Path) -> None:
    for processor, ratio in (("a", 0.5), ("b", 0.75)):
        write_results(house / "benchmarks/results/text_startup.json", "text_startup", **measurement(processor, ratio))
    mark = "<!-- from benchmarks/results/text_startup.json records.side=int8.median_ratio .2f -->0<!-- end -->"
    (house / "README.md").write_text(mark)
    evidence.publish()
    assert ".2f -->0.75<!-- end -->" in (house / "README.md").read_text()


def test_unknown_table_is_refused(house: Path) -> None:
    readme = house / "README.md"
    readme.write_text("<!-- table nonsense -->\n<!-- end table -->")
    with pytest.raises(UserError, match="nonsense"):
        evidence.publish()
    assert "nonsense" in readme.read_text()


def test_highlights_are_a_short_part_of_the_evidence() -> None:
    rows = evidence_tables.evidence_highlights(ROOT).splitlines()[2:]
    assert 5 <= len(rows) <= 8
    full = evidence_tables.evidence(ROOT)
    for row in rows:
        claim, result, processor = row.strip("| ").split(" | ")
        assert re.search(
            rf"^\| {re.escape(claim)} \| {re.escape(result)} \|.* \| {re.escape(processor)} \|$", full, re.M
        )


def test_every_proof_in_the_documentation_is_a_test() -> None:
    tests = "\n".join(path.read_text(encoding="utf-8") for path in ROOT.glob("0*/tests/test_*.py"))
    for proof in evidence_claims.PROOFS:
        assert re.search(rf"^def {proof.test}\(", tests, re.MULTILINE), proof.test
        skipped_without_data = re.search(rf"^@needs_\w+\n(?:@.*\n)*def {proof.test}\(", tests, re.MULTILINE)
        assert (proof.runs == evidence_claims.RUNS_WITH_TEST_DATA) == bool(skipped_without_data), proof.test


# --- the benchmark scripts, in minimal runs ---------------------------------------------------------------------------


def test_records_are_kept_and_other_settings_refused(tmp_path: Path) -> None:
    path = tmp_path / "records.json"
    record = new_record("Reacher-v5", "a", ENVIRONMENT, seed=0)
    ResumableResults(path, "x", {"episodes": 3}, ENVIRONMENT).add(record)
    again = ResumableResults(path, "x", {"episodes": 3}, ENVIRONMENT)
    assert again.find(side="a", seed=0) == [record]
    assert again.find(side="a", seed=1) == []
    again.finish(summary=[{"side": "a", "mean": 1}])
    contents = json.loads(path.read_text())
    assert schema_problems(contents) == []
    assert contents["runs"][0]["summary"] == [{"side": "a", "mean": 1}]
    with pytest.raises(UserError, match="records of other settings"):
        ResumableResults(path, "x", {"episodes": 4}, ENVIRONMENT)


def test_an_interrupted_run_leaves_those_of_other_processors(tmp_path: Path) -> None:
    path = tmp_path / "records.json"
    zen3, zen4 = ({**ENVIRONMENT, "processor": f"AMD EPYC (family 25, model {model})"} for model in (1, 17))
    first = ResumableResults(path, "x", {"episodes": 3}, zen3)
    first.add(new_record("Reacher-v5", "a", zen3, seed=0))
    first.finish(summary=[{"side": "a"}])
    (finished,) = json.loads(path.read_text())["runs"]
    other = ResumableResults(path, "x", {"episodes": 4}, zen4)  # its settings are its own
    assert other.find(side="a") == []
    other.add(new_record("Reacher-v5", "a", zen4, seed=0))  # interrupted here
    other = ResumableResults(path, "x", {"episodes": 4}, zen4)
    other.add(new_record("Reacher-v5", "a", zen4, seed=1))
    assert [record["seed"] for record in other.find(side="a")] == [0, 1]
    other.finish()
    runs = json.loads(path.read_text())["runs"]
    assert runs[0] == finished
    assert [record["seed"] for record in runs[1]["records"]] == [0, 1]


def test_ablation_resumes_and_counts_divergence_as_random_policy(
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
    options = [option for option in ablation.VARIANTS.values() if option is not None]
    saved = [config_to_file(settings) for settings in trained]
    switched_off = [name for settings in saved for name in options if not settings[name]]
    assert switched_off == [name for name in options if name != "clip_gradients"]
    ablation.main(ablation.Config(output=output, seeds=2, episodes=20, num_iterations=1))
    assert len(trained) == 16  # seed 0 was not trained again
    contents = one_run(output)
    summary = {row["switched_off"]: row for row in contents["summary"]}
    assert summary["normalize_observations"]["difference"] == pytest.approx(-1)
    assert summary["clip_gradients"]["diverged"] == 2
    assert summary["clip_gradients"]["mean"] == contents["random_return"] < -20
    assert "diverged" in capsys.readouterr().out


def test_other_libraries_are_measured_or_give_a_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    peers = script_module("ppo_peers")
    monkeypatch.setattr(peers, "SIDES", ("ours", "Stable-Baselines3, our settings", "SBX, our settings"))
    output = tmp_path / "peers.json"
    short = {"num_iterations": 2, "episodes": 4, "curve_episodes": 4, "seeds": 1, "our_seeds": 1}
    peers.main(peers.Config(output=output, **short))
    contents = one_run(output)
    measured = [record["side"] for record in contents["records"]]
    assert measured[:2] == ["ours", "Stable-Baselines3, our settings"]
    if importlib.util.find_spec("sbx") is None:
        assert "sbx" in contents["summary"][2]["not_measured"] or "flax" in contents["summary"][2]["not_measured"]
    for record in contents["records"]:
        assert record["curve_steps"] == [2048, 4096]
        assert 0 < record["curve_seconds"][0] < record["curve_seconds"][1]
        assert -60 < record["return"] < 0
        assert record["versions"]["torch"]
    monkeypatch.setattr(peers, "run", lambda *_: {"not_measured": "run again"})
    peers.main(peers.Config(output=output, **short))
    assert [record["side"] for record in one_run(output)["records"]] == measured


def test_time_to_threshold_of_a_learning_curve() -> None:
    peers = script_module("ppo_peers")
    record = {"curve_steps": [1, 2, 3], "curve_seconds": [0.1, 0.2, 0.3], "curve_return": [-9, -3.7, -4]}
    assert peers.time_to_threshold(record, -3.75) == (2, 0.2)
    assert peers.time_to_threshold(record, -3.0) is None


def test_scaling_measures_throughput_and_upper_bound(tmp_path: Path) -> None:
    flags = (
        "--repetitions 1 --seconds 0 --threads 1 --environments 64 --batches 2 --contexts 8 9999 --agents 3 --mazes 4"
    )
    done = run_script(
        "scaling", "--output", str(tmp_path / "s.json"), "--model", str(MODELS / "language"), *flags.split()
    )
    assert done.returncode == 0, done.stderr
    contents = one_run(tmp_path / "s.json")
    where = {"environments": 64, "threads": 1}, {"batch": 2, "context": 8}, {"agents": 3, "maze": 4}
    for record, at, part in zip(contents["records"], where, contents["parts"], strict=True):
        assert record["configuration"] == part["configuration"]
        assert {name: record[name] for name in (part["axis"], part["series"])} == at
        assert min(record["per_second"], record["limit_per_second"]) > 0


def test_numba_learns_what_the_tensor_learns(monkeypatch: pytest.MonkeyPatch) -> None:
    maze, maze_numba = script_module("maze"), script_module("maze_numba")
    monkeypatch.setattr(maze_numba, "prange", range)  # plain Python, with the random numbers of the tensor
    tables, agents, steps = maze.frozen_lake(), 5, 600
    tensor = BatchedQLearning(tables, agents, **maze.SETTINGS)
    draws = torch.rand(steps, 3, agents, generator=torch.Generator().manual_seed(0))
    for explore, tie_break, outcome in draws:
        tensor.step(explore, tie_break, tables.outcome(outcome))
    drawn = iter(draws.permute(2, 0, 1).flatten().tolist())  # one agent after another
    monkeypatch.setattr(np.random, "random", lambda: next(drawn))
    loop = maze_numba.Agents(maze_numba.learn, tables, agents, maze.SETTINGS)
    loop.steps(steps)
    assert tensor.q.abs().max() > 0.1
    for name in ("q", "state", "length", "epsilon"):
        assert torch.equal(torch.from_numpy(getattr(loop, name)), getattr(tensor, name)), name


def test_maze_says_that_numba_is_missing(tmp_path: Path) -> None:
    output = tmp_path / "maze.json"
    flags = ("--repetitions", "1", "--seconds", "0.01", "--agents", "8", "--processes", "1", "--output", str(output))
    done = run_script("maze", *flags)
    assert done.returncode == 0, done.stderr
    records = {record["side"]: record for record in one_run(output)["records"]}
    compared = [record for side, record in records.items() if "relative to Numba" in side]
    assert len(compared) == 2
    for record in compared:
        if importlib.util.find_spec("numba") is None:
            assert record["not_measured"] == "numba is not installed (make bench-setup)"
        else:
            assert record["median_ratio"] > 0


def small_models(folder: Path) -> None:
    """Write a GPT-2 and a DistilBERT of few parameters, with random weights."""
    randomize = script_module("transformer").randomize
    sizes = {"n_layer": 2, "n_head": 2, "n_embd": 32, "bos_token_id": 0, "eos_token_id": 0}
    randomize(transformers.GPT2LMHeadModel(transformers.GPT2Config(**sizes)), str(folder / "gpt2"))
    sizes = {"n_layers": 2, "n_heads": 2, "dim": 32, "hidden_dim": 64}
    classifier = transformers.DistilBertForSequenceClassification(transformers.DistilBertConfig(**sizes))
    randomize(classifier, str(folder / "distilbert"))


def test_inference_peers_agree_or_give_a_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    peers = script_module("inference_peers")
    monkeypatch.setattr(peers, "save_models", small_models)
    sides = tuple(side for side in peers.GENERATION if side.precision == "float32" or side.name == "ours, int8")
    monkeypatch.setattr(peers, "GENERATION", sides)
    (tmp_path / "sentiment").mkdir()
    (tmp_path / "sentiment/stsa.binary.test").write_text("1 a good film\n0 no\n1 one more good film , and long\n")
    output = tmp_path / "inference_peers.json"
    short = {"repetitions": 1, "new_tokens": 4, "sentences": 3, "threads": 1}
    peers.main(peers.Config(data=tmp_path, output=output, **short))
    records = {(each["configuration"], each["side"]): each for each in one_run(output)["records"]}
    assert len(records) == 2 * len(sides) + len(peers.CLASSIFICATION)
    for configuration in ("one prompt", "batch of 8"):
        theirs = records[configuration, "transformers, float32"]
        assert theirs["same_tokens"]
        assert theirs["median_ratio"] > 0
        assert theirs["compared_with"] == "ours, float32"
        assert "median_ratio" not in records[configuration, "ours, int8"]
    assert records["sentiment", "transformers, float32"]["same_labels"]
    assert records["sentiment", "transformers, float32"]["largest_score_difference"] < 1e-4
    for library, package in (("CTranslate2", "ctranslate2"), ("ONNX Runtime", "onnx")):
        for configuration in ("one prompt", "batch of 8", "sentiment"):
            record = records[configuration, f"{library}, float32"]
            if importlib.util.find_spec(package) is None:
                assert record["not_measured"] == f"{package} is not installed (make bench-setup)"
            else:
                assert record.get("same_tokens", record.get("same_labels")) is True


def test_a_peer_that_exits_early_is_not_measured() -> None:
    peers = script_module("inference_peers")
    ours, theirs = peers.Side("ours", "float32"), peers.Side("theirs", "float32", "float32")

    class Worker:
        def ask(self, request: Any) -> Any:
            return {"seconds": 2.0, "output": [[1, 2]], "versions": {}}

    class Exited:
        def ask(self, request: Any) -> Any:
            raise UserError("exited early")

    workers: Any = {"ours": Worker(), "theirs": Exited()}
    measured = peers.interleave((ours, theirs), workers, "generator", [[[1]], 2], repetitions=2)
    own, other = peers.records_of("one prompt", measured, ENVIRONMENT)
    assert own["seconds"] == [2.0, 2.0]
    assert other["not_measured"] == "exited early"
