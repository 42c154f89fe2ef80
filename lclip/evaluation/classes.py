"""Which classes there are: ImageNet's thousand, by WordNet ids, numbers or names, or a list of one's own."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..training.zero_shot import read_classes, read_lines
from .imagenet_names import CLASSES, imagenet_names
from .items import plain

WORDNET = re.compile(r"n\d{8}")


@dataclass(frozen=True)
class Classes:
    """Classes by a name of their own, what texts call them, and how prompts are made of that."""

    ids: tuple[str, ...]
    texts: tuple[str, ...]
    templates: tuple[str, ...]
    imagenet: bool
    """Whether these are ImageNet's names in open_clip's words, with the 80 templates."""

    @property
    def by_name(self) -> dict[str, str]:
        """The id of a class by whatever folders, files or labels may call it."""
        found: dict[str, str] = {}
        for number, (name, text) in enumerate(zip(self.ids, self.texts, strict=True)):
            for form in (
                name,
                text,
                *([str(number), f"{number:03}", f"{number:04}"] if self.imagenet else []),
            ):
                found.setdefault(plain(form), name)
        return found


def find_classes(paths: Sequence[Path], classes: Path | None, templates: Path | None) -> Classes:
    """The classes of a task, by a list or by what the folders are called.

    classes: a file with a class a line, as the folders call it, a tab, and as texts call it. templates: a
    prompt a line, with {}. Raises FileNotFoundError, ValueError.
    """
    if classes is not None:
        ids, texts = read_classes(classes)
        if len(set(ids)) < len(ids):
            raise ValueError(f"{classes} names a class twice; expected distinct ones")
        return Classes(ids, texts, _templates(templates) or imagenet_names()[1], False)
    texts, usual = imagenet_names()
    names = sorted(set(_named_in(paths)))
    wordnet = [name for name in names if WORDNET.fullmatch(name)]
    if wordnet and len(wordnet) != CLASSES:
        raise ValueError(
            f"{len(wordnet)} of the names are WordNet ids, such as {wordnet[0]}; expected all {CLASSES}, in "
            "whose order the class names are, or --classes with a line for each: the id, a tab, the name"
        )
    ids = tuple(wordnet) if wordnet else tuple(f"{number:03} {name}" for number, name in enumerate(texts))
    found = Classes(ids, texts, _templates(templates) or usual, templates is None)
    if names and not any(plain(name) in found.by_name for name in names):
        raise ValueError(
            f"no folder or file is named as a class of ImageNet; there are {', '.join(names[:3])}. "
            "Give --classes"
        )
    return found


def _templates(path: Path | None) -> tuple[str, ...]:
    lines = read_lines(path) if path is not None else ()
    if odd := [line for line in lines if "{}" not in line]:
        raise ValueError(
            f"{path}: {odd[0]!r:.60} has no place for the class; expected {{}} in every template"
        )
    return lines


def _named_in(paths: Sequence[Path]) -> Iterable[str]:
    """What folders are called, or files where there are no folders. Nothing for tars."""
    for path in paths:
        inside = sorted(path.iterdir()) if path.is_dir() else []
        folders = [each.name for each in inside if each.is_dir()]
        yield from folders or [_stem(each.name) for each in inside if not each.name.startswith(".")]


def _stem(name: str) -> str:
    stem = name.partition(".")[0]
    first = stem.partition("_")[0]
    return first if WORDNET.fullmatch(first) else stem
