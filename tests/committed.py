"""Committed files: what a test compares with, even if the reader's own runs have replaced the files."""

import io
import os
import shutil
import subprocess
import tarfile
from pathlib import Path

from lab.files import ROOT


def git(*arguments: str) -> bytes | None:
    """Return the output of git in this clone; None without git, without a repository, or in that of another user."""
    if shutil.which("git") is None:
        return None
    environment = {**os.environ, "GIT_CEILING_DIRECTORIES": str(ROOT.parent)}  # not a repository that the lab lies in
    done = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, env=environment)
    return done.stdout if done.returncode == 0 else None


def extract_committed(folder: Path, *patterns: str) -> Path:
    """Write the committed files that match git's path `patterns` below `folder`; return the folder to read them from.

    Without git this is the lab itself: its files are then as they were downloaded, or changed by the reader.
    """
    archive = git("archive", "HEAD", *patterns)
    if archive is None:
        return ROOT
    with tarfile.open(fileobj=io.BytesIO(archive)) as files:
        files.extractall(folder, filter="data")
    return folder
