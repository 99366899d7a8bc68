"""The notebooks: generate each .ipynb file from its source, a Python file in jupytext's percent format.

`make notebooks` runs this file.
"""

from pathlib import Path

import jupytext
import nbformat

from lab.files import ROOT, write_text

FOLDER = ROOT / "notebooks"
METADATA = {
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}


def sources() -> list[Path]:
    """Return the sources of all notebooks, in the order of the lessons."""
    return sorted(FOLDER.glob("[0-9]*.py"))


def read_source(path: Path) -> nbformat.NotebookNode:
    """Return the notebook of a source. Its cells are numbered: jupytext would give them random ids."""
    notebook = jupytext.read(path, fmt="py:percent")
    notebook.metadata = nbformat.from_dict(METADATA)
    for number, cell in enumerate(notebook.cells):
        cell.id = f"cell-{number}"
    nbformat.validate(notebook)
    return notebook


def generated(path: Path) -> str:
    """Return the text of the .ipynb file of a source."""
    return nbformat.writes(read_source(path)) + "\n"


if __name__ == "__main__":
    for source in sources():
        write_text(source.with_suffix(".ipynb"), generated(source))
        print(f"wrote {source.with_suffix('.ipynb').relative_to(ROOT)}")
