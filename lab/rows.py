"""Measurements that take long, row by row in one JSON file: what has been measured is not measured again."""

from pathlib import Path
from typing import Any

from lab.errors import UserError
from lab.files import display_path, writable_folder, write_json
from lab.runner import read_record


class ResumableResults:
    """The rows of a results file, written whole after every new one.

    Args:
        path: the file; an earlier one is gone on with.
        settings: what all rows have in common, as plain data.

    Raises:
        OSError: the folder cannot be written to.
        UserError: the file is damaged, or holds rows measured with other settings.
    """

    def __init__(self, path: Path, settings: dict[str, Any]) -> None:
        writable_folder(path.parent)
        self.path = path
        self.contents: dict[str, Any] = {"settings": settings, "rows": []}
        if path.exists():
            self.contents = read_record(path)
            if self.contents.get("settings") != settings or not isinstance(self.contents.get("rows"), list):
                raise UserError(
                    f"{display_path(path)} holds rows of other settings; move it away or name another --output"
                )

    def find(self, **key: Any) -> list[dict[str, Any]]:
        """The rows with these entries."""
        rows = self.contents["rows"]
        return [row for row in rows if all(row.get(name) == value for name, value in key.items())]

    def add(self, row: dict[str, Any]) -> None:
        """Append a row and write the file."""
        self.contents["rows"].append(row)
        write_json(self.path, self.contents)

    def finish(self, **more: Any) -> None:
        """Write what follows from all rows beside them."""
        rows = self.contents.pop("rows")
        self.contents |= {**more, "rows": rows}
        write_json(self.path, self.contents)
