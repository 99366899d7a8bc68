"""The benchmarks: run them, publish their results in the documentation, check the committed ratios.

Each is a script in benchmarks/ that writes one results file; the committed file is the measurement of record. `--quick`
runs are short and less precise, and never change the committed files.
"""

import importlib.util
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import torch

from lab.errors import UserError, require_at_least
from lab.evidence import publish
from lab.files import ROOT, display_path, writable_folder
from lab.results import RESULTS, Run, processor_of, read_file
from lab.runner import run_script

QUICK = ROOT / "runs/bench"
PEERS = ROOT / "runs/peers"  # the virtual environment that `make bench-setup` creates


class Ratio(NamedTuple):
    """Median and range of the ratio between two sides over the interleaved rounds."""

    median: float
    low: float
    high: float


@dataclass(frozen=True)
class Benchmark:
    """One benchmark: its script, the flags of a quick run, and its requirements."""

    script: str
    quick: tuple[str, ...]
    packages: tuple[str, ...] = ()
    needs_data: bool = False  # the text data, by --data
    needs_gpu: bool = False  # its results are committed once it has run on one
    uses_peers: bool = False  # the Python with the libraries to compare with, by --peers_python
    result: str = ""  # name of the results file if it differs from the script's
    checkable: bool = True  # False: a short run says nothing about the ratios of a long one

    @property
    def path(self) -> Path:
        """The file of the script."""
        return ROOT / "benchmarks" / f"{self.script}.py"

    @property
    def file(self) -> str:
        """The name of the results file."""
        return f"{self.result or self.script}.json"


QUICK_SCALING_FLAGS = "--environments 1 32 --threads 1 2 --batches 1 8 --contexts 16 --agents 1 4096 --mazes 4 16"
QUICK_PPO_FLAGS = ("--num_iterations", "2", "--episodes", "20")
SB3 = ("stable_baselines3",)
BENCHMARKS = {
    "maze": Benchmark("maze", ("--repetitions", "3", "--seconds", "0.5"), uses_peers=True),
    "ppo": Benchmark("ppo_reacher", ("--seeds", "3", "--num_iterations", "20", "--episodes", "20"), result="ppo"),
    "ppo_peers": Benchmark(
        "ppo_peers",
        (*QUICK_PPO_FLAGS, "--seeds", "1", "--our_seeds", "1"),
        packages=SB3,
        uses_peers=True,
        checkable=False,
    ),
    "ppo_speed": Benchmark("ppo_speed", ("--chunks", "3", "--iterations", "2"), packages=SB3, uses_peers=True),
    "transformer": Benchmark(
        "transformer", ("--repetitions", "2", "--new_tokens", "16", "--sentences", "64"), needs_data=True
    ),
    "inference_peers": Benchmark(
        "inference_peers",
        ("--repetitions", "1", "--new_tokens", "8", "--sentences", "16"),
        packages=("ctranslate2",),
        needs_data=True,
        uses_peers=True,
        checkable=False,
    ),
    "text_startup": Benchmark("text_startup", ("--repetitions", "2")),
    "training": Benchmark("training", ("--repetitions", "2", "--steps", "1")),
    "ablation": Benchmark("ablation", (*QUICK_PPO_FLAGS, "--seeds", "2"), checkable=False),
    "bug_hunts": Benchmark("bug_hunts", ("--seeds", "1", "--length", "0.02"), checkable=False),
    "page": Benchmark("page", ("--repetitions", "1", "--iterations", "3"), packages=("playwright",)),
    "gpu": Benchmark("gpu", ("--quick", "--repetitions", "1"), needs_data=True, needs_gpu=True, checkable=False),
    "scaling": Benchmark("scaling", ("--repetitions", "1", "--seconds", "0.05", *QUICK_SCALING_FLAGS.split())),
}
NAMES = (*BENCHMARKS, "all")
MAX_LISTED = 3  # more missing ratios than this are counted, not listed


@dataclass(frozen=True)
class Bench:
    """Options of a benchmark run."""

    quick: bool = False
    """Short runs into runs/bench, to see that everything works; committed results stay unchanged."""
    publish: bool = False
    """Update numbers, tables and plots in the documentation from benchmarks/results, after the runs."""
    check: bool = False
    """Do quick runs and report which ratios fall outside the committed range; exit status 1 if any does."""
    tolerance: float = 0.1
    """With --check: the fraction by which the committed range is widened."""
    data: Path | None = None
    """Folder with the text data, for the benchmarks that need it."""
    peers_python: Path = PEERS / ("Scripts/python.exe" if (PEERS / "Scripts").exists() else "bin/python")
    """Python with the other libraries, created by `make bench-setup`."""
    output_dir: Path | None = None
    """Folder for the results. Default: benchmarks/results, for quick runs runs/bench."""

    def __post_init__(self) -> None:
        require_at_least(0, self, "tolerance")


def ratios(run: Run) -> dict[str, Ratio]:
    """Return the ratios in a run, from its records and its summary, by configuration and side."""
    by_name: dict[str, Ratio] = {}
    for record in (*run["records"], *run.get("summary", ())):
        if record.get("median_ratio") is not None:
            name = ", ".join(filter(None, (record.get("configuration"), record["side"])))
            by_name[name] = Ratio(record["median_ratio"], record["lowest_ratio"], record["highest_ratio"])
    return by_name


def bench(names: Sequence[str], config: Bench) -> int:
    """Run the named benchmarks (quickly and with a comparison for --check), publish on request; the exit status."""
    if not names and not config.publish:
        raise UserError(f"no benchmark named; choose from {', '.join(NAMES)}, or use --publish")
    chosen = list(BENCHMARKS) if "all" in names else list(dict.fromkeys(names))
    quick = config.quick or config.check
    folder = writable_folder(config.output_dir or (QUICK if quick else RESULTS))
    if quick and folder.resolve() == RESULTS:
        raise UserError("--output_dir is benchmarks/results, which quick runs must not change; choose another folder")
    outcomes = {name: run(name, folder, quick, config) for name in chosen}
    if config.check:
        outcomes = {name: outcome or check(name, folder, config) for name, outcome in outcomes.items()}
    for name, outcome in outcomes.items():
        print(f"{name}: {outcome or 'done'}")
    if config.publish:
        publish()
    return int(any("FAILED" in outcome or "CHANGED" in outcome for outcome in outcomes.values()))


def run(name: str, folder: Path, quick: bool, config: Bench) -> str:
    """Run one benchmark; return an empty string on success, else the reason in one line."""
    benchmark = BENCHMARKS[name]
    reason = unmet_requirement(benchmark, config)
    if reason:
        return f"skipped: {reason}"
    results = folder / benchmark.file
    for file in {results, RESULTS / benchmark.file} if config.check else {results}:
        read_file(file, name)  # a damaged file is refused before anything is measured
    output = results.with_suffix(".unfinished.json") if quick else results
    if quick:
        output.unlink(missing_ok=True)  # resumable benchmarks would go on with it
    flags = ["--output", str(output), *(benchmark.quick if quick else ())]
    if config.data is not None and benchmark.needs_data:
        flags += ["--data", str(config.data)]
    if config.peers_python.exists() and benchmark.uses_peers:
        flags += ["--peers_python", str(config.peers_python)]
    print(f"\n{display_path(benchmark.path)} {' '.join(flags)}", flush=True)
    status = run_script(benchmark.path, flags)
    if status == 130:
        raise KeyboardInterrupt
    if quick and not status:
        output.replace(results)
        print(f"renamed it to {display_path(results)}")
    return f"FAILED with status {status}" if status else ""


def unmet_requirement(benchmark: Benchmark, config: Bench) -> str:
    """Return the reason that a benchmark cannot run here; an empty string if it can."""
    if not benchmark.path.is_file():
        return f"there is no {display_path(benchmark.path)}"
    if benchmark.needs_gpu and not torch.cuda.is_available():
        return "it needs a GPU with CUDA"
    if benchmark.needs_data and config.data is None:
        return "it needs --data, the folder of the text data"
    absent = [name for name in benchmark.packages if importlib.util.find_spec(name) is None]
    if absent and not config.peers_python.exists():
        return f"{', '.join(absent)} is not installed; run make bench-setup"
    return ""


def check(name: str, folder: Path, config: Bench) -> str:
    """Compare fresh results with the committed ones; return the outcome in one line."""
    benchmark = BENCHMARKS[name]
    committed = RESULTS / benchmark.file
    if not benchmark.checkable:
        return "not checked: a short run says nothing about its results"
    if not committed.exists():
        return f"not checked: there is no {display_path(committed)} yet"
    (fresh,) = read_file(folder / benchmark.file, name)["runs"]
    same = [run for run in read_file(committed, name)["runs"] if processor_of(run) == processor_of(fresh)]
    if not same:
        return f"not checked: {display_path(committed)} has no run of this processor, {processor_of(fresh)}"
    before, now = ratios(same[0]), ratios(fresh)
    lines = [drift(side, before[side], now[side], config.tolerance) for side in before if side in now]
    changes = [line for line in lines if line]
    unmeasured = [f"{side} was not measured" for side in before if side not in now]
    if len(unmeasured) > MAX_LISTED:
        unmeasured = [f"{len(unmeasured)} of {len(before)} were not measured"]
    unchanged = f"{len(lines) - len(changes)} of {len(before)} ratios as committed"
    return "; ".join([f"CHANGED: {'; '.join(changes)}" if changes else unchanged, *unmeasured])


def drift(side: str, before: Ratio, now: Ratio, tolerance: float) -> str:
    """Return an empty string if the new median lies in the committed range, widened by the tolerance."""
    if before.low * (1 - tolerance) <= now.median <= before.high * (1 + tolerance):
        return ""
    return f"{side} {before.median:.3g} ({before.low:.3g} to {before.high:.3g}) is now {now.median:.3g}"
