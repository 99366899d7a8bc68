"""One library of benchmarks/inference_peers.py, in its own process: answer requests to generate or to classify.

    python inference_peers_worker.py MODULE FOLDER THREADS

MODULE has `PACKAGES`, `generator(folder, precision, threads)` and, for libraries that classify, `classifier` with the
same arguments. A generator is a function (prompts, new_tokens) -> the new tokens of every prompt; a classifier is a
function (texts) -> the class probabilities of every text. Prompts and texts are lists of token ids.
FOLDER has the models in the Hugging Face layout, as `gpt2` and `distilbert`.
"""

import functools
import importlib
import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from inference_common import UnsupportedError
from lab.record import version


class Library:
    """The models of one library, each loaded when it is first used."""

    def __init__(self, module: str, folder: Path, threads: int) -> None:
        self.module, self.folder, self.threads = module, folder, threads
        self.model = functools.cache(self.model)

    def model(self, task: str, precision: str) -> Callable[..., Any]:
        """Return the function of a task, in a precision."""
        make = getattr(importlib.import_module(self.module), task)
        return make(self.folder, precision, self.threads)

    def answer(self, request: dict[str, Any]) -> dict[str, Any]:
        """Return seconds, output and package versions; or why that is not possible."""
        try:
            run = self.model(request["task"], request["precision"])
            begin = time.perf_counter()
            output = run(*request["arguments"])
            seconds = time.perf_counter() - begin
        except UnsupportedError as error:
            return {"failed": str(error)}
        except ModuleNotFoundError as error:
            return {"failed": f"{error.name} is not installed (make bench-setup)"}
        except Exception as error:  # whatever a library raises is the reason that it was not measured
            lines = str(error).strip().splitlines() or [""]
            return {"failed": f"{type(error).__name__}: {lines[0][:200]}"}
        packages = importlib.import_module(self.module).PACKAGES
        return {"seconds": seconds, "output": output, "versions": {name: version(name) for name in packages}}


def main() -> None:
    """Answer every line of standard input; what the libraries print goes to standard error."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    library = Library(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]))
    for line in sys.stdin:
        print(json.dumps(library.answer(json.loads(line))), file=answers, flush=True)


if __name__ == "__main__":
    main()
