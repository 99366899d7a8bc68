"""metrics.csv: training metrics, one line per iteration (step, episode), in the same format for all projects."""

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lab.errors import UserError
from lab.files import atomic, read_text

METRICS = "metrics.csv"


def write_metrics(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write rows with the same columns as CSV with a header; None becomes an empty cell, a bool 0 or 1."""
    with atomic(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        for row in rows:
            writer.writerow({name: int(value) if isinstance(value, bool) else value for name, value in row.items()})


def read_metrics(path: Path) -> dict[str, list[float]]:
    """Return column name to its values, NaN where nothing was measured.

    Raises OSError (no such file) or UserError (not a table of numbers), naming the file.
    """
    header, *lines = list(csv.reader(read_text(path).splitlines())) or [[]]
    if not header or not lines:
        raise UserError(f"{path}: contains no rows of metrics")
    if any(len(line) != len(header) for line in lines):
        raise UserError(f"{path}: damaged; its rows differ in length")
    try:
        return {
            name: [float(value or "nan") for value in column]
            for name, column in zip(header, zip(*lines, strict=True), strict=True)
        }
    except ValueError as error:
        raise UserError(f"{path}: damaged; not a table of numbers ({error})") from None
