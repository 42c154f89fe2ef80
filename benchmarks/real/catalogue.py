"""The catalogue of pictures: one line of JSON each, with source, licence, kind, name and split."""

from __future__ import annotations

import fnmatch
import hashlib
import json
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
from PIL import Image

from .drawn import LICENCE, draw_pages
from .names import Name, names_of
from .packages import DOCUMENT, DRAWING, HIGH_KEY, NIGHT, PACKAGES, POSTER, Package, Rule
from .reading import PictureError, read_picture

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".gif", ".tif", ".tiff", ".bmp", ".svg")
SPLITS = (("train", 0.58), ("dev", 0.75), ("test", 1.0))
ALIKE = 6  # of 64 bits of the difference hash; pictures of a set that differ in fewer are one
DARK, BRIGHT = 0.15, 0.80  # mean brightness


@dataclass(frozen=True)
class Picture:
    """A picture that can be used.

    path: in the cache. named: whether `name` says what is drawn. held_out: of the set that is kept as another
    hand's. group: what is split by: a drawing's name, or a picture with its other sizes. tone: "night" below
    DARK, "high-key" above BRIGHT, else "". width, height: pixels; of an SVG those that it is rendered at.
    """

    id: str
    path: str
    source: str
    licence: str
    kind: str
    named: bool
    name: str
    keywords: tuple[str, ...]
    held_out: bool
    group: str
    split: str
    tone: str
    width: int
    height: int
    alike: int = 0  # difference hash

    @property
    def short(self) -> int:
        """Pixels on the short side."""
        return min(self.width, self.height)


def unit_hash(text: str) -> float:
    """A number in 0..1 that is the same on every machine."""
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:7], "big") / 2**56


def split_of(group: str) -> str:
    """ "train", "dev" or "test", by the hash of what must not be in two of them."""
    share = unit_hash(f"split {group}")
    return next(split for split, end in SPLITS if share < end)


def build(cache: Path, say: Callable[[str], None] = print) -> tuple[list[Picture], Counter]:
    """Read every picture of the cache and write catalogue.jsonl. -> pictures, left out by reason."""
    draw_pages(cache)
    names, skipped = names_of(cache), Counter()
    candidates = [*_packaged(cache, names, skipped), *_drawn_here(cache)]
    pictures = _distinct(_read_all(cache, candidates, skipped, say), skipped)
    target = cache / "catalogue.jsonl"
    lines = [json.dumps(asdict(p), ensure_ascii=False) for p in pictures]
    part = target.with_suffix(".part")
    part.write_text("\n".join(lines) + "\n", encoding="utf-8")
    part.replace(target)
    return pictures, skipped


def load(cache: Path) -> list[Picture]:
    """The pictures that `build` catalogued. FileNotFoundError where it has not run."""
    lines = (cache / "catalogue.jsonl").read_text(encoding="utf-8").splitlines()
    return [Picture(**{**entry, "keywords": tuple(entry["keywords"])}) for entry in map(json.loads, lines)]


def summary(pictures: Iterable[Picture]) -> str:
    """Counts by kind and split, as a table of plain text."""
    counts = Counter((_heading(p), p.split) for p in pictures)
    kinds = sorted({kind for kind, _ in counts})
    splits = [split for split, _ in SPLITS]
    rows = [[kind, *(str(counts[kind, split]) for split in splits)] for kind in kinds]
    return "\n".join(
        f"{row[0]:36}" + "".join(f"{cell:>8}" for cell in row[1:]) for row in [["", *splits], *rows]
    )


def _heading(picture: Picture) -> str:
    if picture.kind == DRAWING:
        return (
            f"drawing, named{', held-out hand' * picture.held_out}" if picture.named else "drawing, nameless"
        )
    return picture.kind + (
        ", 1500 px or more" if picture.kind == "photograph" and picture.short >= 1500 else ""
    )


def _packaged(cache: Path, names: dict[str, Name], skipped: Counter) -> Iterator[Picture]:
    for package in PACKAGES:
        folder = cache / "files" / package.name
        chosen: dict[Rule, list[Picture]] = {}
        for path in sorted(
            p for p in folder.rglob("*") if p.suffix.lower() in SUFFIXES and not p.is_symlink()
        ):
            inside = "/" + path.relative_to(folder).as_posix()
            rule = next((r for r in package.rules if fnmatch.fnmatch(inside, r.pattern)), None)
            if rule is None or rule.kind is None:
                continue
            relative = path.relative_to(cache).as_posix()
            name = names.get(relative, Name(""))
            if rule.named and not name.name:
                skipped["no name"] += 1
                continue
            chosen.setdefault(rule, []).append(_candidate(package, rule, relative, name))
        for rule, pictures in chosen.items():
            yield from sorted(pictures, key=lambda p: unit_hash(p.path))[: rule.most]


def _candidate(package: Package, rule: Rule, relative: str, name: Name) -> Picture:
    named = rule.named
    group = f"name {name.name}" if named else f"{package.name} {_title(relative)}"
    return Picture(
        id="",
        path=relative,
        source=package.name,
        licence=package.licence,
        kind=rule.kind or "",
        named=named,
        name=name.name,
        keywords=name.keywords,
        held_out=package.held_out,
        group=group,
        split=split_of(group),
        tone="",
        width=0,
        height=0,
    )


def _title(relative: str) -> str:
    """A picture's title, shared by its sizes and its light and dark form."""
    path = Path(relative)
    if (whole := re.search(r"/([^/]+)/contents/images[^/]*/", relative)) is not None:
        return whole.group(1)
    folder = path.parent.name if path.parent.suffix == ".d" else ""
    return f"{folder} " * bool(folder) + re.sub(r"[-_](\d+x\d+|[dl])$", "", path.stem)


def _drawn_here(cache: Path) -> Iterator[Picture]:
    for kind, folder in ((DOCUMENT, "documents"), (POSTER, "posters")):
        package = Package("drawn here", "", LICENCE, ())
        for path in sorted((cache / "drawn" / folder).glob("*.png")):
            relative = path.relative_to(cache).as_posix()
            candidate = _candidate(package, Rule("", kind), relative, Name(""))
            group = f"drawn {folder} {path.stem}"
            yield replace(candidate, group=group, split=split_of(group))


def _read_all(cache: Path, candidates: list[Picture], skipped: Counter, say) -> Iterator[Picture]:
    for number, candidate in enumerate(candidates):
        if number % 1000 == 0:
            say(f"read {number} of {len(candidates)} pictures")
        try:
            yield measured(candidate, cache)
        except PictureError as error:
            skipped[error.reason] += 1


def measured(candidate: Picture, cache: Path) -> Picture:
    """The candidate with id, size and tone of its picture. Raises PictureError."""
    picture = read_picture(cache / candidate.path)
    small = np.asarray(picture.resize((9, 8), Image.Resampling.BOX).convert("L"), dtype=np.float32)
    brightness = float(small.mean()) / 255
    tone = NIGHT if brightness < DARK else HIGH_KEY if brightness > BRIGHT else ""
    bits = (small[:, 1:] > small[:, :-1]).flatten()
    return replace(
        candidate,
        id=hashlib.sha256((cache / candidate.path).read_bytes()).hexdigest()[:16],
        tone=tone,
        width=picture.width,
        height=picture.height,
        alike=int("".join(str(int(bit)) for bit in bits), 2),
    )


def _distinct(pictures: Iterable[Picture], skipped: Counter) -> list[Picture]:
    """One picture of each content, the largest of those of a set that look the same."""
    kept: dict[str, Picture] = {}
    by_group: dict[str, list[Picture]] = {}
    for picture in sorted(pictures, key=lambda p: (-p.width * p.height, p.path)):
        family = by_group.setdefault(picture.group, [])
        twin = not picture.named and any((picture.alike ^ p.alike).bit_count() <= ALIKE for p in family)
        if picture.id in kept or twin:
            skipped["the same picture again"] += 1
            continue
        kept[picture.id] = picture
        family.append(picture)
    return sorted(kept.values(), key=lambda p: unit_hash(p.id))
