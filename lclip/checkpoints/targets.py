"""Whether a file can be written where it is wanted: asked before the work that it is the end of.

And where a result goes whose place turned bad meanwhile: it is never thrown away.
"""

from __future__ import annotations

import itertools
import logging
import os
import re
import tempfile
from collections.abc import Callable, Iterable
from hashlib import blake2b
from pathlib import Path
from typing import TypeVar

logger = logging.getLogger("latent-clip")

LONGEST = 255  # bytes of a file's name, on the usual file systems
MOST_TRIED = 1 << 30  # bytes that are reserved for a try at most
FORBIDDEN = re.compile(r'[<>:"|?*\\/\x00-\x1f]')
RESERVED = re.compile(r"(con|prn|aux|nul|com[0-9¹²³]|lpt[0-9¹²³]|conin\$|conout\$)\s*(\..*)?", re.IGNORECASE)
T = TypeVar("T")


def name_fault(name: str) -> str | None:
    """Why a file of that name cannot be everywhere, on Windows above all; None where it can."""
    if not name.strip(" ."):
        return "it has no letters"
    if found := FORBIDDEN.search(name):
        return f"Windows forbids {found.group()!r} in names"
    if RESERVED.fullmatch(name):
        return "Windows keeps this name for a device"
    if name[-1] in " .":
        return "Windows drops dots and spaces at a name's end"
    if len(os.fsencode(name)) > LONGEST:
        return f"it has {len(os.fsencode(name))} bytes; file systems take {LONGEST}"
    return None


def plain_name(stem: str, extension: str, longest: int = 200) -> str:
    """A file's name for what is called so: without what Windows forbids, and shortened where it is too long.

    What is shortened ends in a hash, so that two long names stay two.
    """
    name = FORBIDDEN.sub("_", stem).strip(" .") or "_"
    if RESERVED.fullmatch(name):
        name = f"_{name}"
    if len(name.encode("utf-8", "surrogateescape")) > longest:
        digest = blake2b(stem.encode("utf-8", "surrogateescape"), digest_size=4).hexdigest()
        kept = name.encode("utf-8", "surrogateescape")[: longest - 9].decode("utf-8", "ignore")
        name = f"{kept}-{digest}"
    return name + extension


def check_name(path: Path) -> None:
    """ValueError for the name of a file or folder to be written that not every system takes.

    The same on every system: folders of models and results are shared with Windows, and copied to it.
    """
    if path.name in ("", "..") or (fault := name_fault(path.name)) is None:
        return
    shown = str(path) if str(path).isprintable() else repr(str(path))
    raise ValueError(f"{shown} cannot be written: {fault}. Choose another name")


def check_names(folder: Path) -> None:
    """ValueError for a folder whose name, or that of one above it, cannot be where it has to be made."""
    _check_length(folder)
    for missing in itertools.takewhile(lambda each: not each.exists(), (folder, *folder.parents)):
        check_name(missing)


def check_writable(path: str | os.PathLike[str], room: int = 1 << 16) -> Path:
    """The path, if a file of that many bytes can be written there now, beside one that is replaced.

    Raises FileNotFoundError for a folder that is not there, and ValueError that says what else stands against
    it: a name that is too long or forbidden, a folder that is read-only, a disk that is full.
    """
    path = Path(path)
    _check_length(path)
    if not path.parent.is_dir():
        raise FileNotFoundError(f"the folder {path.parent} does not exist; create it first")
    if path.is_dir():
        raise ValueError(f"{path} is a folder; expected the name of a file")
    check_name(path)
    try:
        with tempfile.NamedTemporaryFile(dir=path.parent, prefix=".", suffix=".tmp") as file:
            _reserve(file.fileno(), min(room, MOST_TRIED))
    except OSError as error:
        raise ValueError(_cannot(path, error)) from error
    return path


def check_folder(folder: str | os.PathLike[str], names: Iterable[str] = ("x",), room: int = 1 << 16) -> Path:
    """The folder, made where it is missing, if such files can be written in it. See check_writable.

    A folder that is there may be called anything; what is made is called as every system takes it.
    """
    folder = Path(folder)
    check_names(folder)
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"{folder} cannot be written: it is a file; expected a folder")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ValueError(_cannot(folder, error)) from error
    for name in names:
        check_writable(folder / name, room)
    return folder


def written_somewhere(write: Callable[[Path], T], path: Path, others: Iterable[Path] = ()) -> tuple[T, Path]:
    """Write a result that cost much: at its path, or where that has turned bad meanwhile, somewhere else.

    others: folders to try first; then the home and the system's folder for temporary files. What happened is
    logged. Returns what write gave, and where. Raises what write raised where all of them are bad.
    """
    try:
        return write(path), path
    except (OSError, ValueError) as error:
        reason = error
    for folder in (*others, Path.home(), Path(tempfile.gettempdir())):
        place = folder / plain_name(path.stem, path.suffix)
        number = 1
        while place.exists():
            number += 1
            place = folder / plain_name(f"{path.stem}_{number}", path.suffix)
        try:
            written = write(place)
        except (OSError, ValueError):
            continue
        logger.error("%s So that nothing is lost, it is written to %s instead.", _cannot(path, reason), place)
        return written, place
    raise reason


def _check_length(path: Path) -> None:
    """ValueError for a name that the system itself refuses, such as one that is too long."""
    try:
        path.lstat()
    except (FileNotFoundError, NotADirectoryError, PermissionError):
        pass  # for whoever asks next
    except (OSError, ValueError) as error:
        raise ValueError(_cannot(path, error)) from error


def _cannot(path: Path, error: Exception) -> str:
    said = (getattr(error, "strerror", None) or str(error)).rstrip(".")
    return f"{path} cannot be written: {said}. Free space, or give another name or folder."


def _reserve(file: int, size: int) -> None:
    """Take that many bytes of the disk. Raises OSError where it has not so many."""
    if hasattr(os, "posix_fallocate"):
        try:
            return os.posix_fallocate(file, 0, size)
        except OSError as error:
            import errno

            if error.errno not in (errno.EINVAL, errno.EOPNOTSUPP, errno.ENOSYS):
                raise  # those: this file system cannot be asked so
    os.write(file, bytes(min(size, 1 << 16)))
