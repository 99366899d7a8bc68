"""Do the tests notice? Break the code in small ways, one at a time, and count how many breaks a test catches.

pip install cosmic-ray==8.7.0
python tests/mutants.py --mutants 200                       # writes benchmarks/results/mutants.json
python tests/mutants.py --mutants 20 --only 03_ppo_reacher  # some files only; the results of the others are kept

If it is interrupted, the same command goes on: mutants that were caught are not tested again.

A *mutant* is the code with one operator, comparison, number or word exchanged. Cosmic Ray makes them; this script
draws places at random, evenly over the files, and runs the tests on each mutant in a copy of the checkout: first the
test files that import the changed module, then all of its project. A mutant that no test catches has survived.
`EQUIVALENT` names those that no test can catch, because they compute the same.
"""

# pyright: reportMissingImports=false
import ast
import concurrent.futures
import hashlib
import os
import queue
import random
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import cosmic_ray.plugins
from cosmic_ray.ast import ast_nodes, get_ast
from cosmic_ray.mutating import mutate_code

from lab.errors import UserError, require_at_least
from lab.files import ROOT, writable_folder, write_text
from lab.launch import launch
from lab.progress import track
from lab.record import environment_info
from lab.results import RESULTS, earlier_run, new_record, write_results

FILES = {
    "00_first_steps": "autograd tensors small_network training_loop debugging",
    "01_q_learning_maze": (
        "q_learning_agent maze_env value_iteration batched_q_learning transition_tables replay_q_learning maze_layout "
        "maze_studies q_table_files"
    ),
    "02_transformer_basics": (
        "transformer_block optimization bpe_tokenizer models/gpt2 models/distilbert models/generation models/internals "
        "models/checkpoints models/settings models/batching tokenizer/byte_level tokenizer/training speed/quantization "
        "speed/linear_layers speed/choice speed/cuda_graph speed/fused_attention speed/onednn speed/inference_block "
        "speed/accelerated language_model/data language_model/ngram_baseline language_model/training sentiment/data "
        "sentiment/leaks sentiment/training "
        "sentiment/distillation sentiment/metrics sentiment/attribution sentiment/comparison sentiment/model_setup"
    ),
    "03_ppo_reacher": (
        "networks normalization rollout ppo environments reacher_vec agent evaluation controllers training_run"
    ),
    "lab": "intervals seeding distributed metrics results compare training",
}
CAUGHT = ROOT / "runs/mutants_caught.txt"  # digests: an interrupted campaign goes on where it stopped
NO_TESTS = 5  # exit status of pytest where all tests of a file are left out
SECONDS = (900, 3600)  # for the tests that import the module, and for the others; a mutant that takes longer is caught
# Mutants that no test can catch, and why: (file, line before, line after) -> reason.
EQUIVALENT: dict[tuple[str, str, str], str] = {
    (
        "01_q_learning_maze/replay_q_learning.py",
        "is_exact = self.visited & (self.q == self._targets())  # (S, A)",
        "is_exact = self.visited & (self.q <= self._targets())  # (S, A)",
    ): "Q-values start at the largest return and never fall below their targets",
    (
        "01_q_learning_maze/maze_studies.py",
        "episodes = 1 if agents.dynamics.n_outcomes == 1 else 200",
        "episodes = 1 if agents.dynamics.n_outcomes == 2 else 200",
    ): "no maze has two outcomes, and without slip all of the 200 episodes are the same",
    (
        "03_ppo_reacher/evaluation.py",
        "distances = np.linalg.norm(difference, axis=-1)  # (E,)",
        "distances = np.linalg.norm(difference, axis=+1)  # (E,)",
    ): "the last of two axes",
    (
        "03_ppo_reacher/training_run.py",
        "fused=True,",
        "fused=False,",
    ): "the same steps by slower kernels",
    (
        "02_transformer_basics/speed/inference_block.py",
        "return self.compute(x, mask, None, 0)",
        "return self.compute(x, mask, None, 1)",
    ): "without a cache the number of positions in it is not used",
    (
        "02_transformer_basics/sentiment/metrics.py",
        "generator = torch.Generator().manual_seed(0)",
        "generator = torch.Generator().manual_seed( 1)",
    ): "a bootstrap with another seed",
    (
        "02_transformer_basics/sentiment/attribution.py",
        'axes.text(0, top + 0.6, drawable(_heading(explanation)), weight="bold", size=9)',
        'axes.text( 1, top + 0.6, drawable(_heading(explanation)), weight="bold", size=9)',
    ): "the heading of a picture moves a little",
}


@dataclass
class Config:
    """Break the code in small ways and count how many breaks the tests catch."""

    output: Path = RESULTS / "mutants.json"
    """Results file."""
    mutants: int = 200
    """Number of mutants."""
    only: str = ""
    """Only files whose path contains this text."""
    seed: int = 0
    """Seed of the places and of the changes."""
    processes: int = 2
    """Mutants that are tested at a time."""

    def __post_init__(self) -> None:
        require_at_least(1, self, "mutants", "processes")


@dataclass(frozen=True)
class Mutant:
    """One small change of one file, and the line that it changes, before and after."""

    file: str
    line: int
    before: str
    after: str
    code: str  # of the whole changed file

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: {self.before}  ->  {self.after}"

    @property
    def digest(self) -> str:
        """Return what identifies the changed file."""
        return hashlib.sha256(f"{self.file}\n{self.code}".encode()).hexdigest()

    @property
    def reason(self) -> str:
        """Return why no test can catch it; "" if one could."""
        return EQUIVALENT.get((self.file, self.before, self.after), "")

    def as_dict(self) -> dict[str, Any]:
        """Return the change as plain data."""
        return {"file": self.file, "line": self.line, "before": self.before, "after": self.after}


def places(code: str) -> dict[tuple[Any, Any], list[tuple[str, int]]]:
    """Return the places of a file that can be changed: (start, end) -> [(operator, occurrence), ...].

    Type annotations and decorators are left out: a change there shows nothing about the tests.
    """
    annotations = set()
    for node in ast.walk(ast.parse(code)):
        for name in ("annotation", "returns"):
            annotation = getattr(node, name, None)
            if annotation is not None:
                annotations |= set(range(annotation.lineno * 1000 + annotation.col_offset, _end(annotation)))
    found: dict[tuple[Any, Any], list[tuple[str, int]]] = {}
    tree = get_ast(code)
    for name in cosmic_ray.plugins.operator_names():
        operator_class = cosmic_ray.plugins.get_operator(name)
        if operator_class.arguments() or "Decorator" in name:
            continue
        operator = operator_class()
        positions = (place for node in ast_nodes(tree) for place in operator.mutation_positions(node))
        for occurrence, (start, end) in enumerate(positions):
            if start[0] * 1000 + start[1] not in annotations:
                found.setdefault((start, end), []).append((name, occurrence))
    return found


def _end(node: ast.expr) -> int:
    return (node.end_lineno or 0) * 1000 + (node.end_col_offset or 0)


def mutants_of(file: str, draw: random.Random) -> Iterator[Mutant]:
    """Yield mutants of one file, at places in random order, one for each place."""
    code = (ROOT / file).read_text(encoding="utf-8")
    found = places(code)
    for place in draw.sample(sorted(found), len(found)):
        name, occurrence = draw.choice(found[place])
        mutated = mutate_code(code, cosmic_ray.plugins.get_operator(name)(), occurrence)
        if mutated is None or mutated == code:
            continue
        old, new = code.splitlines(), mutated.splitlines()
        line = next(number for number, pair in enumerate(zip(old, new, strict=False)) if pair[0] != pair[1])
        yield Mutant(file, line + 1, old[line].strip(), new[line].strip(), mutated)


def draw_mutants(config: Config) -> list[Mutant]:
    """Return the mutants to test: one of each file, then a second one of each, and so on."""
    files = [f"{folder}/{name}.py" for folder, names in FILES.items() for name in names.split()]
    streams = [mutants_of(file, random.Random(f"{config.seed} {file}")) for file in files if config.only in file]
    mutants: list[Mutant] = []
    while streams and len(mutants) < config.mutants:
        for stream in list(streams):
            mutant = next(stream, None)
            if mutant is None:
                streams.remove(stream)
            else:
                mutants.append(mutant)
    return mutants[: config.mutants]


def relevant_tests(file: str) -> list[list[str]]:
    """Return the tests for a mutant of `file`, as two lists: those that import it, then its project's others."""
    folder = file.split("/")[0]
    tests = "tests" if folder == "lab" else f"{folder}/tests"
    module = file.removeprefix(f"{folder}/").removesuffix(".py").replace("/", ".")
    module = f"lab.{module}" if folder == "lab" else module
    names = (f"import {module}\n", f"from {module} import", f"import {module} as")
    paths = sorted((ROOT / tests).glob("test_*.py"), key=lambda path: path.stat().st_size)
    direct = [
        f"{tests}/{path.name}" for path in paths if any(name in path.read_text(encoding="utf-8") for name in names)
    ]
    others = [f"{tests}/{path.name}" for path in paths if f"{tests}/{path.name}" not in direct]
    return [direct, others]


def run_tests(tests: Sequence[str], copy: Path, seconds: float) -> subprocess.CompletedProcess[str]:
    """Run test files or folders in a copy of the checkout up to the first failure, without those of the code's text.

    Raises subprocess.TimeoutExpired.
    """
    environment = os.environ | {"PYTHONPATH": str(copy), "PYTHONDONTWRITEBYTECODE": "1", "OMP_NUM_THREADS": "1"}
    skipped = ["--ignore=tests/test_house.py", "--ignore=tests/test_readme.py"]
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", *skipped, *tests]
    return subprocess.run(command, cwd=copy, env=environment, capture_output=True, text=True, timeout=seconds)


def check_original(tests: str, copy: Path) -> None:
    """Raise UserError if a test file that is to catch mutants fails without one: it would catch everything."""
    done = run_tests([tests], copy, SECONDS[1])
    if done.returncode not in (0, NO_TESTS):
        lines = done.stdout.strip().splitlines()
        failed = next((line for line in lines if line.startswith("FAILED")), lines[-1])
        raise UserError(f"{tests} fails without a mutant: {failed}")


def is_caught(mutant: Mutant, copy: Path) -> bool:
    """Return True if a test fails or does not end with the mutant; the copy of the checkout is left as it was."""
    path = copy / mutant.file
    original = path.read_text(encoding="utf-8")
    path.write_text(mutant.code, encoding="utf-8")
    try:
        runs = zip(relevant_tests(mutant.file), SECONDS, strict=True)
        caught = any(tests and run_tests(tests, copy, seconds).returncode != 0 for tests, seconds in runs)
    except subprocess.TimeoutExpired:
        print(f"does not end: {mutant}", flush=True)
        return True
    finally:
        path.write_text(original, encoding="utf-8")
    if not caught:
        print(f"survived: {mutant}", flush=True)
    return caught


def copy_checkout(folder: Path) -> Path:
    """Copy the committed files into a new folder, with a link to the training data next to it, and return it."""
    subprocess.run(["git", "clone", "--quiet", str(ROOT), str(folder)], check=True)
    if (ROOT.parent / "shared").exists() and not (folder.parent / "shared").exists():
        (folder.parent / "shared").symlink_to(ROOT.parent / "shared")
    return folder


def outcomes_of(mutants: list[Mutant], processes: int) -> list[bool]:
    """Return for each mutant whether a test catches it; `processes` of them are tested at a time."""
    with tempfile.TemporaryDirectory() as scratch, concurrent.futures.ThreadPoolExecutor(processes) as pool:
        copies: queue.Queue[Path] = queue.Queue()
        for number in range(processes):
            copies.put(copy_checkout(Path(scratch) / str(number)))

        def in_a_copy(work: Callable[[Any, Path], Any], item: Any) -> Any:
            copy = copies.get()
            try:
                return work(item, copy)
            finally:
                copies.put(copy)

        known = set(CAUGHT.read_text().split()) if CAUGHT.exists() else set()
        left = [mutant for mutant in mutants if mutant.digest not in known]
        tests = sorted({path for mutant in left for paths in relevant_tests(mutant.file) for path in paths})
        checks = pool.map(partial(in_a_copy, check_original), tests)
        for _ in track(checks, len(tests), "test file", lambda _: "passes"):
            pass
        outcomes = track(
            pool.map(partial(in_a_copy, is_caught), left),
            len(left),
            "mutant",
            lambda caught: "caught" if caught else "survived",
        )
        for mutant, caught in zip(left, outcomes, strict=True):
            if caught:
                known.add(mutant.digest)
                write_text(CAUGHT, "\n".join(sorted(known)))
        return [mutant.digest in known for mutant in mutants]


def counts_by_file(mutants: Sequence[Mutant], outcomes: Sequence[bool]) -> list[dict[str, Any]]:
    """Return a record for each file: how many mutants, how many were caught, how many survivors are equivalent."""
    environment = environment_info()
    records = []
    for file in sorted({mutant.file for mutant in mutants}):
        tested = [(mutant, caught) for mutant, caught in zip(mutants, outcomes, strict=True) if mutant.file == file]
        counts = {
            "mutants": len(tested),
            "caught": sum(caught for _, caught in tested),
            "equivalent": sum(not caught and mutant.reason != "" for mutant, caught in tested),
        }
        records.append(new_record(file, "tests", environment, **counts))
    return records


def main(config: Config) -> None:
    """Make the mutants, test them, and write the counts of each file and the survivors."""
    writable_folder(CAUGHT.parent)
    mutants = draw_mutants(config)
    outcomes = outcomes_of(mutants, config.processes)
    records = counts_by_file(mutants, outcomes)
    pairs = zip(mutants, outcomes, strict=True)
    survivors = [mutant.as_dict() | {"reason": mutant.reason} for mutant, caught in pairs if not caught]
    former = earlier_run(config.output, "mutants", environment_info()) if config.only else None
    if former:
        records += [record for record in former["records"] if config.only not in record["configuration"]]
        survivors += [survivor for survivor in former["survivors"] if config.only not in survivor["file"]]
    total = {name: sum(record[name] for record in records) for name in ("mutants", "caught", "equivalent")}
    share = total["caught"] / max(total["mutants"] - total["equivalent"], 1)
    write_results(
        config.output,
        "mutants",
        sorted(records, key=lambda record: record["configuration"]),
        settings={"seed": config.seed},
        environment=environment_info(),
        summary=[{"side": "tests", **total, "share": round(share, 4)}],
        survivors=survivors,
    )
    counts = f"{total['mutants']} mutants, {total['caught']} caught, {total['equivalent']} equivalent"
    print(f"{counts}: {share:.1%} of those that are not equivalent")


if __name__ == "__main__":
    launch(Config, main)
