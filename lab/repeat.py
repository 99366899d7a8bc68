"""Run one script with many seeds and report mean and interval. If interrupted, rerun the same command to resume."""

import contextlib
import hashlib
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lab.compare import Group, draw, format_metric, print_table, read_group
from lab.errors import UserError, require_at_least
from lab.files import ROOT, display_path, writable_folder, write_json
from lab.intervals import estimate
from lab.launch import warn_once
from lab.metrics import METRICS, read_metrics
from lab.runner import SCRIPTS, read_record, run_script, takes_flag
from lab.training import CHECKPOINT

RESERVED_FLAGS = ("seed", "output_dir", "resume")  # set by `lab repeat` for every seed


@dataclass(frozen=True)
class Repeat:
    """Run seeds of a script and report mean and interval."""

    output_dir: Path | None = None
    """Folder for seed_0, seed_1, ... and their summary. Default: under runs/repeat, named after script and flags."""
    first_seed: int = 0
    """First seed; the others follow in order."""
    y: str | None = None
    """Column of metrics.csv to plot. Default: the return, the reward, or the loss."""


def find_script(name: str) -> Path:
    """Return the script for a name (`maze`, `reacher`, ...) or path. Raises UserError if there is none."""
    path = SCRIPTS.get(name, Path(name))
    if path.suffix != ".py" or not path.is_file():
        raise UserError(f"{name}: neither a script nor one of {', '.join(SCRIPTS)}")
    return path.resolve()


def default_folder(name: str, flags: Sequence[str]) -> Path:
    """Return the default output folder for a script with these flags."""
    parts = [Path(name).resolve().parent.name, Path(name).stem] if name.endswith(".py") else [name]
    words = re.sub(r"[^\w.=-]+", "_", "_".join((*parts, *(flag.lstrip("-") for flag in flags))))
    return ROOT / "runs/repeat" / words[:100]


def claim(folder: Path, script: Path, flags: Sequence[str]) -> None:
    """Record in `folder` which command runs in it. Raises UserError if another command has run there."""
    command: dict[str, Any] = {"script": display_path(script), "flags": list(flags), "files": input_hashes(flags)}
    path = writable_folder(folder) / "repeat.json"
    if path.exists():
        earlier = read_command(path)
        has_seeds = any(folder.glob("seed_*/*"))
        if not has_seeds:
            write_json(path, command)
        else:
            files = earlier["files"]
            changed = [file for file, version in files.items() if command["files"].get(file) != version]
            words = " ".join([earlier["script"], *earlier["flags"]])
            if [earlier["script"], earlier["flags"]] == [command["script"], command["flags"]]:
                if not changed:
                    return
                words += f", with another version of {' and '.join(changed)}"
            raise UserError(f"{folder} holds seeds of {words}; choose another --output_dir")
    else:
        write_json(path, command)


def input_hashes(flags: Sequence[str]) -> dict[str, str]:
    """Return the hash of every file that the flags name, such as a maze or functions of one's own."""
    hashes = {}
    for flag in flags:
        name = flag.partition("=")[2] if flag.startswith("--") else flag
        with contextlib.suppress(OSError, ValueError):  # too long for a name, or not readable
            if Path(name).is_file():
                with open(name, "rb") as file:
                    hashes[name] = hashlib.file_digest(file, "sha256").hexdigest()
    return hashes


def read_command(path: Path) -> dict[str, Any]:
    """Return the contents of repeat.json. Raises UserError, naming the file, if it is damaged."""
    contents: Any = read_record(path)
    if isinstance(contents, dict):
        contents.setdefault("files", contents.get("own_functions", {}))  # the name in earlier versions
    flags = contents.get("flags") if isinstance(contents, dict) else None
    is_command = isinstance(flags, list) and all(isinstance(flag, str) for flag in flags)
    if not is_command or not isinstance(contents.get("script"), str) or not isinstance(contents["files"], dict):
        raise UserError(f"{path}: damaged; delete it to go on with its seeds")
    return contents


def has_finished(path: Path) -> bool:
    """Return True if `path` is the record of a run and its metrics can be read: damaged ones are written again."""
    metrics = path.with_name(METRICS)
    try:
        record: Any = read_record(path)
        if metrics.is_file():
            read_metrics(metrics)
    except (OSError, UserError):
        return False
    return isinstance(record, dict) and "script" in record


def run_seed(script: Path, flags: Sequence[str], seed: int, folder: Path) -> bool:
    """Run one seed into its folder; return False if it has already finished."""
    if has_finished(folder / f"{script.stem}.json"):
        return False
    interrupted = (folder / CHECKPOINT).is_file()
    resume = ["--resume"] if interrupted and takes_flag(script, "--resume") else []
    status = run_script(script, (*flags, "--seed", str(seed), "--output_dir", str(folder), *resume))
    if status == 130:
        raise KeyboardInterrupt
    if status:
        raise UserError(f"seed {seed} exited with status {status}; rerun the same command to resume")
    return True


def repeat(count: int, command: Sequence[str], config: Repeat) -> None:
    """Run `count` seeds of `command` (a script and its flags), then report and plot mean and interval."""
    if count < 1:
        raise UserError(f"the number of seeds is {count}; it must be at least 1")
    require_at_least(0, config, "first_seed")
    if not command:
        raise UserError("no script to repeat; for example: lab repeat 5 -- maze --episodes 100")
    name, *flags = command
    script = find_script(name)
    for flag in flags:
        option = flag.partition("=")[0].replace("-", "_").removeprefix("__")  # --output-dir=x -> output_dir
        if flag.startswith("--") and option.rpartition(".")[2] in RESERVED_FLAGS:
            raise UserError(f"{flag}: set by lab repeat for every seed; remove it")
    folder = config.output_dir or default_folder(name, flags)
    claim(folder, script, flags)
    seeds = range(config.first_seed, config.first_seed + count)
    for number, seed in enumerate(seeds, 1):
        print(f"[{number}/{count}] seed {seed}", file=sys.stderr, flush=True)
        if not run_seed(script, flags, seed, folder / f"seed_{seed}"):
            print("already finished", file=sys.stderr)
    report(folder, read_group(folder, folder.name), config)


def report(folder: Path, group: Group, config: Repeat) -> None:
    """Print mean and interval of every final metric, plot the curve, and write both."""
    names = group.metrics()
    columns = [f"interquartile mean of {len(group.runs)} seeds (95% interval)", "lowest", "highest"]
    rows = {
        name: [format_metric(group, name), f"{min(group.values(name)):.5g}", f"{max(group.values(name)):.5g}"]
        for name in names
    }
    print_table(display_path(folder), columns, rows)
    estimates = {name: dict(zip(("mean", "low", "high"), estimate(group.values(name)), strict=True)) for name in names}
    claimed = read_record(folder / "repeat.json")
    write_json(folder / "repeat.json", {**claimed, "seeds": len(group.runs), "figures": estimates})
    print(f"wrote {display_path(folder / 'repeat.json')}")
    if draw_if_possible(folder / "curve.png", group, config.y):
        print(f"wrote {display_path(folder / 'curve.png')}")


def draw_if_possible(path: Path, group: Group, y: str | None) -> bool:
    """Plot the curve; return False, with a note, if there is none. Raises UserError for a column that was asked for."""
    try:
        return draw(path, [group], y)
    except UserError as error:
        if y is not None:
            raise
        warn_once(f"no curve: {error}")
        return False
