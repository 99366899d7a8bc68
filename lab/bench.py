"""The benchmarks under one command: run them, put what they found onto the pages, see whether it still holds.

Each is a script under benchmarks/ that writes one JSON file; its measurement of record is committed. `--quick` runs are
short, say little, and never touch those files.
"""

import importlib.util
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from lab.errors import UserError, require_at_least
from lab.evidence import publish
from lab.files import ROOT, display_path, read_text, writable_folder
from lab.runner import read_record, run_script

RESULTS, QUICK = ROOT / "benchmarks/results", ROOT / "runs/bench"
PEERS = ROOT / "runs/peers"  # the environment that `make bench-setup` makes


class Ratio(NamedTuple):
    """How many times as much (as fast, as long) as the other side: the middle of the repetitions, and their ends."""

    middle: float
    low: float
    high: float


Ratios = dict[str, Ratio]


@dataclass(frozen=True)
class Benchmark:
    """One comparison: its script, the flags of a quick run, what it needs, and the ratios that a result of it holds."""

    script: str
    quick: tuple[str, ...]
    ratios: Callable[[Any], Ratios] | None = None  # none: a short run says nothing about a long one
    packages: tuple[str, ...] = ()
    result: str = ""  # the file's name, where it is not the script's

    @property
    def path(self) -> Path:
        """The script's file."""
        return ROOT / "benchmarks" / f"{self.script}.py"

    @property
    def file(self) -> str:
        """The name of its result."""
        return f"{self.result or self.script}.json"


def _of_maze(found: Any) -> Ratios:
    sides = (found[f"{name}_ratio"] for name in ("median", "lowest", "highest"))
    middle, low, high = sides
    return {name: Ratio(middle[name], low[name], high[name]) for name in middle}


def _of_ppo(found: Any) -> Ratios:
    times = [row["seconds"] / row["one_environment"] for row in found["runs"]]
    return {"training, in times of one environment": Ratio(sorted(times)[len(times) // 2], min(times), max(times))}


def _of_turns(found: Any) -> Ratios:
    ours = found["seconds"]["ours"]
    ratios = {
        name: sorted(theirs / own for theirs, own in zip(times, ours, strict=True))
        for name, times in found["seconds"].items()
        if name != "ours"
    }
    return {name: Ratio(times[len(times) // 2], times[0], times[-1]) for name, times in ratios.items()}


def _of_startup(found: Any) -> Ratios:
    ratios: Ratios = {}
    for name, row in found["results"].items():
        both = zip(row["seconds"]["scratch"], row["seconds"]["pipeline"], strict=True)
        times = [ours / theirs for ours, theirs in both]
        ratios[name] = Ratio(row["median_ratio"], min(times), max(times))
    return ratios


def _of_nested(found: Any, prefix: str = "") -> Ratios:
    """Every dictionary, however deep, that holds median_ratio, lowest_ratio and highest_ratio as numbers."""
    if not isinstance(found, dict):
        return {}
    keys = ("median_ratio", "lowest_ratio", "highest_ratio")
    if all(isinstance(found.get(key), (int, float)) for key in keys):
        return {prefix: Ratio(*(found[key] for key in keys))}
    rows = (_of_nested(value, f"{prefix}, {name}".strip(", ")) for name, value in found.items())
    return {name: ratio for row in rows for name, ratio in row.items() if ratio != Ratio(1, 1, 1)}


def _of_scaling(found: Any) -> Ratios:
    ratios: Ratios = {}
    for part in found["parts"].values():
        for row in part["rows"]:
            at = ", ".join(f"{name} {value}" for name, value in row["at"].items())
            ends = row["lowest_ratio"], row["highest_ratio"]
            ratios[f"{part['title']}, {at}"] = Ratio(row["median_ratio"], *ends)
    return ratios


SMALL = "--environments 1 32 --threads 1 2 --batches 1 8 --contexts 16 --agents 1 4096 --mazes 4 16"
FEW = ("--num_iterations", "2", "--episodes", "20")
BENCHMARKS = {
    "maze": Benchmark("maze", ("--repetitions", "3", "--seconds", "0.5"), _of_maze),
    "ppo": Benchmark(
        "ppo_reacher", ("--seeds", "3", "--num_iterations", "20", "--episodes", "20"), _of_ppo, result="ppo"
    ),
    "ppo_peers": Benchmark("ppo_peers", (*FEW, "--seeds", "1", "--our_seeds", "1"), packages=("stable_baselines3",)),
    "ppo_speed": Benchmark(
        "ppo_speed", ("--chunks", "3", "--iterations", "2"), _of_turns, packages=("stable_baselines3",)
    ),
    "transformer": Benchmark(
        "transformer", ("--repetitions", "2", "--new_tokens", "16", "--sentences", "64"), _of_nested
    ),
    "text_startup": Benchmark("text_startup", ("--repetitions", "2"), _of_startup),
    "training": Benchmark("training", ("--repetitions", "2", "--steps", "1"), _of_nested),
    "ablation": Benchmark("ablation", (*FEW, "--seeds", "2")),
    "scaling": Benchmark("scaling", ("--repetitions", "1", "--seconds", "0.05", *SMALL.split()), _of_scaling),
}
NAMES = (*BENCHMARKS, "all")
NAMED = 3  # ratios that are named one by one


@dataclass(frozen=True)
class Bench:
    """How to measure, and what to do with it."""

    quick: bool = False
    """Short runs into runs/bench, to see that everything works; what is committed stays as it is."""
    publish: bool = False
    """Bring figures, tables and pictures on the pages up to date with benchmarks/results, after what was run."""
    check: bool = False
    """Make quick runs and say which ratios moved out of the committed spread; status 1 if any did."""
    tolerance: float = 0.1
    """With --check: a ratio may lie outside the committed spread by this part of it."""
    data: Path | None = None
    """Folder of the text data, for the benchmarks that need it."""
    peers_python: Path = PEERS / ("Scripts/python.exe" if (PEERS / "Scripts").exists() else "bin/python")
    """Python of the peers' environment, which `make bench-setup` makes."""
    output_dir: Path | None = None
    """Folder for the results. Default: benchmarks/results, for quick runs runs/bench."""

    def __post_init__(self) -> None:
        require_at_least(0, self, "tolerance")


def bench(names: Sequence[str], config: Bench) -> int:
    """Run the benchmarks of these names (with --check quickly, and compare); publish if asked to. The exit status."""
    if not names and not config.publish:
        raise UserError(f"which benchmark? One of {', '.join(NAMES)}; or --publish")
    chosen = list(BENCHMARKS) if "all" in names else list(dict.fromkeys(names))
    quick = config.quick or config.check
    folder = writable_folder(config.output_dir or (QUICK if quick else RESULTS))
    if quick and folder.resolve() == RESULTS:
        raise UserError("--output_dir is benchmarks/results, where no quick run may write; name another")
    outcomes = {name: run(name, folder, quick, config) for name in chosen}
    if config.check:
        outcomes = {name: outcome or check(name, folder, config) for name, outcome in outcomes.items()}
    for name, outcome in outcomes.items():
        print(f"{name}: {outcome or 'done'}")
    if config.publish:
        publish()
    return int(any("FAILED" in outcome or "MOVED" in outcome for outcome in outcomes.values()))


def run(name: str, folder: Path, quick: bool, config: Bench) -> str:
    """Run one benchmark; nothing to say if it went well, else one line about why it did not."""
    benchmark = BENCHMARKS[name]
    reason = missing(benchmark, config)
    if reason:
        return f"not run: {reason}"
    output = folder / benchmark.file
    if quick:
        output.unlink(missing_ok=True)  # those that go on where they were stopped would find nothing to do
    flags = ["--output", str(output), *(benchmark.quick if quick else ())]
    text = read_text(benchmark.path)
    if config.data is not None and takes(text, "data"):
        flags += ["--data", str(config.data)]
    if config.peers_python.exists() and takes(text, "peers_python"):
        flags += ["--peers_python", str(config.peers_python)]
    print(f"\n{display_path(benchmark.path)} {' '.join(flags)}", flush=True)
    status = run_script(benchmark.path, flags)
    if status == 130:
        raise KeyboardInterrupt
    return f"FAILED with status {status}" if status else ""


def takes(script: str, flag: str) -> bool:
    """Whether the options of a script, given as its text, have such a flag."""
    return re.search(rf"^    {flag}: ", script, re.MULTILINE) is not None


def missing(benchmark: Benchmark, config: Bench) -> str:
    """What keeps a benchmark from running here, in words; nothing if nothing does."""
    if not benchmark.path.is_file():
        return f"there is no {display_path(benchmark.path)}"
    if re.search(r"^    data: Path$", read_text(benchmark.path), re.MULTILINE) and config.data is None:
        return "it needs --data, the folder of the text data"
    absent = [name for name in benchmark.packages if importlib.util.find_spec(name) is None]
    if absent and not config.peers_python.exists():
        return f"{', '.join(absent)} is not installed; make bench-setup"
    return ""


def check(name: str, folder: Path, config: Bench) -> str:
    """What a fresh result says about the committed one, in one line."""
    benchmark = BENCHMARKS[name]
    committed = RESULTS / benchmark.file
    if benchmark.ratios is None:
        return "not checked: a short run says nothing about its figures"
    if not committed.exists():
        return f"not checked: there is no {display_path(committed)} yet"
    before, now = (benchmark.ratios(read_record(path)) for path in (committed, folder / benchmark.file))
    lines = [moved(side, before[side], now[side], config.tolerance) for side in before if side in now]
    said = [line for line in lines if line]
    lost = [f"{side} was not measured" for side in before if side not in now]
    lost = lost if len(lost) <= NAMED else [f"{len(lost)} of {len(before)} were not measured"]
    held = f"{len(lines) - len(said)} of {len(before)} ratios as committed"
    return "; ".join([f"MOVED: {'; '.join(said)}" if said else held, *lost])


def moved(side: str, before: Ratio, now: Ratio, tolerance: float) -> str:
    """Nothing if the new ratio lies within the committed spread, widened by the tolerance; else what happened."""
    if before.low * (1 - tolerance) <= now.middle <= before.high * (1 + tolerance):
        return ""
    return f"{side} {before.middle:.3g} ({before.low:.3g} to {before.high:.3g}) is now {now.middle:.3g}"
