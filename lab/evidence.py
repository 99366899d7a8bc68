"""What the pages say about measurements, kept equal to the files that hold them.

A figure is marked `<!-- from FILE KEY FORMAT -->shown<!-- end -->`: KEY leads through the JSON file, its parts joined
by dots, with `~` for a space. A table is everything between `<!-- table NAME -->` and `<!-- end table -->`, lines of
their own; `lab.evidence_tables` makes it. `lab bench --publish` brings both up to date, and the pictures.
"""

import json
import re
import sys
from pathlib import Path
from typing import Any

from lab.errors import UserError
from lab.evidence_pictures import draw_pictures
from lab.evidence_tables import TABLES
from lab.files import ROOT, atomic, display_path

FIGURE = re.compile(r"<!-- from (?P<file>\S+) (?P<key>\S+) ?(?P<format>\S*) -->(?P<shown>.*?)<!-- end -->", re.DOTALL)
TABLE = re.compile(r"<!-- table (?P<name>\S+) -->\n(?P<shown>.*?)<!-- end table -->", re.DOTALL)


def readmes() -> list[Path]:
    """The README of the lab, those of its projects, and those of the lessons inside a project."""
    return [ROOT / "README.md", *sorted(ROOT.glob("0*/README.md")), *sorted(ROOT.glob("0*/*/README.md"))]


def quoted() -> list[tuple[str, str, str]]:
    """Every marked figure and table of the READMEs: where it stands, what is shown, what its source holds."""
    found = []
    for readme in readmes():
        text = readme.read_text(encoding="utf-8")
        for match in FIGURE.finditer(text):
            found.append(
                (f"{display_path(readme)}: {match['file']} {match['key']}", match["shown"], from_source(match))
            )
        for match in TABLE.finditer(text):
            found.append(
                (f"{display_path(readme)}: table {match['name']}", match["shown"], table(match, readme.parent))
            )
    return found


def from_source(match: re.Match[str]) -> str:
    """What the source of a marked figure holds, in the format that the mark asks for.

    Raises UserError, naming the mark, where there is no such file or entry.
    """
    try:
        value: Any = json.loads((ROOT / match["file"]).read_text(encoding="utf-8"))
        for key in match["key"].replace("~", " ").split("."):
            value = value[int(key)] if isinstance(value, list) else value[key]
        return format(value, match["format"])
    except (OSError, LookupError, TypeError, ValueError) as error:
        raise UserError(f"{match['file']} {match['key']}: not to be had ({type(error).__name__}: {error})") from None


def table(match: re.Match[str], folder: Path) -> str:
    """The lines of a marked table on a page in `folder`, from the results. Raises UserError for an unknown name."""
    if match["name"] not in TABLES:
        raise UserError(f"<!-- table {match['name']} -->: no such table; there are {', '.join(TABLES)}")
    return TABLES[match["name"]](folder) + "\n"


def publish() -> None:
    """Draw the pictures and put what the results hold now into the READMEs; say what changed.

    A figure that the results do not hold, since a script ran last with flags that do not give it, stays as it is
    and is named on standard error.
    """
    for path in draw_pictures():
        print(f"drew {display_path(path)}")
    for readme in readmes():
        text = readme.read_text(encoding="utf-8")
        fresh = FIGURE.sub(_fresh_figure, text)
        fresh = TABLE.sub(lambda match, folder=readme.parent: _with(match, table(match, folder)), fresh)
        if fresh != text:
            with atomic(readme) as temporary:
                temporary.write_text(fresh, encoding="utf-8")
            print(f"updated {display_path(readme)}")


def _fresh_figure(match: re.Match[str]) -> str:
    """A marked figure with what its source holds now; as it is where it holds none."""
    try:
        return _with(match, from_source(match))
    except UserError as error:
        print(f"left as it is: {error}", file=sys.stderr)
        return match[0]


def _with(match: re.Match[str], fresh: str) -> str:
    """The whole of a match with `fresh` in place of what it shows."""
    begin, end = match.start("shown") - match.start(), match.end("shown") - match.start()
    return match[0][:begin] + fresh + match[0][end:]
