"""Frontends other than the one that a host came with: by package, once, into a cache outside the tree."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

LATER = "1.58.1"
"""The newest frontend that the pack is tried with; the hosts come with older ones."""
PACKAGE, INSIDE = "comfyui-frontend-package", "comfyui_frontend_package/static/"
PATIENCE = 300


def static_files(version: str) -> Path | None:
    """The folder for `--front-end-root`; None where the package can't be had, such as without a network."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "latent-clip" / "frontends"
    folder = cache / version
    if not (folder / INSIDE / "index.html").is_file():
        cache.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=cache) as place:
            if not _fetched(version, Path(place)):
                return None
            with contextlib.suppress(OSError):  # where another worker was first
                (Path(place) / "unpacked").rename(folder)  # whole, or not at all
    return folder / INSIDE


def _fetched(version: str, place: Path) -> bool:
    """Whether the package is unpacked under `place`."""
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--retries", "1", "--timeout",
               "30", "--dest", str(place), f"{PACKAGE}=={version}"]  # fmt: skip
    try:
        done = subprocess.run(command, capture_output=True, timeout=PATIENCE)
    except subprocess.TimeoutExpired:
        return False
    wheels = list(place.glob("*.whl"))
    if done.returncode or not wheels:
        return False
    with zipfile.ZipFile(wheels[0]) as wheel:
        wheel.extractall(place / "unpacked", [n for n in wheel.namelist() if n.startswith(INSIDE)])
    return True
