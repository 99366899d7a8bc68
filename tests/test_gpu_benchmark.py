"""benchmarks/gpu.py: every part in a tiny run on the CPU; what happens without a GPU, and when time runs out."""

import json
import time
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from bench_results import run_script, script_module

from lab.errors import UserError
from lab.results import schema_problems

RATIOS = ("median_ratio", "lowest_ratio", "highest_ratio")


@pytest.fixture(scope="module")
def gpu() -> ModuleType:
    return script_module("gpu")


def quick(gpu: ModuleType, output: Path, *parts: str) -> list[dict[str, Any]]:
    """Return the records of a quick run on the CPU."""
    gpu.main(gpu.Config(output=output, parts=parts, device="cpu", quick=True, repetitions=1))
    contents = json.loads(output.read_text())
    assert schema_problems(contents) == []
    assert contents["benchmark"] == "gpu"
    return contents["runs"][0]["records"]


def by_side(records: list[dict[str, Any]], configuration: str) -> dict[str, dict[str, Any]]:
    return {record["side"]: record for record in records if record["configuration"] == configuration}


def test_generation(gpu: ModuleType, tmp_path: Path) -> None:
    records = quick(gpu, tmp_path / "gpu.json", "generation")
    for configuration in ("one prompt", "batch of 8"):
        sides = by_side(records, configuration)
        named = {"transformers", "transformers, bfloat16", "plain", "float32", "float16", "bfloat16", "int8"}
        assert sides.keys() == named
        assert sides["plain"]["same_tokens"]
        assert sides["float32"]["same_tokens"]
        for name in named - {"transformers"}:
            assert all(sides[name][ratio] > 0 for ratio in RATIOS)
    targets = {side: record.get("target") for side, record in by_side(records, "one prompt").items()}
    assert (targets["float32"], targets["bfloat16"], targets["int8"]) == (4, 5, None)


def test_shakespeare(gpu: ModuleType, tmp_path: Path) -> None:
    records = quick(gpu, tmp_path / "gpu.json", "shakespeare")
    assert [record["side"] for record in records] == ["after 2 steps", "whole validation text"]
    assert records[-1]["validation_loss"] < 10
    assert (records[-1]["target_loss"], records[-1]["target_seconds"]) == (1.45, 120)
    assert records[-1]["seconds"] > 0


def test_agents_and_maze(gpu: ModuleType, tmp_path: Path) -> None:
    agents, command = quick(gpu, tmp_path / "gpu.json", "agents", "maze")
    assert agents["median_steps_per_second"] > 0
    assert agents["target"] == 1e9
    assert command["side"] == "--device cpu"
    assert command["path_length"] > 0


def test_ppo_and_sentiment(gpu: ModuleType, tmp_path: Path) -> None:
    records = quick(gpu, tmp_path / "gpu.json", "ppo", "sentiment")
    first, second = by_side(records, "Reacher-v5").values()
    assert (first["side"], second["side"]) == ("networks on the CPU", "networks on cpu")
    assert second["median_ratio"] == pytest.approx(first["seconds"][0] / second["seconds"][0], rel=1e-3)
    sides = by_side(records, "DistilBERT")
    assert sides.keys() == {"transformers", "plain", "float32", "bfloat16"}
    assert sides["plain"]["same_labels"] == sides["float32"]["same_labels"] == 1


def test_all_parts_are_measured_by_default_within_eight_minutes(gpu: ModuleType) -> None:
    assert gpu.Config().parts == tuple(gpu.PARTS)
    assert sum(limit for _, limit in gpu.PARTS.values()) <= 480


# --- limits -----------------------------------------------------------------------------------------------------------


def two_records(config: Any, device: torch.device) -> Iterator[tuple[str, str, dict[str, Any]]]:
    yield "x", "first", {"value": 1}
    time.sleep(30)
    yield "x", "second", {"value": 2}


def failing(config: Any, device: torch.device) -> Iterator[tuple[str, str, dict[str, Any]]]:
    raise ImportError("no module\nof this name")
    yield


def test_a_part_that_fails_or_takes_too_long_keeps_what_was_measured(
    gpu: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(gpu.PARTS, "ppo", (failing, 10))
    monkeypatch.setitem(gpu.PARTS, "maze", (two_records, 0.2))
    begin = time.perf_counter()
    records = quick(gpu, tmp_path / "gpu.json", "ppo", "maze")
    assert time.perf_counter() - begin < 20
    assert records[0]["not_measured"] == "ImportError: no module"
    assert records[1]["value"] == 1
    assert records[2]["not_measured"].startswith("stopped after")
    monkeypatch.setitem(gpu.PARTS, "ppo", (two_records, 0.2))
    records = quick(gpu, tmp_path / "gpu.json", "ppo")  # the records of the other part are kept
    assert [record["part"] for record in records] == ["maze", "maze", "ppo", "ppo"]


def second_and_third(config: Any, device: torch.device) -> Iterator[tuple[str, str, dict[str, Any]]]:
    yield "x", "second", {"value": 20}
    yield "x", "third", {"value": 30}


def first_again(config: Any, device: torch.device) -> Iterator[tuple[str, str, dict[str, Any]]]:
    yield "x", "first", {"value": 10}
    raise KeyboardInterrupt


def test_earlier_records_stay_until_they_are_measured_again(
    gpu: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def values(part: Any) -> list[int]:
        monkeypatch.setitem(gpu.PARTS, "maze", (part, 0.2 if part is two_records else 10))
        try:
            records = quick(gpu, tmp_path / "gpu.json", "maze")
        except KeyboardInterrupt:
            records = json.loads((tmp_path / "gpu.json").read_text())["runs"][0]["records"]
        return [record["value"] for record in records]

    assert values(second_and_third) == [20, 30]
    assert values(failing) == [20, 30]
    assert "maze: not measured: ImportError: no module; its earlier records are kept" in capsys.readouterr().out
    assert values(two_records) == [20, 30, 1]
    assert values(first_again) == [20, 30, 10]
    assert values(second_and_third) == [20, 30]


def test_quick_and_full_results_do_not_mix(gpu: ModuleType, tmp_path: Path) -> None:
    path = tmp_path / "gpu.json"
    quick(gpu, path, "agents")
    contents = json.loads(path.read_text())
    contents["runs"][0]["settings"]["quick"] = False
    path.write_text(json.dumps(contents))
    with pytest.raises(UserError, match="records of other settings; choose another --output"):
        quick(gpu, path, "agents")
    assert json.loads(path.read_text()) == contents


def test_records_are_written_one_by_one(gpu: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(config: Any, device: torch.device) -> Iterator[tuple[str, str, dict[str, Any]]]:
        yield "x", "first", {"value": 1}
        raise KeyboardInterrupt

    monkeypatch.setitem(gpu.PARTS, "maze", (interrupted, 10))
    with pytest.raises(KeyboardInterrupt):
        quick(gpu, tmp_path / "gpu.json", "maze")
    (run,) = json.loads((tmp_path / "gpu.json").read_text())["runs"]
    assert [record["side"] for record in run["records"]] == ["first"]


def test_time_of_all_parts_together_is_limited(
    gpu: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gpu, "TOTAL_SECONDS", 0.2)
    monkeypatch.setitem(gpu.PARTS, "maze", (two_records, 100))
    monkeypatch.setitem(gpu.PARTS, "ppo", (two_records, 100))
    records = quick(gpu, tmp_path / "gpu.json", "maze", "ppo")
    assert [record["part"] for record in records if "not_measured" in record] == ["maze", "ppo"]


def test_other_devices_are_for_quick_runs(gpu: ModuleType, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="other devices need --quick"):
        gpu.main(gpu.Config(output=tmp_path / "gpu.json", device="cpu"))
    assert not (tmp_path / "gpu.json").exists()


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_it_refuses_in_one_line(tmp_path: Path) -> None:
    done = run_script("gpu", "--output", str(tmp_path / "gpu.json"))
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "there is no GPU here" in done.stderr
    assert list(tmp_path.iterdir()) == []
