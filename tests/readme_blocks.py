"""What the READMEs promise, as data: the command blocks marked as runnable, and the figures marked with their source.

A figure is marked `<!-- from FILE KEY FORMAT -->shown<!-- end -->`: KEY leads through the JSON file, its parts joined
by dots, with `~` for a space. Run as a script, this file brings all figures up to date.
"""

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lab.files import ROOT

BLOCK = re.compile(r"<!-- runnable(?P<options>[^>]*?) -->\n```bash\n(?P<commands>.*?)```", re.DOTALL)
REDUCED = re.compile(r'reduced: "(?P<old>[^"]+)" to "(?P<new>[^"]+)"')
FIGURE = re.compile(r"<!-- from (?P<file>\S+) (?P<key>\S+) ?(?P<format>\S*) -->(?P<shown>.*?)<!-- end -->", re.DOTALL)


@dataclass(frozen=True)
class Block:
    """Commands of one block, as they are run: with the reductions that its marker names."""

    readme: Path
    line: int
    commands: str

    def __str__(self) -> str:
        return f"{self.readme.parent.name if self.readme.parent != ROOT else 'lab'}:{self.line}"


def readmes() -> list[Path]:
    """The README of the lab and those of its projects."""
    return [ROOT / "README.md", *sorted(ROOT.glob("0*/README.md"))]


def runnable_blocks() -> list[Block]:
    """All blocks behind a `<!-- runnable -->` marker, in order."""
    blocks = []
    for readme in readmes():
        text = readme.read_text(encoding="utf-8")
        for match in BLOCK.finditer(text):
            commands = match["commands"]
            for old, new in REDUCED.findall(match["options"]):
                assert old in commands, f"{readme}: nothing to reduce: {old}"
                commands = commands.replace(old, new)
            blocks.append(Block(readme, text[: match.start()].count("\n") + 2, commands))
    return blocks


def quoted_figures() -> list[tuple[str, str, str]]:
    """Every marked figure of the READMEs: where it stands, what is shown, what its source holds in that format."""
    figures = []
    for readme in readmes():
        for match in FIGURE.finditer(readme.read_text(encoding="utf-8")):
            where = f"{readme.relative_to(ROOT)}: {match['file']} {match['key']}"
            figures.append((where, match["shown"], from_source(match)))
    return figures


def from_source(match: re.Match[str]) -> str:
    """What the source of a marked figure holds, in the format that the mark asks for."""
    value: Any = json.loads((ROOT / match["file"]).read_text(encoding="utf-8"))
    for key in match["key"].replace("~", " ").split("."):
        value = value[int(key)] if isinstance(value, list) else value[key]
    return format(value, match["format"])


def publish() -> None:
    """Put what the sources hold now into the READMEs."""
    for readme in readmes():
        text = readme.read_text(encoding="utf-8")
        fresh = FIGURE.sub(lambda match: match[0].replace(f">{match['shown']}<", f">{from_source(match)}<"), text)
        if fresh != text:
            readme.write_text(fresh, encoding="utf-8")
            print(f"updated {readme.relative_to(ROOT)}")


if __name__ == "__main__":
    publish()
