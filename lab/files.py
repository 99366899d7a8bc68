"""Atomic file writes: files are written under a temporary name, then renamed."""

import errno
import json
import os
import re
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from lab.errors import UserError

ROOT = Path(__file__).resolve().parent.parent
LEFTOVER = re.compile(r"\..+\.(\d+)\.partial")  # the temporary name of a file, with the id of the process


@contextmanager
def atomic(path: Path) -> Iterator[Path]:
    """Yield a temporary path next to `path`; rename it to `path` if the block succeeds, else remove it.

    Raises OSError, which names `path`, if it cannot be written, also if a library reports that in another way.
    """
    temporary = _temporary(path)
    try:
        with _write_errors(temporary, path):
            yield temporary
            os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def _temporary(path: Path) -> Path:
    return path.with_name(f".{path.name}.{os.getpid()}.partial")


@contextmanager
def _write_errors(temporary: Path, path: Path) -> Iterator[None]:
    """Raise an error about the file or folder `temporary` as an OSError that names `path` instead."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        cause = error if isinstance(error, OSError) else error.__context__  # torch.save: RuntimeError after an OSError
        number = cause.errno if isinstance(cause, OSError) else None
        name = cause.filename if isinstance(cause, OSError) else None
        if match := re.search(r"\(os error (\d+)\)", str(error)):  # libraries in Rust: safetensors, tokenizers
            number = int(match[1])
        written = Path(os.fsdecode(name)) if isinstance(name, (str, bytes)) else temporary
        if number is None or not written.is_relative_to(temporary):
            raise
        raise OSError(number, os.strerror(number), str(path / written.relative_to(temporary))) from error


def write_json(path: Path, value: Any) -> None:
    """Write `value` as indented JSON, atomically."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def write_text(path: Path, text: str) -> None:
    r"""Write text as UTF-8, atomically. What UTF-8 lacks (bytes of a file name) is written as `\udc..`, as in JSON."""
    with atomic(path) as temporary:
        temporary.write_bytes(text.encode("utf-8", "backslashreplace"))


def writable_folder(path: Path) -> Path:
    """Create the folder `path` if needed and check that it is writable, before any work is done.

    Temporary files that killed processes have left in it are removed. Raises OSError, which names the path, if it is
    not writable or not a folder.
    """
    if path.exists() and not path.is_dir():
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(path))
    path.mkdir(parents=True, exist_ok=True)
    try:
        with tempfile.TemporaryFile(dir=path):
            pass
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from None
    _remove_leftovers(path)
    return path


def _remove_leftovers(folder: Path) -> None:
    for path in folder.glob(".*.partial"):
        match = LEFTOVER.fullmatch(path.name)
        if match is None or _is_running(int(match[1])):
            continue
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


def _is_running(process: int) -> bool:
    """Return True if a process with this id runs on this machine, or if that cannot be known."""
    if os.name != "posix":
        return True
    try:
        os.kill(process, 0)  # signal 0 only checks
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        pass
    return True


def read_text(path: Path) -> str:
    """Return the text of a UTF-8 file. Raises OSError (missing, unreadable) or UserError (not UTF-8), with its name."""
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: not UTF-8 text (byte {error.start}); save it as UTF-8") from None


def read_json_object(path: Path) -> dict[str, Any]:
    """Return the object in a JSON file; an empty one where the file is missing or holds something else."""
    try:
        content = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return {}
    return content if isinstance(content, dict) else {}


def display_path(path: Path) -> str:
    """Return `path` for display: relative to the lab if it lies inside it, with forward slashes."""
    for each in (Path(os.path.abspath(path)), path.resolve()):  # a link in the lab, or a link to the lab
        if each.is_relative_to(ROOT):
            return each.relative_to(ROOT).as_posix()
    return path.as_posix()


@contextmanager
def atomic_files(folder: Path, last: str, obsolete: Sequence[str] = ()) -> Iterator[Path]:
    """Yield a temporary folder inside `folder`; if the block succeeds, its files are put in place, else removed.

    Nothing else in `folder` is touched, except that files named in `obsolete` are removed. Every file is renamed, so
    each is either the earlier one or the new one. The file `last`, without which the others are useless (config.json
    of a model), is taken away first and put in place last: if the process is killed in between, `folder` contains no
    model, but never a mixture of two. After an error all earlier files are back.

    Raises OSError, which names the file in `folder`.
    """
    temporary = _temporary(folder / "files")
    shutil.rmtree(temporary, ignore_errors=True)
    try:
        with _write_errors(temporary, folder):
            temporary.mkdir()
            yield temporary
            _put_in_place(temporary, folder, last, obsolete)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _put_in_place(source: Path, folder: Path, last: str, obsolete: Sequence[str]) -> None:
    """Move the files of `source` to `folder`, `last` at the end; on an error move the earlier ones back."""
    names = sorted((path.name for path in source.iterdir()), key=lambda name: name == last)
    earlier = source / "earlier"
    earlier.mkdir()
    try:
        for name in dict.fromkeys([last, *names, *obsolete]):
            if (folder / name).is_dir():
                raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(folder / name))
            if os.path.lexists(folder / name):
                os.replace(folder / name, earlier / name)
        for name in names:
            os.replace(source / name, folder / name)
    except BaseException:
        for name in names:
            if not (source / name).exists():
                os.replace(folder / name, source / name)
        for path in earlier.iterdir():
            os.replace(path, folder / path.name)
        raise


def check_outputs(folder: Path, names: Sequence[str], **inputs: Path | None) -> None:
    """Check, before any work is done, that writing files of these `names` into `folder` destroys nothing.

    Args:
        inputs: files and folders that are read, by the name of their flag.

    Raises UserError if an input would be overwritten, and if a folder has the name of a file.
    """
    for name in names:
        if (folder / name).is_dir():
            raise UserError(f"{folder / name}: a folder, where a file is to be written; choose another --output_dir")
    for flag, path in inputs.items():
        if path is None or not path.exists():
            continue
        for written in (folder, *(folder / name for name in names)):
            if written.exists() and written.samefile(path):
                raise UserError(f"--{flag} {path}: it would be overwritten; choose another --output_dir")
