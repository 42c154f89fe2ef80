"""Writing a file as one step."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import blake2b
from pathlib import Path

from .targets import check_name

LONG = 220  # bytes


def beside(path: Path, ending: str) -> Path:
    """A hidden name beside a path that only this process uses; also where the path's own name is long."""
    shown = path.name
    if len(os.fsencode(shown)) > LONG:  # the hidden name is longer, and a name has 255 bytes at most
        shown = blake2b(os.fsencode(shown), digest_size=8).hexdigest()
    return path.with_name(f".{shown}.{os.getpid()}.{ending}")


@contextmanager
def atomic_file(path: Path) -> Iterator[Path]:
    """A temporary name beside the final one: renamed on success, removed on failure.

    Raises FileNotFoundError for a folder that is not there, ValueError for a name not for every system.
    """
    if not path.parent.is_dir():
        raise FileNotFoundError(f"the folder {path.parent} does not exist; create it first")
    check_name(path)
    temporary = beside(path, "tmp")
    try:
        temporary.touch()
        mode = temporary.stat().st_mode  # what files have here; safetensors would make it private
        yield temporary
        temporary.chmod(mode)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
