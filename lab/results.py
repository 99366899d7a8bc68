"""Results files of the benchmarks: one schema for all of them, described in docs/BENCHMARKS.md.

A file holds `benchmark` and `runs`, one per processor: a new run replaces that of the same processor and leaves the
others as they are. A run holds `settings`, `environment` and `records`; a record is a flat dictionary with what was
measured (`configuration`, `side` and values) and where and when (`processor`, `date`, `versions`).
"""

import math
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lab.errors import UserError
from lab.files import ROOT, display_path, writable_folder, write_json
from lab.runner import read_record

RESULTS = ROOT / "benchmarks/results"
RECORD_KEYS = ("configuration", "side", "processor", "date", "versions")
RATIO_KEYS = ("median_ratio", "q1_ratio", "q3_ratio", "lowest_ratio", "highest_ratio")
LOWER_IS_BETTER = ("ppo", "text_startup")  # benchmarks whose ratios are times relative to another side
Record = dict[str, Any]
Run = dict[str, Any]


def new_record(configuration: str, side: str, environment: Mapping[str, Any], **values: Any) -> Record:
    """Return one record: what was measured, followed by the processor, date and package versions of `environment`."""
    return {
        "configuration": configuration,
        "side": side,
        **values,
        "processor": environment["processor"],
        "date": environment["date"],
        "versions": environment["packages"],
    }


def ratio_statistics(numerators: Sequence[float], denominators: Sequence[float]) -> dict[str, float]:
    """Return median, quartiles and range of the ratios of interleaved rounds, (rounds,) each."""
    ratios = [numerator / denominator for numerator, denominator in zip(numerators, denominators, strict=True)]
    q1, median, q3 = statistics.quantiles(ratios, n=4) if len(ratios) > 1 else ratios * 3
    low, high = min(ratios), max(ratios)
    values = (median, max(q1, low), min(q3, high), low, high)  # quartiles of 2 rounds would lie outside their range
    return {name: round(value, 4) for name, value in zip(RATIO_KEYS, values, strict=True)}


def write_results(
    path: Path,
    benchmark: str,
    records: Sequence[Record],
    *,
    settings: Mapping[str, Any],
    environment: Mapping[str, Any],
    **shared: Any,
) -> None:
    """Write the run of a processor into a results file, which keeps the runs of other processors.

    `shared` holds further entries of the run, such as `summary`. Raises UserError if the file is damaged.
    """
    run = {"settings": dict(settings), "environment": dict(environment), **shared, "records": list(records)}
    contents = _with_run(read_file(path, benchmark), run)
    problems = schema_problems(contents)
    if problems:
        raise ValueError("; ".join(problems))
    write_json(path, contents)


def read_file(path: Path, benchmark: str) -> dict[str, Any]:
    """Return the contents of a results file to which a run will be added, without runs if there is no such file.

    Raises UserError, naming the file, if it is damaged or belongs to another benchmark.
    """
    if not path.exists():
        return {"benchmark": benchmark, "runs": []}
    contents = read_record(path)
    problems = schema_problems(contents)
    if not problems and contents["benchmark"] != benchmark:
        problems = [f"it belongs to the benchmark {contents['benchmark']}"]
    if problems:
        raise UserError(
            f"{display_path(path)}: not the results of {benchmark} ({problems[0]}); move it away or repair it"
        )
    return contents


def earlier_run(path: Path, benchmark: str, environment: Mapping[str, Any]) -> Run | None:
    """Return the run of this processor in a results file, of which a new run can keep parts; None if there is none."""
    runs = read_file(path, benchmark)["runs"]
    return next((run for run in runs if processor_of(run) == environment.get("processor")), None)


def processor_of(run: Run) -> str | None:
    """Return the processor of a run."""
    return run["environment"].get("processor")


def _with_run(contents: dict[str, Any], run: Run) -> dict[str, Any]:
    """Return the contents of a results file with a run in the place of that of the same processor, or at the end."""
    places = [processor_of(each) for each in contents["runs"]]
    runs = list(contents["runs"])
    if processor_of(run) in places:
        runs[places.index(processor_of(run))] = run
    else:
        runs.append(run)
    return contents | {"runs": runs}


def schema_problems(contents: Any) -> list[str]:
    """Return every deviation of a results file from the schema, in words; an empty list for a valid file."""
    if not isinstance(contents, dict):
        return ["not an object"]
    problems = _wrong_types(contents, {"benchmark": str, "runs": list})
    if problems:
        return problems
    if not contents["runs"]:
        return ["runs: empty"]
    for number, run in enumerate(contents["runs"]):
        problems += [f"runs.{number}.{problem}" for problem in run_problems(run)]
    names = [processor_of(run) for run in contents["runs"]] if not problems else []
    problems += [f"runs: several of {name}" for name in dict.fromkeys(names) if names.count(name) > 1]
    return problems


def run_problems(run: Any) -> list[str]:
    """Return every deviation of a run from the schema."""
    if not isinstance(run, dict):
        return ["not an object"]
    problems = _wrong_types(run, {"settings": dict, "environment": dict, "records": list})
    if problems:
        return problems
    if not run["records"]:
        problems.append("records: empty")
    if not isinstance(processor_of(run), str | None):
        problems.append("environment.processor: str expected")
    for number, record in enumerate(run["records"]):
        problems += row_problems(record, f"records.{number}", RECORD_KEYS)
        if isinstance(record, dict) and record.get("processor") != processor_of(run):
            problems.append(f"records.{number}: another processor")
    summary = run.get("summary", [])
    if not isinstance(summary, list):
        return [*problems, "summary: list expected"]
    for number, row in enumerate(summary):
        problems += row_problems(row, f"summary.{number}", ("side",))
    return problems


def row_problems(row: Any, where: str, keys: Sequence[str]) -> list[str]:
    """Return every deviation of a record, or of a row of a summary, from the schema; `keys` must be in it."""
    if not isinstance(row, dict):
        return [f"{where}: not an object"]
    problems = [f"{where}: no {name}" for name in keys if name not in row]
    problems += [f"{where}.{name}: number expected" for name in RATIO_KEYS if not _is_number_or_none(row.get(name))]
    return problems + _nested_values(row, where)


def _is_number_or_none(value: Any) -> bool:
    return value is None or (isinstance(value, int | float) and not isinstance(value, bool))


def _wrong_types(contents: Mapping[str, Any], types: Mapping[str, type]) -> list[str]:
    return [
        f"{name}: {kind.__name__} expected" for name, kind in types.items() if not isinstance(contents.get(name), kind)
    ]


def _nested_values(record: Record, where: str) -> list[str]:
    """Return a problem per value that is no finite scalar and no list of them; `versions` is a dictionary."""
    scalars = (str, int, float, bool, type(None))
    problems = []
    for name, value in record.items():
        items = value if isinstance(value, list) else [value]
        if name == "versions" and isinstance(value, dict):
            items = list(value.values())
        if not all(isinstance(item, scalars) for item in items):
            problems.append(f"{where}.{name}: nested value")
        elif not all(math.isfinite(item) for item in items if isinstance(item, float)):
            problems.append(f"{where}.{name}: not a finite number")
    return problems


def read_runs(name: str) -> list[Run]:
    """Return the committed runs of a benchmark, one per processor; none if it has not been run.

    Raises UserError, naming the file, if it is damaged.
    """
    return read_file(RESULTS / f"{name}.json", name)["runs"]


def check_committed_results() -> None:
    """Raise UserError, naming the file, if a committed results file is damaged."""
    for path in sorted(RESULTS.glob("*.json")):
        read_file(path, path.stem)


def weakest(records: Sequence[Record], benchmark: str) -> Record:
    """Return the record with the weakest ratio, of the same measurement on several processors; else the first."""
    if any(record.get("median_ratio") is None for record in records):
        return records[0]
    choose = max if benchmark in LOWER_IS_BETTER else min
    return choose(records, key=lambda record: record["median_ratio"])


def read_json(path: Path | str) -> Any:
    """Return the contents of a JSON file, relative to the lab; None if there is none. Raises UserError if damaged."""
    path = ROOT / path
    return read_record(path) if path.exists() else None


def select(records: Sequence[Record], **key: Any) -> list[Record]:
    """Return the records with these entries."""
    return [record for record in records if all(record.get(name) == value for name, value in key.items())]


class ResumableResults:
    """The run of this processor in a results file, written after every new record so that it can be resumed.

    Args:
        path: the file; records that it already holds are kept, and so are the runs of other processors.
        benchmark: name of the benchmark.
        settings: settings that all records of the run share, as plain data.
        environment: where and when the run is measured.

    Raises:
        OSError: the folder cannot be written to.
        UserError: the file is damaged, or its run of this processor has other settings.
    """

    def __init__(self, path: Path, benchmark: str, settings: dict[str, Any], environment: Mapping[str, Any]) -> None:
        writable_folder(path.parent)
        self.path = path
        self.file = read_file(path, benchmark)
        self.environment = dict(environment)
        self.is_new = False  # has a record been added?
        self.run: Run = {"settings": settings, "environment": self.environment, "records": []}
        for run in self.file["runs"]:
            if processor_of(run) == processor_of(self.run):
                self.run = run
        if self.run["settings"] != settings:
            raise UserError(
                f"{display_path(path)} holds records of other settings; move it away or choose another --output"
            )

    def find(self, **key: Any) -> list[Record]:
        """Return the records of this processor with these entries."""
        return select(self.run["records"], **key)

    def add(self, record: Record) -> None:
        """Append a record and write the file."""
        self.run["records"].append(record)
        self.is_new = True
        write_json(self.path, _with_run(self.file, self.run))

    def finish(self, **shared: Any) -> None:
        """Write the complete run with further entries, such as a summary of the records.

        Its environment is the one that the last records were measured in.
        """
        environment = self.environment if self.is_new else self.run["environment"]
        run = self.run | {"environment": environment, **shared}
        named = {name: run.pop(name) for name in ("records", "settings", "environment")}
        write_results(self.path, self.file["benchmark"], named.pop("records"), **named, **run)


class ResultsByPart:
    """The run of this processor in a results file, of a benchmark whose parts can be measured separately.

    Each record has its `part`, is written at once, and replaces the earlier one of the same measurement.

    Args:
        settings: those that all records share.
        shared: further entries of the run.

    Raises UserError if the file is damaged, or its run of this processor has other settings.
    """

    def __init__(
        self, path: Path, benchmark: str, settings: dict[str, Any], environment: Mapping[str, Any], **shared: Any
    ) -> None:
        self.path = path
        self.benchmark = benchmark
        self.entries = {"settings": settings, "environment": environment, **shared}
        earlier = earlier_run(path, benchmark, environment) or {"settings": settings, "records": []}
        if earlier["settings"] != settings:
            raise UserError(f"{display_path(path)} holds records of other settings; choose another --output")
        self.earlier: list[Record] = earlier["records"]
        self.new: list[Record] = []

    def add(self, part: str, configuration: str, side: str, values: Record) -> None:
        """Add a record and write the file."""
        key = {"configuration": configuration, "side": side, "part": part}
        self.earlier = [record for record in self.earlier if not key.items() <= record.items()]
        self.new.append(new_record(configuration, side, self.entries["environment"], part=part, **values))
        self._write()

    def give_up(self, part: str, reason: str) -> bool:
        """Note why a part was not measured to its end, unless an earlier run did measure it; return if it is noted."""
        if any(record.get("part") == part and "not_measured" not in record for record in self.earlier):
            return False
        self.add(part, part, "part", {"not_measured": reason})
        return True

    def finish(self, part: str) -> None:
        """Forget the earlier records of a part that was measured to its end."""
        self.earlier = [record for record in self.earlier if record.get("part") != part]
        self._write()

    def _write(self) -> None:
        write_results(self.path, self.benchmark, [*self.earlier, *self.new], **self.entries)
