"""The process that runs a learner's input: python -m lab.exercises.catch_child EXERCISE RESULT

It loads the right and the wrong answers of the exercise, and then does what lab.exercises.child does.
"""

import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from lab.exercises.catalog import Exercise, find
from lab.exercises.catch import CatchTask, Caught, counted_mistakes, tasks
from lab.exercises.catch_inputs import InvalidInputError, read_inputs
from lab.exercises.child import read_functions, serve
from lab.exercises.describing import described, first_difference, numbers, where
from lab.exercises.grading import load_grading, load_right_answers
from lab.exercises.probes import Answer, Outcome, Probe, as_number, call, noting_changes, outcome, same_outcome
from lab.exercises.verdicts import Verdict


class Catcher:
    """Runs the right and the wrong answers of an exercise on inputs."""

    def __init__(self, exercise: Exercise, task: CatchTask) -> None:
        self.exercise = exercise
        self.task = task
        grading = load_grading(exercise)
        wrong = dict(grading.wrong_answers())
        self.wrong = {id: wrong[id] for id in counted_mistakes(exercise)}
        self.right = load_right_answers(exercise, grading)
        self.readings = [grading.right, *(grading.build(frozenset([id])) for id in grading.readings)]
        self.tolerances = {"relative": grading.probes[0].relative, "absolute": grading.probes[0].absolute}
        self.best = self._best()

    def examine_file(self, file: Path) -> Verdict:
        """Return the verdict on the input that a learner's file makes."""
        functions = read_functions(["inputs"], file)
        if isinstance(functions, Verdict):
            return functions
        try:
            given = functions["inputs"]()
            values = read_inputs(given, self.task.arguments)
        except InvalidInputError as error:
            return Caught("invalid", str(error))
        except NotImplementedError:
            return Caught("not_started", "`inputs` still holds the line NotImplementedError")
        except SystemExit:
            return Caught("error", "your code ends the program: take out exit()")
        except MemoryError:
            raise
        except Exception as error:  # whatever a learner's code raises
            return Caught("error", described(error), details=tuple(where(error, str(file))))
        return self.examine(values)

    def examine(self, values: Mapping[str, Any]) -> Caught:
        """Return the verdict on an input that fits the function."""
        probe = self.probe(values)
        expected = [outcome(probe, answer) for answer in self.readings]
        problem = self.disagreement(probe, expected)
        if problem:
            return Caught("invalid", problem)
        caught = self.caught(probe, expected)
        missed = sorted((id for id in self.wrong if id not in caught), key=lambda id: id not in self.best)
        passed = len(caught) >= len(self.best)
        return Caught(
            "passed" if passed else "incomplete",
            f"catches {len(caught)} of {len(self.wrong)} known mistakes",
            caught=caught,
            missed=tuple(missed),
            best=len(self.best),
        )

    def _best(self) -> tuple[str, ...]:
        """Return the mistakes that the best known input catches."""
        probe = self.probe(read_inputs(self.task.best, self.task.arguments))
        return self.caught(probe, [outcome(probe, answer) for answer in self.readings])

    def caught(self, probe: Probe, expected: list[Outcome]) -> tuple[str, ...]:
        """Return the mistakes whose outcome is none of the expected ones."""
        return tuple(id for id, answer in self.wrong.items() if not _is_among(outcome(probe, answer), expected, probe))

    def disagreement(self, probe: Probe, expected: list[Outcome]) -> str:
        """Return why an input is not valid: the right answers fail on it or disagree; "" if it is valid."""
        first = expected[0]
        if first.exception is not None:
            return f"the right answer raises {described(first.exception)}"
        if any(value != value for _, value in numbers(first.value)):
            return "the right result is NaN, which can be compared with nothing"
        for style, answer in self.right.items():
            found = outcome(probe, answer)
            if found.exception is not None:
                return f"a right answer (“{style}”) raises {described(found.exception)}"
            if not _is_among(found, expected, probe):
                place = first_difference(found.value, first.value).strip()
                return (
                    f"two right answers disagree on it (“{style}” and the lab's own{'; ' if place else ''}{place}): "
                    "are there ties, or numbers that are very large or very close?"
                )
        return ""

    def probe(self, values: Mapping[str, Any]) -> Probe:
        """Return the probe that calls the function with an input, and computes the gradients that are compared."""

        def arguments() -> dict[str, Any]:
            return {name: argument.convert(values[name]) for name, argument in self.task.arguments.items()}

        function, name = self.exercise.name, "the learner's input"
        if not self.task.gradients:
            return call(function, name, arguments, result=as_number, **self.tolerances)
        return Probe(name, self._with_gradients(arguments), arguments, **self.tolerances)

    def _with_gradients(self, arguments: Callable[[], dict[str, Any]]) -> Callable[[Answer], Any]:
        from ppo_exercises.losses import loss_and_gradients

        def run(answer: Answer) -> Any:
            given = arguments()
            for name in self.task.gradients:
                given[name].requires_grad_()
            function = answer[self.exercise.name]
            return noting_changes(given, lambda: loss_and_gradients(function, given, *self.task.gradients))

        return run


def _is_among(found: Outcome, expected: list[Outcome], probe: Probe) -> bool:
    return any(same_outcome(found, each, probe) for each in expected)


def main(name: str, result: Path) -> None:
    """Load the exercise, wait for the name of a file, and write the verdict on the input in it."""
    exercise = find(name)
    serve(result, Catcher(exercise, tasks()[exercise.name]).examine_file)


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
