"""Latents one by one, from files, folders and tar shards, in memory that does not grow with their number."""

from __future__ import annotations

import heapq
import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from .files import SUFFIXES, each_latent
from .items import MAX_CAPTION_BYTES, LatentItem, caption, one_line, readable
from .shards import read_shard

SHARD_SUFFIXES = (".tar", ".tar.gz", ".tgz")
WANTED = ", ".join((*SUFFIXES, *SHARD_SUFFIXES))
NAMES_AT_ONCE = 8192  # of a folder, held in memory


def read_items(path: Path, captions: bool = False) -> Iterator[LatentItem]:
    """Every latent of one file or shard. What is broken in a shard is an item with a problem.

    captions: look for NAME.txt beside NAME.npy; shards always give theirs. Raises OSError or ValueError where
    nothing can be read.
    """
    if is_shard(path):
        yield from read_shard(path)
        return
    text = _caption_beside(path) if captions else None
    for index, latents in enumerate(each_latent(path)):
        yield LatentItem(readable(path), str(index), latents, text)


def read_all(paths: Iterable[Path], captions: bool = False) -> Iterator[LatentItem]:
    """Every latent of several files and shards; a file that cannot be read is one item with a problem."""
    for path in paths:
        try:
            yield from read_items(path, captions)
        except (ValueError, OSError) as error:
            name = readable(path)
            yield LatentItem(name, "", None, problem=one_line(error).removeprefix(f"{name}: "))


def find_files(inputs: Iterable[Path]) -> Iterator[Path]:
    """The latent files and shards that inputs name: files as they are, folders with all below, names sorted.

    Names that begin with a dot are passed over, and so are links to folders. A file is given once, however
    often it is named. Raises FileNotFoundError, and ValueError for a file of another kind or a folder that
    has none.
    """
    inputs = list(inputs)
    for path in inputs:
        if not path.exists():
            raise FileNotFoundError(f"no such file or folder: {path}")
        if not path.is_dir() and not is_latent_file(path):
            raise ValueError(f"{path} ends in {path.suffix!r}; expected a folder, or one of {WANTED}")
    for path in _without_nested(inputs):
        if not path.is_dir():
            yield path
            continue
        found = False
        for file in _walk(path):
            found = True
            yield file
        if not found:
            raise ValueError(f"no latents in the folder {path}; expected files that end in {WANTED}")


def is_shard(path: Path) -> bool:
    """Whether a name is that of a tar shard."""
    return path.name.lower().endswith(SHARD_SUFFIXES)


def is_latent_file(path: Path) -> bool:
    """Whether a name is that of a file or shard of latents."""
    return is_shard(path) or path.suffix.lower() in SUFFIXES


def _caption_beside(path: Path) -> str | None:
    try:
        with path.with_suffix(".txt").open("rb") as file:
            return caption(file.read(MAX_CAPTION_BYTES))
    except FileNotFoundError:
        return None


def _walk(folder: Path) -> Iterator[Path]:
    for name in _sorted_names(folder):
        path = folder / name
        if path.is_dir():
            if not path.is_symlink():
                yield from _walk(path)
        elif is_latent_file(path):
            yield path


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


def _without_nested(paths: list[Path]) -> list[Path]:
    """Paths without repetitions and without what lies in another of them."""
    chosen: dict[Path, Path] = {}
    whole = [path.resolve() for path in paths]
    folders = {path for path in whole if path.is_dir()}
    for path, full in zip(paths, whole, strict=True):
        if full not in chosen and folders.isdisjoint(full.parents):
            chosen[full] = path
    return list(chosen.values())
