"""Throughput of Q-learning: one agent with a dictionary in a Gymnasium loop, compared with thousands in a tensor.

All sides learn, with the same settings, in FrozenLake-v1 (4 x 4, slippery): the dictionary in Gymnasium's own
environment, the tensor in tables made from that environment's `P`. Numba, the peer, compiles a loop over the same
tables, with as many agents; it has its own virtual environment (make bench-setup). The sides are interleaved in every
repetition.
"""

if __name__ == "__main__":
    import lab.startup  # first: Ctrl-C works while the libraries load

import json
import statistics
import sys
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from itertools import islice
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
from worker_process import WorkerProcess

WORKER = Path(__file__).with_name("maze_numba.py")
SETTINGS = {"learning_rate": 0.1, "discount": 0.99, "epsilon": 1.0, "epsilon_decay": 0.98, "epsilon_min": 0.1}
TIME_LIMIT = 100  # as FrozenLake-v1 is registered
TARGET, STRETCH_TARGET = 100, 300  # times the steps per second of the dictionary
CONFIGURATION = "FrozenLake-v1, 4 x 4, slippery"
SIDES = ("dictionary", "tensor, 1 process", "tensor, all processes")
NUMBA_OF = {"tensor, 1 process": "Numba, 1 thread", "tensor, all processes": "Numba, all threads"}  # as many agents
CHECKED_STEPS = 2048  # of every agent, after which Numba and the tensor must have learned the same
Q_TOLERANCE = 0.01  # between the mean Q-tables of thousands of agents


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
    """Processes on the tensor side, each with one thread and its own agents; as many threads for Numba."""
    peers_python: Path = Path(sys.executable)
    """Python of an environment with Numba."""


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


def frozen_lake() -> TransitionTables:
    """Return the tables of the environment."""
    env: Any = gym.make("FrozenLake-v1")
    return TransitionTables(as_arrays(env.unwrapped.P), start=0, time_limit=TIME_LIMIT)


class Numba:
    """The peer, in its own process; `reason` says why it cannot be measured, and `version` is that of the library."""

    def __init__(self, config: Config) -> None:
        self.config = config
        command = (WORKER, json.dumps(SETTINGS), TIME_LIMIT)
        threads = {"NUMBA_NUM_THREADS": str(config.processes)}
        self.process = WorkerProcess(config.peers_python, *command, **threads)
        compiled = self._ask(1, steps=1)
        self.reason: str = compiled.get("failed", "")
        self.version: str | None = compiled.get("version")

    def _ask(self, threads: int, **limit: float) -> dict[str, Any]:
        return self.process.ask({"agents": self.config.agents * threads, "threads": threads, **limit})

    def environment(self, environment: dict[str, Any]) -> dict[str, Any]:
        """Return the environment of a measurement with the version of Numba."""
        return environment | {"packages": {**environment["packages"], "numba": self.version}}

    def side(self, threads: int) -> tuple[float, float]:
        """Return the steps per second of all agents, and their mean value estimate of the start."""
        answer = self._ask(threads, seconds=self.config.seconds)
        return answer["steps_per_second"], answer["start_value"]

    def q_difference(self) -> float:
        """Return the largest difference of the mean Q-table (S, A) from the tensor's, after as many steps."""
        agents = BatchedQLearning(frozen_lake(), self.config.agents, **SETTINGS)
        for numbers in islice(random_numbers(agents, seed=0), CHECKED_STEPS):
            agents.step(*numbers)
        theirs = torch.tensor(self._ask(self.config.processes, steps=CHECKED_STEPS)["mean_q"])  # (S, A)
        return float((theirs - agents.q.mean(0)).abs().max())


def measure(config: Config, pool: ProcessPoolExecutor, numba: Numba) -> dict[str, list[tuple[float, float]]]:
    """Return side to (steps per second, start value) for every repetition; print one line per repetition."""
    env, tables = gym.make("FrozenLake-v1"), frozen_lake()
    sides: dict[str, Callable[[int], tuple[float, float]]] = {
        SIDES[0]: lambda seed: dictionary_side(config, env, seed),
        SIDES[1]: lambda seed: tensor_side(config, tables, seed),
        SIDES[2]: lambda seed: all_processes(config, tables, pool, seed),
    }
    if not numba.reason:
        sides[NUMBA_OF[SIDES[1]]] = lambda _: numba.side(1)
        sides[NUMBA_OF[SIDES[2]]] = lambda _: numba.side(config.processes)
    measured: dict[str, list[tuple[float, float]]] = {name: [] for name in sides}
    for seed in range(-1, config.repetitions):
        results = {name: side(abs(seed)) for name, side in sides.items()}
        if seed < 0:
            continue  # the first round starts the processes
        columns = []
        for name, result in results.items():
            measured[name].append(result)
            columns.append(f"{name} {result[0] / 1e6:.3g} M/s (x{result[0] / results[SIDES[0]][0]:.0f})")
        print(f"repetition {seed + 1}: " + ", ".join(columns), flush=True)
    return measured


def records_of(
    environment: dict[str, Any], measured: dict[str, list[tuple[float, float]]], numba: Numba
) -> list[Record]:
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
        where = numba.environment(environment) if name in NUMBA_OF.values() else environment
        records.append(new_record(CONFIGURATION, name, where, **values))
    return records


def numba_records(
    environment: dict[str, Any], measured: dict[str, list[tuple[float, float]]], numba: Numba
) -> list[Record]:
    """Return records of the tensor relative to Numba, which say whether both have learned the same."""
    environment = numba.environment(environment)
    if numba.reason:
        return [
            new_record(CONFIGURATION, f"{ours}, relative to {peer}", environment, not_measured=numba.reason)
            for ours, peer in NUMBA_OF.items()
        ]
    difference = numba.q_difference()
    verdict = "the same" if difference <= Q_TOLERANCE else "NOT the same"
    print(f"Numba learns {verdict}: the mean Q-tables differ by at most {difference:.4f}")
    records = []
    for ours, peer in NUMBA_OF.items():
        rates, peer_rates = ([rate for rate, _ in measured[name]] for name in (ours, peer))
        values = {"largest_q_difference": round(difference, 5), "same_q": difference <= Q_TOLERANCE}
        values |= ratio_statistics(rates, peer_rates) | {"target": None}
        records.append(new_record(CONFIGURATION, f"{ours}, relative to {peer}", environment, **values))
        print(f"{ours}: {values['median_ratio']:.2f} times {peer}")
    return records


def main(config: Config) -> None:
    """Measure, print and write the results."""
    for name in ("repetitions", "seconds", "agents", "processes"):
        if not getattr(config, name) > 0:
            raise UserError(f"--{name} is {getattr(config, name)}; it must be positive")
    writable_folder(config.output.parent)
    environment = environment_info(("torch", "numpy", "gymnasium"))
    numba = Numba(config)
    with closing(numba.process), ProcessPoolExecutor(config.processes, get_context("spawn")) as pool:
        measured = measure(config, pool, numba)
        records = records_of(environment, measured, numba)
        records += numba_records(environment, measured, numba)
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
