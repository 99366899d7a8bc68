"""How speed grows with size, beside what the machine could do at best.

Three curves: PPO's steps a second against the number of environments and threads, beside the same environments with
random actions; tokens a second of the smallest GPT-2's size against batch and context, beside the memory's bandwidth
(every step reads all weights and all keys and values once); batched Q-learning's updates a second against agents and
maze size, beside the same worlds with random actions. Each is measured in turns with its limit.
"""

import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers

import lab.projects  # noqa: F401 - lets the projects' modules be found
from batched_q_learning import BatchedQLearning, random_numbers
from lab.errors import require_at_least
from lab.files import ROOT, display_path, writable_folder, write_json
from lab.launch import launch
from lab.record import environment_info
from maze_env import SimpleMaze
from maze_layout import random_maze
from models.gpt2 import GPT2
from ppo import Trainer
from ppo_config import PPOConfig
from reacher_vec import ReacherVectorEnv
from rollout import RolloutCollector
from world_tables import World

Work = Callable[[], int]  # does a piece of work, gives how many steps, tokens or updates that was
MOST_TABLES = 2**28  # bytes of Q-tables; what needs more is left out


@dataclass(frozen=True)
class Config:
    """Measure how speed grows with size, and how far it stays below what the machine could do."""

    output: Path = ROOT / "benchmarks/results/scaling.json"
    """File for the figures."""
    repetitions: int = 5
    """Times that everything is measured."""
    seconds: float = 1.0
    """Time of one measurement, at least."""
    threads: tuple[int, ...] = (1, 2)
    """Threads that PPO is measured with; generation uses the largest number, Q-learning one."""
    environments: tuple[int, ...] = (1, 4, 16, 32, 64, 128, 256)
    """Environments of PPO."""
    batches: tuple[int, ...] = (1, 2, 4, 8, 16, 32)
    """Texts that are continued at once."""
    contexts: tuple[int, ...] = (16, 256, 960)
    """Tokens that were there before."""
    model: Path | None = None
    """Folder of a GPT-2. Default: random weights at the official size."""
    agents: tuple[int, ...] = (1, 16, 256, 4096, 65536)
    """Agents of batched Q-learning."""
    mazes: tuple[int, ...] = (4, 16, 64)
    """Rows and columns of their maze."""

    def __post_init__(self) -> None:
        require_at_least(1, self, "repetitions")
        require_at_least(0, self, "seconds")


def rate(work: Work, seconds: float) -> float:
    """Pieces a second, after one that warms up."""
    work()
    count, started = 0, time.perf_counter()
    while True:
        count += work()
        elapsed = time.perf_counter() - started
        if elapsed >= seconds:
            return count / elapsed


def row(at: dict[str, int], work: Work, limit: Callable[[], float], config: Config) -> dict[str, Any]:
    """A point of a curve: medians over the repetitions, and the share of the limit with its ends."""
    pairs = [(rate(work, config.seconds), limit()) for _ in range(config.repetitions)]
    shares = [own / most for own, most in pairs]
    found = {
        "at": at,
        "per_second": round(statistics.median(own for own, _ in pairs), 1),
        "limit_per_second": round(statistics.median(most for _, most in pairs), 1),
        "median_ratio": round(statistics.median(shares), 4),
        "lowest_ratio": round(min(shares), 4),
        "highest_ratio": round(max(shares), 4),
    }
    where = ", ".join(f"{name} {value}" for name, value in at.items())
    print(f"{where}: {found['per_second']:,.0f} a second, {found['median_ratio']:.0%} of the limit", flush=True)
    return found


# --- PPO --------------------------------------------------------------------------------------------------------------


def learning(num_envs: int, threads: int) -> Work:
    """Iterations of PPO."""
    trainer = Trainer(PPOConfig(num_envs=num_envs, num_iterations=1_000_000))
    if threads > 1:
        trainer.envs = ReacherVectorEnv(num_envs, threads)
        trainer.collector = RolloutCollector(trainer.envs, seed=0)

    def work() -> int:
        trainer.iterate()
        return trainer.config.steps_per_iter

    return work


def stepping(num_envs: int, threads: int) -> Work:
    """Random actions in as many environments."""
    envs = ReacherVectorEnv(num_envs, threads)
    envs.reset(seed=0)
    steps = PPOConfig().steps_per_iter // num_envs
    actions = np.random.default_rng(0).uniform(-1, 1, (steps, num_envs, 2)).astype(np.float32)  # (T, N, 2)

    def work() -> int:
        for action in actions:
            envs.step(action)
        return steps * num_envs

    return work


def ppo_rows(config: Config) -> Iterator[dict[str, Any]]:
    """Steps a second for every number of environments and threads."""
    for threads, num_envs in product(config.threads, config.environments):
        torch.set_num_threads(threads)
        bare = stepping(num_envs, threads)
        at = {"environments": num_envs, "threads": threads}
        yield row(at, learning(num_envs, threads), lambda bare=bare: rate(bare, config.seconds), config)


# --- GPT-2 ------------------------------------------------------------------------------------------------------------


def language_model(folder: Path | None) -> GPT2:
    """The model in `folder`, or one of random weights at the official size."""
    if folder is not None:
        return GPT2.from_pretrained(folder).eval()
    transformers.logging.disable_progress_bar()
    with tempfile.TemporaryDirectory() as made:
        torch.manual_seed(0)
        transformers.GPT2LMHeadModel(transformers.GPT2Config()).save_pretrained(made)
        return GPT2.from_pretrained(made).eval()


def one_token(model: GPT2, batch: int, context: int) -> Work:
    """The step of generation that gives each text of a batch one more token behind `context` others."""
    cache = model.new_cache(batch, context + 1)
    ids = torch.zeros(batch, 1, dtype=torch.long)  # (B, 1)

    @torch.inference_mode()
    def work() -> int:
        for layer in cache:
            layer.length = context
        model(ids, cache=cache, last_only=True)  # (B, 1) -> (B, 1, V)
        return batch

    return work


def bytes_of_a_step(model: GPT2, batch: int, context: int) -> int:
    """What one token for each text must read: all weights but the positions', and all keys and values."""
    weights = sum(p.numel() * p.element_size() for p in model.parameters()) - 4 * model.positions.weight.numel()
    return weights + batch * context * 2 * 4 * model.config.n_embd * model.config.n_layer


def bandwidth(size: int = 2**26) -> Callable[[], float]:
    """Measures the bytes a second that the memory moves in a copy of `size` numbers: each is read and written."""
    source, target = torch.ones(size), torch.empty(size)

    def copy() -> int:
        target.copy_(source)
        return 2 * 4 * size

    return lambda: rate(copy, 0.2)


def generation_rows(config: Config) -> Iterator[dict[str, Any]]:
    """Tokens a second for every batch and context."""
    torch.set_num_threads(max(config.threads))
    model, memory = language_model(config.model), bandwidth()
    contexts = [context for context in config.contexts if context < model.config.n_positions]
    for context, batch in product(contexts, config.batches):
        size = bytes_of_a_step(model, batch, context)
        at = {"batch": batch, "context": context}
        limit = lambda size=size, batch=batch: batch * memory() / size  # noqa: E731
        yield row(at, one_token(model, batch, context), limit, config)


# --- Q-learning -------------------------------------------------------------------------------------------------------


def q_learning(world: World, count: int) -> tuple[Work, Work]:
    """Steps of agents that learn; and of their worlds alone, with random actions."""
    agents = BatchedQLearning(world, count)
    numbers = random_numbers(agents, seed=0)
    state = torch.full((count,), world.start, dtype=torch.int32)  # (N,)

    def learn() -> int:
        agents.step(*next(numbers))
        return count

    def walk() -> int:
        _, lot, outcome = next(numbers)  # (N,) each
        pair = (lot * world.n_actions).int().add_(state, alpha=world.n_actions)
        happened = outcome.add(pair, alpha=world.n_outcomes)
        state.copy_(world.next_state.index_select(0, happened))
        world.reward.index_select(0, happened)
        state.masked_fill_(world.continues.index_select(0, happened) == 0, world.start)
        return count

    return learn, walk


def q_learning_rows(config: Config) -> Iterator[dict[str, Any]]:
    """Updates a second for every number of agents and maze size."""
    torch.set_num_threads(1)  # sharing out steps of a millisecond costs more than it gives
    for size, count in product(config.mazes, config.agents):
        if count * size**2 * 4 * 4 > MOST_TABLES:
            continue
        maze = SimpleMaze(random_maze(size, size, seed=0))
        world = World(maze.outcomes(), maze.start, max(100, 4 * size**2))
        learn, walk = q_learning(world, count)
        at = {"agents": count, "maze": size}
        yield row(at, learn, lambda walk=walk: rate(walk, config.seconds), config)


def main(config: Config) -> None:
    """Measure, write."""
    writable_folder(config.output.parent)
    before = environment_info()
    parts = {
        "ppo": {
            "title": "PPO on Reacher-v5",
            "unit": "environment steps a second",
            "limit": "the environments alone",
            "rows": list(ppo_rows(config)),
        },
        "generation": {
            "title": "text generation, GPT-2, float32",
            "unit": "tokens a second",
            "limit": "the memory's bandwidth",
            "rows": list(generation_rows(config)),
        },
        "q_learning": {
            "title": "batched Q-learning",
            "unit": "updates a second",
            "limit": "the worlds alone",
            "rows": list(q_learning_rows(config)),
        },
    }
    settings = {name: getattr(config, name) for name in ("repetitions", "seconds")}
    write_json(config.output, {"parts": parts, "settings": settings, "circumstances": before})
    print(f"wrote {display_path(config.output)}")


if __name__ == "__main__":
    launch(Config, main)
