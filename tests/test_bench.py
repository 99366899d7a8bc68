"""`lab bench`: running, checking and publishing benchmarks."""

import dataclasses
import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from bench_results import measurement, of_one_processor, script_module

from lab import bench as benches
from lab import evidence, evidence_claims, evidence_tables, results
from lab.bench import BENCHMARKS, Bench, Benchmark, Ratio, bench, check, drift, ratios, unmet_requirement
from lab.errors import UserError
from lab.evidence import quoted
from lab.files import ROOT
from lab.results import write_results

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
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert unmet_requirement(BENCHMARKS["gpu"], Bench(data=tmp_path)) == "it needs a GPU with CUDA"
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


def test_a_quick_run_that_fails_leaves_what_its_folder_held(
    stub: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "elsewhere"
    assert bench(["maze"], Bench(output_dir=folder)) == 0
    before = (folder / "stub.json").read_text()
    monkeypatch.setenv("STATUS", "130")
    with pytest.raises(KeyboardInterrupt):
        bench(["maze"], Bench(quick=True, output_dir=folder))
    monkeypatch.setenv("STATUS", "2")
    assert bench(["maze"], Bench(quick=True, output_dir=folder)) == 1
    assert (folder / "stub.json").read_text() == before
    monkeypatch.setenv("STATUS", "0")
    monkeypatch.setenv("PROCESSOR", "elsewhere")
    assert bench(["maze"], Bench(quick=True, output_dir=folder)) == 0
    assert [each.name for each in folder.iterdir()] == ["stub.json"]
    assert len(json.loads((folder / "stub.json").read_text())["runs"]) == 1


def test_damaged_results_are_refused_before_anything_is_measured(stub: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (stub / "stub.json").write_text("{")
    with pytest.raises(UserError, match=r"stub\.json"):
        bench(["maze"], Bench())
    assert (stub / "stub.json").read_text() == "{"
    with pytest.raises(UserError, match=r"stub\.json"):
        bench(["maze"], Bench(check=True))
    assert "--output" not in capfd.readouterr().out


@pytest.mark.parametrize(("measured", "said"), [(5, "x5 was not measured"), (1, "5 of 6 were not measured")])
def test_check_lists_few_missing_ratios_and_counts_many(stub: Path, tmp_path: Path, measured: int, said: str) -> None:
    for folder, count in ((stub, 6), (tmp_path, measured)):
        one = {f"{name}_ratio": 1.0 for name in ("median", "lowest", "highest")}
        records = [{"side": f"x{number}", **one} for number in range(count)]
        (folder / "stub.json").write_text(json.dumps(of_one_processor({"records": records}, "maze")))
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
    figure = "<!-- from docs/x.json a.b~c.1 .1f -->0<!-- end -->"
    (tmp_path / "README.md").write_text(f"before {figure} after\n{tables}the end\n")
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs/x.json").write_text(json.dumps({"a": {"b c": [1, 2.34]}}))
    return tmp_path


@pytest.mark.parametrize("damaged", ["", "[]", '{"benchmark": "maze", "runs": []}', '{"benchmark": "maze"}', "\udcff"])
def test_damaged_results_are_not_published(damaged: str, house: Path) -> None:
    for name, contents in {"ppo_peers": PEERS, "ablation": ABLATION}.items():
        (house / f"benchmarks/results/{name}.json").write_text(json.dumps(of_one_processor(contents, name)))
    (house / "benchmarks/results/maze.json").write_bytes(damaged.encode("utf-8", "surrogateescape"))
    before = (house / "README.md").read_text()
    with pytest.raises(UserError, match=r"maze\.json"):
        evidence.publish()
    assert (house / "README.md").read_text() == before
    assert list(house.glob("benchmarks/results/*.png")) == []


def test_unmeasured_benchmarks_are_named_in_the_tables(house: Path) -> None:
    evidence.publish()
    text = (house / "README.md").read_text()
    assert text.startswith("before <!-- from docs/x.json a.b~c.1 .1f -->2.3<!-- end --> after\n")
    for name in ("ablation", "ppo_peers", "ppo_speed", "scaling", "transformer"):
        assert f"<!-- table {name} -->\n*Not measured yet: `lab bench {name}`.*\n<!-- end table -->" in text
    assert "old" not in text
    assert all(shown == source for _, shown, source in quoted())


def test_tables_and_plots_come_from_the_results(house: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name, contents in {"ppo_peers": PEERS, "ablation": ABLATION, "scaling": SCALING, **MORE}.items():
        (house / f"benchmarks/results/{name}.json").write_text(json.dumps(of_one_processor(contents, name)))
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
        "GPT-2, one prompt, int8 | 4.58x (range 4.15 to 4.78) | at least 5x | **no** | here |",
        "| DistilBERT predicts the same labels as `transformers` | different | exact | **no** | here |",
        "| theirs | 29.5x (26.5 to 31.7) |",
        "our PPO: theirs | 29.5x (26.5 to 31.7) | at least 12x | yes | Intel Xeon Platinum 8481C |",
        "| missing | not measured: no module |",
        "pipeline, plain form of our model | 0.5x (0.4 to 0.6) | at most 0.7x | yes | here |",
        "pipeline, accelerated form of our model | 0.5x (0.4 to 0.6) | at most 0.7x | yes | here |",
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
    (house / "docs/x.json").write_text(json.dumps({"a": {"b c": [1, 9]}}))
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
    (house / "docs/y.json").write_text(json.dumps({"records": records}))
    (house / "README.md").write_text(f"<!-- from docs/y.json records.{key} .1f -->0<!-- end -->")
    if shown is None:  # several records, or none
        with pytest.raises(UserError, match="entries with side="):
            quoted()
    else:
        assert [source for _, _, source in quoted()] == [shown]


@pytest.mark.parametrize("key", ["none.json a", "x.json a.z", "x.json a.b~c.1.z", "text.json a"])
def test_number_without_a_source_is_left_unchanged_and_named(
    house: Path, capsys: pytest.CaptureFixture[str], key: str
) -> None:
    (house / "docs/text.json").write_text('{"a": "many"}')
    lost = f"<!-- from docs/{key} .1f -->5.0<!-- end -->"
    resolved = "<!-- from docs/x.json a.b~c.1 .1f -->{}<!-- end -->"
    readme = house / "README.md"
    readme.write_text(lost + resolved.format(0))
    evidence.publish()
    assert f"left unchanged: docs/{key}: not found" in capsys.readouterr().err
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


def test_a_table_with_tokens_per_second_is_of_one_processor(house: Path) -> None:
    """Of that whose fastest form gains the least, although another form gains less on the other."""
    for processor, plain_ratio, ratio in (("a", 1.2, 4.0), ("b", 1.1, 7.0)):
        contents = measurement(processor, ratio)
        (record,) = contents["records"]
        plain = record | {"side": "plain", "median_ratio": plain_ratio, "tokens_per_second": 10 * plain_ratio}
        contents["records"] = [plain, record]
        write_results(house / "benchmarks/results/transformer.json", "transformer", **contents)
    evidence.publish()
    text = (house / "README.md").read_text()
    assert "| ours, plain | 12 | 1.2x" in text
    assert "| accelerated, int8 | 40 | 4x" in text


def test_the_evidence_says_where_a_peer_is_ahead(house: Path) -> None:
    contents = measurement("a", 0.5)
    for side, ratio in (("Numba, 1 thread", 0.5), ("Numba, all threads", 1.5)):
        record = contents["records"][0] | {"side": f"tensor, relative to {side}", "median_ratio": ratio}
        contents["records"].append(record)
    write_results(house / "benchmarks/results/maze.json", "maze", **contents)
    evidence.publish()
    text = (house / "README.md").read_text()
    assert "tensor, relative to Numba, 1 thread | 0.5x (range 0.5 to 0.5): Numba, 1 thread is ahead |" in text
    assert "tensor, relative to Numba, all threads | 1.5x (range 0.5 to 0.5) |" in text


def test_the_evidence_of_a_gpu(house: Path) -> None:
    contents = measurement("H100", 1.5)
    (record,) = contents["records"]
    plain = {name: value for name, value in record.items() if not name.endswith("ratio")}
    ratios = (("generation", "transformers, bfloat16"), ("generation", "bfloat16"), ("sentiment", "bfloat16"))
    contents["records"] = [record | {"part": part, "side": side, "target": 2} for part, side in ratios]
    contents["records"] += [
        record | {"part": "ppo", "side": "networks on cuda", "note": "others ran"},
        plain | {"part": "agents", "side": "9 agents", "median_steps_per_second": 2e9, "target": 1e9},
        plain | {"part": "shakespeare", "side": "after 500 steps", "validation_loss": 1.6},
    ]
    losses = ((1.44, 100), (1.44, 130), (1.46, 100))
    for loss, seconds in losses:
        values = {"validation_loss": loss, "seconds": seconds, "target_loss": 1.45, "target_seconds": 120.0}
        contents["records"].append(plain | {"configuration": f"run {loss} {seconds}"} | values)
    write_results(house / "benchmarks/results/gpu.json", "gpu", **contents)
    evidence.publish()
    text = (house / "README.md").read_text()
    ratio = "| 1.5x (range 1.5 to 1.5) | at least 2x | **no** |"
    prompt = f"GPT-2, {record['configuration']}"
    assert f"On a GPU: inference speed relative to `transformers`: {prompt}, itself in bfloat16 {ratio}" in text
    assert f"relative to `transformers` in bfloat16: {prompt}, accelerated, bfloat16 {ratio}" in text
    assert f"relative to `transformers`: DistilBERT, accelerated, bfloat16 {ratio}" in text
    assert "PPO with networks on cuda relative to the CPU (meanwhile others ran) | 1.5x" in text
    assert "steps per second, 9 agents | 2e+09 | at least 1e+09 | yes | H100 |" in text
    for (loss, seconds), met in zip(losses, ("yes", "**no**", "**no**"), strict=True):
        shown = f"nats per character | {loss:.3f} in {seconds} s | at most 1.45 in 120 s | {met} |"
        assert f"`--preset run {loss} {seconds}`, {shown}" in text


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
        others = r"(<br>[^|]*)?"  # of other processors, where the result is better
        line = rf"^\| {re.escape(claim)} \| {re.escape(result)}{others} \|.* \| {re.escape(processor)}{others} \|$"
        assert re.search(line, full, re.M)


def test_every_proof_in_the_documentation_is_a_test() -> None:
    tests = "\n".join(path.read_text(encoding="utf-8") for path in ROOT.glob("0*/tests/test_*.py"))
    for proof in evidence_claims.PROOFS:
        assert re.search(rf"^def {proof.test}\(", tests, re.MULTILINE), proof.test
        skipped_without_data = re.search(rf"^@needs_\w+\n(?:@.*\n)*def {proof.test}\(", tests, re.MULTILINE)
        assert (proof.runs == evidence_claims.RUNS_WITH_TEST_DATA) == bool(skipped_without_data), proof.test
