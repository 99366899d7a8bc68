"""How many steps a second: Q-learning with a dictionary, one agent in a Gymnasium loop, beside thousands in a tensor.

Both sides learn, with the same settings, in FrozenLake-v1 (4 x 4, slippery): the dictionary in Gymnasium's own
environment, the tensor in tables made from that environment's `P`. All sides take turns in every repetition.
"""

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

import lab.projects  # noqa: F401 - lets the projects' modules be found
from batched_q_learning import BatchedQLearning, random_numbers
from lab.errors import UserError
from lab.files import ROOT, display_path, writable_folder, write_json
from lab.launch import launch
from lab.record import environment_info
from q_learning_agent import QLearningAgent, train
from transition_tables import TransitionTables
from value_iteration import as_arrays, value_iteration

SETTINGS = {"learning_rate": 0.1, "discount": 0.99, "epsilon": 1.0, "epsilon_decay": 0.98, "epsilon_min": 0.1}
TIME_LIMIT = 100  # as FrozenLake-v1 is registered
BAR, PRIZE = 100, 300
SIDES = ("dictionary", "tensor, 1 process", "tensor, all processes")


@dataclass
class Config:
    """Compare Q-learning with a dictionary and with a tensor by the environment steps that they take in a second."""

    output: Path = ROOT / "benchmarks/results/maze.json"
    """File for the figures."""
    repetitions: int = 7
    """Times that every side is measured."""
    seconds: float = 3.0
    """Time of one measurement."""
    agents: int = 16384
    """Agents a process: their tables (256 bytes each here) should fit into the processor's cache."""
    processes: int = 2
    """Processes on the tensor's side, each on one thread with agents of its own."""


def dictionary_side(config: Config, env: gym.Env[Any, Any], seed: int) -> tuple[float, float]:
    """Steps a second of one agent, and what it believes the start to be worth in the end."""
    agent = QLearningAgent(4, seed=seed, **SETTINGS)
    steps, begin = 0, time.perf_counter()
    for episode in train(agent, env, 10**9, seed):
        steps += episode.length
        if time.perf_counter() - begin >= config.seconds:
            break
    return steps / (time.perf_counter() - begin), max(agent.q_values(0))


def tensor_side(config: Config, world: TransitionTables, seed: int) -> tuple[float, float]:
    """Steps a second of all agents on one thread, and the mean of what they believe the start to be worth."""
    torch.set_num_threads(1)
    agents = BatchedQLearning(world, config.agents, **SETTINGS)
    steps, begin = 0, time.perf_counter()
    for numbers in random_numbers(agents, seed):
        agents.step(*numbers)
        steps += config.agents
        if time.perf_counter() - begin >= config.seconds:
            break
    return steps / (time.perf_counter() - begin), float(agents.q[:, 0].amax(1).mean())


def all_processes(config: Config, world: TransitionTables, pool: ProcessPoolExecutor, seed: int) -> tuple[float, float]:
    """The same with agents of its own for each process, all at once; their rates add up."""
    jobs = [pool.submit(tensor_side, config, world, seed * config.processes + i) for i in range(config.processes)]
    rates, values = zip(*(job.result() for job in jobs), strict=True)
    return sum(rates), statistics.fmean(values)


def measure(config: Config, pool: ProcessPoolExecutor) -> list[dict[str, dict[str, float]]]:
    """Every repetition: side to figures. A line is printed for each."""
    env = gym.make("FrozenLake-v1")
    world = TransitionTables(as_arrays(env.unwrapped.P), start=0, time_limit=TIME_LIMIT)  # pyright: ignore[reportAttributeAccessIssue]
    sides: list[Callable[[int], tuple[float, float]]] = [
        lambda seed: dictionary_side(config, env, seed),
        lambda seed: tensor_side(config, world, seed),
        lambda seed: all_processes(config, world, pool, seed),
    ]
    repetitions = []
    for seed in range(-1, config.repetitions):
        rates, values = zip(*(side(abs(seed)) for side in sides), strict=True)
        if seed < 0:
            continue  # the first round starts the processes
        repetitions.append(
            {
                name: {
                    "steps_per_second": round(rate),
                    "ratio": round(rate / rates[0], 1),
                    "start_value": round(value, 4),
                }
                for name, rate, value in zip(SIDES, rates, values, strict=True)
            }
        )
        shown = (
            f"{name} {rate / 1e6:.3g} M/s (x{rate / rates[0]:.0f})" for name, rate in zip(SIDES, rates, strict=True)
        )
        print(f"repetition {seed + 1}: " + ", ".join(shown), flush=True)
    return repetitions


def summary(config: Config, before: dict[str, Any], repetitions: list[dict[str, dict[str, float]]]) -> dict[str, Any]:
    """What is written: medians, extremes, all repetitions, and the circumstances."""
    ratios = {name: [repetition[name]["ratio"] for repetition in repetitions] for name in SIDES[1:]}
    dynamics = gym.make("FrozenLake-v1").unwrapped.P  # pyright: ignore[reportAttributeAccessIssue]
    return {
        "environment": "FrozenLake-v1, 4 x 4, slippery",
        "settings": {
            **SETTINGS,
            "agents_per_process": config.agents,
            "processes": config.processes,
            "threads_per_process": 1,
        },
        "median_million_steps_per_second": {
            name: round(statistics.median(repetition[name]["steps_per_second"] for repetition in repetitions) / 1e6, 4)
            for name in SIDES
        },
        "median_ratio": {name: statistics.median(values) for name, values in ratios.items()},
        "lowest_ratio": {name: min(values) for name, values in ratios.items()},
        "highest_ratio": {name: max(values) for name, values in ratios.items()},
        "least_ratio": BAR,
        "optimal_start_value": round(float(value_iteration(dynamics, SETTINGS["discount"])[0].max()), 4),
        "repetitions": repetitions,
        "circumstances": before,
    }


def main(config: Config) -> None:
    """Measure, print, write."""
    for name in ("repetitions", "seconds", "agents", "processes"):
        if not getattr(config, name) > 0:
            raise UserError(f"--{name} is {getattr(config, name)}; it must be positive")
    writable_folder(config.output.parent)
    before = environment_info(("torch", "numpy", "gymnasium"))
    with ProcessPoolExecutor(config.processes, get_context("spawn")) as pool:
        found = summary(config, before, measure(config, pool))
    write_json(config.output, found)
    ratio = found["median_ratio"][SIDES[2]]
    verdict = "the prize is won" if ratio >= PRIZE else "the bar is met" if ratio >= BAR else "the bar is missed"
    print(f"median: {ratio} times the dictionary's steps a second: {verdict} (bar {BAR}, prize {PRIZE})")
    print(f"wrote {display_path(config.output)}")


if __name__ == "__main__":
    launch(Config, main)
