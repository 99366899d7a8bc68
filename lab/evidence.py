"""Numbers and tables in the documentation, kept equal to the results files.

A number is marked `<!-- from FILE KEY FORMAT -->shown<!-- end -->`. KEY is a path through the JSON file, its parts
joined by dots, with `~` for a space; in a list, `name=value` selects the one element with this entry, and several such
conditions are joined by `&`. In the results of a benchmark the path begins in a run; if several processors have the
record, the one with the weakest ratio is quoted. A table is the text between `<!-- table NAME -->` and
`<!-- end table -->`, each on its own line; `lab.evidence_tables` generates it. `lab bench --publish` updates numbers,
tables and plots.
"""

import json
import re
import sys
from pathlib import Path
from typing import Any

from lab.errors import UserError
from lab.evidence_tables import TABLES
from lab.files import ROOT, atomic, display_path
from lab.results import check_committed_results, weakest

NUMBER = re.compile(r"<!-- from (?P<file>\S+) (?P<key>\S+) ?(?P<format>\S*) -->(?P<shown>.*?)<!-- end -->", re.DOTALL)
TABLE = re.compile(r"<!-- table (?P<name>\S+) -->\n(?P<shown>.*?)<!-- end table -->", re.DOTALL)
PAGES = ("README.md", "docs/*.md", "0*/README.md", "0*/*/README.md")


def readmes() -> list[Path]:
    """Return all pages of the documentation: the READMEs of the lab and its projects, and docs/."""
    return [path for pattern in PAGES for path in sorted(ROOT.glob(pattern))]


def quoted() -> list[tuple[str, str, str]]:
    """Return every marked number and table as (location, shown text, text from its source)."""
    marks = []
    for readme in readmes():
        text = readme.read_text(encoding="utf-8")
        page = display_path(readme)
        for match in NUMBER.finditer(text):
            marks.append((f"{page}: {match['file']} {match['key']}", match["shown"], from_source(match)))
        for match in TABLE.finditer(text):
            marks.append((f"{page}: table {match['name']}", match["shown"], table(match, readme.parent)))
    return marks


def from_source(match: re.Match[str]) -> str:
    """Return the value from the source of a marked number, formatted as the mark says.

    Raises UserError, naming the mark, if there is no such file or entry.
    """
    try:
        contents: Any = json.loads((ROOT / match["file"]).read_text(encoding="utf-8"))
        keys = match["key"].replace("~", " ").split(".")
        value = _weakest(contents, keys) if "runs" in contents else _resolve(contents, keys)[0]
        return format(value, match["format"])
    except (OSError, LookupError, TypeError, ValueError) as error:
        raise UserError(f"{match['file']} {match['key']}: not found ({type(error).__name__}: {error})") from None


def _weakest(contents: dict[str, Any], keys: list[str]) -> Any:
    """Return the value from the run of the processor whose record has the weakest ratio; without ratios, the first."""
    found = []
    problem: Exception = LookupError("no runs")
    for run in contents["runs"]:
        try:
            found.append(_resolve(run, keys))
        except (LookupError, TypeError, ValueError) as error:
            problem = error
    if not found:
        raise problem
    chosen = weakest([record for _, record in found], contents["benchmark"])
    return next(value for value, record in found if record is chosen)


def _resolve(value: Any, keys: list[str]) -> tuple[Any, dict[str, Any]]:
    """Return the value at a path, and the last element of a list on the path: the record that holds the value."""
    record: dict[str, Any] = {}
    for key in keys:
        is_list = isinstance(value, list)
        value = _entry(value, key)
        if is_list and isinstance(value, dict):
            record = value
    return value, record


def _entry(value: Any, key: str) -> Any:
    """Return the entry of a dictionary or list; `name=value&...` selects the only matching element of a list."""
    if not isinstance(value, list):
        return value[key]
    if "=" not in key:
        return value[int(key)]
    conditions = dict(condition.split("=", 1) for condition in key.split("&"))
    matches = [each for each in value if all(str(each.get(name)) == text for name, text in conditions.items())]
    if len(matches) != 1:
        raise LookupError(f"{len(matches)} entries with {key}")
    return matches[0]


def table(match: re.Match[str], folder: Path) -> str:
    """Return the lines of a marked table for a page in `folder`. Raises UserError for an unknown name."""
    if match["name"] not in TABLES:
        raise UserError(f"<!-- table {match['name']} -->: no such table; available: {', '.join(TABLES)}")
    return TABLES[match["name"]](folder) + "\n"


def publish() -> None:
    """Draw the plots and update all numbers and tables in the documentation; print the changes.

    A number that is missing in the results, because a script last ran with other flags, is left unchanged and named on
    standard error. Raises UserError for a damaged file of results.
    """
    from lab.evidence_pictures import draw_plots  # loads Matplotlib

    check_committed_results()  # before anything is written
    for path in draw_plots():
        print(f"drew {display_path(path)}")
    for readme in readmes():
        text = readme.read_text(encoding="utf-8")
        updated = NUMBER.sub(_updated_number, text)
        updated = TABLE.sub(lambda match, folder=readme.parent: _with(match, table(match, folder)), updated)
        if updated != text:
            with atomic(readme) as temporary:
                temporary.write_text(updated, encoding="utf-8")
            print(f"updated {display_path(readme)}")


def _updated_number(match: re.Match[str]) -> str:
    """Return a marked number with the current value of its source; unchanged if the source has none."""
    try:
        return _with(match, from_source(match))
    except UserError as error:
        print(f"left unchanged: {error}", file=sys.stderr)
        return match[0]


def _with(match: re.Match[str], text: str) -> str:
    """Return the whole match with `text` as its content."""
    begin, end = match.start("shown") - match.start(), match.end("shown") - match.start()
    return match[0][:begin] + text + match[0][end:]
