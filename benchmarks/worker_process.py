"""A script that measures in its own process: it answers each line of JSON on standard input with a line of JSON."""

import json
import os
import subprocess
from pathlib import Path
from typing import Any

from lab.errors import UserError
from lab.files import ROOT
from lab.projects import FOLDERS


class WorkerProcess:
    """A script in its own process, with the lab and the projects on its search path; it idles between requests.

    Args:
        python: the Python that runs it, which may belong to another virtual environment.
        command: the script and its arguments.
        variables: further environment variables.
    """

    def __init__(self, python: Path, *command: object, **variables: str) -> None:
        self.command = [str(each) for each in (python, *command)]
        paths = os.pathsep.join(str(folder) for folder in (ROOT, *(ROOT / name for name in FOLDERS)))
        self.process = subprocess.Popen(
            self.command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, **variables, "PYTHONPATH": paths},
        )

    def ask(self, request: Any) -> Any:
        """Send a request and return the answer. Raises UserError if the process has exited."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        try:
            print(json.dumps(request), file=self.process.stdin, flush=True)
            return json.loads(self.process.stdout.readline())
        except (BrokenPipeError, json.JSONDecodeError):
            raise UserError(f"{' '.join(self.command)} exited early") from None

    def close(self) -> None:
        """End the process, which exits when its standard input does."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.close()
        self.process.stdout.close()
        self.process.wait()
