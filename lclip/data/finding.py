"""Finding the data that names stand for: files, folders with all below, and tar shards, each file once.

What is below a folder, `lclip.data.folders` says.
"""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Collection, Iterable, Iterator
from itertools import product
from pathlib import Path

from .files import SUFFIXES
from .folders import all_folders, in_folder
from .samples import LABEL, LATENTS, PICTURE, PICTURES, TEXT, kind_of, split_name
from .shards import PIPE, TARS, Shard, is_shard

SAMPLES_PER_SHARD = 1000  # of loose files
# What kohya's scripts keep of their text encoders, beside the latents.
TEXT_OUTPUTS = re.compile(r".*_te(_outputs)?\.npz", re.IGNORECASE)


def find_shards(
    sources: Iterable[str | Path], per_shard: int = SAMPLES_PER_SHARD, holding: Collection[str] = (LATENTS,)
) -> Iterator[Shard]:
    """The shards that these name: every tar by itself, the samples of loose files by the given number.

    sources: files, folders, `pipe:COMMAND`; {000..099}, {a,b} and * are expanded. holding: kinds of members
    of which a loose sample must have one. Raises FileNotFoundError, and ValueError for a file of another kind
    or a folder that has none.
    """
    loose: list[Path] = []
    samples = number = 0
    for found in _groups(sources, holding):
        if isinstance(found, str):
            yield Shard(found)
            continue
        loose += found
        samples += 1
        if samples == per_shard:
            yield Shard(f"files-{number:06}", tuple(loose))
            loose, samples, number = [], 0, number + 1
    if loose:
        yield Shard(f"files-{number:06}", tuple(loose))


def _groups(sources: Iterable[str | Path], holding: Collection[str]) -> Iterator[str | list[Path]]:
    """Names of tars and commands, and the loose files of each sample."""
    pipes, paths = _expanded(sources)
    yield from pipes
    for path in paths:
        if not path.exists():
            raise FileNotFoundError(f"no such file or folder: {path}")
        if not path.is_dir() and not is_shard(path) and kind_of(path.name) not in holding:
            raise ValueError(
                f"{path} ends in {path.suffix!r}; expected a folder, or one of {_endings(holding)}"
            )
    shown, tops = all_folders([path for path in paths if path.is_dir()])
    yield from _named([path for path in paths if not path.is_dir()], shown)
    linked: set[str] = set()
    for folder in tops:
        found = False
        for group in _by_key(in_folder(folder, shown, linked), holding):
            found = True
            yield group
        if not found:
            what = " or ".join("pictures" if kind == PICTURE else kind for kind in holding)
            raise ValueError(
                f"no {what} in the folder {folder}; expected files that end in {_endings(holding)}"
            )


def _endings(holding: Collection[str]) -> str:
    """What names of files may end in, that hold such members."""
    loose = {LATENTS: SUFFIXES, PICTURE: tuple(f".{ending}" for ending in PICTURES)}
    return ", ".join((*(ending for kind in holding for ending in loose.get(kind, ())), *TARS))


def _named(files: list[Path], shown: dict[str, Path]) -> Iterator[str | list[Path]]:
    """Files that were named themselves, unless a folder holds them; with the texts beside them."""
    samples: dict[str, list[Path]] = {}
    seen: set[str] = set()
    for path in files:
        real = os.path.realpath(path)
        if real in seen or os.path.dirname(real) in shown:
            continue
        seen.add(real)
        samples.setdefault(path.as_posix() if is_shard(path) else split_name(path.as_posix())[0], []).append(
            path
        )
    for name, paths in samples.items():
        if is_shard(paths[0]):
            yield str(paths[0])
            continue
        texts = {path.with_suffix(".txt") for path in paths}
        texts |= {paths[0].with_name(f"{Path(name).name}.{kind}") for kind in (TEXT, LABEL)}
        yield [*paths, *sorted(path for path in texts if path.is_file())]


def _by_key(files: Iterable[Path | None], holding: Collection[str]) -> Iterator[str | list[Path]]:
    """Tars, and loose files that share a key. None: a folder ends."""
    key, group, tars = "", [], []

    def done() -> Iterator[str | list[Path]]:
        if any(kind_of(path.name) in holding for path in group):
            yield group
        yield from tars

    for path in files:
        if path is None:
            yield from done()
            key, group, tars = "", [], []
            continue
        tar = is_shard(path)
        if not tar and (not split_name(path.name)[1] or TEXT_OUTPUTS.fullmatch(path.name)):
            continue
        name = path.name.partition(".")[0]
        if name != key:
            yield from done()
            key, group, tars = name, [], []
        if tar:
            tars.append(str(path))
        else:
            group.append(path)


def _expanded(sources: Iterable[str | Path]) -> tuple[list[str], list[Path]]:
    """Commands, and paths with braces and stars expanded where there is nothing of the plain name."""
    pipes: list[str] = []
    paths: list[Path] = []
    for source in map(str, sources):
        for one in [source] if os.path.lexists(source) else expand_braces(source):
            if one.startswith(PIPE):
                pipes.append(one)
            elif glob.has_magic(one) and not os.path.lexists(one) and (matches := sorted(glob.glob(one))):
                paths += map(Path, matches)
            else:
                paths.append(Path(one))
    return pipes, paths


def expand_braces(text: str) -> list[str]:
    """`a{000..002}{b,c}` -> a000b, a000c, a001b, ... as a shell would."""
    parts = re.split(r"\{([^{}]*(?:\.\.|,)[^{}]*)\}", text)
    choices = [[part] if i % 2 == 0 else _choices(part) for i, part in enumerate(parts)]
    return ["".join(chosen) for chosen in product(*choices)]


def _choices(inside: str) -> list[str]:
    span = re.fullmatch(r"(\d+)\.\.(\d+)", inside)
    if span is None:
        return inside.split(",")
    first, last = span.groups()
    return [f"{number:0{len(first)}d}" for number in range(int(first), int(last) + 1)]
