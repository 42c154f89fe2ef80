"""Latents one by one, from files, folders and tar shards, in memory that does not grow with their number."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

from .finding import find_shards
from .items import LatentItem, caption, one_line, readable
from .samples import LATENTS, TEXT, Sample
from .shards import NoShard, Shard, ShardError
from .tally import Tally

KINDS = frozenset((LATENTS, TEXT))
NO_CAPTION = None, None


def read_shard(shard: Shard, captions: bool = False, latent_key: str | None = None) -> Iterator[LatentItem]:
    """Every latent of a shard. What is broken in it is an item with a problem.

    captions: look for texts beside loose files; tar files always give theirs. latent_key: which member of a
    sample is its latents, as `Sample.latents` takes it. Raises OSError or ValueError where nothing can be
    read.
    """
    name = readable(shard.name)
    try:
        for sample in shard.samples(KINDS):
            yield from _items(sample, "" if shard.loose else name, captions or not shard.loose, latent_key)
    except NoShard:
        raise
    except ShardError as error:
        yield LatentItem(name, "", None, problem=one_line(error))


def read_all(
    shards: Iterable[Shard], captions: bool = False, latent_key: str | None = None
) -> Iterator[LatentItem]:
    """Every latent of several shards; one that cannot be read is one item with a problem."""
    for shard in shards:
        try:
            yield from read_shard(shard, captions, latent_key)
        except (ValueError, OSError) as error:
            name = readable(shard.name)
            yield LatentItem(name, "", None, problem=one_line(error).removeprefix(f"{name}: "))


def read_items(path: Path, captions: bool = False, latent_key: str | None = None) -> Iterator[LatentItem]:
    """Every latent of one file, folder or tar shard; see `read_shard`."""
    for shard in find_shards([path], 1):
        yield from read_shard(shard, captions, latent_key)


def read_samples(shard: Shard, tally: Tally) -> Iterator[Sample]:
    """A shard's samples; their keys begin with the shard's name. What is damaged is counted, never raised."""
    try:
        for sample in shard.samples():
            yield sample if shard.loose else replace(sample, key=f"{shard.name}/{sample.key}")
    except (ShardError, OSError) as error:
        tally.skip("damaged shard", shard.name, one_line(error)[:200])


def _items(sample: Sample, tar: str, captions: bool, latent_key: str | None) -> Iterator[LatentItem]:
    """The latents of a sample; tar: the shard that it is in, if it is in one."""
    key = readable(sample.key)
    try:
        chosen = sample.latents(latent_key)
    except ValueError as error:
        text, _ = _caption(sample, "") if captions else NO_CAPTION
        yield LatentItem(tar or key, key if tar else "", None, text, one_line(error))
        return
    for member in chosen:
        text, unread = _caption(sample, member) if captions else NO_CAPTION
        content = sample.members[member]
        file = tar or (readable(content) if isinstance(content, Path) else key)
        named = key if len(chosen) == 1 else f"{key}.{member}"
        try:
            parts = sample.stored(member)
        except (ValueError, OSError) as error:
            problem = one_line(error).removeprefix(f"{file}: ")
            yield LatentItem(file, named if tar else "", None, text, problem)
            continue
        alone = len(parts) == 1 and len(parts[0]) == 1
        for part in parts:
            for index, latents in enumerate(part.each()):
                place = f"{part.size}[{index}]" if part.size and len(part) > 1 else part.size or str(index)
                item = (named if alone else f"{named}[{place}]") if tar else place
                yield LatentItem(file, item, latents, text, frame=part.frame, caption_problem=unread)


def _caption(sample: Sample, beside: str) -> tuple[str | None, str | None]:
    """The text beside latents, and why it could not be read."""
    if (member := sample.text(beside)) is None:
        return NO_CAPTION
    try:
        return caption(sample.read(member)), None
    except (ValueError, OSError) as error:
        return None, f"the caption beside it ({member}) cannot be read: {one_line(error)}"
