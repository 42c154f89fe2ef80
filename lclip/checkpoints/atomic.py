"""Writing a file as one step."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import blake2b
from pathlib import Path

LONG = 220  # bytes


@contextmanager
def atomic_file(path: Path) -> Iterator[Path]:
    """A temporary name beside the final one: renamed on success, removed on failure."""
    if not path.parent.is_dir():
        raise FileNotFoundError(f"the folder {path.parent} does not exist; create it first")
    shown = path.name
    if len(os.fsencode(shown)) > LONG:  # the temporary name is longer, and a name has 255 bytes at most
        shown = blake2b(os.fsencode(shown), digest_size=8).hexdigest()
    temporary = path.with_name(f".{shown}.{os.getpid()}.tmp")
    try:
        temporary.touch()
        mode = temporary.stat().st_mode  # what files have here; safetensors would make it private
        yield temporary
        temporary.chmod(mode)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
