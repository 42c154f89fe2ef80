"""What is drawn on a drawing: emoji by Unicode's names, clip art and stamps by their titles."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

from .packages import ICONS, PACKAGES

TITLE = "{http://purl.org/dc/elements/1.1/}title"
SUBJECT = "{http://purl.org/dc/elements/1.1/}subject"
ARTICLES = re.compile(r"^(a pair of|an|a|the|some|clipart by [a-z ]+ -)\s+")


@dataclass(frozen=True)
class Name:
    """What a drawing shows, in lower case, and key words."""

    name: str
    keywords: tuple[str, ...] = ()


def names_of(cache: Path) -> dict[str, Name]:
    """Names by path in the cache, of every package that is there."""
    files = cache / "files"
    emoji = _unicode_names(files / "openmoji" / "package" / "data" / "openmoji.json")
    found: dict[Path, Name] = {}
    for vendor in ("google", "twitter"):
        package = files / f"emoji-datasource-{vendor}" / "package"
        found |= _datasource(package / "emoji.json", package / "img" / vendor / "64", emoji)
    found |= _openmoji(files / "openmoji" / "package" / "color" / "svg", emoji)
    for package in PACKAGES:
        if package.name.startswith(ICONS):
            found |= _icons(files / package.name / "package" / "icons.json.d", emoji)
    found |= _clip_art(files)
    found |= _stamps(files / "tuxpaint-stamps-default")
    return {path.relative_to(cache).as_posix(): name for path, name in found.items()}


def tidy(name: str) -> str:
    """A name without article, author, digits and signs, in lower case; empty where no word is left."""
    words = re.sub(r"[^a-z' -]+", " ", name.lower().replace("_", " "))
    words = ARTICLES.sub("", " ".join(words.split()).strip("-' "))
    return words if re.search(r"[a-z]{3}", words) and len(words) <= 48 else ""


def _unicode_names(path: Path) -> dict[str, Name]:
    """Names of emoji by their code points, without skin tones."""
    if not path.is_file():
        return {}
    entries = json.loads(path.read_text(encoding="utf-8"))
    return {
        _code(entry["hexcode"]): Name(tidy(entry["annotation"]), tuple(entry["tags"].split(", ")))
        for entry in entries
        if not entry["skintone"] and not entry["group"].startswith("extras")
    }


def _code(hexcode: str) -> str:
    """Code points without the one that only asks for a coloured form."""
    return "-".join(part for part in hexcode.lower().split("-") if part != "fe0f")


def _datasource(index: Path, folder: Path, emoji: dict[str, Name]) -> dict[Path, Name]:
    if not index.is_file():
        return {}
    found = {}
    for entry in json.loads(index.read_text(encoding="utf-8")):
        own = Name(tidy((entry.get("name") or entry["short_name"]).replace("-", " ")))
        found[folder / entry["image"]] = emoji.get(_code(entry["unified"]), own)
    return {path: name for path, name in found.items() if name.name}


def _openmoji(folder: Path, emoji: dict[str, Name]) -> dict[Path, Name]:
    named = {path: emoji.get(_code(path.stem)) for path in folder.glob("*.svg")}
    return {path: name for path, name in named.items() if name and name.name}


def _icons(folder: Path, emoji: dict[str, Name]) -> dict[Path, Name]:
    """Files have a Unicode name in one spelling or another: "grinning-face", "grinningface"."""
    by_letters = {_letters(name.name): name for name in emoji.values() if name.name}
    named = {path: by_letters.get(_letters(path.stem)) for path in folder.glob("*.svg")}
    return {path: name for path, name in named.items() if name}


def _letters(name: str) -> str:
    return re.sub(r"[^a-z]", "", name.lower())


def _clip_art(files: Path) -> dict[Path, Name]:
    """Openclipart's titles and key words stand in the SVG of the same name."""
    pictures = files / "openclipart-png" / "usr" / "share" / "openclipart" / "png"
    titles = files / "openclipart-svg" / "usr" / "share" / "openclipart" / "svg"
    found = {}
    for path in pictures.rglob("*.png"):
        source = (titles / path.relative_to(pictures)).with_suffix(".svg")
        name = _svg_title(source) if source.is_file() else Name("")
        if name.name:
            found[path] = name
    return found


def _svg_title(path: Path) -> Name:
    try:
        root = ElementTree.parse(path).getroot()
    except (ElementTree.ParseError, OSError, ValueError):
        return Name("")
    work = next((e for e in root.iter() if e.tag.endswith("}Work")), None)
    if work is None:
        return Name("")
    subject = work.find(SUBJECT)
    words = [e.text or "" for e in subject.iter() if e.tag.endswith("}li")] if subject is not None else []
    return Name(tidy(work.findtext(TITLE) or ""), tuple(w for w in map(tidy, words) if w))


def _stamps(folder: Path) -> dict[Path, Name]:
    """Tux Paint's stamps have a sentence beside them: "A hiking boot." """
    found = {}
    for text in folder.rglob("*.txt"):
        lines = text.read_text(encoding="utf-8", errors="replace").splitlines()
        name = tidy(lines[0].split(".")[0]) if lines else ""
        for path in (text.with_suffix(".png"), text.with_suffix(".svg")):
            if name and path.is_file():
                found[path] = Name(name, tuple(text.parent.name.split()))
    return found
