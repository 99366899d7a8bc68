"""Command blocks of the documentation that are marked as runnable."""

import re
from dataclasses import dataclass
from pathlib import Path

from lab.evidence import readmes
from lab.files import ROOT

BLOCK = re.compile(r"<!-- runnable(?P<options>[^>]*?) -->\n```bash\n(?P<commands>.*?)```", re.DOTALL)
REDUCED = re.compile(r'reduced: "(?P<old>[^"]+)" to "(?P<new>[^"]+)"')


@dataclass(frozen=True)
class Block:
    """Commands of one block, with the replacements that its marker names applied."""

    readme: Path
    line: int
    commands: str

    def __str__(self) -> str:
        return f"{self.readme.parent.name if self.readme.parent != ROOT else 'lab'}:{self.line}"


def runnable_blocks() -> list[Block]:
    """Return all blocks after a `<!-- runnable -->` marker, in order."""
    blocks = []
    for readme in readmes():
        text = readme.read_text(encoding="utf-8")
        for match in BLOCK.finditer(text):
            commands = match["commands"]
            for old, new in REDUCED.findall(match["options"]):
                assert old in commands, f"{readme}: nothing to replace: {old}"
                commands = commands.replace(old, new)
            blocks.append(Block(readme, text[: match.start()].count("\n") + 2, commands))
    return blocks
