"""`--with FILE`: right functions of a learner's change nothing, wrong ones do, and whatever a file does is one line."""

import dataclasses
import json
import re
import subprocess
import sys
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from own_answers import ANSWERS, SPOILED, answer
from test_resumed_runs import load_script, train_ppo
from torch import Tensor

import models.generation
import sentiment_analysis
import text_generation
import transformer_block
from lab.errors import UserError
from lab.exercises import own
from lab.exercises.catalog import exercises, find
from lab.exercises.checking import check_file
from lab.exercises.stubs import solution, stub
from lab.files import ROOT
from lab.launch import launch, warn_once
from lab.repeat import claim
from maze_env import SimpleMaze
from maze_layout import DEFAULT_LAYOUT
from maze_studies import train_many
from maze_training import make_dynamics, train_single_agent
from models.gpt2 import GPT2, GPT2Config
from ppo_config import PPOConfig
from q_learning_agent import QLearningAgent

train_maze = load_script(ROOT / "01_q_learning_maze/train.py", "train_maze")
PPO: dict[str, Any] = {"steps_per_iter": 256, "num_envs": 4, "hidden_sizes": (8,), "num_iterations": 2, "num_epochs": 1}


# --- small runs of each project, as lists of arrays -------------------------------------------------------------------


def maze_run() -> list[Any]:
    """Train one agent, and five at once."""
    from batched_q_learning import BatchedQLearning

    maze = SimpleMaze(list(DEFAULT_LAYOUT))
    result = train_single_agent(QLearningAgent(4, seed=1), maze, 12, seed=2)
    agents = BatchedQLearning(make_dynamics(maze), 5)
    values = [value for _, value in sorted(result.agent.q_table.items())]
    rewards = [(each.total_reward, each.length, each.epsilon, each.reached_goal) for each in result.records]
    actions = [result.agent.act(state, greedy=True) for state in range(maze.cells.size)]
    return [values, rewards, actions, result.best_q, train_many(agents, 3, seed=4)]


def ppo_run() -> list[Any]:
    """Train for two iterations; an episode of Reacher has 50 steps, a rollout 64."""
    last = list(train_ppo.train(PPOConfig(**PPO)))[-1]
    agent = last.agent.state_dict()
    return [*agent["policy"].values(), *agent["value"].values(), agent["normalizer"]["mean"], last.episode_returns]


@cache
def language_model() -> GPT2:
    torch.manual_seed(0)
    config = GPT2Config(vocab_size=50, n_positions=24, n_embd=12, n_layer=2, n_head=3)
    return GPT2(config).eval()


def transformer_run() -> list[Any]:
    """Climb the ladder, and continue two prompts, of which one is padded."""
    torch.manual_seed(0)
    x = torch.randn(2, 5, 12)
    rungs = [output for _, output, *_ in transformer_block.ladder(x, num_heads=3)]
    model = language_model()
    ids = torch.tensor([[7, 8, 9, 10], [0, 0, 11, 12]])
    mask = torch.tensor([[1, 1, 1, 1], [0, 0, 1, 1]])
    sampling = models.generation.Sampling(temperature=0.7, top_k=20, top_p=0.8)
    generator = torch.Generator().manual_seed(1)
    tokens = models.generation.generate(model, ids, mask, max_new_tokens=8, sampling=sampling, generator=generator)
    with torch.inference_mode():
        logits = model(tokens[:1])
        chances = models.generation.token_probabilities(logits[0], tokens[:1], None, sampling)
    return [*rungs, tokens, logits, chances]


RUNS: dict[str, tuple[ModuleType, Callable[[], list[Any]]]] = {
    "01_q_learning_maze": (train_maze, maze_run),
    "02_transformer_basics": (text_generation, transformer_run),
    "03_ppo_reacher": (train_ppo, ppo_run),
}
CLOSE = {  # the lab computes these in another form: equal within float rounding
    *("value_iteration", "layer_norm", "value_loss", "normalize_advantages", "log_prob"),
    *("RunningMeanStd", "RewardScaler", "sampling_probabilities"),
}


@cache
def baseline(project: str) -> list[Any]:
    return RUNS[project][1]()


def script_of(project: str) -> own.Script:
    script = own.script_of(RUNS[project][0].main)
    assert script is not None
    return script


def with_files(project: str, *files: Path) -> list[Any]:
    with script_of(project).in_use(files) as functions:
        result = RUNS[project][1]()
    assert all(each.calls for each in functions)
    return result


def equal(results: Sequence[Any], others: Sequence[Any], tolerance: float = 0.0) -> bool:
    pairs = [(_array(a), _array(b)) for a, b in zip(results, others, strict=True)]
    return all(a.shape == b.shape and np.allclose(a, b, rtol=tolerance, atol=tolerance) for a, b in pairs)


def _array(value: Any) -> Any:
    return value.detach().numpy() if isinstance(value, Tensor) else np.array(value, dtype=np.float64)


FUNCTIONS = [(project, name) for project in RUNS for name in script_of(project).takes.checks()]
each_function = pytest.mark.parametrize(("project", "name"), FUNCTIONS, ids=[name for _, name in FUNCTIONS])


@each_function
def test_a_right_function_changes_nothing(project: str, name: str, tmp_path: Path) -> None:
    expected = baseline(project)
    (tmp_path / "mine.py").write_text(answer(name), encoding="utf-8")
    result = with_files(project, tmp_path / "mine.py")
    assert equal(result, expected, 1e-3 if name in CLOSE else 0.0)


@each_function
def test_a_wrong_function_shows(project: str, name: str, tmp_path: Path) -> None:
    expected = baseline(project)
    (tmp_path / "mine.py").write_text(answer(name) + SPOILED[name], encoding="utf-8")
    assert not equal(with_files(project, tmp_path / "mine.py"), expected, 1e-3)


@pytest.mark.parametrize("project", RUNS)
def test_all_functions_together_change_nothing(project: str, tmp_path: Path) -> None:
    left_out = {"td_errors", "value_targets", *CLOSE}
    names = [name for name in script_of(project).takes.checks() if name not in left_out]
    files = [tmp_path / f"{name}.py" for name in dict.fromkeys(names)]
    for file in files:
        file.write_text(answer(file.stem), encoding="utf-8")
    if project == "02_transformer_basics":
        files = [file for file in files if file.stem != "merge_heads" or "merge_heads" not in answer("split_heads")]
    expected = baseline(project)
    assert equal(with_files(project, *files), expected)
    assert equal(RUNS[project][1](), expected)  # the lab's functions are back


def test_the_time_limit_as_death_shows(tmp_path: Path) -> None:
    """On Reacher and in the maze: `truncated` reaches the learner's function."""
    (tmp_path / "gae.py").write_text(
        answer("compute_gae").replace("~terminated ", "~(terminated | truncated) "), encoding="utf-8"
    )
    assert not equal(with_files("03_ppo_reacher", tmp_path / "gae.py"), baseline("03_ppo_reacher"))
    (tmp_path / "target.py").write_text(
        answer("td_target").replace("if terminated else", "if terminated or truncated else"), encoding="utf-8"
    )
    with script_of("01_q_learning_maze").in_use([tmp_path / "target.py"]):
        maze = SimpleMaze(["S" + "." * 60, "." * 60 + "G"])
        table = train_single_agent(QLearningAgent(4, seed=1), maze, 3, seed=2).agent.q_table
    assert not equal([list(table.values())], [list(lab_table(maze).values())])


def lab_table(maze: SimpleMaze) -> dict[tuple[int, int], float]:
    return train_single_agent(QLearningAgent(4, seed=1), maze, 3, seed=2).agent.q_table


def test_every_target_is_there() -> None:
    for main in (train_maze.main, train_ppo.main, text_generation.main, sentiment_analysis.main):
        script = own.script_of(main)
        assert script is not None
        for place in script.takes.places:
            assert own.originals(script.path.parent, place.target)
    assert set(ANSWERS) >= {name for _, name in FUNCTIONS}


# --- the command line -------------------------------------------------------------------------------------------------


def run(script: ModuleType, *flags: str) -> None:
    warn_once.cache_clear()
    launch(script.Config, script.main, list(flags))


QUICK_MAZE = ("--episodes", "5", "--band_seeds", "0")


def test_output_and_record_name_the_functions(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    mine = tmp_path / "mine with spaces ü.py"
    mine.write_text(answer("q_update") + answer("decayed_epsilon") + "def helper():\n    pass\n", encoding="utf-8")
    run(train_maze, *QUICK_MAZE, "--with", str(mine), "--output_dir", str(tmp_path / "out"))
    notes = [line for line in capsys.readouterr().err.splitlines() if line.startswith("note:")]
    assert notes == [
        f"note: q_update of {mine} does the work of q_learning_agent.py, QLearningAgent.update",
        f"note: decayed_epsilon of {mine} does the work of q_learning_agent.py, QLearningAgent.end_episode",
    ]
    record = json.loads((tmp_path / "out/train.json").read_text(encoding="utf-8"))
    assert [(each["function"], each["file"]) for each in record["own_functions"]] == [
        ("q_update", str(mine)),
        ("decayed_epsilon", str(mine)),
    ]
    assert record["own_functions"][1]["calls"] == 5
    assert record["config"]["own_functions"] == [str(mine)]
    run(train_maze, *QUICK_MAZE, "--output_dir", str(tmp_path / "out"))
    assert "own_functions" not in json.loads((tmp_path / "out/train.json").read_text(encoding="utf-8"))


def test_output_goes_to_a_folder_of_own_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(own, "FOLDER", tmp_path / "own")
    (tmp_path / "mine.py").write_text(answer("batched_act"), encoding="utf-8")
    run(train_maze, *QUICK_MAZE, "--with", str(tmp_path / "mine.py"))
    assert (tmp_path / "own/01_q_learning_maze/train.json").is_file()
    errors = capsys.readouterr().err
    assert f"note: --with implies --output_dir {tmp_path / 'own/01_q_learning_maze'}" in errors
    assert f"note: batched_act of {tmp_path / 'mine.py'} was never called in this run" in errors


def test_help_names_the_functions(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        run(train_ppo, "--help")
    shown = re.sub(r"[^\w,]+", " ", capsys.readouterr().out)
    assert "compute_gae, td_errors, value_targets, policy_loss" in shown


def refused(capsys: pytest.CaptureFixture[str], script: ModuleType, *flags: str) -> str:
    """Run a script that must fail; return its one line."""
    with pytest.raises(SystemExit) as stopped:
        run(script, *flags)
    assert stopped.value.code in (1, 2)
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error:")]
    assert len(lines) == 1
    assert own.IN_USE == []
    return lines[0].removeprefix("error: ")


TARGET = "def td_target(reward, next_values, terminated, truncated, gamma):\n"
WRONG_FILES = {
    "empty": ("", r"holds no function for train.py; --with takes .*td_target"),
    "an import": ("from math import sqrt as td_target\n", r"holds no function"),
    "of another script": ("def softmax(x, dim):\n    return x\n", r"mine.py: .*; --with takes"),
    "syntax": ("x = 1\ndef td_target(:\n", r"mine.py, line 2: not Python"),
    "null": ("x = '\0'\n", r"mine.py.*not Python"),
    "not UTF-8": (b"\xff\xfe", r"not UTF-8"),
    "missing module": ("import nothing_there\n" + TARGET + "    return 0.0\n", r"mine.py, line 1: ModuleNotFoundError"),
    "exit at import": (TARGET + "    return 0.0\nexit()\n", r"mine.py, line 3: it ends the program"),
    "stub": (
        TARGET + '    """Doc."""\n    raise NotImplementedError("here")\n',
        r"line 3: td_target is not written yet",
    ),
    "no function": ("td_target = 3\n", r"mine.py, line 1: td_target is not a function"),
    "raises": (TARGET + "    return reward / (0 if terminated else 1)\n", r"line 2: td_target: ZeroDivisionError"),
    "two arguments": ("def td_target(a, b):\n    return 0.0\n", r"line 1: td_target: TypeError: .* 2 positional"),
    "nothing": (TARGET + "    pass\n", r"line 1: td_target returns None \(is there a `return`\?\)"),
    "nan": (TARGET + "    return float('nan')\n", r"line 1: td_target returns nan; it must be a finite number"),
    "text": (TARGET + "    return 'x'\n", r"td_target returns a str"),
    "exit": (TARGET + "    exit()\n", r"line 2: td_target: it ends the program"),
    "recursion": (TARGET + "    return td_target(1, 2, 3, 4, 5)\n", r"line 2: td_target: RecursionError"),
    "no action": ("def greedy(values, rng):\n    return 4\n", r"greedy returns 4; it must be an index, 0 to 3"),
    "a broken table": (
        "def q_update(table, state, action, target, alpha):\n    table['x'] = 1.0\n",
        r"q_update of .*mine.py: the lab fails with what it got: ValueError: .*\(01_q_learning_maze/\w+.py, line \d+\)",
    ),
    "a step too many": (
        "def play_and_learn(env, agent):\n    state, _ = env.reset()\n    while True:\n        env.step(0)\n",
        r"line 4: play_and_learn: RuntimeError: a step after the end of the episode",
    ),
    "epsilon": ("def decayed_epsilon(*arguments):\n    return 1.5\n", r"decayed_epsilon returns 1.5; it must be in"),
}


@pytest.mark.parametrize("label", WRONG_FILES)
def test_a_wrong_file_gives_one_line(label: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text, expected = WRONG_FILES[label]
    mine = tmp_path / "mine.py"
    mine.write_bytes(text if isinstance(text, bytes) else text.encode("utf-8"))
    line = refused(capsys, train_maze, *QUICK_MAZE, "--with", str(mine), "--output_dir", str(tmp_path / "out"))
    assert re.search(expected, line)
    assert str(mine) in line


ACCEPTED = {  # by `lab check`, too
    "td_target": "torch.tensor(a[0] + a[4] * (1 - a[2]) * max(a[1]))",
    "decayed_epsilon": "np.array(max(a[2], a[0] * a[1]))",
    "greedy": "torch.tensor(a[1].choice([i for i in range(len(a[0])) if a[0][i] == max(a[0])]))",
}


@pytest.mark.parametrize("name", ACCEPTED)
def test_a_run_takes_what_a_check_takes(name: str, tmp_path: Path) -> None:
    """A number is a number, also as a tensor or an array without dimensions."""
    mine = tmp_path / "mine.py"
    code = f"import numpy as np\nimport torch\n\ndef {name}(*a):\n    return {ACCEPTED[name]}\n"
    mine.write_text(code, encoding="utf-8")
    assert check_file(find(name), mine).verdict.status == "passed"
    assert equal(baseline("01_q_learning_maze"), with_files("01_q_learning_maze", mine), 1e-6)


@pytest.mark.parametrize("code", ["loss", "loss.detach()", "loss.detach().numpy()"])
def test_a_run_refuses_what_a_check_refuses(code: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    mine = tmp_path / "mine.py"
    text = solution(find("train_step")).replace("loss.item()", code)
    mine.write_text(text, encoding="utf-8")
    assert check_file(find("train_step"), mine).verdict.mistake == "tensor_returned"
    script = load_script(ROOT / "00_first_steps/training_loop.py", "training_loop_of_test")
    line = refused(capsys, script, "--with", str(mine), "--output_dir", str(tmp_path / "out"))
    assert "train_step returns () of float32; it must be a finite number" in line


@pytest.mark.parametrize("project", RUNS)
def test_stubs_are_not_written_yet(project: str, tmp_path: Path) -> None:
    checks = script_of(project).takes.checks()
    stubs = [each for each in exercises().values() if set(each.functions) & set(checks)]
    assert len(stubs) >= 2
    for exercise in stubs:
        (tmp_path / "mine.py").write_text(stub(exercise), encoding="utf-8")
        with pytest.raises(UserError, match=rf"mine.py, line \d+: {exercise.functions[0]} is not written yet"):
            script_of(project).read([tmp_path / "mine.py"])


def test_wrong_tensors_give_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cases = {
        "compute_gae": (
            "return a[0], a[0][1:]",
            r"compute_gae returns as number 2 \(15, 4\) of float32; it must be \(16",
        ),
        "policy_loss": ("return a[0]", r"policy_loss returns \(32,\) of float32; it must be \(\) of float32"),
        "value_loss": ("return a[0].sum().double()", r"value_loss returns \(\) of float64"),
        "normalize_advantages": ("return a[0] / 0", r"normalize_advantages returns NaN or infinity"),
        "true_next_observations": ("return a[0][:, :2]", r"true_next_observations returns \(4, 2\)"),
        "log_prob": ("return a[0]", r"log_prob returns \(64, 2\) of float32; it must be \(64,\)"),
    }
    for name, (code, expected) in cases.items():
        (tmp_path / "mine.py").write_text(f"def {name}(*a):\n    {code}\n", encoding="utf-8")
        with script_of("03_ppo_reacher").in_use([tmp_path / "mine.py"]), pytest.raises(ValueError, match=expected):
            list(train_ppo.train(dataclasses.replace(PPOConfig(**PPO), steps_per_iter=64)))


def test_without_clipping_a_loss_of_ones_own_gets_an_infinite_range(tmp_path: Path) -> None:
    """It need not know that `clip_ratio` may be None."""
    code = (
        "import torch\n\n\ndef policy_loss(log_probs, old_log_probs, advantages, clip_ratio):\n"
        "    ratio = (log_probs - old_log_probs).exp()\n"
        "    clipped = ratio.clamp(1.0 - clip_ratio, 1.0 + clip_ratio)\n"
        "    return -torch.min(ratio * advantages, clipped * advantages).mean()\n"
    )
    (tmp_path / "mine.py").write_text(code, encoding="utf-8")
    config = dataclasses.replace(PPOConfig(**PPO), steps_per_iter=64, use_clipping=False)
    expected = [record.update for record in train_ppo.train(config)]
    with script_of("03_ppo_reacher").in_use([tmp_path / "mine.py"]):
        assert [record.update for record in train_ppo.train(config)] == expected


@pytest.mark.parametrize("name", ["policy_loss", "value_loss", "log_prob"])
def test_a_function_that_cuts_off_the_gradient_is_refused(name: str, tmp_path: Path) -> None:
    code = "a[0].sum(-1).detach()" if name == "log_prob" else "a[0].mean().detach()"
    (tmp_path / "mine.py").write_text(f"def {name}(*a):\n    return {code}\n", encoding="utf-8")
    with (
        script_of("03_ppo_reacher").in_use([tmp_path / "mine.py"]),
        pytest.raises(ValueError, match="without a gradient"),
    ):
        list(train_ppo.train(dataclasses.replace(PPOConfig(**PPO), steps_per_iter=64)))


def test_wrong_command_lines_give_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    mine, other = tmp_path / "mine.py", tmp_path / "other.py"
    mine.write_text(answer("td_target"), encoding="utf-8")
    other.write_text(answer("attention"), encoding="utf-8")
    (tmp_path / "both.py").write_text(answer("compute_gae") + answer("td_errors"), encoding="utf-8")
    out = ("--output_dir", str(tmp_path / "out"))
    twice = ("--with", str(mine), "--with", str(mine))
    assert "holds td_target too" in refused(capsys, train_maze, *twice, *out)
    assert "exclude each other" in refused(capsys, train_ppo, "--with", str(tmp_path / "both.py"), *out)
    assert "nothing.py: No such file" in refused(capsys, train_maze, "--with", str(tmp_path / "nothing.py"), *out)
    assert "--with needs a value" in refused(capsys, train_maze, "--with")
    assert "give --learner one" in refused(capsys, train_maze, "--with", str(mine), "--maze_size", "60", *out)
    results = str(ROOT / "01_q_learning_maze/results/slip")
    assert "choose another folder" in refused(capsys, train_maze, "--with", str(mine), "--output_dir", results)
    given = ("--with", str(other), *out)
    assert "--with needs --engine scratch" in refused(capsys, text_generation, *given, "--engine", "pipeline")
    for flag in (("--accelerate",), ("--precision", "int8")):
        assert f"{flag[0]} does not go with --with" in refused(capsys, sentiment_analysis, *given, *flag)
    assert not (tmp_path / "out").exists()


# --- resumed and repeated runs ----------------------------------------------------------------------------------------

QUICK_PPO = ("--steps_per_iter", "64", "--num_envs", "4", "--hidden_sizes", "8", "--num_epochs", "1")


def test_a_run_is_resumed_with_the_same_functions(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    mine, other, stateful = (tmp_path / f"{name}.py" for name in ("mine", "other", "stateful"))
    mine.write_text(answer("value_loss"), encoding="utf-8")
    other.write_text(answer("value_loss") + "# changed\n", encoding="utf-8")
    stateful.write_text(answer("RunningMeanStd"), encoding="utf-8")
    moved = tmp_path / "moved.py"
    moved.write_text(answer("value_loss"), encoding="utf-8")

    def out(name: str) -> tuple[str, ...]:
        return ("--output_dir", str(tmp_path / name))

    new, resumed = (*QUICK_PPO, "--num_iterations", "1"), ("--resume", "--num_iterations", "2")
    run(train_ppo, *new, *out("a"), "--with", str(mine))
    line = refused(capsys, train_ppo, *resumed, *out("a"))
    assert f"started with value_loss (give it again: --with {mine}, unchanged)" in line
    assert "started with value_loss" in refused(capsys, train_ppo, *resumed, *out("a"), "--with", str(other))
    run(train_ppo, *resumed, *out("a"), "--with", str(moved))

    run(train_ppo, *new, *out("b"))
    line = refused(capsys, train_ppo, *resumed, *out("b"), "--with", str(mine))
    assert "started with the lab's functions (leave --with out)" in line
    run(train_ppo, *new, *out("c"), "--with", str(stateful))
    line = refused(capsys, train_ppo, *resumed, *out("c"), "--with", str(stateful))
    assert "a training with your own RunningMeanStd cannot be resumed" in line


def test_repeated_seeds_have_the_same_version_of_a_file(tmp_path: Path) -> None:
    mine = tmp_path / "mine.py"
    mine.write_text(answer("td_target"), encoding="utf-8")
    script, flags = ROOT / "01_q_learning_maze/train.py", ["--with", str(mine)]
    claim(tmp_path / "seeds", script, flags)
    (tmp_path / "seeds/seed_0").mkdir()
    (tmp_path / "seeds/seed_0/train.json").write_text("{}", encoding="utf-8")
    claim(tmp_path / "seeds", script, flags)
    mine.write_text(answer("td_target") + "# changed\n", encoding="utf-8")
    record = tmp_path / "seeds/repeat.json"
    for name in ("files", "own_functions"):  # the latter in earlier versions
        record.write_text(record.read_text(encoding="utf-8").replace('"files"', f'"{name}"'), encoding="utf-8")
        with pytest.raises(ValueError, match="with another version of"):
            claim(tmp_path / "seeds", script, flags)


def test_the_block_as_a_script(tmp_path: Path) -> None:
    """Its functions are those of `__main__`."""
    (tmp_path / "mine.py").write_text(answer("attention") + SPOILED["attention"], encoding="utf-8")
    flags = ["--with", str(tmp_path / "mine.py"), "--output_dir", str(tmp_path / "out")]
    command = [sys.executable, "-m", "lab", "run", "attention", *flags]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stderr.splitlines() == [
        f"note: attention of {tmp_path / 'mine.py'} does the work of transformer_block.py, attention"
    ]
    record = json.loads((tmp_path / "out/transformer_block.json").read_text(encoding="utf-8"))
    assert not record["figures"][0]["ok"]
    assert record["own_functions"][0]["function"] == "attention"


def test_generation_and_sentiment_run_the_scratch_engine(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "mine.py").write_text(answer("masked_attention"), encoding="utf-8")
    flags = ("--with", str(tmp_path / "mine.py"), "--output_dir", str(tmp_path / "out"), "--device", "cpu")
    models = ROOT / "assets/models"
    run(text_generation, "A mouse", "--model", str(models / "language"), "--max_new_tokens", "3", *flags)
    run(sentiment_analysis, "Fine.", "--model", str(models / "sentiment"), *flags)
    output = capsys.readouterr()
    assert output.out.count("engine: scratch, plain") == 2
    assert output.err.count("note: --with implies --engine scratch") == 2


def test_only_the_first_process_prints_notes(monkeypatch: pytest.MonkeyPatch) -> None:
    assert own.is_first_process()
    monkeypatch.setenv("RANK", "1")
    assert not own.is_first_process()
