"""Results files of the benchmarks: one schema for all of them, described in docs/BENCHMARKS.md.

A file holds `benchmark`, `settings`, `environment` and `records`; a record is a flat dictionary with what was measured
(`configuration`, `side` and values) and where and when (`processor`, `date`, `versions`).
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
Record = dict[str, Any]


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
    """Write a results file in the common schema; `shared` holds further top-level entries, such as `summary`."""
    contents = {
        "benchmark": benchmark,
        "settings": dict(settings),
        "environment": dict(environment),
        **shared,
        "records": list(records),
    }
    problems = schema_problems(contents)
    if problems:
        raise ValueError("; ".join(problems))
    write_json(path, contents)


def schema_problems(contents: Any) -> list[str]:
    """Return every deviation of a results file from the schema, in words; an empty list for a valid file."""
    if not isinstance(contents, dict):
        return ["not an object"]
    types = {"benchmark": str, "settings": dict, "environment": dict, "records": list}
    problems = [
        f"{name}: {kind.__name__} expected" for name, kind in types.items() if not isinstance(contents.get(name), kind)
    ]
    if problems:
        return problems
    if not contents["records"]:
        problems.append("records: empty")
    for number, record in enumerate(contents["records"]):
        problems += [f"records.{number}: no {name}" for name in RECORD_KEYS if name not in record]
        problems += _nested_values(record, f"records.{number}", allowed="versions")
    for number, row in enumerate(contents.get("summary", ())):
        problems += [f"summary.{number}: no side"] * ("side" not in row)
        problems += _nested_values(row, f"summary.{number}")
    return problems


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


def read_results(name: str) -> Any:
    """Return the committed results of a benchmark; None if it has not been run."""
    return read_json(RESULTS / f"{name}.json")


def read_json(path: Path | str) -> Any:
    """Return the contents of a JSON file, relative to the lab; None if there is no such file."""
    path = ROOT / path
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else None


def select(records: Sequence[Record], **key: Any) -> list[Record]:
    """Return the records with these entries."""
    return [record for record in records if all(record.get(name) == value for name, value in key.items())]


class ResumableResults:
    """A results file that is written after every new record, so that an interrupted benchmark can be resumed.

    Args:
        path: the file; records that it already holds are kept.
        benchmark: name of the benchmark.
        settings: settings that all records share, as plain data.

    Raises:
        OSError: the folder cannot be written to.
        UserError: the file is damaged, or holds records measured with other settings.
    """

    def __init__(self, path: Path, benchmark: str, settings: dict[str, Any]) -> None:
        writable_folder(path.parent)
        self.path = path
        self.contents: dict[str, Any] = {"benchmark": benchmark, "settings": settings, "records": []}
        if path.exists():
            self.contents = read_record(path)
            if self.contents.get("settings") != settings or not isinstance(self.contents.get("records"), list):
                raise UserError(
                    f"{display_path(path)} holds records of other settings; move it away or choose another --output"
                )

    def find(self, **key: Any) -> list[Record]:
        """Return the records with these entries."""
        return select(self.contents["records"], **key)

    def add(self, record: Record) -> None:
        """Append a record and write the file."""
        self.contents["records"].append(record)
        write_json(self.path, self.contents)

    def finish(self, environment: Mapping[str, Any], **shared: Any) -> None:
        """Write the complete file with further top-level entries, such as a summary of the records."""
        contents = self.contents | {"environment": environment, **shared}
        named = {name: contents.pop(name) for name in ("benchmark", "settings", "environment", "records")}
        write_results(self.path, named.pop("benchmark"), named.pop("records"), **named, **contents)
