"""The lab on a GPU: generation, training, batched Q-learning, PPO and sentiment, in at most eight minutes.

Every part has a limit of time, and each record is written as soon as it is measured, in place of the earlier one of the
same measurement. `--device cpu --quick` runs every part with tiny sizes, to see that it works.
"""

if __name__ == "__main__":
    import lab.startup  # first: Ctrl-C works while the libraries load

import copy
import dataclasses
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch

import lab.projects  # noqa: F401 - puts the projects on the search path
from lab.devices import pick_device
from lab.errors import UserError, require_at_least
from lab.exercises.time_limit import OutOfTime, time_limit
from lab.files import ROOT, display_path, read_text, writable_folder
from lab.launch import launch
from lab.record import environment_info
from lab.results import ResultsByPart, ratio_statistics
from models.distilbert import DistilBertClassifier
from models.generation import generate
from models.gpt2 import GPT2
from speed import PRECISIONS, accelerate

OUTPUT = ROOT / "benchmarks/results/gpu.json"
TOTAL_SECONDS = 8 * 60
GENERATION_TARGETS = {"float32": 4.0, "bfloat16": 5.0}  # times `transformers` in the same precision, with one prompt
LOSS_TARGET, LOSS_SECONDS = 1.45, 120.0  # nats per character, time of the training
AGENTS_TARGET = 1e9  # steps per second
REFERENCE, BFLOAT16_REFERENCE = "transformers", "transformers, bfloat16"
PROMPT = 16  # tokens
Measurement = tuple[str, str, dict[str, Any]]  # configuration, side, values
Sides = dict[str, Callable[[], Any]]


@dataclass
class Config:
    """Measure on a GPU: generation, training a language model, batched Q-learning, PPO, sentiment."""

    data: Path | None = None
    """Folder with `text/tiny_shakespeare.txt`, for the part `shakespeare`."""
    output: Path = OUTPUT
    """Results file; quick runs write to runs/bench/gpu.json instead of the default."""
    parts: tuple[Literal["generation", "shakespeare", "agents", "maze", "ppo", "sentiment"], ...] = (
        "generation",
        "shakespeare",
        "agents",
        "maze",
        "ppo",
        "sentiment",
    )
    """The parts to measure."""
    device: str = "cuda"
    """Device to measure: cuda; cpu with --quick alone."""
    repetitions: int = 5
    """Interleaved rounds per comparison; fewer where a part runs out of time."""
    quick: bool = False
    """Tiny sizes, to see that every part works."""

    def __post_init__(self) -> None:
        require_at_least(1, self, "repetitions")


def synchronize(device: torch.device) -> None:
    """Wait until the device has done all that it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def interleave(
    config: Config, device: torch.device, sides: Sides, seconds: float
) -> tuple[dict[str, list[float]], dict[str, Any]]:
    """Return the seconds of every side per round, and its last output; no round is started after `seconds`."""
    times: dict[str, list[float]] = {name: [] for name in sides}
    outputs: dict[str, Any] = {}
    started = time.perf_counter()
    for repetition in range(-1, config.repetitions):
        if repetition > 0 and time.perf_counter() - started > seconds:
            break
        for name, side in sides.items():
            synchronize(device)
            begin = time.perf_counter()
            outputs[name] = side()
            synchronize(device)
            if repetition >= 0:  # the first round is a warm-up
                times[name].append(time.perf_counter() - begin)
    return times, outputs


def timings(times: dict[str, list[float]], reference: str, name: str) -> dict[str, Any]:
    """Return the seconds of a side, and its speed relative to the reference."""
    values: dict[str, Any] = {"seconds": times[name], "median_seconds": round(statistics.median(times[name]), 5)}
    if name != reference:
        values |= ratio_statistics(times[reference], times[name])
    return values


def generation(config: Config, device: torch.device) -> Iterator[Measurement]:
    """GPT-2 of 124M parameters with random weights: greedy tokens for one prompt and for a batch of 8."""
    import transformers

    from transformer import randomize

    transformers.logging.disable_progress_bar()
    sizes: dict[str, Any] = {"n_embd": 32, "n_head": 2, "n_layer": 2, "n_positions": 64} if config.quick else {}
    new_tokens = 6 if config.quick else 128
    with tempfile.TemporaryDirectory() as folder:
        gpt2_config = transformers.GPT2Config(bos_token_id=0, eos_token_id=0, **sizes)
        theirs = randomize(transformers.GPT2LMHeadModel(gpt2_config), folder).to(device)
        plain = GPT2.from_pretrained(folder).to(device)
    models = {REFERENCE: theirs, BFLOAT16_REFERENCE: copy.deepcopy(theirs).bfloat16(), "plain": plain}
    models |= {precision: accelerate(plain, precision) for precision in PRECISIONS}
    settings = transformers.GenerationConfig(
        max_new_tokens=new_tokens, do_sample=False, eos_token_id=None, pad_token_id=0
    )

    def side(name: str, ids: torch.Tensor) -> Any:
        if name.startswith(REFERENCE):
            mask = torch.ones_like(ids)
            return models[name].generate(ids, attention_mask=mask, generation_config=settings)
        return generate(models[name], ids, max_new_tokens=new_tokens)

    for configuration, batch in (("one prompt", 1), ("batch of 8", 8)):
        ids = torch.randint(1, 50257, (batch, PROMPT)).to(device)  # (B, T)
        sides: Sides = {name: lambda name=name, ids=ids: side(name, ids) for name in models}
        times, tokens = interleave(config, device, sides, seconds=60)
        for name in models:
            values = timings(times, BFLOAT16_REFERENCE if name == "bfloat16" else REFERENCE, name)
            values["tokens_per_second"] = round(batch * new_tokens / statistics.median(times[name]), 1)
            if batch == 1 and name in GENERATION_TARGETS:
                values["target"] = GENERATION_TARGETS[name]
            values["same_tokens"] = bool(tokens[name].equal(tokens[REFERENCE]))
            yield configuration, name, values


def shakespeare(config: Config, device: torch.device) -> Iterator[Measurement]:
    """Train the preset shakespeare_gpu: seconds of the training, and the loss on the whole validation text."""
    from lab.seeding import seed_everything
    from language_model.data import character_tokenizer, encode_texts, read_texts
    from language_model.presets import PRESETS
    from language_model.training import evaluate_nll, new_model, train

    if config.data is None and not config.quick:
        raise UserError("--data is missing, the folder of text/tiny_shakespeare.txt")
    preset = PRESETS["shakespeare_gpu"]
    settings = preset.training()
    if config.quick:
        tiny: dict[str, Any] = {
            "embed_dim": 16,
            "num_layers": 1,
            "num_heads": 2,
            "context": 8,
            "batch_size": 4,
            "num_steps": 2,
        }
        settings = dataclasses.replace(settings, **tiny)
    texts = read_texts(ROOT / "LICENSE" if config.data is None else config.data / "text/tiny_shakespeare.txt")
    seed_everything(settings.seed)
    tokenizer = character_tokenizer(list(texts.training.values()), settings.context)
    ids, validation_ids = (
        encode_texts(tokenizer, list(part.values())) for part in (texts.training, texts.validation)
    )  # (N,) each
    model = new_model(settings, len(tokenizer))
    few_ids = validation_ids[: preset.evaluation_tokens + 1]
    begin = time.perf_counter()
    for record in train(settings, model, ids, few_ids, device=config.device):
        if record.validation_loss is not None:
            values = {"seconds": time.perf_counter() - begin, "validation_loss": record.validation_loss}
            yield "shakespeare_gpu, part of the validation text", f"after {record.step} steps", values
    seconds = time.perf_counter() - begin  # each step reads its loss, so the device is done
    loss = evaluate_nll(model, validation_ids, settings.context) / (len(validation_ids) - 1)
    targets = {"target_loss": LOSS_TARGET, "target_seconds": LOSS_SECONDS}
    values = {"seconds": seconds, "validation_loss": loss, **targets, "steps": settings.num_steps}
    values["tokens_per_second"] = round(settings.num_steps * settings.batch_size * settings.context / seconds)
    yield "shakespeare_gpu", "whole validation text", values


def agents(config: Config, device: torch.device) -> Iterator[Measurement]:
    """Two million agents in FrozenLake: environment steps per second, each with its update."""
    import gymnasium as gym

    from batched_q_learning import BatchedQLearning, random_numbers
    from maze import CONFIGURATION, SETTINGS, TIME_LIMIT
    from transition_tables import TransitionTables
    from value_iteration import as_arrays

    env: Any = gym.make("FrozenLake-v1").unwrapped
    tables = TransitionTables(as_arrays(env.P), start=0, time_limit=TIME_LIMIT, device=device)
    batch = BatchedQLearning(tables, 100 if config.quick else 2_000_000, **SETTINGS)
    numbers = random_numbers(batch, seed=0)
    rates: list[float] = []
    for repetition in range(-1, config.repetitions):
        synchronize(device)
        begin, steps = time.perf_counter(), 0
        while steps == 0 or time.perf_counter() - begin < (0 if config.quick else 2):
            batch.step(*next(numbers))
            steps += batch.n_agents
        synchronize(device)
        if repetition >= 0:  # the first round is a warm-up
            rates.append(steps / (time.perf_counter() - begin))
    values = {"agents": batch.n_agents, "steps_per_second": [round(rate) for rate in rates]}
    values |= {"median_steps_per_second": round(statistics.median(rates)), "target": AGENTS_TARGET}
    values["start_value"] = round(float(batch.q[:, 0].amax(1).mean()), 4)
    yield CONFIGURATION, f"{batch.n_agents:,} agents", values


def maze(config: Config, device: torch.device) -> Iterator[Measurement]:
    """The command of the maze lesson with --device, start of Python included."""
    flags = ["--episodes", "20", "--band_seeds", "5"] if config.quick else []
    for name in dict.fromkeys((config.device, "cpu")):
        with tempfile.TemporaryDirectory() as folder:
            script = ROOT / "01_q_learning_maze/train.py"
            command = [sys.executable, str(script), "--output_dir", folder, "--device", name, *flags]
            begin = time.perf_counter()
            done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
            seconds = round(time.perf_counter() - begin, 2)
            if done.returncode:
                raise UserError(f"train.py --device {name}: {(done.stderr.splitlines() or ['failed'])[-1]}")
            record = json.loads(read_text(Path(folder) / "train.json"))
        values = {"seconds": seconds, "path_length": record["figures"][0]["value"]}
        values["optimal_fraction"] = record["results"]["band_optimal_share"]
        yield "01_q_learning_maze/train.py", f"--device {name}", values


def ppo(config: Config, device: torch.device) -> Iterator[Measurement]:
    """PPO on Reacher: environment steps per second with the networks on the GPU, relative to the CPU."""
    from ppo import train
    from ppo_config import PPOConfig

    tiny: dict[str, Any] = {"steps_per_iter": 64, "num_envs": 4, "hidden_sizes": (8,)} if config.quick else {}
    names = {"networks on the CPU": "cpu", f"networks on {config.device}": config.device}
    options = {name: PPOConfig(num_iterations=1000, device=where, **tiny) for name, where in names.items()}
    trainings = {name: train(each) for name, each in options.items()}
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # as train.py does
    try:
        sides: Sides = {name: lambda name=name: next(trainings[name]) for name in names}
        times, _ = interleave(config, device, sides, seconds=30)
    finally:
        torch.set_num_threads(threads)
        for training in trainings.values():
            training.close()  # pyright: ignore[reportAttributeAccessIssue] - they are generators
    for name in names:
        values = timings(times, next(iter(names)), name)
        values["steps_per_second"] = round(options[name].steps_per_iter / statistics.median(times[name]))
        yield "Reacher-v5", name, values


def sentiment(config: Config, device: torch.device) -> Iterator[Measurement]:
    """DistilBERT with random weights: classify 512 lines of text, tokenization included."""
    import transformers

    from transformer import MODELS, randomize

    transformers.logging.disable_progress_bar()
    sizes: dict[str, Any] = {"dim": 32, "n_layers": 1, "n_heads": 2, "hidden_dim": 64} if config.quick else {}
    tokenizer = transformers.AutoTokenizer.from_pretrained(MODELS / "sentiment")
    lines = [line[:200] for line in read_text(ROOT / "EXPERIMENTS.md").split("\n") if line.strip()]
    texts = lines[: 8 if config.quick else 512]
    with tempfile.TemporaryDirectory() as folder:
        distilbert = transformers.DistilBertForSequenceClassification(transformers.DistilBertConfig(**sizes))
        theirs = randomize(distilbert, folder)
        plain = DistilBertClassifier.from_pretrained(folder).to(device)
    pipe = transformers.pipeline("text-classification", model=theirs, tokenizer=tokenizer, device=device)
    models = {"plain": plain, "float32": accelerate(plain), "bfloat16": accelerate(plain, "bfloat16")}

    def labels(model: DistilBertClassifier) -> list[str]:
        probabilities = model.predict(tokenizer(texts)["input_ids"], tokens_per_batch=8192)  # (N, C)
        return [model.labels[number] for number in probabilities.argmax(dim=-1).tolist()]

    sides: Sides = {REFERENCE: lambda: [each["label"] for each in pipe(texts, batch_size=64)]}
    sides |= {name: lambda model=model: labels(model) for name, model in models.items()}
    times, outputs = interleave(config, device, sides, seconds=30)
    for name in sides:
        same = statistics.fmean(a == b for a, b in zip(outputs[name], outputs[REFERENCE], strict=True))
        values = timings(times, REFERENCE, name)
        values["texts_per_second"] = round(len(texts) / statistics.median(times[name]), 1)
        yield "DistilBERT", name, values | {"same_labels": same}


PARTS: dict[str, tuple[Callable[[Config, torch.device], Iterator[Measurement]], float]] = {  # with the limit in seconds
    "generation": (generation, 150),
    "shakespeare": (shakespeare, 160),
    "agents": (agents, 30),
    "maze": (maze, 40),
    "ppo": (ppo, 45),
    "sentiment": (sentiment, 45),
}


def measure(config: Config, device: torch.device, results: ResultsByPart) -> None:
    """Measure the chosen parts and print what they give; one that fails or takes too long is given up."""
    started = time.perf_counter()
    for name in config.parts:
        part, limit = PARTS[name]
        left = TOTAL_SECONDS - (time.perf_counter() - started)
        try:
            with time_limit(max(min(limit, left), 0.001)):
                for configuration, side, values in part(config, device):
                    print(f"{configuration}, {side}: {describe(values)}", flush=True)
                    results.add(name, configuration, side, values)
            results.finish(name)
        except OutOfTime:
            give_up(results, name, f"stopped after {min(limit, left):.0f} seconds")
        except Exception as error:  # of a library that is missing, or the device; the other parts go on
            reason = (str(error).splitlines() or [""])[0]
            give_up(results, name, f"{type(error).__name__}: {reason}")


def give_up(results: ResultsByPart, part: str, reason: str) -> None:
    """Print and note that a part was not measured to its end."""
    is_noted = results.give_up(part, reason)
    print(f"{part}: not measured: {reason}{'' if is_noted else '; its earlier records are kept'}", flush=True)


def describe(values: dict[str, Any]) -> str:
    """Return the single values of a measurement in one line."""
    parts = []
    for name, value in values.items():
        if not isinstance(value, list):
            parts.append(f"{name} {value:.4g}" if isinstance(value, float) else f"{name} {value}")
    return ", ".join(parts)


def main(config: Config) -> None:
    """Measure, print and write the results."""
    if config.device != "cuda" and not config.quick:
        raise UserError(f"--device {config.device}: this benchmark is for cuda; other devices need --quick")
    if config.device == "cuda" and not torch.cuda.is_available():
        raise UserError("--device cuda: there is no GPU here; --device cpu --quick runs every part with tiny sizes")
    device = pick_device(config.device)
    output = ROOT / "runs/bench/gpu.json" if config.quick and config.output == OUTPUT else config.output
    writable_folder(output.parent)
    torch.manual_seed(0)
    environment = environment_info(("torch", "transformers", "numpy", "gymnasium", "mujoco"))
    if device.type == "cuda":
        environment["processor"] = f"{torch.cuda.get_device_name(device)}, {environment['processor']}"
    ratio = "speed relative to `transformers` (bfloat16: to it in bfloat16), or to the networks on the CPU"
    measure(config, device, ResultsByPart(output, "gpu", {"quick": config.quick}, environment, ratio=ratio))
    print(f"wrote {display_path(output)}")


if __name__ == "__main__":
    launch(Config, main)
