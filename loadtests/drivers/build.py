"""Compile the load generators when their sources are newer than what is there."""

from __future__ import annotations

import fcntl
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def build_drivers() -> None:
    """Bring the extensions up to date, one process at a time; raises CalledProcessError with the compiler's words."""
    lock = ROOT / "build" / "loadtests.lock"
    lock.parent.mkdir(exist_ok=True)
    with lock.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        command = [sys.executable, "loadtests/setup.py", "-q", "build_ext", "--inplace"]
        subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
