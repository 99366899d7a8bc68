"""Throughput against size, with an upper bound for each measurement.

Three parts: PPO in steps per second against environments and threads, bounded by the same environments with random
actions; the smallest GPT-2 in tokens per second against batch and context, bounded by memory bandwidth (every step
reads all weights and all keys and values once); batched Q-learning in updates per second against agents and maze size,
bounded by the same environments with random actions. Each measurement is interleaved with its bound.
"""

if __name__ == "__main__":
    import lab.startup  # first: Ctrl-C works while the libraries load

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

import lab.projects  # noqa: F401 - puts the projects on the search path
from batched_q_learning import BatchedQLearning, random_numbers
from lab.errors import require_at_least
from lab.files import ROOT, display_path, writable_folder
from lab.launch import launch
from lab.record import environment_info
from lab.results import new_record, ratio_statistics, write_results
from maze_env import SimpleMaze
from maze_layout import random_maze
from models.gpt2 import GPT2
from ppo import Trainer
from ppo_config import PPOConfig
from reacher_vec import ReacherVectorEnv
from rollout import RolloutCollector
from transition_tables import TransitionTables

Work = Callable[[], int]  # does a unit of work, returns its number of steps, tokens or updates
MAX_TABLE_BYTES = 2**28  # larger Q-tables are skipped


PPO, GENERATION, Q_LEARNING = "PPO on Reacher-v5", "text generation, GPT-2, float32", "batched Q-learning"
PARTS = [  # how the records of each configuration are plotted, and their upper bound
    {
        "configuration": PPO,
        "unit": "environment steps per second",
        "limit": "environment-only throughput",
        "axis": "environments",
        "series": "threads",
    },
    {
        "configuration": GENERATION,
        "unit": "tokens per second",
        "limit": "memory bandwidth",
        "axis": "batch",
        "series": "context",
    },
    {
        "configuration": Q_LEARNING,
        "unit": "updates per second",
        "limit": "environment-only throughput",
        "axis": "agents",
        "series": "maze",
    },
]


@dataclass(frozen=True)
class Config:
    """Measure throughput against size, relative to an upper bound."""

    output: Path = ROOT / "benchmarks/results/scaling.json"
    """Results file."""
    repetitions: int = 5
    """Repetitions per measurement."""
    seconds: float = 1.0
    """Minimum duration of one measurement."""
    threads: tuple[int, ...] = (1, 2)
    """Thread counts for PPO; generation uses the largest, Q-learning one."""
    environments: tuple[int, ...] = (1, 4, 16, 32, 64, 128, 256)
    """Numbers of environments for PPO."""
    batches: tuple[int, ...] = (1, 2, 4, 8, 16, 32)
    """Batch sizes for generation."""
    contexts: tuple[int, ...] = (16, 256, 960)
    """Context lengths for generation, in tokens."""
    model: Path | None = None
    """Folder of a GPT-2 model. Default: random weights at the official size."""
    agents: tuple[int, ...] = (1, 16, 256, 4096, 65536)
    """Numbers of agents for batched Q-learning."""
    mazes: tuple[int, ...] = (4, 16, 64)
    """Maze sizes for batched Q-learning: number of rows and of columns."""

    def __post_init__(self) -> None:
        require_at_least(1, self, "repetitions")
        require_at_least(0, self, "seconds")


def rate(work: Work, seconds: float) -> float:
    """Return the units of work per second, after one warm-up call."""
    work()
    count, started = 0, time.perf_counter()
    while True:
        count += work()
        elapsed = time.perf_counter() - started
        if elapsed >= seconds:
            return count / elapsed


def measured(title: str, at: dict[str, int], work: Work, limit: Callable[[], float], config: Config) -> dict[str, Any]:
    """Return the title and values of one record: throughput, upper bound, and their ratio."""
    pairs = [(rate(work, config.seconds), limit()) for _ in range(config.repetitions)]
    rates, limits = ([pair[index] for pair in pairs] for index in (0, 1))
    side = ", ".join(f"{name} {value}" for name, value in at.items())
    values = {
        **at,
        "per_second": round(statistics.median(rates), 1),
        "limit_per_second": round(statistics.median(limits), 1),
        **ratio_statistics(rates, limits),
    }
    line = f"{values['per_second']:,.0f} per second, {values['median_ratio']:.0%} of the upper bound"
    print(f"{title}, {side}: {line}", flush=True)
    return {"configuration": title, "side": side, **values}


# --- PPO --------------------------------------------------------------------------------------------------------------


def learning(num_envs: int, threads: int) -> Work:
    """Return the work of PPO training iterations."""
    trainer = Trainer(PPOConfig(num_envs=num_envs, num_iterations=1_000_000))
    if threads > 1:
        trainer.envs = ReacherVectorEnv(num_envs, threads)
        trainer.collector = RolloutCollector(trainer.envs, seed=0)

    def work() -> int:
        trainer.iterate()
        return trainer.config.steps_per_iter

    return work


def stepping(num_envs: int, threads: int) -> Work:
    """Return the work of random steps in the same environments."""
    envs = ReacherVectorEnv(num_envs, threads)
    envs.reset(seed=0)
    steps = PPOConfig().steps_per_iter // num_envs
    actions = np.random.default_rng(0).uniform(-1, 1, (steps, num_envs, 2)).astype(np.float32)  # (T, N, 2)

    def work() -> int:
        for action in actions:
            envs.step(action)
        return steps * num_envs

    return work


def ppo_records(config: Config) -> Iterator[dict[str, Any]]:
    """Yield a record for every number of environments and threads."""
    for threads, num_envs in product(config.threads, config.environments):
        torch.set_num_threads(threads)
        bare = stepping(num_envs, threads)
        at = {"environments": num_envs, "threads": threads}
        yield measured(PPO, at, learning(num_envs, threads), lambda bare=bare: rate(bare, config.seconds), config)


# --- GPT-2 ------------------------------------------------------------------------------------------------------------


def language_model(folder: Path | None) -> GPT2:
    """Return the model in `folder`, or one with random weights at the official size."""
    if folder is not None:
        return GPT2.from_pretrained(folder).eval()
    transformers.logging.disable_progress_bar()
    with tempfile.TemporaryDirectory() as made:
        torch.manual_seed(0)
        transformers.GPT2LMHeadModel(transformers.GPT2Config()).save_pretrained(made)
        return GPT2.from_pretrained(made).eval()


def one_token(model: GPT2, batch: int, context: int) -> Work:
    """Return the work of one generation step for a batch of texts with `context` tokens each."""
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
    """Return the bytes that one step reads: all weights except position embeddings, and all keys and values."""
    weights = (
        sum(p.numel() * p.element_size() for p in model.parameters()) - 4 * model.position_embeddings.weight.numel()
    )
    return weights + batch * context * 2 * 4 * model.config.n_embd * model.config.n_layer


def bandwidth(size: int = 2**26) -> Callable[[], float]:
    """Return a function that measures memory bandwidth, in bytes per second, by copying `size` float32 numbers."""
    source, target = torch.ones(size), torch.empty(size)

    def copy() -> int:
        target.copy_(source)
        return 2 * 4 * size

    return lambda: rate(copy, 0.2)


def generation_records(config: Config) -> Iterator[dict[str, Any]]:
    """Yield a record for every batch size and context length."""
    torch.set_num_threads(max(config.threads))
    model, memory = language_model(config.model), bandwidth()
    contexts = [context for context in config.contexts if context < model.config.n_positions]
    for context, batch in product(contexts, config.batches):
        size = bytes_of_a_step(model, batch, context)
        at = {"batch": batch, "context": context}
        limit = lambda size=size, batch=batch: batch * memory() / size  # noqa: E731
        yield measured(GENERATION, at, one_token(model, batch, context), limit, config)


# --- Q-learning -------------------------------------------------------------------------------------------------------


def q_learning(tables: TransitionTables, count: int) -> tuple[Work, Work]:
    """Return the work of learning steps, and of steps in the same environments with random actions."""
    agents = BatchedQLearning(tables, count)
    numbers = random_numbers(agents, seed=0)
    state = torch.full((count,), tables.start, dtype=torch.int32)  # (N,)

    def learn() -> int:
        agents.step(*next(numbers))
        return count

    def walk() -> int:
        _, action_draw, outcome = next(numbers)  # (N,) each
        pair = (action_draw * tables.n_actions).int().add_(state, alpha=tables.n_actions)
        outcome_index = outcome.add(pair, alpha=tables.n_outcomes)
        state.copy_(tables.next_state.index_select(0, outcome_index))
        tables.reward.index_select(0, outcome_index)
        state.masked_fill_(tables.nonterminal.index_select(0, outcome_index) == 0, tables.start)
        return count

    return learn, walk


def q_learning_records(config: Config) -> Iterator[dict[str, Any]]:
    """Yield a record for every number of agents and maze size."""
    torch.set_num_threads(1)  # splitting steps of a millisecond between threads is slower
    for size, count in product(config.mazes, config.agents):
        if count * size**2 * 4 * 4 > MAX_TABLE_BYTES:
            continue
        maze = SimpleMaze(random_maze(size, size, seed=0))
        tables = TransitionTables(maze.outcomes(), maze.start, max(100, 4 * size**2))
        learn, walk = q_learning(tables, count)
        at = {"agents": count, "maze": size}
        yield measured(Q_LEARNING, at, learn, lambda walk=walk: rate(walk, config.seconds), config)


def main(config: Config) -> None:
    """Measure and write the results."""
    writable_folder(config.output.parent)
    environment = environment_info()
    values = [*ppo_records(config), *generation_records(config), *q_learning_records(config)]
    write_results(
        config.output,
        "scaling",
        [new_record(environment=environment, **each) for each in values],
        settings={name: getattr(config, name) for name in ("repetitions", "seconds")},
        environment=environment,
        ratio="fraction of the upper bound",
        parts=PARTS,
    )
    print(f"wrote {display_path(config.output)}")


if __name__ == "__main__":
    launch(Config, main)
