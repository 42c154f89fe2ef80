"""The most memory that this program itself has used, unlike ru_maxrss, which begins as its parent's."""

import sys
from pathlib import Path

import pytest

counted = pytest.mark.skipif(sys.platform != "linux", reason="peak memory is counted in other ways elsewhere")


def peak_memory() -> int:
    """Bytes, since the program began or was asked to forget."""
    return int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0]) << 10


def forget_peak() -> None:
    Path("/proc/self/clear_refs").write_text("5")
