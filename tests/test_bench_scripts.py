"""The benchmark scripts, in minimal runs."""

import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from bench_results import ENVIRONMENT, one_run, run_script, script_module

from batched_q_learning import BatchedQLearning
from lab.errors import UserError
from lab.files import ROOT
from ppo_config import config_to_file

MODELS = ROOT / "assets/models"


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
    gpt2 = transformers.GPT2Config(n_layer=2, n_head=2, n_embd=32, bos_token_id=0, eos_token_id=0)
    randomize(transformers.GPT2LMHeadModel(gpt2), str(folder / "gpt2"))
    distilbert = transformers.DistilBertConfig(n_layers=2, n_heads=2, dim=32, hidden_dim=64)
    classifier = transformers.DistilBertForSequenceClassification(distilbert)
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


@pytest.mark.parametrize("name", ["transformer", "inference_peers"])
def test_missing_data_is_refused_before_anything_is_measured(name: str, tmp_path: Path) -> None:
    done = run_script(name, "--data", str(tmp_path / "none"), "--output", str(tmp_path / "x.json"))
    assert done.returncode == 1
    assert "stsa.binary.test" in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr
    assert done.stdout == ""
