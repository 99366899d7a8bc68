"""What every long training has: a checkpoint to go on from, and a Ctrl-C that loses nothing.

A training is a generator of records, and each record has a `snapshot()`: all that going on to the same bits needs.
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
    """A record of a training."""

    @property
    def snapshot(self) -> Callable[[], dict[str, Any]]:
        """Gives the training's whole state as plain data; all processes call it together."""
        ...


Record = TypeVar("Record", bound=Resumable)


def saved_run(
    folder: Path, kind: str, given: Settings, resume: bool, default: Settings
) -> tuple[Settings, dict[str, Any] | None, list[dict[str, Any]]]:
    """The settings, the state and the rows of metrics to start from: with `resume` those in `folder`, else afresh.

    Args:
        kind: what the checkpoint must say that it holds.
        given, default: the settings asked for, a dataclass of plain values, and what they are where nobody asks.

    Raises UserError for a damaged checkpoint, and for settings asked for that contradict those of the run.
    """
    path = folder / CHECKPOINT
    if not resume:
        return given, None, []
    if not path.exists():
        if rank() == 0:
            warn_once(f"nothing to resume in {folder}; starting afresh")
        return given, None, []
    saved = load_checkpoint(path, kind)
    try:
        config = _current_settings(saved["config"], type(given))
        settings, state, rows = type(given)(**config), saved["state"], saved["rows"]
    except (KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{path}: its parts do not fit together ({error})") from None
    if set(config) != set(vars(settings)):
        raise UserError(f"{path}: written by another version of this script, with other settings; start afresh")
    for field in dataclasses.fields(settings):  # pyright: ignore[reportArgumentType]
        asked, before = getattr(given, field.name), getattr(settings, field.name)
        if asked not in (getattr(default, field.name), before):
            raise UserError(f"--{field.name} is {asked}, but the run in {folder} was started with {before}")
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
    """Pass the records on, and write checkpoint.pth with `rows`, which the caller fills, after those that `is_due`.

    On Ctrl-C the work on the record under way is finished and saved, then KeyboardInterrupt raised, in all processes
    alike; a second Ctrl-C stops at once where there is only one.
    """
    with deferred_interrupt() as interrupted:
        for record in stream:
            yield record
            stopping = any_rank(interrupted())
            if stopping or is_due(record):
                snapshot = record.snapshot()  # a joint effort of all processes
                if rank() == 0:
                    contents = {"config": dataclasses.asdict(settings), "state": snapshot, "rows": rows}
                    save_checkpoint(folder / CHECKPOINT, kind, contents)
            if stopping:
                if rank() == 0:
                    warn_once("stopped and saved; --resume goes on from there")
                raise KeyboardInterrupt


@contextmanager
def deferred_interrupt() -> Iterator[Callable[[], bool]]:
    """Within the block, the first Ctrl-C only makes the function that is yielded true; a second one stops at once.

    With several processes none does: torchrun sends each of them a second one when the terminal has sent the first.
    """
    asked = threading.Event()

    def ask(signal_number: int, frame: object) -> None:
        asked.set()
        if world_size() == 1:
            signal.signal(signal.SIGINT, before)

    before = signal.signal(signal.SIGINT, ask)
    try:
        yield asked.is_set
    finally:
        signal.signal(signal.SIGINT, before)
