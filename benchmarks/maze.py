"""Throughput of Q-learning: one agent with a dictionary in a Gymnasium loop, compared with thousands in a tensor.

Both sides learn, with the same settings, in FrozenLake-v1 (4 x 4, slippery): the dictionary in Gymnasium's own
environment, the tensor in tables made from that environment's `P`. The sides are interleaved in every repetition.
"""

if __name__ == "__main__":
    import lab.startup  # first: Ctrl-C works while the libraries load

import statistics
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import gymnasium as gym
import torch

import lab.projects  # noqa: F401 - puts the projects on the search path
from batched_q_learning import BatchedQLearning, random_numbers
from lab.errors import UserError
from lab.files import ROOT, display_path, writable_folder
from lab.launch import launch
from lab.record import environment_info
from lab.results import Record, new_record, ratio_statistics, write_results
from q_learning_agent import QLearningAgent, train
from transition_tables import TransitionTables
from value_iteration import as_arrays, value_iteration

SETTINGS = {"learning_rate": 0.1, "discount": 0.99, "epsilon": 1.0, "epsilon_decay": 0.98, "epsilon_min": 0.1}
TIME_LIMIT = 100  # as FrozenLake-v1 is registered
TARGET, STRETCH_TARGET = 100, 300  # times the steps per second of the dictionary
CONFIGURATION = "FrozenLake-v1, 4 x 4, slippery"
SIDES = ("dictionary", "tensor, 1 process", "tensor, all processes")


@dataclass
class Config:
    """Compare Q-learning with a dictionary and with a tensor, in environment steps per second."""

    output: Path = ROOT / "benchmarks/results/maze.json"
    """Results file."""
    repetitions: int = 7
    """Measurements per side."""
    seconds: float = 3.0
    """Duration of one measurement."""
    agents: int = 16384
    """Agents per process: their tables (256 bytes each here) should fit into the processor cache."""
    processes: int = 2
    """Processes on the tensor side, each with one thread and its own agents."""


def dictionary_side(config: Config, env: gym.Env[Any, Any], seed: int) -> tuple[float, float]:
    """Return the steps per second of one agent, and its final value estimate of the start."""
    agent = QLearningAgent(4, seed=seed, **SETTINGS)
    steps, begin = 0, time.perf_counter()
    for episode in train(agent, env, 10**9, seed):
        steps += episode.length
        if time.perf_counter() - begin >= config.seconds:
            break
    return steps / (time.perf_counter() - begin), max(agent.q_values(0))


def tensor_side(config: Config, tables: TransitionTables, seed: int) -> tuple[float, float]:
    """Return the steps per second of all agents on one thread, and their mean value estimate of the start."""
    torch.set_num_threads(1)
    agents = BatchedQLearning(tables, config.agents, **SETTINGS)
    steps, begin = 0, time.perf_counter()
    for numbers in random_numbers(agents, seed):
        agents.step(*numbers)
        steps += config.agents
        if time.perf_counter() - begin >= config.seconds:
            break
    return steps / (time.perf_counter() - begin), float(agents.q[:, 0].amax(1).mean())


def all_processes(
    config: Config, tables: TransitionTables, pool: ProcessPoolExecutor, seed: int
) -> tuple[float, float]:
    """Return the results of `processes` parallel processes, each with its own agents; the rates are summed."""
    jobs = [pool.submit(tensor_side, config, tables, seed * config.processes + i) for i in range(config.processes)]
    rates, values = zip(*(job.result() for job in jobs), strict=True)
    return sum(rates), statistics.fmean(values)


def measure(config: Config, pool: ProcessPoolExecutor) -> dict[str, list[tuple[float, float]]]:
    """Return side to (steps per second, start value) for every repetition; print one line per repetition."""
    env = gym.make("FrozenLake-v1")
    tables = TransitionTables(as_arrays(env.unwrapped.P), start=0, time_limit=TIME_LIMIT)  # pyright: ignore[reportAttributeAccessIssue]
    sides: list[Callable[[int], tuple[float, float]]] = [
        lambda seed: dictionary_side(config, env, seed),
        lambda seed: tensor_side(config, tables, seed),
        lambda seed: all_processes(config, tables, pool, seed),
    ]
    measured: dict[str, list[tuple[float, float]]] = {name: [] for name in SIDES}
    for seed in range(-1, config.repetitions):
        results = [side(abs(seed)) for side in sides]
        if seed < 0:
            continue  # the first round starts the processes
        columns = []
        for name, result in zip(SIDES, results, strict=True):
            measured[name].append(result)
            columns.append(f"{name} {result[0] / 1e6:.3g} M/s (x{result[0] / results[0][0]:.0f})")
        print(f"repetition {seed + 1}: " + ", ".join(columns), flush=True)
    return measured


def records_of(environment: dict[str, Any], measured: dict[str, list[tuple[float, float]]]) -> list[Record]:
    """Return one record per side: rates and start values of all repetitions, and the ratios to the dictionary."""
    baseline = [rate for rate, _ in measured[SIDES[0]]]
    records = []
    for name, results in measured.items():
        rates = [rate for rate, _ in results]
        values: dict[str, Any] = {
            "steps_per_second": [round(rate) for rate in rates],
            "start_value": [round(value, 4) for _, value in results],
            "median_million_steps_per_second": round(statistics.median(rates) / 1e6, 4),
        }
        if name != SIDES[0]:
            values["ratios"] = [round(rate / base, 1) for rate, base in zip(rates, baseline, strict=True)]
            values |= ratio_statistics(rates, baseline) | {"target": TARGET if name == SIDES[2] else None}
        records.append(new_record(CONFIGURATION, name, environment, **values))
    return records


def main(config: Config) -> None:
    """Measure, print and write the results."""
    for name in ("repetitions", "seconds", "agents", "processes"):
        if not getattr(config, name) > 0:
            raise UserError(f"--{name} is {getattr(config, name)}; it must be positive")
    writable_folder(config.output.parent)
    environment = environment_info(("torch", "numpy", "gymnasium"))
    with ProcessPoolExecutor(config.processes, get_context("spawn")) as pool:
        records = records_of(environment, measure(config, pool))
    processes = {"agents_per_process": config.agents, "processes": config.processes, "threads_per_process": 1}
    dynamics = gym.make("FrozenLake-v1").unwrapped.P  # pyright: ignore[reportAttributeAccessIssue]
    optimal = float(value_iteration(dynamics, SETTINGS["discount"])[0].max())
    write_results(
        config.output,
        "maze",
        records,
        settings=SETTINGS | processes,
        environment=environment,
        ratio="steps per second relative to the dictionary",
        optimal_start_value=round(optimal, 4),
    )
    ratio = records[2]["median_ratio"]
    verdict = "stretch target met" if ratio >= STRETCH_TARGET else "target met" if ratio >= TARGET else "target missed"
    print(f"median: {ratio:.1f} times the dictionary: {verdict} (target {TARGET}, stretch target {STRETCH_TARGET})")
    print(f"wrote {display_path(config.output)}")


if __name__ == "__main__":
    launch(Config, main)
