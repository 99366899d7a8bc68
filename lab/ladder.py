"""A ladder of implementations: each rung is compared with the rung before and with a reference."""

from collections.abc import Iterable

from torch import Tensor

from lab.record import RunRecord

Rung = tuple[str, Tensor, Tensor | None, str, Tensor]


def show(rungs: Iterable[Rung], library: str, record: RunRecord) -> None:
    """Print a line for each rung and note the table and the largest difference in `record`.

    Args:
        rungs: name, output, output of the rung before (if any), name of the reference, its output.
        library: where the references come from.
    """
    rows = []
    print(f"{'rung':<23} {'output':<12}  largest difference from the rung before and from {library}")
    for name, output, before, reference, expected in rungs:
        to_before = "-" if before is None else f"{(output - before).abs().max():.1e}"
        to_reference = f"{(output - expected).abs().max():.1e}"
        print(f"{name:<23} {tuple(output.shape)!s:<12}  {to_before:>7}  {to_reference:>7} {reference}")
        rows.append({"rung": name.strip(), "to_before": to_before, "to_torch": to_reference, "reference": reference})
    record.results["ladder"] = rows
    worst = max(float(row["to_torch"]) for row in rows)
    record.check(f"largest difference from {library}", worst, "at most 1e-5", worst <= 1e-5)
