"""A progress bar with current metrics and the time left; a few plain lines if standard error is not a terminal."""

import sys
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

Record = TypeVar("Record")


def track(records: Iterable[Record], total: int, what: str, describe: Callable[[Record], str]) -> Iterator[Record]:
    """Yield `records` while showing progress on standard error; `describe` summarizes a record in a few words.

    On a terminal this is a live bar with the time left; elsewhere one line per tenth of the total.
    """
    console = Console(stderr=True)
    if not console.is_terminal:
        yield from _plain_lines(records, total, what, describe)
        return
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, TextColumn("{task.fields[numbers]}"), console=console) as progress:
        task = progress.add_task(what, total=total, numbers="")
        for record in records:
            progress.update(task, advance=1, numbers=describe(record))
            yield record


def _plain_lines(
    records: Iterable[Record], total: int, what: str, describe: Callable[[Record], str]
) -> Iterator[Record]:
    for count, record in enumerate(records, 1):
        if count == total or count % max(total // 10, 1) == 0:
            print(f"{what} {count}/{total}  {describe(record)}", file=sys.stderr, flush=True)
        yield record
