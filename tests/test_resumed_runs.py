"""Resumed runs of all three trainings: every setting is the run's, places are those of the call, longer runs work."""

import csv
import dataclasses
import importlib.util
import json
import math
import shutil
import signal
import sys
import threading
import typing
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import pytest
import torch

import train_language_model
import train_sentiment
from lab.checkpoints import load_checkpoint, save_checkpoint
from lab.files import ROOT
from lab.launch import launch, warn_once
from lab.training import CHECKPOINT, deferred_interrupt, given_value
from language_model.presets import TRAINING as LANGUAGE
from language_model.presets import Config as LanguageConfig
from sentiment.options import Options


def load_script(path: Path, name: str = "train_ppo") -> ModuleType:
    """Import a `train.py`, which shares its name with another one."""
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


train_ppo = load_script(ROOT / "03_ppo_reacher/train.py")
train_ppo.EVALUATION_EPISODES = 2  # pyright: ignore[reportAttributeAccessIssue]


class Training(NamedTuple):
    """A training script and a tiny run of it."""

    script: ModuleType
    flags: tuple[str, ...]
    length: str
    steps: int  # value of `length`
    records: int  # of the whole run
    model: str  # file that depends on all settings


TRAININGS = {
    "ppo": Training(
        train_ppo,
        (
            *("--steps_per_iter", "64", "--num_envs", "4", "--hidden_sizes", "8", "--num_epochs", "1"),
            *("--learning_rate", "0.001", "--no_clip_gradients", "--num_iterations", "4"),
        ),
        "num_iterations",
        4,
        4,
        "trained_model.pth",
    ),
    "language": Training(
        train_language_model,
        (
            *("--embed_dim", "16", "--num_layers", "1", "--num_heads", "2", "--context", "8", "--batch_size", "4"),
            *("--dropout", "0.1", "--vocab_size", "300", "--prompt", "The mouse", "--device", "cpu"),
            *("--optimizer", "adamw", "--warmup_steps", "2", "--num_steps", "4"),
        ),
        "num_steps",
        4,
        4,
        "model.safetensors",
    ),
    "sentiment": Training(
        train_sentiment,
        (
            *("--embed_dim", "16", "--num_layers", "1", "--num_heads", "2", "--ff_dim", "32", "--vocab_size", "200"),
            *("--batch_size", "16", "--average_over", "3", "--epochs", "2", "--device", "cpu"),
        ),
        "epochs",
        2,
        2,
        "model.safetensors",
    ),
}
CHANGED_VALUES = {"env_id": "Pendulum-v1", "prompt": "x", "device": "auto", "held_out": "mouse", "hidden_sizes": "16"}


class Result(NamedTuple):
    """Exit status and standard error of a script."""

    status: object
    errors: str


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A text and a CSV."""
    folder = tmp_path_factory.mktemp("data")
    text = "".join(f"The mouse has {number} cheeses, and {number * 7 % 10} crumbs.\n" for number in range(60))
    (folder / "mouse.txt").write_text(text)
    rows = [f"a {('dull', 'fine')[n % 2]} film, and it has the number {n} here,{n % 2}" for n in range(60)]
    quoted = ['"{}",{}'.format(*row.rsplit(",", 1)) for row in rows]
    (folder / "mine.csv").write_text("\n".join(["text,label", *quoted]) + "\n")
    return {"language": folder / "mouse.txt", "sentiment": folder / "mine.csv"}


def run(name: str, capsys: pytest.CaptureFixture[str], folder: Path, *flags: str) -> Result:
    """Run a training script in this process."""
    warn_once.cache_clear()
    script = TRAININGS[name].script
    status: object = 0
    try:
        launch(script.Config, script.main, ("--output_dir", str(folder), *flags))
    except SystemExit as stop:
        status = stop.code
    return Result(status, capsys.readouterr().err)


def data_flags(name: str, data: dict[str, Path]) -> tuple[str, ...]:
    return ("--data", str(data[name])) if name in data else ()


class Folders(NamedTuple):
    """Output folders of a whole run, and of one that was interrupted by Ctrl-C; the command line of both."""

    whole: Path
    interrupted: Path
    flags: tuple[str, ...]


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory, data: dict[str, Path]) -> dict[str, Folders]:
    made = {}
    for name, training in TRAININGS.items():
        root = tmp_path_factory.mktemp(name)
        flags = (*data_flags(name, data), *training.flags)
        launch(training.script.Config, training.script.main, (*flags, "--output_dir", str(root / "whole")))
        interrupt(training, (*flags, "--output_dir", str(root / "interrupted")), after=training.records // 2)
        made[name] = Folders(root / "whole", root / "interrupted", flags)
    return made


def interrupt(training: Training, arguments: Sequence[str], after: int) -> None:
    """Run a training with Ctrl-C during its record number `after`."""

    def interrupted(records: Iterable[Any], *_: Any, **__: Any) -> Iterator[Any]:
        for number, record in enumerate(records, 1):
            yield record
            if number == after - 1 or after == 1:
                signal.raise_signal(signal.SIGINT)

    def interrupted_at_once(records: Iterable[Any], *_: Any, **__: Any) -> Iterator[Any]:
        for record in records:
            signal.raise_signal(signal.SIGINT)
            yield record

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training.script, "track", interrupted if after > 1 else interrupted_at_once)
        with pytest.raises(SystemExit):
            launch(training.script.Config, training.script.main, arguments)


def results(folder: Path) -> dict[str, bytes]:
    """Return the files of a finished run that depend on nothing but its settings."""
    names = ("model.safetensors", "config.json", "tokenizer.json", "samples.txt", "metrics.csv")
    contents = {name: (folder / name).read_bytes() for name in names if (folder / name).exists()}
    if "config.json" in contents and "samples.txt" not in contents:
        del contents["metrics.csv"]  # sentiment: with the speed
    if (folder / "trained_model.pth").exists():
        agent = torch.load(folder / "trained_model.pth", weights_only=True)["agent"]
        for part in ("policy", "value", "normalizer"):
            values = {name: torch.as_tensor(value).tolist() for name, value in agent[part].items()}
            contents[part] = str(values).encode()
    assert contents
    return contents


def copy_of(folder: Path, target: Path) -> Path:
    target.mkdir(parents=True)
    shutil.copy(folder / CHECKPOINT, target / CHECKPOINT)
    return target


def options_of(name: str) -> dict[str, tuple[Any, Any]]:
    """Return the type and the default of every option of a script, by the name of its flag."""
    config = TRAININGS[name].script.Config()
    groups = {"ppo": ("ppo",), "sentiment": ("training",)}.get(name, ())
    options: dict[str, tuple[Any, Any]] = {}
    for holder in (config, *(getattr(config, group) for group in groups)):
        hints = typing.get_type_hints(type(holder))
        for field in dataclasses.fields(holder):
            if field.name not in groups:
                options[field.name] = (hints[field.name], getattr(holder, field.name))
    if name == "ppo":
        options["clip_ratios"] = options.pop("use_clipping")
    return options


def flag_for(name: str, kind: Any, value: Any) -> list[str]:
    """Return the arguments that set an option to `value`."""
    if isinstance(value, bool):
        return [f"--{name}" if value else f"--no_{name}"]
    values = value if isinstance(value, tuple) else (value,)
    return [f"--{name}", *map(str, values)]


def another_value(name: str, kind: Any, saved: Any) -> Any:
    """Return a valid value of an option other than `saved`."""
    if name in CHANGED_VALUES:
        return CHANGED_VALUES[name]
    choices = [each for each in typing.get_args(kind) if isinstance(each, str)]
    if choices:
        return next(each for each in choices if each != saved)
    if isinstance(saved, bool):
        return not saved
    if isinstance(saved, float):
        return saved / 2 if saved else 0.25
    return saved * 2 if saved else 400


PLACES = {
    "ppo": {"device", "checkpoint_every", "num_threads", "tensorboard", "output_dir", "resume"},
    "language": {"data", "device", "checkpoint_every", "output_dir", "resume"},
    "sentiment": {"data", "encoder", "teacher", "device", "checkpoint_every", "num_threads", "output_dir", "resume"},
}


@pytest.mark.parametrize("name", TRAININGS)
def test_every_option_is_a_setting_of_the_run_a_place_or_its_length(
    name: str, folders: dict[str, Folders], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Another value than the run's, also the default if that is another one, is refused by name."""
    training = TRAININGS[name]
    folder = copy_of(folders[name].interrupted, tmp_path / "run")
    settings = load_checkpoint(folder / CHECKPOINT, training.script.TRAINING.name)["config"]
    options = options_of(name)
    assert set(settings) - {"device", "checkpoint_every"} == set(options) - PLACES[name]
    refused = 0
    for option, (kind, default) in options.items():
        if option in PLACES[name]:
            continue
        saved = settings[option]
        values = [training.steps - 1] if option == training.length else [another_value(option, kind, saved)]
        is_switch = isinstance(default, bool)
        if is_switch and saved != default:
            continue  # its only flag sets it to the run's value
        if default not in (saved, None) and option != training.length:
            values.append(default)
        for value in values:
            result = run(name, capsys, folder, "--resume", *flag_for(option, kind, value))
            line = result.errors
            assert (result.status, line.count("\n")) == (2, 1), (option, value, line)
            assert f"--{option}" in line, line
            assert "was started with" in line or (option, value) == ("method", "distill"), line
            refused += 1
    assert refused >= len(options) - len(PLACES[name]) - 1
    assert [path.name for path in folder.iterdir()] == [CHECKPOINT]


@pytest.mark.parametrize("name", TRAININGS)
def test_a_resumed_run_equals_the_whole_one_with_and_without_its_flags(
    name: str, folders: dict[str, Folders], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """From another folder, with other options of the place; the data is where it was."""
    whole, interrupted, flags = folders[name]
    places = ["--device", "auto", "--checkpoint_every", "3"]
    places += [] if name == "language" else ["--num_threads", "1"]
    for more in (["--resume", *places], [*flags, "--resume"]):
        folder = copy_of(interrupted, tmp_path / str(len(more)))
        result = run(name, capsys, folder, *more)
        assert result.status == 0, result.errors
        assert results(folder) == results(whole)
        config = json.loads((folder / f"{Path(TRAININGS[name].script.__file__ or '').stem}.json").read_text())["config"]
        assert {**config, **config.get("ppo", {})}[TRAININGS[name].length] == TRAININGS[name].steps


@pytest.mark.parametrize("name", TRAININGS)
def test_a_finished_run_can_be_made_longer(
    name: str, folders: dict[str, Folders], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The steps that are done stay, and from there on the learning rates are those of the longer run."""
    training = TRAININGS[name]
    whole, _, flags = folders[name]
    twice = str(2 * training.steps)
    assert run(name, capsys, tmp_path / "long", *flags, f"--{training.length}", twice).status == 0
    folder = copy_of(whole, tmp_path / "longer")
    result = run(name, capsys, folder, "--resume", f"--{training.length}", twice)
    assert result.status == 0, result.errors
    assert f"note: --{training.length} is raised from {training.steps} to {twice}" in result.errors
    columns = [read_columns(each) for each in (whole, tmp_path / "long", folder)]
    short, long, longer = ([(row["learning_rate"], row["loss"]) for row in rows] for rows in columns)
    assert longer[: len(short)] == short
    rates = [[rate for rate, _ in rows] for rows in (short, long, longer)]
    assert rates[2] == rates[0] + rates[1][len(short) :]
    assert rates[0] != rates[1][: len(short)]
    once_more = run(name, capsys, folder, "--resume")  # the run is now the longer one
    assert once_more.status == 0
    assert read_columns(folder) == columns[2]
    assert run(name, capsys, folder, "--resume", f"--{training.length}", str(training.steps)).status == 2


def read_columns(folder: Path) -> list[dict[str, str]]:
    """Return the rows of metrics.csv; the loss of PPO is that of the policy."""
    with (folder / "metrics.csv").open() as file:
        return [{"loss": row.get("policy_loss", ""), **row} for row in csv.DictReader(file)]


@pytest.mark.parametrize("name", TRAININGS)
def test_with_a_constant_schedule_a_longer_run_is_the_long_run(
    name: str, folders: dict[str, Folders], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Apart from the learning rate, nothing in a step depends on the length of the run."""
    training = TRAININGS[name]
    constant = {
        "ppo": ("--no_anneal_learning_rate",),
        "language": ("--min_lr_ratio", "1", "--warmup_steps", "0"),
        "sentiment": ("--learning_rate", "0"),
    }[name]
    flags = (*folders[name].flags, *constant)
    twice = str(2 * training.steps)
    assert run(name, capsys, tmp_path / "long", *flags, f"--{training.length}", twice).status == 0
    assert run(name, capsys, tmp_path / "longer", *flags).status == 0
    result = run(name, capsys, tmp_path / "longer", "--resume", f"--{training.length}", twice)
    assert result.status == 0, result.errors
    long, longer = results(tmp_path / "long"), results(tmp_path / "longer")
    long.pop("metrics.csv", None)  # the language model is evaluated at the former end, too
    longer.pop("metrics.csv", None)
    assert long == longer


# --- inputs -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["language", "sentiment"])
def test_moved_data_is_accepted_and_other_data_refused(
    name: str, folders: dict[str, Folders], data: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    whole, interrupted, _ = folders[name]
    lines = data[name].read_text().splitlines(keepends=True)
    header, rows = (lines[:1], lines[1:]) if name == "sentiment" else ([], lines)
    flipped = [row.replace(",0\n", ",x\n").replace(",1\n", ",0\n").replace(",x\n", ",1\n") for row in rows]
    if name == "language":
        flipped = [row.replace("cheeses", "cheesez") for row in rows]
    others = {
        "flipped": flipped,
        "shorter": rows[:-1],
        "longer": [*rows, rows[0].replace(" 0 ", " 77 ")],
        "shuffled": rows[::-1],
        "last": [*rows[:-1], rows[-1].replace("9", "8")],  # of the language model: in the validation text only
    }
    for what, other in others.items():
        path = tmp_path / f"{what}{data[name].suffix}"
        path.write_text("".join([*header, *other]))
        folder = copy_of(interrupted, tmp_path / what)
        result = run(name, capsys, folder, "--resume", "--data", str(path))
        assert result.status == 2, what
        assert result.errors.startswith(f"error: --data {path}: not what the run in {folder} was started with"), what
        assert result.errors.count("\n") == 1
        assert [path.name for path in folder.iterdir()] == [CHECKPOINT]
    moved = tmp_path / "elsewhere" / data[name].name
    moved.parent.mkdir()
    shutil.copy(data[name], moved)
    folder = copy_of(interrupted, tmp_path / "moved")
    assert run(name, capsys, folder, "--resume", "--data", str(moved)).status == 0
    assert results(folder) == results(whole)


# --- checkpoints ------------------------------------------------------------------------------------------------------


def rewrite(folder: Path, name: str, change: Callable[[dict[str, Any]], object]) -> None:
    """Change the contents of a checkpoint."""
    saved = load_checkpoint(folder / CHECKPOINT, TRAININGS[name].script.TRAINING.name)
    change(saved)
    save_checkpoint(folder / CHECKPOINT, saved.pop("kind"), saved)


def as_before(name: str) -> Callable[[dict[str, Any]], object]:
    """Return what turns a checkpoint into one of version 0.1.0."""

    def change(saved: dict[str, Any]) -> None:
        for part in ("inputs", "paths", "kept", "processes", "device"):
            del saved[part]
        if name == "language":
            names = {field.name for field in dataclasses.fields(LanguageConfig().training())}
            saved["config"] = {key: value for key, value in saved["config"].items() if key in names}
        if name == "sentiment":  # options were saved as given; None stood for the value of the preset
            given = {flag.removeprefix("--") for flag in TRAININGS[name].flags}
            defaults = vars(Options())
            saved["config"] = {key: value if key in given else defaults[key] for key, value in saved["config"].items()}

    return change


@pytest.mark.parametrize("name", TRAININGS)
def test_an_earlier_checkpoint_still_resumes(
    name: str, folders: dict[str, Folders], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    whole, interrupted, flags = folders[name]
    folder = copy_of(interrupted, tmp_path / "run")
    rewrite(folder, name, as_before(name))
    result = run(name, capsys, folder, *flags, "--resume")
    assert result.status == 0, result.errors
    assert results(folder) == results(whole)


def drop(*path: str) -> Callable[[dict[str, Any]], object]:
    def change(saved: dict[str, Any]) -> None:
        for key in path[:-1]:
            saved = saved[key]
        del saved[path[-1]]

    return change


def put(value: Any, *path: str | int) -> Callable[[dict[str, Any]], object]:
    def change(saved: Any) -> None:
        for key in path[:-1]:
            saved = saved[key]
        saved[path[-1]] = value

    return change


@pytest.mark.parametrize("name", TRAININGS)
def test_a_checkpoint_with_damaged_contents_is_refused_in_one_line(
    name: str, folders: dict[str, Folders], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Plain data of the right kind, but with parts that are missing, or of other types or sizes."""
    interrupted = folders[name].interrupted
    saved = load_checkpoint(interrupted / CHECKPOINT, TRAININGS[name].script.TRAINING.name)
    damages = [drop(part) for part in ("config", "state", "rows")]
    damages += [put(value, part) for part in ("config", "state", "rows", "inputs", "kept") for value in (None, 7, "x")]
    damages += [drop("state", part) for part in saved["state"]]
    damages += [put(value, "state", part) for part in saved["state"] for value in ({}, torch.zeros(3), "x")]
    damages += [put("x", "config", TRAININGS[name].length), put(3, "config", "unknown"), put(7, "processes")]
    for number, damage in enumerate(damages):
        folder = copy_of(interrupted, tmp_path / str(number))
        rewrite(folder, name, damage)
        before = (folder / CHECKPOINT).read_bytes()
        result = run(name, capsys, folder, "--resume")
        assert result.status == 2, (number, result.errors)
        assert result.errors.startswith("error: "), (number, result.errors)
        assert result.errors.count("\n") == 1, (number, result.errors)
        assert (folder / CHECKPOINT).read_bytes() == before
        shutil.rmtree(folder)


MOMENT = {  # where the first moment of AdamW is, in the state of each training
    "ppo": ("state", "optimizer", "state", 0, "exp_avg"),
    "language": ("state", "optimization", "optimizers", 0, "state", 0, "exp_avg"),
    "sentiment": ("state", "optimization", "optimizers", 0, "state", 0, "exp_avg"),
}
STATISTICS = ("state", "agent", "normalizer")
NUMBERS: list[tuple[str, tuple[Any, ...], Any]] = [
    *((name, place, value) for name, place in MOMENT.items() for value in (torch.zeros(3), torch.zeros(()), 1.0)),
    ("language", ("state", "windows", "position"), -5),
    ("language", ("state", "windows", "position"), 10**9),
    ("language", ("state", "optimization", "steps_done"), "x"),
    ("ppo", (*STATISTICS, "mean"), torch.zeros(1, dtype=torch.float64)),
    ("ppo", (*STATISTICS, "mean"), torch.full((10,), math.nan, dtype=torch.float64)),
    ("ppo", (*STATISTICS, "variance"), torch.full((10,), -1.0, dtype=torch.float64)),
    ("ppo", (*STATISTICS, "count"), math.inf),
    ("ppo", ("state", "iteration"), -1),
    ("ppo", ("state", "iteration"), math.inf),
    ("ppo", ("state", "processes", 0, "scaled_returns"), torch.zeros(3)),
    ("ppo", ("state", "processes", 0, "collector", "observations"), torch.zeros(3, 10)),
    ("ppo", ("state", "processes", 0, "collector", "running_returns"), [0.0]),
    ("ppo", ("rows",), [1, 2]),
    ("ppo", ("rows",), []),
    ("ppo", ("state", "iteration"), 3),
]


@pytest.mark.parametrize(("name", "place", "value"), NUMBERS)
def test_a_state_of_other_numbers_is_refused_in_one_line(
    name: str,
    place: tuple[Any, ...],
    value: Any,
    folders: dict[str, Folders],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """PyTorch loads moments of any shape, and its fused kernels then write to memory that is not theirs."""
    folder = copy_of(folders[name].interrupted, tmp_path / "folder")
    rewrite(folder, name, put(value, *place))
    result = run(name, capsys, folder, "--resume")
    assert (result.status, result.errors.count("\n")) == (2, 1), result.errors
    assert "checkpoint.pth" in result.errors


@pytest.mark.parametrize("name", TRAININGS)
def test_a_new_run_never_overwrites_a_checkpoint_of_another_program(
    name: str, folders: dict[str, Folders], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / CHECKPOINT).write_bytes(b"years of work")
    result = run(name, capsys, tmp_path, *folders[name].flags)
    assert result.status == 2
    assert f"{tmp_path / CHECKPOINT}: " in result.errors
    assert "it would be overwritten" in result.errors
    assert (tmp_path / CHECKPOINT).read_bytes() == b"years of work"
    other = next(each for each in TRAININGS if each != name)
    shutil.copy(folders[other].interrupted / CHECKPOINT, tmp_path / CHECKPOINT)
    assert run(name, capsys, tmp_path, *folders[name].flags).status == 2


def test_another_device_is_noted(
    folders: dict[str, Folders], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A run that was started on a GPU, and is resumed where there is none."""
    for name in TRAININGS:
        folder = copy_of(folders[name].interrupted, tmp_path / name)
        rewrite(folder, name, put("cuda", "device"))
        result = run(name, capsys, folder, "--resume", "--device", "cpu")
        assert result.status == 0, result.errors
        assert "note: saved on cuda, resumed on cpu: the result is not bit-exact" in result.errors
        assert results(folder) == results(folders[name].whole)


@pytest.mark.parametrize("name", ["language", "sentiment"])
def test_another_number_of_threads_is_noted(
    name: str, folders: dict[str, Folders], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = copy_of(folders[name].interrupted, tmp_path / name)
    rewrite(folder, name, put(7, "threads"))
    result = run(name, capsys, folder, "--resume", "--device", "cpu")
    assert result.status == 0, result.errors
    assert "note: saved with 7 threads, resumed with 1: the result is not bit-exact" in result.errors


# --- the command line and Ctrl-C --------------------------------------------------------------------------------------


def test_flags_are_found_in_every_form() -> None:
    arguments = [
        "--output-dir=a",
        "--resume",
        "--output_dir",
        "b",
        "--seed",
        "-1",
        "--held_out",
        "--prompt=--x",
        "--last",
    ]
    assert given_value(arguments, "output_dir") == "b"
    assert given_value(arguments, "seed") == "-1"
    assert [given_value(arguments, name) for name in ("resume", "held_out", "last")] == ["", "", ""]
    assert given_value(arguments, "prompt") == "--x"
    assert given_value(arguments, "x") is None
    assert given_value(["resume", "-resume"], "resume") is None


@pytest.mark.parametrize("name", TRAININGS)
def test_a_training_runs_in_a_thread(
    name: str, folders: dict[str, Folders], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """As in a web page: signal handlers can be set in the main thread only."""
    folder = copy_of(folders[name].interrupted, tmp_path / "run")
    outcomes: list[Result] = []
    thread = threading.Thread(target=lambda: outcomes.append(run(name, capsys, folder, "--resume")))
    thread.start()
    thread.join(timeout=120)
    assert outcomes[0].status == 0, outcomes
    assert results(folder) == results(folders[name].whole)


def test_ctrl_c_is_deferred_and_the_handler_put_back() -> None:
    before = signal.getsignal(signal.SIGINT)
    with deferred_interrupt() as interrupted:
        assert not interrupted()
        signal.raise_signal(signal.SIGINT)
        assert interrupted()
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is before


def test_the_settings_of_a_language_model_include_what_its_card_says() -> None:
    assert {"preset", "held_out", "vocab_size", "prompt", "evaluation_tokens"} <= set(LANGUAGE.defaults)
