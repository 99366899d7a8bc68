"""Speed of the page of `lab play`: start, first value, frames, pointer, and the cost of watching a training.

Needs Playwright (pip install -e '.[test]') and Chromium. The training is measured in interleaved rounds, alone and
watched by the page, so that other load on the machine affects both. With --memory_minutes it measures the memory of a
page that stays open instead (Linux only).
"""

if __name__ == "__main__":
    import lab.startup  # noqa: F401 - first: Ctrl-C works while the libraries load

import statistics
import subprocess
import sys
import time
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lab.errors import UserError, require_at_least
from lab.files import ROOT, writable_folder
from lab.launch import launch
from lab.play.browser import opened_page, press, running_browser, running_server, wait_for_frame, workers
from lab.record import environment_info
from lab.results import new_record, ratio_statistics, write_results

GAPS = """async (seconds) => {
  const gaps = [], end = performance.now() + 1000 * seconds;
  let last = window.lab.frame, at = performance.now();
  while (performance.now() < end) {
    await new Promise((resolve) => setTimeout(resolve, 1));
    if (window.lab.frame === last || window.lab.frame.kind !== "state") continue;
    last = window.lab.frame;
    gaps.push(performance.now() - at);
    at = performance.now();
  }
  return gaps;
}"""
LONGEST = 150  # iterations that are timed, of the 200 of a training
ALONE = """
import sys, time
import torch, lab.projects
from ppo import train
from ppo_config import PPOConfig
torch.set_num_threads(1)
for number, record in enumerate(train(PPOConfig(num_iterations=200)), 1):
    if number == 3:
        started = time.perf_counter()
    if number == 3 + int(sys.argv[1]):
        print(int(sys.argv[1]) / (time.perf_counter() - started))
        break
"""


@dataclass(frozen=True)
class Config:
    """Measure the page of `lab play`."""

    output: Path = ROOT / "benchmarks/results/page.json"
    """Results file."""
    repetitions: int = 7
    """Rounds of every measurement."""
    iterations: int = 120
    """Iterations of a training that is timed."""
    memory_minutes: float = 0.0
    """Minutes that each pane runs while its memory is measured, instead of the speed; 0: measure the speed."""

    def __post_init__(self) -> None:
        require_at_least(1, self, "repetitions", "iterations")
        if self.iterations > LONGEST:
            raise UserError(f"--iterations is {self.iterations}; it must be at most {LONGEST}")
        require_at_least(0, self, "memory_minutes")


def seconds_to_page() -> float:
    """Return the seconds from the command to the answer with the page."""
    started = time.perf_counter()
    with running_server() as (address, _), urllib.request.urlopen(address) as answer:
        answer.read()
        return time.perf_counter() - started


def seconds_to_first_value(page: Any, address: str) -> float:
    """Return the seconds from Start to the first Q-value, with a worker that is ready."""
    page.goto("about:blank")
    page.goto(f"{address}#maze")
    wait_for_frame(page, "maze")
    script = """async () => {
      const started = performance.now();
      [...document.querySelectorAll("#maze button")].find((each) => each.textContent === "Start").click();
      while (!(window.lab.frame.q ?? []).flat().some((value) => value !== 0))
        await new Promise((resolve) => setTimeout(resolve, 1));
      return (performance.now() - started) / 1000;
    }"""
    return page.evaluate(script)


def seconds_to_pointer(page: Any, number: int) -> float:
    """Return the seconds from a movement of the target's field to the frame with that target."""
    script = """async (x) => {
      const field = document.querySelector("#arm input[type=number]");
      const started = performance.now();
      field.value = x;
      field.dispatchEvent(new Event("input", { bubbles: true }));
      field.dispatchEvent(new Event("change", { bubbles: true }));
      while (Math.abs(window.lab.frame.target[0] - x / 100) > 1e-6)
        await new Promise((resolve) => setTimeout(resolve, 1));
      return (performance.now() - started) / 1000;
    }"""
    return page.evaluate(script, (number % 9) - 4 + 0.5)


def open_arm(page: Any, address: str) -> None:
    """Open the arm's pane with a new worker, and start a training."""
    page.goto("about:blank")
    page.goto(f"{address}#arm")
    wait_for_frame(page, "arm")
    press(page, "Start")


def watched_rate(page: Any, address: str, iterations: int) -> tuple[float, list[float], list[float]]:
    """Return iterations per second of a training that the page watches, gaps between frames, delays of the pointer.

    While the training is timed nothing is asked of the page: questions take time from the training as well.
    """
    open_arm(page, address)
    first = wait_for_frame(page, "arm", lambda frame: frame["iteration"] >= 3)["iteration"]
    started = time.perf_counter()
    last = first
    while last < first + iterations:
        time.sleep(1)
        last = page.evaluate("window.lab.frame.iteration")
    rate = (last - first) / (time.perf_counter() - started)

    open_arm(page, address)
    wait_for_frame(page, "arm", lambda frame: frame["iteration"] >= 3)
    gaps = page.evaluate(GAPS, 2)
    delays = [seconds_to_pointer(page, number) for number in range(10)]
    return rate, [gap / 1000 for gap in gaps], delays


def rate_alone(iterations: int) -> float:
    """Return iterations per second of the same training without the page."""
    command = [sys.executable, "-c", ALONE, str(iterations)]
    return float(subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout)


def resident_megabytes(process: int) -> float:
    """Return the resident memory of a process, in MB (Linux only)."""
    status = Path(f"/proc/{process}/status").read_text()
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS")) / 1000


def memory(page: Any, server: int) -> dict[str, float]:
    """Return the memory of server, worker and JavaScript in MB, the last without what is garbage."""
    session = page.context.new_cdp_session(page)
    session.send("HeapProfiler.enable")
    session.send("HeapProfiler.collectGarbage")
    heap = session.send("Runtime.getHeapUsage")["usedSize"]
    session.detach()
    (worker,) = workers(server)
    return {"server": resident_megabytes(server), "worker": resident_megabytes(worker), "JavaScript heap": heap / 1e6}


def keep_running(page: Any, seconds: float) -> None:
    """Let a pane run; a training that is over is started again."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if not page.evaluate("window.lab.frame").get("is_running", True):
            press(page, "Start")
        time.sleep(1)


def memory_records(pane: str, seconds: float, environment: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the memory at the start and at the end of some time that a pane runs."""
    with running_server() as (address, process), running_browser() as browser:
        page = browser.new_page(viewport={"width": 1280, "height": 900})
        page.goto(f"{address}#{pane}")
        wait_for_frame(page, pane.partition("?")[0])
        keep_running(page, 30)  # all libraries are there then
        start = memory(page, process.pid)
        keep_running(page, seconds)
        end = memory(page, process.pid)
    return [
        new_record(
            f"{pane.partition('?')[0]}: {name}, MB",
            "lab play",
            environment,
            start=round(start[name], 1),
            end=round(end[name], 1),
        )
        for name in start
    ]


def quantile(values: list[float], fraction: float) -> float:
    """Return the value that this fraction of the values do not exceed."""
    return sorted(values)[min(len(values) - 1, int(fraction * len(values)))]


def main(config: Config) -> None:
    """Measure, print and write."""
    writable_folder(config.output.parent)
    environment = environment_info()
    if config.memory_minutes:
        measure_memory(config, environment)
    else:
        measure_speed(config, environment)


def measure_memory(config: Config, environment: dict[str, Any]) -> None:
    """Measure, print and write the memory of a page that stays open."""
    settings = {"minutes": config.memory_minutes}
    records = []
    for pane in ("maze?speed=5000", "arm"):
        records += memory_records(pane, 60 * config.memory_minutes, environment)
        write_results(config.output, "page_memory", records, settings=settings, environment=environment)
    for record in records:
        print(f"{record['configuration']}: {record['start']} at the start, {record['end']} at the end")


def measure_speed(config: Config, environment: dict[str, Any]) -> None:
    """Measure, print and write how fast the page is."""
    starts = [seconds_to_page() for _ in range(config.repetitions)]
    gaps: list[float] = []
    delays: list[float] = []
    watched: list[float] = []
    alone: list[float] = []
    with opened_page(1280, 900) as (page, address):
        first_values = [seconds_to_first_value(page, address) for _ in range(config.repetitions)]
        for _ in range(config.repetitions):
            page.goto("about:blank")  # ends the worker of the last round
            alone.append(rate_alone(config.iterations))
            rate, new_gaps, new_delays = watched_rate(page, address, config.iterations)
            watched.append(rate)
            gaps += new_gaps
            delays += new_delays
    measured = {
        "seconds to the page": (statistics.median(starts), 1.0),
        "seconds from Start to the first Q-value": (statistics.median(first_values), 0.1),
        "frames per second while PPO trains": (1 / statistics.median(gaps), 25.0),
        "95% of gaps between frames are below, seconds": (quantile(gaps, 0.95), 0.08),
        "95% of the pointer's movements are shown within, seconds": (quantile(delays, 0.95), 0.12),
    }
    records = [
        new_record(what, "lab play", environment, value=round(value, 4), target=target)
        for what, (value, target) in measured.items()
    ]
    ratio = ratio_statistics(watched, alone)
    records.append(new_record("training watched by the page", "lab play", environment, **ratio, target=0.9))
    write_results(
        config.output,
        "page",
        records,
        settings={"repetitions": config.repetitions, "iterations": config.iterations},
        environment=environment,
    )
    for what, (value, target) in measured.items():
        print(f"{what}: {value:.3g} (target {target:g})")
    print(f"training speed, watched over alone: {ratio['median_ratio']:.2f} (target: at least 0.9)")


if __name__ == "__main__":
    launch(Config, main)
