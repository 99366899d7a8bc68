"""Results files: their schema, a run per processor, and what is refused."""

import json
import math
import re
from pathlib import Path
from typing import Any

import pytest
from bench_results import ENVIRONMENT, measurement, of_one_processor

from lab import evidence_claims
from lab import record as record_module
from lab.bench import BENCHMARKS
from lab.errors import UserError
from lab.files import ROOT
from lab.results import (
    ResumableResults,
    earlier_run,
    new_record,
    ratio_statistics,
    run_problems,
    schema_problems,
    write_results,
)


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
    graders = {"exercises.json", "mutants.json"}  # from `lab exercises prove` and tests/mutants.py
    on_a_gpu = {benchmark.file for benchmark in BENCHMARKS.values() if benchmark.needs_gpu}
    assert names | on_a_gpu == {benchmark.file for benchmark in BENCHMARKS.values()} | graders


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
    earlier = [earlier_run(path, "x", {"processor": name}) for name in (zen3, zen4, "Intel")]
    assert earlier == [*runs, None]
    assert [run["environment"]["date"] for run in runs] == ["2026-11-27", "2026-11-26"]


def changed_file(benchmark: str = "x", **entries: Any) -> str:
    """Return the text of a valid results file with other entries in its run."""
    contents = of_one_processor({"records": [{"side": "a"}]}, benchmark)
    contents["runs"][0] |= entries
    return json.dumps(contents)


def test_the_unchanged_file_is_valid() -> None:
    assert schema_problems(json.loads(changed_file())) == []


@pytest.mark.parametrize(
    ("damaged", "message"),
    [
        ("{", "not the record of a run"),
        ('{"benchmark": "x", "records": []}', "runs: list expected"),
        ('{"benchmark": "x", "runs": []}', "runs: empty"),
        (changed_file(benchmark="y"), "belongs to the benchmark y"),
        (changed_file(records=[1]), "runs.0.records.0: not an object"),
        (changed_file(records=["text"]), "runs.0.records.0: not an object"),
        (changed_file(records=None), "records: list expected"),
        (changed_file(summary=None), "summary: list expected"),
        (changed_file(summary=3), "summary: list expected"),
        (changed_file(summary=[None]), "summary.0: not an object"),
        (changed_file(summary=[{"side": "a", "median_ratio": "fast"}]), "median_ratio: number expected"),
        (changed_file(summary=[{"side": "a", "median_ratio": math.nan}]), "median_ratio: not a finite number"),
        (changed_file(environment={"processor": ["a"]}), "processor: str expected"),
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


def test_a_run_that_measures_nothing_keeps_its_environment(tmp_path: Path) -> None:
    path = tmp_path / "records.json"
    for day, seeds in (("2026-11-26", (0, 1)), ("2026-11-27", ()), ("2026-11-28", (2,))):
        environment = {**ENVIRONMENT, "date": day}
        results = ResumableResults(path, "x", {}, environment)
        for seed in seeds:
            results.add(new_record("Reacher-v5", "a", environment, seed=seed))
        results.finish(summary=[{"side": "a"}])
        (run,) = json.loads(path.read_text())["runs"]
        assert run["environment"]["date"] == {"2026-11-27": "2026-11-26"}.get(day, day)
    assert [record["date"] for record in run["records"]] == ["2026-11-26", "2026-11-26", "2026-11-28"]  # pyright: ignore[reportPossiblyUnboundVariable]


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
