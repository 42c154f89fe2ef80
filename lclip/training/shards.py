"""Raw samples, not yet decoded: from tar shards in WebDataset's layout, and from folders in the same one.

A sample is the files of one name: `cat.latent.pt` and `cat.txt`.
"""

from __future__ import annotations

import glob
import logging
import re
import subprocess
import tarfile
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import BinaryIO

logger = logging.getLogger("latent-clip")

LATENTS = ("latent.pt", "latent.npy", "latent.safetensors", "pt", "pth", "npy", "safetensors", "latent")
PICTURES = ("png", "jpg", "jpeg", "webp")
TEXT, LABEL = "txt", "cls"
KNOWN = tuple(sorted((*LATENTS, *PICTURES, TEXT, LABEL), key=len, reverse=True))  # longest first
PIPE = "pipe:"
TARS = (".tar", ".tar.gz", ".tgz")
MAX_FIELD = 256 << 20  # bytes; a larger member is no sample of ours
FOLDER_SHARD = 1000  # samples of a folder that are handed out together
SHOWN = 5  # mistakes of each kind that are logged one by one


class Tally:
    """How many samples and shards were left out, by reason; the first of each reason are logged.

    muted: nothing is counted, where the same data is read once more.
    """

    def __init__(self, counts: dict[str, int] | None = None, muted: bool = False) -> None:
        self.counts, self.muted = Counter(counts or {}), muted

    def skip(self, reason: str, where: str, detail: str = "") -> None:
        if self.muted:
            return
        self.counts[reason] += 1
        if self.counts[reason] <= SHOWN:
            more = "; further ones are only counted" if self.counts[reason] == SHOWN else ""
            logger.warning("skipped: %s: %s%s%s", reason, where, f" ({detail})" if detail else "", more)

    def text(self) -> str:
        """The counts in one line."""
        return ", ".join(f"{number} {reason}" for reason, number in sorted(self.counts.items())) or "none"


@dataclass(frozen=True)
class RawSample:
    """The files of one sample by suffix, as bytes, or as paths that are read when needed."""

    key: str
    fields: dict[str, bytes | Path]

    def read(self, suffix: str) -> bytes:
        field = self.fields[suffix]
        return field.read_bytes() if isinstance(field, Path) else field


@dataclass(frozen=True)
class TarShard:
    """A tar file, plain or compressed; or, as `pipe:COMMAND`, what a shell command writes."""

    name: str

    def samples(self, tally: Tally) -> Iterator[RawSample]:
        for sample in _grouped(_members(self.name, tally)):
            yield RawSample(f"{self.name}/{sample.key}", sample.fields)


@dataclass(frozen=True)
class FolderShard:
    """Some of a folder's files; a sample's key is its path."""

    name: str
    files: tuple[Path, ...]

    def samples(self, tally: Tally) -> Iterator[RawSample]:
        return _grouped((str(path), path) for path in self.files)


Shard = TarShard | FolderShard
"""A part of the data that is read from its beginning to its end. What is damaged is counted, never raised."""


def find_shards(sources: Sequence[str]) -> list[Shard]:
    """The shards that these name: tar files, folders, `pipe:` commands; {000..099}, {a,b} and * are expanded.

    A folder with tar files in it stands for them; any other folder for the pictures and latents below it.
    Raises FileNotFoundError where one names nothing.
    """
    shards: list[Shard] = []
    for source in sources:
        for one in expand_braces(source):
            shards += [TarShard(one)] if one.startswith(PIPE) else _on_disk(one)
    if not shards:
        raise FileNotFoundError("no data was named; expected tar shards or a folder")
    return shards


def _on_disk(source: str) -> list[Shard]:
    matches = sorted(glob.glob(source)) if glob.has_magic(source) and not Path(source).exists() else [source]
    shards: list[Shard] = []
    for match in map(Path, matches):
        if match.is_dir():
            tars = sorted(path for path in match.rglob("*") if path.name.endswith(TARS))
            shards += [TarShard(str(path)) for path in tars] if tars else _of_folder(match)
        elif match.is_file():
            shards.append(TarShard(str(match)))
        else:
            raise FileNotFoundError(f"no such file or folder: {match}")
    if not shards:
        raise FileNotFoundError(
            f"{source} holds no data; expected tar shards, or files that end in {', '.join(sorted(KNOWN))}"
        )
    return shards


def _of_folder(folder: Path) -> list[FolderShard]:
    named = sorted((*split_name(str(path)), path) for path in folder.rglob("*") if path.is_file())
    named = [(key, path) for key, suffix, path in named if suffix]
    starts = [i for i, (key, _) in enumerate(named) if i == 0 or key != named[i - 1][0]]  # of the samples
    cuts = [*starts[::FOLDER_SHARD], len(named)]
    return [
        FolderShard(f"{folder}#{number}", tuple(path for _, path in named[first:last]))
        for number, (first, last) in enumerate(zip(cuts, cuts[1:], strict=False))
    ]


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


@contextmanager
def _opened(name: str) -> Iterator[BinaryIO]:
    if not name.startswith(PIPE):
        with open(name, "rb") as file:
            yield file
        return
    process = subprocess.Popen(name[len(PIPE) :], shell=True, stdout=subprocess.PIPE)
    assert process.stdout is not None
    try:
        yield process.stdout  # pyright: ignore[reportReturnType]
        process.stdout.read()  # the padding, so that the command ends by itself
        if process.wait() != 0:
            raise OSError(f"the command ended with {process.returncode}")
    finally:
        process.kill()
        process.stdout.close()
        process.wait()


class _StrictInfo(tarfile.TarInfo):
    """tarfile takes a damaged header for the end of the archive; only the end marker is one."""

    @classmethod
    def fromtarfile(cls, tarfile_: tarfile.TarFile) -> tarfile.TarInfo:  # pyright: ignore
        try:
            return super().fromtarfile(tarfile_)
        except tarfile.EOFHeaderError:  # pyright: ignore[reportAttributeAccessIssue]
            raise
        except tarfile.HeaderError as error:
            raise tarfile.ReadError(f"it breaks off or is damaged: {error}") from error


def _members(name: str, tally: Tally) -> Iterator[tuple[str, bytes]]:
    """The files of a tar that may belong to samples, up to its end or to where it is damaged."""
    try:
        with _opened(name) as file, tarfile.open(fileobj=file, mode="r|*", tarinfo=_StrictInfo) as archive:
            for info in archive:
                if not info.isreg() or info.issparse() or not split_name(info.name)[1]:
                    continue
                if info.size > MAX_FIELD:
                    tally.skip("file too large", f"{name}/{info.name}", f"{info.size} bytes")
                    continue
                member = archive.extractfile(info)
                if member is not None:
                    yield info.name, member.read()
    except (OSError, tarfile.TarError, EOFError, ValueError, zlib.error) as error:
        tally.skip("damaged shard", name, first_line(error))


def _grouped(members: Iterable[tuple[str, bytes | Path]]) -> Iterator[RawSample]:
    """Members of one name that follow each other, as one sample."""
    key, fields = "", {}
    for name, content in members:
        base, suffix = split_name(name)
        if fields and (base != key or suffix in fields):
            yield RawSample(key, fields)
            fields = {}
        key, fields[suffix] = base, content
    if fields:
        yield RawSample(key, fields)


def split_name(name: str) -> tuple[str, str]:
    """`a/b.latent.pt` -> ("a/b", "latent.pt"); no suffix where it is none of ours, or the file is hidden."""
    lower = name.lower()
    for suffix in KNOWN:
        base = name[: -len(suffix) - 1]
        if lower.endswith(f".{suffix}") and base and base[-1] not in "/\\":
            hidden = re.split(r"[/\\]", base)[-1].startswith(".")
            return (name, "") if hidden else (base, suffix)
    return name, ""


def first_line(error: BaseException) -> str:
    """What an error says, short enough for a list."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
