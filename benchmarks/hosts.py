"""How a ComfyUI checkout is started on this machine: with which Python, and in which environment."""

from __future__ import annotations

import os
import subprocess
import sys
from functools import cache
from pathlib import Path

STUBS = Path(__file__).resolve().parents[1] / "tests" / "host" / "stubs"


def interpreter_of(checkout: Path) -> str:
    """The Python of the checkout's own venv/, or this one."""
    names = ("python", "python.exe")
    return str(next((p for p in checkout.glob("venv/*/python*") if p.name in names), sys.executable))


@cache
def can_import(python: str, modules: str) -> bool:
    """Whether that Python has the modules, and they load."""
    return not subprocess.run([python, "-c", f"import {modules}"], capture_output=True).returncode


def environment_of(python: str) -> dict[str, str]:
    """This environment, with one thread unless it says otherwise, and nothing of this project in it."""
    environment = {**os.environ}
    environment.setdefault("OMP_NUM_THREADS", "1")
    environment.pop("PYTHONPATH", None)
    # Its wheels do not load beside a CPU-only torch; a host that has working ones keeps them.
    if not can_import(python, "torchvision, torchaudio"):
        environment["PYTHONPATH"] = str(STUBS)
    return environment


def arguments_of() -> list[str]:
    """COMFYUI_ARGS, or that there is no GPU."""
    return os.environ.get("COMFYUI_ARGS", "--cpu").split()
