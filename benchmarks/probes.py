"""Measurements in a process of their own, which no other job of this one has touched."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

STATUS = Path("/proc/self/status")
# Where STATUS is there. VmHWM is the probe's own; ru_maxrss begins as its parent's, however large.
PEAK_KIB = f'int(open({str(STATUS)!r}).read().split("VmHWM:")[1].split()[0])'


def probe(code: str, *arguments: object) -> str:
    """What Python code prints that can import this project. Raises RuntimeError where it fails."""
    command = [sys.executable, "-c", code, *map(str, arguments)]
    root = Path(__file__).resolve().parents[1]
    done = subprocess.run(command, capture_output=True, text=True, cwd=root, check=False)
    if done.returncode:
        raise RuntimeError(f"{arguments[0]} failed in the probe: {done.stderr.strip().splitlines()[-1:]}")
    return done.stdout
