"""Load what an exercise is graded with: probes from the project's folder, wrong answers from its tests.

Imports torch only for exercises that need it.
"""

import importlib
import sys

import lab.projects  # noqa: F401 - puts the projects on the search path
from lab.exercises.catalog import Exercise
from lab.exercises.probes import Answer, Grading


def load_grading(exercise: Exercise) -> Grading:
    """Return the probes, the right answer and the wrong answers of an exercise."""
    tests = str(exercise.project / "tests")
    if tests not in sys.path:
        sys.path.append(tests)
    group = exercise.table.stem
    probes = importlib.import_module(f"{exercise.table.parent.name}.{group}")
    wrong_answers = importlib.import_module(f"{group}_wrong_answers")
    source = importlib.import_module(".".join(exercise.source.relative_to(exercise.project).with_suffix("").parts))
    right = {name: getattr(source, name) for name in exercise.functions}
    wrong = wrong_answers.WRONG[exercise.name]
    return Grading(
        probes=probes.PROBES[exercise.name],
        invariants=probes.INVARIANTS.get(exercise.name, ()),
        right=right,
        build=wrong.build,
        switches=[id for id in wrong.switches if id not in wrong.readings],
        plain=wrong.plain,
        readings=wrong.readings,
        remarks=getattr(probes, "REMARKS", {}).get(exercise.name, ()),
    )


def load_right_answers(exercise: Exercise, grading: Grading) -> dict[str, Answer]:
    """Return right answers in several styles, the lab's own first."""
    group = importlib.import_module(f"{exercise.table.stem}_right_answers")
    return {"the lab's own": grading.right} | group.RIGHT[exercise.name]
