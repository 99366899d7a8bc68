"""Checkpoints and graceful interruption for training runs.

A training run is a generator of records; `record.snapshot()` returns the state that a bit-exact resume needs.
"""

import dataclasses
import signal
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol, TypeVar

from lab.checkpoints import load_checkpoint, save_checkpoint
from lab.distributed import any_rank, rank, world_size
from lab.errors import UserError
from lab.launch import RENAMED_SETTINGS, warn_once

CHECKPOINT = "checkpoint.pth"
ADDED_SETTINGS = {"beta1": 0.9}  # settings that earlier checkpoints lack, with the value that was fixed then
Settings = TypeVar("Settings")


class Resumable(Protocol):
    """A record of one training iteration."""

    @property
    def snapshot(self) -> Callable[[], dict[str, Any]]:
        """Return the complete training state as plain data. Collective: all processes must call it."""
        ...


Record = TypeVar("Record", bound=Resumable)


def saved_run(
    folder: Path, kind: str, requested_settings: Settings, resume: bool, default: Settings
) -> tuple[Settings, dict[str, Any] | None, list[dict[str, Any]]]:
    """Return the settings, state and rows of metrics to start from: those in `folder` if `resume`, else new ones.

    Args:
        kind: the kind of checkpoint to expect.
        requested_settings: those of the command line, a dataclass of plain values.
        default: the default settings.

    Raises UserError for a damaged checkpoint, and for requested settings that contradict those of the run.
    """
    path = folder / CHECKPOINT
    if not resume:
        return requested_settings, None, []
    if not path.exists():
        if rank() == 0:
            warn_once(f"nothing to resume in {folder}; starting a new run")
        return requested_settings, None, []
    saved = load_checkpoint(path, kind)
    try:
        config = _current_settings(saved["config"], type(requested_settings))
        settings, state, rows = type(requested_settings)(**config), saved["state"], saved["rows"]
    except (KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{path}: its contents are inconsistent ({error})") from None
    if set(config) != set(vars(settings)):
        raise UserError(f"{path}: written by another version of this script, with other settings; start a new run")
    for field in dataclasses.fields(settings):  # pyright: ignore[reportArgumentType]
        requested = getattr(requested_settings, field.name)
        saved_value = getattr(settings, field.name)
        if requested not in (getattr(default, field.name), saved_value):
            raise UserError(f"--{field.name} is {requested}, but the run in {folder} was started with {saved_value}")
    return settings, state, rows


def _current_settings(saved: dict[str, Any], settings_class: type) -> dict[str, Any]:
    """Return the settings of a checkpoint under the names that they have in `settings_class` today."""
    names = {field.name for field in dataclasses.fields(settings_class)}
    added = {name: value for name, value in ADDED_SETTINGS.items() if name in names}
    return added | {RENAMED_SETTINGS.get(name, name): value for name, value in saved.items()}


def checkpointed(
    stream: Iterable[Record],
    folder: Path,
    kind: str,
    settings: Any,
    rows: list[dict[str, Any]],
    *,
    is_due: Callable[[Record], bool],
) -> Iterator[Record]:
    """Yield the records, and write checkpoint.pth with `rows`, which the caller fills, after each record that `is_due`.

    On Ctrl-C the current iteration is finished and saved, then KeyboardInterrupt is raised on all processes; with a
    single process a second Ctrl-C stops immediately.
    """
    with deferred_interrupt() as interrupted:
        for record in stream:
            yield record
            stopping = any_rank(interrupted())
            if stopping or is_due(record):
                snapshot = record.snapshot()  # collective: on all processes
                if rank() == 0:
                    contents = {"config": dataclasses.asdict(settings), "state": snapshot, "rows": rows}
                    save_checkpoint(folder / CHECKPOINT, kind, contents)
            if stopping:
                if rank() == 0:
                    warn_once("stopped and saved; rerun with --resume to continue")
                raise KeyboardInterrupt


@contextmanager
def deferred_interrupt() -> Iterator[Callable[[], bool]]:
    """Defer Ctrl-C: yield a function that returns True after the first one; a second Ctrl-C stops immediately.

    With several processes a second one is ignored too: torchrun forwards a second signal to each process.
    """
    interrupted = threading.Event()

    def on_interrupt(signal_number: int, frame: object) -> None:
        interrupted.set()
        if world_size() == 1:
            signal.signal(signal.SIGINT, before)

    before = signal.signal(signal.SIGINT, on_interrupt)
    try:
        yield interrupted.is_set
    finally:
        signal.signal(signal.SIGINT, before)
