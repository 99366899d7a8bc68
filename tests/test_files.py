"""Files: written under a temporary name and renamed, alone or as a set; errors that name them; nothing else touched."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import SafetensorError

from lab.errors import UserError
from lab.files import (
    ROOT,
    atomic,
    atomic_files,
    check_outputs,
    display_path,
    read_text,
    writable_folder,
    write_json,
)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("error", [ValueError("half"), KeyboardInterrupt()])
def test_file_write_is_atomic(tmp_path: Path, error: BaseException) -> None:
    path = tmp_path / "file.txt"
    path.write_text("earlier")

    def stopped() -> None:
        with atomic(path) as temporary:
            temporary.write_text("hal")
            assert path.read_text() == "earlier"
            raise error

    with pytest.raises(type(error)):
        stopped()
    assert path.read_text() == "earlier"
    assert names(tmp_path) == ["file.txt"]
    with atomic(path) as temporary:
        temporary.write_text("new")
    assert path.read_text() == "new"
    assert names(tmp_path) == ["file.txt"]


@pytest.mark.parametrize("error", [ValueError("half"), KeyboardInterrupt()])
def test_several_files_are_put_in_place_together_and_nothing_else_is_touched(
    tmp_path: Path, error: BaseException
) -> None:
    (tmp_path / "weights").write_text("earlier")
    (tmp_path / "config").write_text("earlier")
    (tmp_path / "old").write_text("of the earlier model")
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes/mine").write_text("mine")
    everything = names(tmp_path)

    def stopped() -> None:
        with atomic_files(tmp_path, last="config", obsolete=["old"]) as temporary:
            assert temporary.parent == tmp_path  # on the same file system
            (temporary / "weights").write_text("hal")
            raise error

    with pytest.raises(type(error)):
        stopped()
    assert (tmp_path / "weights").read_text() == "earlier"
    assert names(tmp_path) == everything
    with atomic_files(tmp_path, last="config", obsolete=["old", "missing"]) as temporary:
        (temporary / "weights").write_text("new")
        (temporary / "config").write_text("new")
        (temporary / "card").write_text("new")
    assert {name: (tmp_path / name).read_text() for name in ("weights", "config", "card")} == dict.fromkeys(
        ("weights", "config", "card"), "new"
    )
    assert names(tmp_path) == ["card", "config", "notes", "weights"]
    assert (tmp_path / "notes/mine").read_text() == "mine"


@pytest.mark.parametrize("failing", range(7))
@pytest.mark.parametrize("error", [PermissionError(13, "Permission denied"), KeyboardInterrupt()])
def test_after_an_error_while_files_are_renamed_all_earlier_ones_are_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failing: int, error: BaseException
) -> None:
    earlier, new = ("config", "weights", "old"), ("config", "weights", "card")
    write_all(tmp_path, earlier, "earlier")
    rename, count = os.replace, iter(range(100))

    def fail(source: Path, target: Path) -> None:
        if next(count) == failing:
            raise error
        rename(source, target)

    monkeypatch.setattr(os, "replace", fail)
    if failing == 6:  # three earlier files are moved away, three new ones put in place: nothing is left to fail
        replace_all(tmp_path, new, obsolete=["old"])
    else:
        with pytest.raises(type(error)):
            replace_all(tmp_path, new, obsolete=["old"])
    contents = {path.name: path.read_text() for path in tmp_path.iterdir()}
    assert contents == (dict.fromkeys(new, "new") if failing == 6 else dict.fromkeys(earlier, "earlier"))


class Killed(BaseException):
    """Stands for SIGKILL: nothing is renamed afterwards."""


@pytest.mark.parametrize("renamed", range(6))
def test_a_kill_while_files_are_renamed_never_leaves_a_mixture(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, renamed: int
) -> None:
    model = ("config", "weights", "tokenizer")
    write_all(tmp_path, model, "earlier")
    rename, count = os.replace, iter(range(100))

    def killed(source: Path, target: Path) -> None:
        if next(count) >= renamed:
            raise Killed
        rename(source, target)

    monkeypatch.setattr(os, "replace", killed)
    with pytest.raises(Killed):
        replace_all(tmp_path, model)
    contents = {path.name: path.read_text() for path in tmp_path.iterdir()}
    assert ("config" in contents) == (renamed == 0)
    if "config" in contents:
        assert contents == dict.fromkeys(model, "earlier")


def write_all(folder: Path, names: Iterable[str], text: str) -> None:
    for name in names:
        (folder / name).write_text(text)


def replace_all(folder: Path, names: Iterable[str], obsolete: Sequence[str] = ()) -> None:
    with atomic_files(folder, last="config", obsolete=obsolete) as temporary:
        write_all(temporary, names, "new")


KILLED = """
import sys, time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from lab.files import atomic, atomic_files
path = Path(sys.argv[2])
with atomic(path) if sys.argv[1] == "file" else atomic_files(path, last="weights") as temporary:
    target = temporary if sys.argv[1] == "file" else temporary / "weights"
    target.write_text("hal")
    print("half", flush=True)
    time.sleep(60)
"""


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_kill_during_a_write_keeps_the_previous_content(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "thing"
    target = path if kind == "file" else path / "weights"
    target.parent.mkdir(exist_ok=True)
    target.write_text("earlier")
    with subprocess.Popen([sys.executable, "-c", KILLED, kind, str(path)], stdout=subprocess.PIPE, cwd=ROOT) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"half\n"
        process.send_signal(signal.SIGKILL)
    assert target.read_text() == "earlier"
    leftovers = [name for name in names(target.parent) if name not in ("thing", "weights")]
    assert len(leftovers) == 1
    assert leftovers[0].endswith(".partial")  # which git ignores
    (target.parent / ".mine.partial").touch()
    (target.parent / f".other.{os.getpid()}.partial").touch()  # of a process that still runs
    writable_folder(target.parent)
    assert not (target.parent / leftovers[0]).exists()
    assert {".mine.partial", f".other.{os.getpid()}.partial", target.name} <= set(names(target.parent))


def test_inputs_are_never_overwritten(tmp_path: Path) -> None:
    out = tmp_path / "out"
    check_outputs(out, ["samples.txt"], data=tmp_path / "missing", teacher=None)
    out.mkdir()
    (out / "samples.txt").write_text("mine")
    (out / "mine.txt").write_text("mine")
    (tmp_path / "link").symlink_to(out)
    (tmp_path / "text").symlink_to(out / "samples.txt")
    check_outputs(out, ["samples.txt"], data=out / "mine.txt")
    for data in (out, tmp_path / "link", out / "samples.txt", tmp_path / "text", tmp_path / "link/samples.txt"):
        for folder in (out, tmp_path / "link"):
            with pytest.raises(UserError, match=rf"--data {data}: it would be overwritten"):
                check_outputs(folder, ["samples.txt"], data=data)
    (out / "config.json").mkdir()
    with pytest.raises(UserError, match=r"config\.json: a folder, where a file is to be written"):
        check_outputs(out, ["config.json"])


@pytest.mark.parametrize("name", ["file", "file/below", "file/below/it"])
def test_a_file_in_place_of_a_folder_is_named(tmp_path: Path, name: str) -> None:
    (tmp_path / "file").write_text("mine")
    with pytest.raises(NotADirectoryError) as caught:
        writable_folder(tmp_path / name)
    assert str(caught.value.filename).startswith(str(tmp_path / "file"))
    assert (tmp_path / "file").read_text() == "mine"


def test_write_errors_of_every_library_name_the_file(tmp_path: Path) -> None:
    """A full disk: Python, torch.save (a RuntimeError) and safetensors (an error of its own)."""
    if not Path("/dev/full").exists():
        pytest.skip("needs /dev/full, a file of Linux that is always full")
    tensors = {"a": torch.zeros(100_000)}

    def by_torch(path: Path) -> None:
        with path.open("wb") as file:
            torch.save(tensors, file)

    def by_safetensors(path: Path) -> None:
        raise SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")

    for write in (lambda path: path.write_text("text"), by_torch, by_safetensors):
        target = tmp_path / "model.pth"
        target.write_text("earlier")
        with pytest.raises(OSError, match="No space left on device") as caught:
            write_to_a_full_disk(target, write)
        assert caught.value.filename == str(target)
        assert target.read_text() == "earlier"
        assert names(tmp_path) == ["model.pth"]


def write_to_a_full_disk(target: Path, write: Callable[[Path], object]) -> None:
    with atomic(target) as temporary:
        temporary.symlink_to("/dev/full")
        write(temporary)


def test_errors_that_are_not_about_the_written_file_keep_their_name(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError) as caught, atomic(tmp_path / "target"):
        (tmp_path / "source").read_text()
    assert caught.value.filename == str(tmp_path / "source")
    with pytest.raises(UserError, match="mine"), atomic(tmp_path / "target"):
        raise UserError("mine (os error 28)")


def test_writable_folder_is_created_and_left_empty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert writable_folder(tmp_path / "a/b") == tmp_path / "a/b"
    assert names(tmp_path / "a/b") == []

    def full(**_: Any) -> None:
        raise OSError(28, "No space left on device", "/somewhere/else")

    monkeypatch.setattr("tempfile.TemporaryFile", full)
    with pytest.raises(OSError, match="a/b") as caught:
        writable_folder(tmp_path / "a/b")
    assert caught.value.filename == str(tmp_path / "a/b")


def test_json_and_text_are_utf_8(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", {"naïve": ["😀", 1]})
    assert json.loads((tmp_path / "a.json").read_bytes().decode()) == {"naïve": ["😀", 1]}
    with pytest.raises(TypeError):
        write_json(tmp_path / "a.json", {"naïve": object()})
    assert json.loads(read_text(tmp_path / "a.json")) == {"naïve": ["😀", 1]}
    (tmp_path / "bom.txt").write_bytes("\ufeffword".encode())
    assert read_text(tmp_path / "bom.txt") == "word"
    assert names(tmp_path) == ["a.json", "bom.txt"]
    write_json(tmp_path / "a.json", {"caf\udce9": "caf\udce9"})  # bytes of a file name that are not UTF-8
    assert json.loads(read_text(tmp_path / "a.json")) == {"caf\udce9": "caf\udce9"}


def test_json_keeps_a_path_that_is_not_utf_8(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", {"folder": "caf\udce9 ü"})
    assert (tmp_path / "a.json").read_bytes() == '{\n  "folder": "caf\\udce9 ü"\n}\n'.encode()
    assert json.loads(read_text(tmp_path / "a.json")) == {"folder": "caf\udce9 ü"}


def test_paths_are_shown_relative_to_the_lab(tmp_path: Path) -> None:
    assert display_path(ROOT / "runs/../lab/files.py") == "lab/files.py"
    assert display_path(tmp_path) == tmp_path.as_posix()


def test_links_are_shown_by_their_names_in_the_lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lab = tmp_path / "lab"
    lab.mkdir()
    (tmp_path / "python").touch()
    (lab / "python").symlink_to(tmp_path / "python")
    (tmp_path / "link").symlink_to(lab)
    monkeypatch.setattr("lab.files.ROOT", lab)
    assert display_path(lab / "python") == "python"  # as in a virtual environment
    assert display_path(tmp_path / "link/file") == "file"
