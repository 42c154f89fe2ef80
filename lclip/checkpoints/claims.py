"""One writer at a time: a second process that would write the same results is refused by name.

The operating system keeps the claim, so that it ends with the process, however that ends.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None


def lock_of(results: Path) -> Path:
    """What stands for a claim on results: a hidden file beside a table, or in a folder of them."""
    return results / ".writing" if results.is_dir() else results.with_name(f".{results.name[:200]}.writing")


@contextmanager
def claimed(results: Path, lock: Path) -> Iterator[None]:
    """Hold results while they are written. lock: a file for that, gone afterwards. ValueError, OSError."""
    file = _locked(results, lock)
    try:
        yield
    finally:
        if fcntl is not None:
            lock.unlink(missing_ok=True)
        os.close(file)
        if fcntl is None:  # Windows unlinks nothing that is open
            with suppress(OSError):
                lock.unlink()


def _locked(results: Path, lock: Path) -> int:
    while True:
        file = os.open(lock, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            _lock(file)
            if os.path.samestat(os.fstat(file), os.stat(lock)):
                return file
        except FileNotFoundError:
            pass  # whoever held it has just finished and taken it away: once more
        except OSError as error:
            os.close(file)
            raise ValueError(
                f"another run is writing to {results}; wait until it has ended, or give another name"
            ) from error
        os.close(file)


def _lock(file: int) -> None:
    """Raises OSError where another process has it."""
    if fcntl is not None:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return
    import msvcrt

    msvcrt.locking(file, msvcrt.LK_NBLCK, 1)  # pyright: ignore[reportAttributeAccessIssue]
