"""Which file is meant by a name in results that were begun in another folder.

Names in a table are as they were given, and those that are relative start from the folder of the first run.
So the same inputs by another path, from another folder or through a link are known again.
"""

from __future__ import annotations

import os
from functools import lru_cache
from pathlib import Path

from .shards import PIPE


class Whereabouts:
    """Names between the folder that results were begun in, and the one that this process works in.

    begun_in: where relative names start from. Where a project was moved as a whole, it is the folder of now.
    """

    def __init__(self, begun_in: Path) -> None:
        self.here = os.getcwd()
        self.begun_in = os.path.realpath(begun_in) if begun_in.is_dir() else self.here
        self._checked = False
        self._same = os.path.realpath(self.here) == self.begun_in

    def check(self, name: str) -> None:
        """Look once whether a name of the results is there, from the one folder or from the other."""
        if self._checked or name.startswith(PIPE):
            return
        self._checked = True
        there, here = (os.path.exists(os.path.join(folder, name)) for folder in (self.begun_in, self.here))
        if here and not there:
            self.begun_in, self._same = os.path.realpath(self.here), True

    def shown(self, name: str) -> str:
        """A name of now as results have it: as it was given, if it means the same from their folder."""
        if self._same or name.startswith(PIPE) or os.path.isabs(name):
            return name
        return Path(self.here, name).as_posix()

    def identity(self, name: str) -> str:
        """The same for every name of results that leads to one file."""
        return name if name.startswith(PIPE) else real_path(os.path.join(self.begun_in, name))

    def beside(self, name: str) -> str:
        """A name of now by its way from the results' folder: the same when all is moved together."""
        if name.startswith(PIPE):
            return name
        real = real_path(os.path.join(self.here, name))
        try:
            return Path(os.path.relpath(real, self.begun_in)).as_posix()
        except ValueError:  # on another drive
            return Path(real).as_posix()


def real_path(path: str) -> str:
    """As os.path.realpath, with one look at each of many files in one folder."""
    folder, name = os.path.split(path)
    if name in ("", ".", "..") or os.path.islink(path):
        return os.path.realpath(path)
    return os.path.join(_real_folder(folder), name)


@lru_cache(maxsize=4096)
def _real_folder(folder: str) -> str:
    return os.path.realpath(folder)
