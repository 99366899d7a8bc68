"""Results files and scripts of the benchmarks, for the tests."""

import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

from lab.files import ROOT
from lab.results import new_record, schema_problems

ENVIRONMENT = {"processor": "AMD EPYC 9B45 128-Core Processor", "date": "2026-11-26", "packages": {"torch": "2.13.0"}}


def of_one_processor(run: dict[str, Any], benchmark: str = "x") -> dict[str, Any]:
    """Return the contents of a results file with one run, whose records have every key that the schema demands."""
    records = run.get("records") or [{"side": "x"}]
    named = [record["processor"] for record in records if "processor" in record]
    where = {"processor": named[0] if named else "here"} | run.get("environment", {})
    keys = {"configuration": "", "processor": where["processor"], "date": "", "versions": {}}
    whole = {"settings": {}} | run | {"environment": where, "records": [keys | record for record in records]}
    return {"benchmark": benchmark, "runs": [whole]}


def script_module(name: str) -> ModuleType:
    """Return a script of benchmarks/ as a module."""
    if str(ROOT / "benchmarks") not in sys.path:
        sys.path.append(str(ROOT / "benchmarks"))
    spec = importlib.util.spec_from_file_location(name, ROOT / "benchmarks" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def one_run(path: Path) -> dict[str, Any]:
    """Return the only run of a results file, which must follow the schema."""
    contents = json.loads(path.read_text())
    assert schema_problems(contents) == []
    (run,) = contents["runs"]
    return run


def run_script(name: str, *flags: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(ROOT / f"benchmarks/{name}.py"), *flags]
    return subprocess.run(command, capture_output=True, text=True, timeout=240)


def measurement(processor: str, ratio: float, date: str = "2026-11-26") -> dict[str, Any]:
    """Return the arguments of `write_results` for one record."""
    environment = {"processor": processor, "date": date, "packages": {"torch": "2.13.0"}}
    values = {"median_ratio": ratio, "lowest_ratio": ratio, "highest_ratio": ratio, "target": 2.0}
    record = new_record("one prompt", "int8", environment, tokens_per_second=ratio * 10, **values)
    return {"records": [record], "settings": {}, "environment": environment}
