"""Settings for all tests: one thread per process, since two test processes share the machine."""

import os
import signal

import lab.projects  # noqa: F401 - puts the projects on the search path

os.environ["OMP_NUM_THREADS"] = "1"  # before torch is imported; inherited by scripts that tests start
signal.signal(signal.SIGINT, signal.default_int_handler)  # background jobs of a shell start with Ctrl-C ignored
