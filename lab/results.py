"""Results files of the benchmarks: one schema for all of them, described in docs/BENCHMARKS.md.

A file holds `benchmark` and `runs`, one per processor: a new run replaces that of the same processor and leaves the
others as they are. A run holds `settings`, `environment` and `records`; a record is a flat dictionary with what was
measured (`configuration`, `side` and values) and where and when (`processor`, `date`, `versions`).
"""

import json
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
    for number, record in enumerate(run["records"]):
        problems += [f"records.{number}: no {name}" for name in RECORD_KEYS if name not in record]
        problems += _nested_values(record, f"records.{number}", allowed="versions")
        if record.get("processor") != processor_of(run):
            problems.append(f"records.{number}: another processor")
    for number, row in enumerate(run.get("summary", ())):
        problems += [f"summary.{number}: no side"] * ("side" not in row)
        problems += _nested_values(row, f"summary.{number}")
    return problems


def _wrong_types(contents: Mapping[str, Any], types: Mapping[str, type]) -> list[str]:
    return [
        f"{name}: {kind.__name__} expected" for name, kind in types.items() if not isinstance(contents.get(name), kind)
    ]


def _nested_values(record: Record, where: str, allowed: str = "") -> list[str]:
    """Return a problem per value that is neither a scalar nor a list of scalars; `versions` is a dictionary."""
    scalars = (str, int, float, bool, type(None))
    problems = []
    for name, value in record.items():
        items = value if isinstance(value, list) else [value]
        if name == allowed and isinstance(value, dict):
            items = list(value.values())
        if not all(isinstance(item, scalars) for item in items):
            problems.append(f"{where}.{name}: nested value")
    return problems


def read_runs(name: str) -> list[Run]:
    """Return the committed runs of a benchmark, one per processor; none if it has not been run."""
    return (read_json(RESULTS / f"{name}.json") or {"runs": []})["runs"]


def weakest(records: Sequence[Record], benchmark: str) -> Record:
    """Return the record with the weakest ratio, of the same measurement on several processors; else the first."""
    if any(record.get("median_ratio") is None for record in records):
        return records[0]
    choose = max if benchmark in LOWER_IS_BETTER else min
    return choose(records, key=lambda record: record["median_ratio"])


def read_json(path: Path | str) -> Any:
    """Return the contents of a JSON file, relative to the lab; None if there is no such file."""
    path = ROOT / path
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else None


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
        write_json(self.path, _with_run(self.file, self.run))

    def finish(self, **shared: Any) -> None:
        """Write the complete run with further entries, such as a summary of the records."""
        run = self.run | {"environment": self.environment, **shared}
        named = {name: run.pop(name) for name in ("records", "settings", "environment")}
        write_results(self.path, self.file["benchmark"], named.pop("records"), **named, **run)
