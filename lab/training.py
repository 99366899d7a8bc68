"""Training runs that can be interrupted and resumed: what a checkpoint keeps, and what a resumed run takes from it.

A training run is a generator of records; `record.snapshot()` returns the state that a bit-exact resume needs. A resumed
run takes all settings from its checkpoint. Only options of the place (device, threads, paths) come from the command
line, and the length of the run may be raised. A setting that is given and differs is refused.
"""

import hashlib
import itertools
import signal
import threading
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, TypeVar

from lab.checkpoints import load_checkpoint, save_checkpoint
from lab.distributed import any_rank, rank, world_size
from lab.errors import UserError
from lab.files import atomic_files, check_outputs, read_json_object, writable_folder
from lab.launch import RENAMED_SETTINGS, warn_once

CHECKPOINT = "checkpoint.pth"
MODEL_FILES = ("model.safetensors", "tokenizer.json", "tokenizer_config.json", "config.json")
MODEL_SCRIPTS = ("train_language_model", "train_sentiment", "average_sentiment", "minilm")  # their records list files
ADDED_SETTINGS = {"beta1": 0.9}  # settings that earlier checkpoints lack, with the value that was fixed then


class Resumable(Protocol):
    """A record of one training iteration."""

    @property
    def snapshot(self) -> Callable[[], dict[str, Any]]:
        """Return the complete training state as plain data. Collective: all processes must call it."""
        ...


Record = TypeVar("Record", bound=Resumable)


@dataclass(frozen=True)
class TrainingKind:
    """A kind of training: the settings that its checkpoints keep, and how they behave when a run is resumed."""

    name: str  # identifies the checkpoints
    defaults: Mapping[str, Any]  # all settings that a checkpoint keeps, with their default
    length: str  # the setting that a resumed run may raise
    places: frozenset[str] = frozenset()  # settings that come from the command line of the resumed run
    added: frozenset[str] = frozenset()  # settings that earlier checkpoints lack; then the command line's are taken
    complete: Callable[[dict[str, Any]], dict[str, Any]] = dict  # checks saved settings, and replaces those left open

    def is_switch(self, name: str) -> bool:
        """Return True for a setting whose only flag turns it from its default: at its default it is not given."""
        return isinstance(self.defaults[name], bool)


@dataclass
class Run:
    """A training run: new, or as far as its checkpoint goes.

    Args:
        folder: the output folder.
        settings: those that the run has, by the name of their flag.
        state: what `snapshot` of the last saved record returned; None in a new run.
        rows: of metrics.csv so far.
        inputs: a fingerprint of each input, by its flag.
        paths: where each input was, by its flag.
        kept: what else the run started from, as plain data.
    """

    kind: str
    folder: Path
    settings: dict[str, Any]
    state: dict[str, Any] | None = None
    rows: list[dict[str, Any]] = field(default_factory=list)
    inputs: dict[str, str] = field(default_factory=dict)
    paths: dict[str, str] = field(default_factory=dict)
    kept: dict[str, Any] = field(default_factory=dict)
    processes: int = 1
    device: str = ""
    threads: int = 0

    def check_input(self, flag: str, path: Path | None, fingerprint: str) -> None:
        """Note an input of the run. Raises UserError if the run was started with another one."""
        if self.inputs.setdefault(flag, fingerprint) != fingerprint:
            shown = f"--{flag} {path}" if path else f"--{flag}"
            raise UserError(f"{shown}: not what the run in {self.folder} was started with; {ANOTHER_FOLDER}")
        if path is not None:
            self.paths[flag] = str(path.absolute())

    def save(self, state: dict[str, Any]) -> None:
        """Write checkpoint.pth."""
        contents = {name: getattr(self, name) for name in ("rows", *CONTENTS)}
        save_checkpoint(self.folder / CHECKPOINT, self.kind, {"config": self.settings, "state": state, **contents})


CONTENTS = {
    "inputs": dict,
    "paths": dict,
    "kept": dict,
    "processes": int,
    "device": str,
    "threads": int,
}  # earlier checkpoints lack them
ANOTHER_FOLDER = "leave it out, or start a new run in another --output_dir"


# --- the command line of a resumed run --------------------------------------------------------------------------------


def given_value(arguments: Sequence[str], name: str) -> str | None:
    """Return the value of a flag on a command line, "" for one without a value; None if it is not given."""
    value = None
    for argument, following in itertools.pairwise([*arguments, ""]):
        flag, equals, text = argument.partition("=")
        if flag.startswith("--") and flag.removeprefix("--").replace("-", "_") == name:
            value = text if equals else ("" if following.startswith("--") else following)
    return value


def run_to_resume(kind: TrainingKind, arguments: Sequence[str], output_dir: Path) -> Run | None:
    """Return the run that a command line resumes, None if it starts a new one.

    Its settings are the defaults of all flags then, so that only those that are given can differ.

    Args:
        output_dir: the default of --output_dir.

    Raises UserError or OSError if the checkpoint is damaged, of another kind or version.
    """
    folder = Path(given_value(arguments, "output_dir") or output_dir)
    if given_value(arguments, "resume") is None or not (folder / CHECKPOINT).exists():
        return None
    return read_run(kind, folder)


def flag_defaults(kind: TrainingKind, run: Run) -> dict[str, Any]:
    """Return the settings of a run that are defaults of the flags: all but options of the place and switches."""
    return {name: value for name, value in run.settings.items() if name not in kind.places and not kind.is_switch(name)}


# --- starting and resuming --------------------------------------------------------------------------------------------


def start_run(
    kind: TrainingKind, folder: Path, requested: Mapping[str, Any], resume: bool, device: str = "", threads: int = 0
) -> Run:
    """Return the run to train: that in `folder` if `resume` and there is one, else a new one.

    Args:
        requested: the settings of the command line, whose defaults are those of the run (`run_to_resume`).
        device: type of the device to train on.
        threads: with which PyTorch computes; 0 where their number does not change the result.

    Raises UserError for a damaged checkpoint, for one of another kind, which a new run would overwrite, for another
    number of processes, and for settings that contradict those of the run.
    """
    path = folder / CHECKPOINT
    new = Run(kind.name, folder, dict(requested), processes=world_size(), device=device, threads=threads)
    if not path.exists():
        if resume:
            note(f"nothing to resume in {folder}; starting a new run")
        return new
    if not resume:
        try:
            load_checkpoint(path, kind.name)
        except UserError as error:
            raise UserError(f"{error}; it would be overwritten, choose another --output_dir") from None
        return new
    run = read_run(kind, folder)
    if run.processes != world_size():
        raise UserError(f"{path}: saved by {run.processes} processes, resumed by {world_size()}; start {run.processes}")
    if run.device and device and run.device != device:
        note(f"saved on {run.device}, resumed on {device}: the result is not bit-exact with that of one device")
    elif run.threads and threads and run.threads != threads:
        note(f"saved with {run.threads} threads, resumed with {threads}: the result is not bit-exact with as many")
    run.settings |= new_settings(kind, run, requested)
    run.device, run.threads = device, threads
    return run


def new_settings(kind: TrainingKind, run: Run, requested: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings of a resumed run that come from the command line; UserError for a contradiction."""
    changed = {}
    for name, value in requested.items():
        if name in kind.places or name not in run.settings:
            changed[name] = value
            continue
        saved = run.settings[name]
        if value == saved or (kind.is_switch(name) and value == kind.defaults[name]):
            continue
        different = f"--{name} is {value}, but the run in {run.folder} was started with {saved}"
        if name != kind.length:
            raise UserError(f"{different}; {ANOTHER_FOLDER}")
        if value < saved:
            raise UserError(f"{different}; give {saved} or more, or start a new run in another --output_dir")
        note(f"--{name} is raised from {saved} to {value}: from here on the learning-rate schedule is that of {value}")
        changed[name] = value
    return changed


def note(message: str) -> None:
    """Print a one-line note, in the first process only."""
    if rank() == 0:
        warn_once(message)


def read_run(kind: TrainingKind, folder: Path) -> Run:
    """Read checkpoint.pth. Raises UserError, naming the file, if it is damaged, of another kind or version."""
    path = folder / CHECKPOINT
    saved = load_checkpoint(path, kind.name)
    types = {"config": dict, "state": dict, "rows": list}
    types |= {name: type_ for name, type_ in CONTENTS.items() if name in saved}
    are_typed = all(isinstance(saved.get(name), type_) for name, type_ in types.items())
    if not are_typed or not all(isinstance(row, dict) for row in saved["rows"]):
        raise UserError(f"{path}: its contents are inconsistent")
    settings: dict[str, Any] = {name: value for name, value in ADDED_SETTINGS.items() if name in kind.defaults}
    settings |= {RENAMED_SETTINGS.get(str(name), str(name)): value for name, value in saved["config"].items()}
    if not set(kind.defaults) - kind.added <= set(settings) <= set(kind.defaults):
        raise UserError(f"{path}: written by another version of this script, with other settings; start a new run")
    run = Run(kind.name, folder, settings, **{name: saved[name] for name in types if name != "config"})
    if "processes" not in saved:
        run.processes = world_size()  # an earlier checkpoint; the training itself checks it
    with restoring_state():
        run.settings = kind.complete(run.settings)
    return run


@contextmanager
def restoring_state() -> Iterator[None]:
    """Raise a UserError of one line if a saved state does not fit the model, the data or the environment."""
    try:
        with warnings.catch_warnings(action="ignore"):  # PyTorch's, of a tensor where a dictionary should be
            yield
    except UserError:
        raise
    except (KeyError, TypeError, ValueError, AttributeError, IndexError, RuntimeError, OverflowError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[-1].strip()
        raise UserError(
            f"{CHECKPOINT}: its state does not fit the settings or the data of this run ({reason})"
        ) from None


def fingerprint(parts: Iterable[str | bytes]) -> str:
    """Return a hash of a sequence of texts and bytes."""
    digest = hashlib.sha256()
    piece = 1 << 20  # characters; a long text is not copied as a whole
    for part in parts:
        digest.update(f"{type(part).__name__} {len(part)}\n".encode())
        for start in range(0, len(part), piece):
            chunk = part[start : start + piece]
            digest.update(chunk.encode("utf-8", "surrogatepass") if isinstance(chunk, str) else chunk)
    return digest.hexdigest()


# --- the output folder ------------------------------------------------------------------------------------------------


def check_model_folder(folder: Path, names: Sequence[str], **inputs: Path | None) -> Path:
    """Check, before any work is done, that a model and its files (`names`) can be written to `folder`; return it.

    Raises:
        OSError: it is not a folder, or not writable.
        UserError: an input (by its flag), or a file that no script of the lab has written, would be overwritten.
    """
    check_outputs(folder, names, **inputs)
    existing = [name for name in names if name != CHECKPOINT and (folder / name).exists()]
    if existing and not _was_written_by_the_lab(folder, names):
        reason = "not written by the lab, and it would be overwritten"
        raise UserError(f"{folder / existing[0]}: {reason}; choose another --output_dir")
    return writable_folder(folder)


def _was_written_by_the_lab(folder: Path, names: Sequence[str]) -> bool:
    """Return True if `folder` contains a checkpoint of a training, the record of a run, or a model with its metrics."""
    if CHECKPOINT in names and (folder / CHECKPOINT).is_file():
        return True  # `start_run` checks that it is one of this training
    metrics = read_json_object(folder / "metrics.json")
    return {"parameters", "validation_loss"} <= set(metrics) or any(map(_read_record, folder.glob("*.json")))


@contextmanager
def atomic_model(folder: Path) -> Iterator[Path]:
    """Yield a temporary folder for a model and its files, which are put in place as `lab.files.atomic_files` does.

    Files that, according to its record, an earlier training wrote and this one does not are removed.
    """
    records = [_read_record(folder / f"{script}.json") for script in MODEL_SCRIPTS]
    earlier = [str(name) for record in records for name in record.get("files", ()) if Path(str(name)).name == name]
    obsolete = [name for name in earlier if name != CHECKPOINT and not (folder / name).is_dir()]
    with atomic_files(folder, last="config.json", obsolete=obsolete) as temporary:
        yield temporary


def _read_record(path: Path) -> dict[str, Any]:
    """Return the record of a run of the lab; empty if it is not one."""
    content = read_json_object(path)
    return content if {"script", "figures", "files", "packages"} <= set(content) else {}


# --- checkpoints and Ctrl-C -------------------------------------------------------------------------------------------


def checkpointed(stream: Iterable[Record], run: Run, *, is_due: Callable[[Record], bool]) -> Iterator[Record]:
    """Yield the records, and write checkpoint.pth with `run.rows`, which the caller fills, after each that `is_due`.

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
                    run.save(snapshot)
            if stopping:
                note("stopped and saved; rerun with --resume to continue")
                raise KeyboardInterrupt(f"{CHECKPOINT} is new, other files were left unchanged")


@contextmanager
def deferred_interrupt() -> Iterator[Callable[[], bool]]:
    """Defer Ctrl-C: yield a function that returns True after the first one; a second Ctrl-C stops immediately.

    With several processes a second one is ignored too: torchrun forwards a second signal to each process. Signals
    reach the main thread only; in another thread the function always returns False.
    """
    interrupted = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield interrupted.is_set
        return

    def on_interrupt(signal_number: int, frame: object) -> None:
        interrupted.set()
        if world_size() == 1:
            signal.signal(signal.SIGINT, before)

    before = signal.getsignal(signal.SIGINT) or signal.default_int_handler  # None: a handler that is not Python's
    signal.signal(signal.SIGINT, on_interrupt)
    try:
        yield interrupted.is_set
    finally:
        signal.signal(signal.SIGINT, before)
