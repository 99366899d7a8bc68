"""Settings for all tests: one thread per process, this clone's modules, and nothing left in the checkout."""

import os
import signal
from collections.abc import Iterator

import hypothesis
import pytest

import lab.projects  # noqa: F401 - puts the projects on the search path
from lab.files import ROOT

os.environ["OMP_NUM_THREADS"] = "1"  # before torch is imported; inherited by scripts that tests start
os.environ["MPLBACKEND"] = "Agg"  # other libraries may load Matplotlib before the lab does
# Scripts that tests start import this clone's `lab`, wherever an installed one is.
os.environ["PYTHONPATH"] = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
hypothesis.settings.register_profile("lab", deadline=None)  # a busy machine is no fault of the code
hypothesis.settings.load_profile("lab")
signal.signal(signal.SIGINT, signal.default_int_handler)  # background jobs of a shell start with Ctrl-C ignored


@pytest.hookimpl(tryfirst=True)  # before tests are selected by their marks
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests that need a browser, by their fixtures."""
    for item in items:
        if isinstance(item, pytest.Function) and "browser" in item.fixturenames:
            item.add_marker("browser")


@pytest.fixture(scope="session", autouse=True)
def _work_in_a_temporary_folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Run all tests in a temporary folder, for files that libraries write to the current one; keep the user's cache."""
    os.environ["LAB_CACHE"] = str(tmp_path_factory.mktemp("cache"))
    before = os.getcwd()
    os.chdir(tmp_path_factory.mktemp("current_folder"))
    yield
    os.chdir(before)


@pytest.fixture(autouse=True)
def _seed_random_numbers() -> None:
    """Start each test with the same random numbers, whichever tests ran before it."""
    from lab.seeding import seed_everything  # it imports torch: not before OMP_NUM_THREADS is set

    seed_everything(0)
