"""Shards: a tar file in WebDataset's layout, what a command writes in it, or loose files; read front to back.

Nothing of a tar is ever unpacked to the disk. A tar that is damaged gives the samples before the damage.
"""

from __future__ import annotations

import lzma
import subprocess
import tarfile
import zlib
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import IO

from .items import MAX_CAPTION_BYTES, one_line, readable
from .samples import KINDS, LABEL, TEXT, Refused, Sample, kind_of, split_name

TARS = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz")
PIPE = "pipe:"
MAX_MEMBER_BYTES = 1 << 28  # of one file in a shard, which is read into memory
MAX_HEADER_BYTES = 1 << 20  # of a member's name and attributes
ATTRIBUTES = (tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.SOLARIS_XHDTYPE, tarfile.GNUTYPE_LONGNAME,
              tarfile.GNUTYPE_LONGLINK)  # fmt: skip
DAMAGE = (tarfile.TarError, EOFError, OSError, ValueError, zlib.error, lzma.LZMAError)
ALL = frozenset(KINDS.values())


class ShardError(ValueError):
    """A shard that is damaged, after the samples that could be read."""


class NoShard(ShardError):
    """A file of which nothing could be read."""


@dataclass(frozen=True)
class Shard:
    """A part of the data that is read from its beginning to its end.

    name: the tar's path, `pipe:COMMAND` for what a shell command writes, or what loose files are called
    together. files: the loose files, sorted, those of a sample side by side.
    """

    name: str
    files: tuple[Path, ...] = ()

    @property
    def loose(self) -> bool:
        """Whether it is a number of loose files."""
        return bool(self.files)

    def digest(self, called: Callable[[str], str] = str) -> str:
        """8 hex digits of the names in it: the same for the same files in every run.

        called: what a name is taken as, where it must not depend on the way it was given.
        """
        digest = blake2b(digest_size=4)
        for name in (path.as_posix() for path in self.files or (Path(self.name),)):
            digest.update(called(name).encode("utf-8", "surrogateescape") + b"\0")
        return digest.hexdigest()

    def samples(self, kinds: Collection[str] = ALL) -> Iterator[Sample]:
        """Its samples in order, with the members of these kinds; others are not read.

        Raises ShardError at the place where a tar is damaged, OSError.
        """
        return _loose(self.files, kinds) if self.files else _in_tar(self.name, kinds)


def is_shard(path: Path | str) -> bool:
    """Whether a name is that of a tar shard."""
    return str(path).lower().endswith(TARS)


def _loose(files: Collection[Path], kinds: Collection[str]) -> Iterator[Sample]:
    key, members = "", {}
    for path in files:
        found, member = split_name(path.as_posix())
        if members and found != key:
            yield Sample(key, members)
            members = {}
        key = found
        if kind_of(member) in kinds:
            members[member] = Refused("a member is there twice", member) if member in members else path
    if members:
        yield Sample(key, members)


def _in_tar(name: str, kinds: Collection[str]) -> Iterator[Sample]:
    ended, count = [], 0
    with _stream(name) as file:
        try:
            with _tar(file, name, ended) as tar:
                for sample in _neighbours(tar, kinds):
                    count += 1
                    yield sample
        except DAMAGE as error:
            if not count:
                raise NoShard(f"{name}: not a tar shard, or damaged: {one_line(error)}") from error
            raise ShardError(f"the shard is damaged here: {one_line(error)}") from error
    if not ended:
        raise ShardError("the shard has no end mark: it is truncated")
    if not count:
        raise ShardError("the shard is empty")


@contextmanager
def _stream(name: str) -> Iterator[IO[bytes]]:
    if not name.startswith(PIPE):
        with open(name, "rb") as file:
            yield file
        return
    process = subprocess.Popen(name[len(PIPE) :], shell=True, stdout=subprocess.PIPE)
    assert process.stdout is not None
    try:
        yield process.stdout
        process.stdout.read()  # the padding, so that the command ends by itself
        if process.wait() != 0:
            raise ShardError(f"the command ended with {process.returncode}")
    finally:
        process.kill()
        process.stdout.close()
        process.wait()


def _tar(file: IO[bytes], name: str, ended: list[bool]) -> tarfile.TarFile:
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

    # A stream's parts are copied for every member, so that a plain file is better read as one.
    mode = "r:" if name.lower().endswith(".tar") and not name.startswith(PIPE) else "r|*"
    try:
        return tarfile.open(fileobj=file, mode=mode, tarinfo=Header)  # noqa: SIM115
    except tarfile.ReadError:
        if mode == "r|*":
            raise
        file.seek(0)
        return tarfile.open(fileobj=file, mode="r|*", tarinfo=Header)  # noqa: SIM115  # compressed all the same


def _neighbours(tar: tarfile.TarFile, kinds: Collection[str]) -> Iterator[Sample]:
    """Neighbouring members of one key."""
    key, members = "", {}
    while True:
        try:
            info = tar.next()
            if info is None:
                break
            tar.members = []  # type: ignore  # tarfile would keep them all
            found, member = split_name(info.name)
            if info.isdir() or not member:
                continue
            if members and found != key:
                yield Sample(key, members)
                members = {}
            key = found
            content = _content(tar, info, kind_of(member), kinds)
            twice = member in members
            members[member] = Refused("a member is there twice", member) if twice else content
        except DAMAGE:
            if members:
                yield Sample(key, members)
            raise
    if members:
        yield Sample(key, members)


def _content(
    tar: tarfile.TarFile, info: tarfile.TarInfo, kind: str | None, kinds: Collection[str]
) -> bytes | Refused:
    if kind not in kinds:
        return Refused("not read", readable(info.name))
    if not info.isreg() or info.issparse():
        return Refused("no plain file", readable(info.name))
    limit = MAX_CAPTION_BYTES if kind in (TEXT, LABEL) else MAX_MEMBER_BYTES
    if info.size > limit and limit == MAX_MEMBER_BYTES:
        return Refused(
            "file too large", f"{readable(info.name)} has {info.size} bytes; expected at most {limit}"
        )
    file = tar.extractfile(info)
    return file.read(min(info.size, limit)) if file else b""
