"""How a ComfyUI checkout is started on this machine: with which Python, and in which environment."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from functools import cache
from pathlib import Path

from .harness import Skipped

ROOT = Path(__file__).resolve().parents[1]
PACK = "latent-clip"
HOST_TESTS = ROOT / "tests" / "host"
STUBS = HOST_TESTS / "stubs"


def named_checkouts() -> list[Path]:
    """The ComfyUI checkouts that COMFYUI_PATH names."""
    return [Path(part).expanduser() for part in os.environ.get("COMFYUI_PATH", "").split(os.pathsep) if part]


def checkouts_or_skip() -> list[Path]:
    """The same, for a section. Raises Skipped where there is none."""
    if not (checkouts := named_checkouts()):
        raise Skipped("COMFYUI_PATH names no ComfyUI to start")
    return checkouts


def version_of(checkout: Path) -> str:
    """The version that a checkout says it is of."""
    text = (checkout / "comfyui_version.py").read_text()
    return text.split('"')[1] if '"' in text else checkout.name


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


MEMORY = {"--cpu", "--novram", "--lowvram", "--normalvram", "--highvram", "--gpu-only"}
"""Arguments of which ComfyUI takes one."""


def arguments_of(own: Sequence[str] = ()) -> list[str]:
    """COMFYUI_ARGS, or that there is no GPU, and then a host's own; of MEMORY its own one instead."""
    given = os.environ.get("COMFYUI_ARGS", "--cpu").split()
    return [each for each in given if not (MEMORY & {*own} and each in MEMORY)] + [*own]
