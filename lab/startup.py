"""The first import of every script, and only of a script: from here on Ctrl-C prints one line."""

from lab import interrupts

interrupts.install()
