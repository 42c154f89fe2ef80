"""Files below folders, each once. Links are followed, to folders too; a loop of links ends where it began.

Names that begin with a dot are passed over. Folders are listed in lots, so that memory does not grow with the
number of files.
"""

from __future__ import annotations

import heapq
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

NAMES_AT_ONCE = 8192  # of a folder, held in memory
SHARED = (".txt", ".cls")  # texts, which several pictures may share by links


def walk(folders: Iterable[Path], wanted: Callable[[str], bool]) -> Iterator[Path]:
    """Files of these folders and all below whose names are wanted, sorted, each once."""
    (shown, tops), linked = all_folders(folders), set()
    for folder in tops:
        for path in in_folder(folder, shown, linked):
            if path is not None and wanted(path.name):
                yield path


def in_folder(folder: Path, shown: dict[str, Path], linked: set[str]) -> Iterator[Path | None]:
    """Files of a folder, then those of the folders in it; None after each folder's own.

    linked: what links to files led to so far.
    """
    inner: list[Path] = []
    for name in _sorted_names(folder):
        path = folder / name
        if path.is_dir():
            inner.append(path)
        elif not path.is_symlink() or _is_new(path, shown, linked):
            yield path
    yield None
    for path in inner:
        if shown.get(os.path.realpath(path)) == path:
            yield from in_folder(path, shown, linked)


def _is_new(link: Path, shown: dict[str, Path], linked: set[str]) -> bool:
    """Whether a link leads to a file that is given neither under its own name nor by a link before."""
    if link.suffix.lower() in SHARED:
        return True
    real = os.path.realpath(link)
    folder, name = os.path.split(real)
    itself = folder in shown and name[0] != "." and Path(name).suffix.lower() == link.suffix.lower()
    if real in linked or (itself and os.path.exists(real)):
        return False
    linked.add(real)
    return True


def all_folders(roots: Iterable[Path]) -> tuple[dict[str, Path], list[Path]]:
    """All folders at and below these, by where they really are, as the paths that they are shown under.

    Links come last, so that a folder which is there by itself keeps its own path. And those of the roots that
    lie in no other.
    """
    shown: dict[str, Path] = {}
    tops: list[Path] = []
    for root in sorted(roots, key=lambda path: len(os.path.realpath(path))):
        if os.path.realpath(root) not in shown:
            tops.append(root)
            _add_below(root, shown)
    links = deque(sorted(link for folder in list(shown.values()) for link in _linked_folders(folder)))
    while links:
        before = len(shown)
        _add_below(links.popleft(), shown)
        new = list(shown.values())[before:]
        links.extend(sorted(link for folder in new for link in _linked_folders(folder)))
    return shown, tops


def _linked_folders(folder: Path) -> list[Path]:
    with os.scandir(folder) as entries:
        return [folder / e.name for e in entries if e.name[0] != "." and e.is_symlink() and e.is_dir()]


def _add_below(root: Path, shown: dict[str, Path]) -> None:
    """Add a folder and all below, without following links."""
    waiting = [root]
    while waiting:
        folder = waiting.pop()
        real = os.path.realpath(folder)
        if real in shown:
            continue
        shown[real] = folder
        with os.scandir(folder) as entries:
            inner = [entry.name for entry in entries if entry.is_dir(follow_symlinks=False)]
        waiting += [folder / name for name in inner if name[0] != "."]


def _sorted_names(folder: Path) -> Iterator[str]:
    """A folder's names in order, a limited number of them in memory: the folder is listed for each lot."""
    last = ""
    while True:
        with os.scandir(folder) as entries:
            names = (entry.name for entry in entries)
            lot = heapq.nsmallest(NAMES_AT_ONCE, (name for name in names if name > last and name[0] != "."))
        yield from lot
        if len(lot) < NAMES_AT_ONCE:
            return
        last = lot[-1]
