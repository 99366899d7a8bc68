"""Atomic file writes: files are written under a temporary name, then renamed."""

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
    """Yield a temporary path next to `path`; rename it to `path` if the block succeeds, else remove it."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        yield temporary
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def write_json(path: Path, value: Any) -> None:
    """Write `value` as indented JSON, atomically."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def write_text(path: Path, text: str) -> None:
    r"""Write text as UTF-8, atomically. What UTF-8 lacks (bytes of a file name) is written as `\udc..`, as in JSON."""
    with atomic(path) as temporary:
        temporary.write_bytes(text.encode("utf-8", "backslashreplace"))


def writable_folder(path: Path) -> Path:
    """Create the folder `path` if needed and check that it is writable, before any work is done.

    Raises OSError, which names the path, if it is not writable.
    """
    path.mkdir(parents=True, exist_ok=True)
    try:
        with tempfile.TemporaryFile(dir=path):
            return path
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from None


def read_text(path: Path) -> str:
    """Return the text of a UTF-8 file. Raises OSError (missing, unreadable) or UserError (not UTF-8), with its name."""
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: not UTF-8 text (byte {error.start}); save it as UTF-8") from None


def display_path(path: Path) -> str:
    """Return `path` for display: relative to the lab if it lies inside it, with forward slashes."""
    resolved = path.resolve()
    return (resolved.relative_to(ROOT) if resolved.is_relative_to(ROOT) else path).as_posix()


@contextmanager
def atomic_folder(path: Path, keep: Sequence[str] = ()) -> Iterator[Path]:
    """Yield a temporary folder next to `path`; it replaces `path` if the block succeeds, else it is removed.

    Files named in `keep` are copied from the previous folder if the new one does not have them. A folder cannot be
    replaced in one step: the previous one is moved aside first and removed last.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=f".{path.name}.", suffix=".partial", dir=path.parent))
    previous = temporary.with_suffix(".earlier")
    try:
        yield temporary
        temporary.chmod(0o755)
        for name in keep:
            if (path / name).is_file() and not (temporary / name).exists():
                shutil.copy2(path / name, temporary / name)
        if path.exists():
            path.rename(previous)
        temporary.rename(path)
        shutil.rmtree(previous, ignore_errors=True)
    finally:
        if previous.exists() and not path.exists():
            previous.rename(path)
        shutil.rmtree(temporary, ignore_errors=True)


def replaceable_folder(path: Path, *markers: str) -> Path:
    """Check, before any work is done, that `atomic_folder` may replace `path`; return the absolute path.

    Raises OSError if it is not writable, UserError if a file or an unrelated folder (one that contains none of the
    files named in `markers`) would be overwritten.
    """
    absolute = path.absolute()
    if path.is_symlink() or (path.exists() and not path.is_dir()):
        raise UserError(f"{path}: not a folder; it was left unchanged")
    if path.is_dir() and any(path.iterdir()) and not any((path / marker).is_file() for marker in markers):
        raise UserError(f"{path}: contains other files than a model's, which would be lost; choose another folder")
    writable_folder(absolute.parent)
    return absolute
