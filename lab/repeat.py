"""One script, many seeds: the answer to "was that luck?". What was stopped goes on when the same command is given."""

import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from lab.compare import Group, draw, print_table, read_group, shown
from lab.errors import UserError, require_at_least
from lab.files import ROOT, display_path, read_text, writable_folder, write_json
from lab.intervals import estimate
from lab.runner import SCRIPTS, read_record, run_script
from lab.training import CHECKPOINT

GIVEN = ("seed", "output_dir", "resume")  # flags that are not the user's to give


@dataclass(frozen=True)
class Repeat:
    """Run seeds of a script and say what most of them do."""

    output_dir: Path | None = None
    """Folder for seed_0, seed_1, ... and their summary. Default: under runs/repeat, named by script and flags."""
    first_seed: int = 0
    """The first seed; the others follow."""
    y: str | None = None
    """Column of metrics.csv to draw. Default: the return, the reward, or the loss."""


def find_script(name: str) -> Path:
    """The script of that name (`maze`, `reacher`, ...) or path. Raises UserError unless it takes seeds."""
    path = SCRIPTS.get(name, Path(name))
    if path.suffix != ".py" or not path.is_file():
        raise UserError(f"{name}: neither a script nor one of {', '.join(SCRIPTS)}")
    return path.resolve()


def has_flag(script: Path, name: str) -> bool:
    """Whether the options of a script, fields of its dataclass, have this one."""
    return re.search(rf"^    {name}: ", read_text(script), re.MULTILINE) is not None


def folder_of(name: str, flags: Sequence[str]) -> Path:
    """Where the runs of a script with these flags go unless told otherwise."""
    parts = [Path(name).resolve().parent.name, Path(name).stem] if name.endswith(".py") else [name]
    words = re.sub(r"[^\w.=-]+", "_", "_".join((*parts, *(flag.lstrip("-") for flag in flags))))
    return ROOT / "runs/repeat" / words[:100]


def claim(folder: Path, script: Path, flags: Sequence[str]) -> None:
    """Note in `folder` what is run in it. Raises UserError where that is something else."""
    asked = {"script": display_path(script), "flags": list(flags)}
    path = writable_folder(folder) / "repeat.json"
    if path.exists():
        earlier = read_record(path)
        if {name: earlier.get(name) for name in asked} != asked:
            words = " ".join([str(earlier.get("script")), *earlier.get("flags", ())])
            raise UserError(f"{folder} holds seeds of {words}; name another --output_dir")
    else:
        write_json(path, asked)


def run_seed(script: Path, flags: Sequence[str], seed: int, folder: Path) -> bool:
    """Run one seed into its folder unless it has finished; False if there was nothing to do."""
    if (folder / f"{script.stem}.json").is_file():
        return False
    resume = ["--resume"] * (has_flag(script, "resume") and (folder / CHECKPOINT).is_file())
    status = run_script(script, (*flags, "--seed", str(seed), "--output_dir", str(folder), *resume))
    if status == 130:
        raise KeyboardInterrupt
    if status:
        raise UserError(f"seed {seed} ended with status {status}; the same command goes on from there")
    return True


def repeat(count: int, command: Sequence[str], config: Repeat) -> None:
    """Run `count` seeds of `command` (a script and its flags), then print and draw what they have in common."""
    if count < 1:
        raise UserError(f"the number of seeds is {count}; it must be at least 1")
    require_at_least(0, config, "first_seed")
    if not command:
        raise UserError("what is to be repeated? lab repeat 5 -- maze --episodes 100")
    name, *flags = command
    script = find_script(name)
    for flag in flags:
        if re.split("[.=]", flag.lstrip("-"))[-1] in GIVEN or flag.split("=")[0].lstrip("-") in GIVEN:
            raise UserError(f"{flag}: given to every seed by lab repeat itself; leave it out")
    folder = config.output_dir or folder_of(name, flags)
    claim(folder, script, flags)
    seeds = range(config.first_seed, config.first_seed + count)
    for number, seed in enumerate(seeds, 1):
        print(f"[{number}/{count}] seed {seed}", file=sys.stderr, flush=True)
        if not run_seed(script, flags, seed, folder / f"seed_{seed}"):
            print("has finished before", file=sys.stderr)
    report(folder, read_group(folder, folder.name), config)


def report(folder: Path, group: Group, config: Repeat) -> None:
    """Print the band of every final figure, draw the curve, and write both."""
    names = list(group.runs[0].figures)
    columns = [f"interquartile mean of {len(group.runs)} seeds (95% interval)", "lowest", "highest"]
    rows = {
        name: [shown(group.values(name)), f"{min(group.values(name)):.5g}", f"{max(group.values(name)):.5g}"]
        for name in names
    }
    print_table(display_path(folder), columns, rows)
    drawn = draw(folder / "curve.png", [group], config.y)
    estimates = {name: dict(zip(("mean", "low", "high"), estimate(group.values(name)), strict=True)) for name in names}
    claimed = read_record(folder / "repeat.json")
    write_json(folder / "repeat.json", {**claimed, "seeds": len(group.runs), "figures": estimates})
    print(
        f"wrote {display_path(folder / 'repeat.json')}" + (f", {display_path(folder / 'curve.png')}" if drawn else "")
    )
