"""A user's own labeled texts: a table with the columns text and label, read from a CSV file."""

import csv
import io
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from lab.errors import UserError
from lab.files import read_text
from sentiment.leaks import normalize_for_matching

DELIMITERS = (",", ";", "\t")
MAX_LISTED = 3  # conflicts or names in an error message


class Row(NamedTuple):
    """A row of the table: its text, its label in upper case, and the line that it begins at."""

    text: str
    label: str
    line: int


def read_rows(path: Path) -> list[Row]:
    """Return the rows of a CSV file, whose fields are separated by commas, semicolons or tabs.

    Raises OSError or UserError, naming file and line.
    """
    content = read_text(path)
    csv.field_size_limit(max(csv.field_size_limit(), len(content)))
    delimiter = _delimiter(content)
    lines = _numbered_rows(path, content, delimiter)
    line, header = next(lines, (1, []))
    columns = [name.strip().lower() for name in header]
    for name in ("text", "label"):
        if columns.count(name) != 1:
            count = f"{columns.count(name)} columns" if name in columns else "no column"
            names = ", ".join(map(_shortened, header[:MAX_LISTED])) or "nothing"
            right = f"the first line must name text and label, separated by a comma; it holds {names}"
            raise UserError(f"{path}, line {line}: {count} {name!r}; {right}")
    rows = []
    for line, fields in lines:
        if len(fields) > len(columns):
            raise UserError(f"{path}, line {line}: more fields than columns; quote texts that contain {delimiter!r}")
        cells = dict(zip(columns, fields, strict=False))
        text = cells.get("text", "").strip()
        label = " ".join(cells.get("label", "").split())
        if not text or not label:
            raise UserError(f"{path}, line {line}: no {'label' if text else 'text'}")
        rows.append(Row(text, label.upper(), line))
    if not rows:
        raise UserError(f"{path}: no example in it")
    return rows


def _delimiter(content: str) -> str:
    """Return the delimiter with which the first line has both columns; a comma if none has."""
    first_line = content.lstrip().partition("\n")[0].lower()
    for delimiter in DELIMITERS:
        cells = [cell.strip(' "') for cell in first_line.split(delimiter)]
        if {"text", "label"} <= set(cells):
            return delimiter
    return ","


def _numbered_rows(path: Path, content: str, delimiter: str) -> Iterator[tuple[int, list[str]]]:
    """Yield the line at which each row begins and its fields, blank lines left out."""
    reader = csv.reader(io.StringIO(content, newline=""), delimiter=delimiter, skipinitialspace=True, strict=True)
    line = 1
    try:
        for fields in reader:
            if fields:
                yield line, fields
            line = reader.line_num + 1
    except csv.Error as error:
        raise UserError(f"{path}, line {line}: {error} in the row that begins here; is a quote missing?") from None


def two_labels(path: Path, rows: Sequence[Row]) -> list[str]:
    """Return the two labels of a table, sorted. Raises UserError if it has another number of them."""
    labels = sorted({row.label for row in rows})
    if len(labels) != 2:
        listed = ", ".join(map(_shortened, labels[:MAX_LISTED])) + (", ..." if len(labels) > MAX_LISTED else "")
        raise UserError(f"{path}: the column label holds {len(labels)} different values ({listed}); it must hold two")
    return labels


def distinct_rows(path: Path, rows: Sequence[Row]) -> list[Row]:
    """Return the first row of every text.

    Raises UserError, naming the lines, if a text has two labels. Copies may differ in spacing, case and punctuation,
    but not in a question mark.
    """
    first: dict[tuple[str, bool], Row] = {}
    conflicts = []
    for row in rows:
        earlier = first.setdefault((normalize_for_matching(row.text), "?" in row.text), row)
        if earlier.label != row.label:
            conflicts.append(f"{earlier.line} and {row.line}")
    if conflicts:
        listed = ", ".join(conflicts[:MAX_LISTED]) + (", ..." if len(conflicts) > MAX_LISTED else "")
        same = f"the same text with both labels in {len(conflicts)} pair(s) of lines"
        raise UserError(f"{path}: {same}: {listed}; remove one of each pair")
    return list(first.values())


def _shortened(name: str) -> str:
    """Return a name from the file in quotes, escaped, and not too long."""
    return repr(name if len(name) <= 40 else name[:37] + "...")
