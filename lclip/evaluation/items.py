"""What is evaluated, one by one: latents as they are, or pictures through a VAE, each with its text."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

from PIL import Image

from ..data.finding import find_shards
from ..data.items import MAX_CAPTION_BYTES, LatentItem, caption, one_line, readable
from ..data.pictures import read_rgb
from ..data.reader import read_all
from ..data.samples import LATENTS, PICTURE, TEXT, Sample, Unusable
from ..data.shards import PIPE, Shard, is_shard
from ..data.texts import read_table
from .pictures import PictureToLatents

PER_SHARD = 100
"""Loose files that a worker takes at a time: a VAE needs seconds for them."""
Seen = Callable[[Image.Image | LatentItem], None]
"""Called with what is shown of an item: a picture, or latents."""
Known = Callable[[str, str], bool]
"""Whether the item of that file and place has its row already."""


@dataclass(frozen=True)
class Inputs:
    """Files, folders and tar shards, of pictures where there is a VAE to encode them, else of latents."""

    paths: tuple[Path, ...]
    encoder: PictureToLatents | None = None
    latent_key: str | None = None

    def items(self, seen: Seen, known: Known) -> Iterator[LatentItem]:
        """Every item that is not known; what cannot be read is an item with a problem.

        Pictures that are known are not encoded again. Raises FileNotFoundError, ValueError.
        """
        for shard in self.shards(1):
            yield from self.of_shard(shard, seen, known)

    def shards(self, per_shard: int | None = None) -> Iterator[Shard]:
        """What is read, so many loose files at a time. Raises FileNotFoundError, ValueError."""
        return find_shards(
            self.paths, per_shard or PER_SHARD, (LATENTS,) if self.encoder is None else (PICTURE,)
        )

    def of_shard(self, shard: Shard, seen: Seen, known: Known) -> Iterator[LatentItem]:
        """The same of one shard."""
        if self.encoder is not None:
            yield from self._pictures(shard, self.encoder, seen, known)
            return
        for item in read_all([shard], True, self.latent_key):
            if not known(item.file, item.item):
                seen(item)
                yield item

    def _pictures(
        self, shard: Shard, encoder: PictureToLatents, seen: Seen, known: Known
    ) -> Iterator[LatentItem]:
        name = "" if shard.loose else readable(shard.name)
        try:
            for sample in shard.samples(frozenset((PICTURE, TEXT))):
                file, item = (name, readable(sample.key)) if name else (_file_of(sample), "")
                if not known(file, item):
                    yield _encoded(sample, file, item, encoder, seen)
        except (ValueError, OSError) as error:
            yield LatentItem(readable(shard.name), "", None, problem=one_line(error))


def _file_of(sample: Sample) -> str:
    """The file that a loose sample's picture is in: whether it is still the same, its size and time say."""
    try:
        content = sample.members[sample.picture()]
    except Unusable:
        return readable(sample.key)
    return readable(content) if isinstance(content, Path) else readable(sample.key)


def _encoded(sample: Sample, file: str, item: str, encoder: PictureToLatents, seen: Seen) -> LatentItem:
    """The picture of a sample as latents."""
    try:
        picture = read_rgb(sample.read(sample.picture()))
        latents = encoder(picture)
        text = sample.text(sample.picture())
        words = caption(sample.read(text)[:MAX_CAPTION_BYTES]) if text else None
    except Exception as error:  # Pillow raises whatever a malformed file leads to
        return LatentItem(file, item, None, problem=f"no picture that can be read: {one_line(error)}")
    seen(picture)
    return LatentItem(file, item, latents, words)


def of_classes(items: Iterable[LatentItem], classes: Mapping[str, str]) -> Iterator[LatentItem]:
    """The items with the name of their class as caption.

    classes: the name of a class by what folders, files or labels call it, in lower case. An item's class is
    the folder that it lies in; else what its file is called, as in one picture for each class; else the text
    beside it, which comes before a name that is a mere number.
    """
    for item in items:
        key = _path_of(item)
        stem, beside = key.name.partition(".")[0], item.caption or ""
        names = (stem, stem.partition("_")[0])
        told = (key.parent.name, *((beside, *names) if stem.isdigit() else (*names, beside)))
        found = next((classes[name] for each in told if (name := plain(each)) in classes), None)
        yield replace(item, caption=found or key.parent.name or beside)


def _path_of(item: LatentItem) -> PurePosixPath:
    """What an item is called: its key in a tar; else its file, in which `item` is only a place."""
    in_tar = is_shard(item.file) or item.file.startswith(PIPE)
    return PurePosixPath(item.item if in_tar and item.item else item.file)


def plain(name: str) -> str:
    """A class's name however it is written: "Great_White_Shark" is "great white shark"."""
    return " ".join(name.replace("_", " ").lower().split())


def with_captions(items: Iterable[LatentItem], captions: Mapping[str, str] | None) -> Iterator[LatentItem]:
    """The items with the captions of a table in place of the texts beside them."""
    for item in items:
        if captions is not None:
            found = map(captions.get, _forms(_path_of(item)))
            item = replace(item, caption=next(filter(None, found), None))
        yield item


def _forms(path: PurePosixPath) -> Iterator[str]:
    """What a table may call an item: with all its folders or only the last ones, by its name or its key."""
    for first in range(len(path.parts)):
        shorter = PurePosixPath(*path.parts[first:])
        yield from (str(shorter), str(shorter.with_name(key_of(path))))


def key_of(path: PurePosixPath) -> str:
    """A name without all that follows its first dot."""
    return path.name.partition(".")[0] or path.name


def digest_of(captions: Mapping[str, str]) -> str:
    """The same for the same captions, however their table was laid out."""
    return hashlib.sha256(json.dumps(sorted(captions.items())).encode()).hexdigest()[:16]


def read_captions(path: Path) -> dict[str, str]:
    """Captions by file name and by key, from a CSV with a column for the file and one called caption.

    With the folders before a name, where several rows have it: a/1.png is not b/1.png.
    Raises FileNotFoundError, ValueError.
    """
    if not path.is_file():
        raise FileNotFoundError(f"no such file: {path}")
    wanted = "file (or image, key) and caption"
    columns, rows = read_table(path, wanted)
    named = next((name for name in ("file", "filename", "image", "key") if name in columns), None)
    if named is None or "caption" not in columns:
        raise ValueError(f"{path} has the columns {', '.join(columns) or 'none'}; expected {wanted}")
    texts: dict[PurePosixPath, str] = {}
    for row in rows:
        name = PurePosixPath(row[named].replace("\\", "/"))
        if name.name and row["caption"]:
            texts.setdefault(name, row["caption"])
    keys = Counter(map(key_of, texts))
    found: dict[str, str] = {}
    for name, text in texts.items():
        shown = name if keys[key_of(name)] > 1 else PurePosixPath(name.name)
        found.setdefault(str(shown), text)
        found.setdefault(str(shown.with_name(key_of(shown))), text)
    if not found:
        raise ValueError(f"{path} holds no caption; expected a row for each picture")
    return found
