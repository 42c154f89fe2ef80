"""Latents in tar shards, as WebDataset lays them out: KEY.npy (or .pt, .safetensors, .latent) and KEY.txt.

A shard is read once, front to back, and nothing of it is ever unpacked to the disk. A broken sample, or the
place where a truncated shard ends, is an item with a problem; the others are read all the same.
"""

from __future__ import annotations

import lzma
import tarfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from .files import SUFFIXES, parse_latents
from .items import MAX_CAPTION_BYTES, LatentItem, caption, one_line, readable

MAX_MEMBER_BYTES = 1 << 28  # of one latent file in a shard, which is read into memory
MAX_HEADER_BYTES = 1 << 20  # of a member's name and attributes
ATTRIBUTES = (tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.SOLARIS_XHDTYPE, tarfile.GNUTYPE_LONGNAME,
              tarfile.GNUTYPE_LONGLINK)  # fmt: skip
DAMAGE = (tarfile.TarError, EOFError, OSError, zlib.error, lzma.LZMAError)


class _Sample:
    """The members that share a key, as far as they are read."""

    def __init__(self, key: str):
        self.key = key
        self.latents: list[tuple[str, bytes]] = []
        self.caption: str | None = None
        self.problem: str | None = None

    def take(self, shard: tarfile.TarFile, member: tarfile.TarInfo) -> None:
        suffix = Path(member.name).suffix.lower()
        if suffix == ".txt":
            self.caption = caption(_content(shard, member, MAX_CAPTION_BYTES))
        elif suffix in SUFFIXES and (not member.isreg() or member.issparse()):
            self.problem = f"{member.name} is no plain file"
        elif suffix in SUFFIXES and member.size > MAX_MEMBER_BYTES:
            self.problem = f"{member.name} has {member.size} bytes; expected at most {MAX_MEMBER_BYTES}"
        elif suffix in SUFFIXES:
            self.latents.append((member.name, _content(shard, member, member.size)))

    def items(self, file: str) -> Iterator[LatentItem]:
        key = readable(self.key)
        try:
            if self.problem:
                raise ValueError(self.problem)
            if len(self.latents) != 1:
                held = "two latents or more" if self.latents else "no latents"
                raise ValueError(f"the sample holds {held}; expected one of {', '.join(SUFFIXES)}")
            name, content = self.latents[0]
            batch = parse_latents(content, name)
        except ValueError as error:
            yield LatentItem(file, key, None, self.caption, one_line(error))
            return
        for index, latents in enumerate(batch):
            yield LatentItem(file, f"{key}[{index}]" if len(batch) > 1 else key, latents, self.caption)


def read_shard(path: Path) -> Iterator[LatentItem]:
    """Every latent of a tar shard, in its order. OSError or ValueError where nothing of it can be read."""
    name, ended, count = readable(path), [], 0
    with path.open("rb") as file:
        try:
            with _opened(file, path, ended) as shard:
                for sample in _samples(shard):
                    count += 1
                    yield from sample.items(name)
        except DAMAGE as error:
            if not count:
                raise ValueError(f"{path}: not a tar shard, or damaged: {one_line(error)}") from error
            yield LatentItem(name, "", None, problem=f"the shard is damaged here: {one_line(error)}")
            return
    if not ended:
        yield LatentItem(name, "", None, problem="the shard has no end mark: it is truncated")
    elif not count:
        yield LatentItem(name, "", None, problem="the shard is empty")


def _opened(file: IO[bytes], path: Path, ended: list[bool]) -> tarfile.TarFile:
    class Header(tarfile.TarInfo):
        """Sees what tarfile does not tell: whether the end was marked, and headers of absurd size."""

        @classmethod
        def frombuf(cls, buf, encoding, errors):  # as tarfile declares it
            if len(buf) == tarfile.BLOCKSIZE and not any(buf):
                ended.append(True)
            header = super().frombuf(buf, encoding, errors)
            if header.type in ATTRIBUTES and header.size > MAX_HEADER_BYTES:
                raise tarfile.HeaderError(f"a header claims {header.size} bytes")
            return header

    plain = path.name.lower().endswith(".tar")
    return tarfile.open(  # noqa: SIM115
        fileobj=file, mode="r:" if plain else "r|gz", tarinfo=Header, bufsize=1 << 20
    )


def _samples(shard: tarfile.TarFile) -> Iterator[_Sample]:
    """Neighbouring members of one key: the name up to its first dot."""
    sample: _Sample | None = None
    while True:
        try:
            member = shard.next()
        except DAMAGE:
            if sample:
                yield sample
            raise
        if member is None:
            break
        shard.members = []  # type: ignore  # tarfile would keep them all
        folder, _, base = member.name.rpartition("/")
        key = f"{folder}/{base.partition('.')[0]}" if folder else base.partition(".")[0]
        if member.isdir() or base.startswith((".", "_")):
            continue
        if sample is None or sample.key != key:
            if sample:
                yield sample
            sample = _Sample(key)
        sample.take(shard, member)
    if sample:
        yield sample


def _content(shard: tarfile.TarFile, member: tarfile.TarInfo, limit: int) -> bytes:
    file = shard.extractfile(member) if member.isreg() else None
    return file.read(limit) if file else b""
