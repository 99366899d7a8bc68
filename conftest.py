"""Settings for all tests: one thread a process, since two test processes share the machine and networks are small."""

import os
import signal

import lab.projects  # noqa: F401 - lets the projects' modules be found

os.environ["OMP_NUM_THREADS"] = "1"  # before torch is imported; the scripts that tests start inherit it
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job ignores Ctrl-C, and hands that on
