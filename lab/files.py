"""Files that are either whole or not there: written under a temporary name, then renamed."""

import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from lab.errors import UserError

ROOT = Path(__file__).resolve().parent.parent


@contextmanager
def atomic(path: Path) -> Iterator[Path]:
    """Yield a temporary path in the folder of `path`; rename it to `path` if the block ends well, else remove it."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        yield temporary
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def write_json(path: Path, value: Any) -> None:
    """Write `value` as indented JSON, whole or not at all."""
    with atomic(path) as temporary:
        temporary.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def writable_folder(path: Path) -> Path:
    """Create the folder `path` if need be and prove that files can be written there, before any work is done.

    Raises OSError, which names the path, where they cannot.
    """
    path.mkdir(parents=True, exist_ok=True)
    try:
        with tempfile.TemporaryFile(dir=path):
            return path
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from None


def read_text(path: Path) -> str:
    """The text of a UTF-8 file. Raises OSError (missing, unreadable) or UserError (no UTF-8), naming the file."""
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: not UTF-8 text (byte {error.start}); save it as UTF-8") from None


def display_path(path: Path) -> str:
    """`path` as it may be shown to others: relative to the lab where it lies inside, with forward slashes."""
    resolved = path.resolve()
    return (resolved.relative_to(ROOT) if resolved.is_relative_to(ROOT) else path).as_posix()


@contextmanager
def atomic_folder(path: Path, keep: Sequence[str] = ()) -> Iterator[Path]:
    """Yield a temporary folder beside `path`; when the block ends well it takes the place of `path`, else it goes.

    Files named by `keep` are taken over from the earlier folder where the new one does not have them. A folder cannot
    be replaced in one step: the earlier one is set aside first and removed last, never in between.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=f".{path.name}.", suffix=".partial", dir=path.parent))
    earlier = temporary.with_suffix(".earlier")
    try:
        yield temporary
        temporary.chmod(0o755)
        for name in keep:
            if (path / name).is_file() and not (temporary / name).exists():
                shutil.copy2(path / name, temporary / name)
        if path.exists():
            path.rename(earlier)
        temporary.rename(path)
        shutil.rmtree(earlier, ignore_errors=True)
    finally:
        if earlier.exists() and not path.exists():
            earlier.rename(path)
        shutil.rmtree(temporary, ignore_errors=True)


def replaceable_folder(path: Path, *marks: str) -> Path:
    """Prove, before any work is done, that `atomic_folder` may put its result at `path`; give `path` made absolute.

    Raises OSError where nothing can be written, UserError where a file, or a folder of other things (without a file
    called like one of `marks`), would be lost.
    """
    whole = path.absolute()
    if path.is_symlink() or (path.exists() and not path.is_dir()):
        raise UserError(f"{path}: not a folder; it is left as it is")
    if path.is_dir() and any(path.iterdir()) and not any((path / mark).is_file() for mark in marks):
        raise UserError(f"{path}: holds other things than a model, which would be lost; name another folder")
    writable_folder(whole.parent)
    return whole
