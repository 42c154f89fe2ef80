"""Text in pictures: a font that has the letters, lines that fit a width. Knows nothing of the host.

Pillow's own font has English letters only. Labels are in any language, so other fonts of the machine are
asked for what it lacks; nothing is downloaded.
"""

from __future__ import annotations

import unicodedata
from functools import cache, lru_cache
from typing import Any

from PIL import ImageFont

# As Pillow finds them in the font folders of Windows, macOS and Linux; the first that has all letters serves.
FONT_FILES = (
    *("DejaVuSans.ttf", "NotoSans-Regular.ttf", "segoeui.ttf", "arial.ttf", "Arial.ttf", "Arial Unicode.ttf"),
    *(
        "NotoSansCJK-Regular.ttc",
        "SourceHanSansSC-Regular.otf",
        "msyh.ttc",
        "PingFang.ttc",
        "Hiragino Sans GB.ttc",
    ),
    *("wqy-microhei.ttc", "wqy-zenhei.ttc", "DroidSansFallbackFull.ttf", "malgun.ttf", "meiryo.ttc"),
)
NO_CHARACTER = "\uffff"
Font = Any  # FreeTypeFont, or Pillow's bitmap font where FreeType is missing


@cache
def font(size: int) -> Font:
    """Pillow's own font, which every machine has."""
    return ImageFont.load_default(size)


@cache
def _file_font(name: str, size: int) -> Font | None:
    try:
        return ImageFont.truetype(name, size)
    except OSError:
        return None


@cache
def _has(font_name: str | None, character: str) -> bool:
    """Whether a font draws that character as anything but its box for unknown ones."""
    found = font(20) if font_name is None else _file_font(font_name, 20)
    if found is None:
        return False
    mask, unknown = found.getmask(character), found.getmask(NO_CHARACTER)
    return mask.getbbox() is not None and (mask.size != unknown.size or bytes(mask) != bytes(unknown))


@lru_cache(4096)
def _lettered(text: str) -> tuple[str, str | None]:
    """The text as it can be drawn, and the font file for it; None is Pillow's own font."""
    wanted = {character for character in text if not character.isspace()}
    for name in (None, *FONT_FILES):
        if all(_has(name, character) for character in wanted):
            return text, name
    best = max((None, *FONT_FILES), key=lambda name: sum(_has(name, character) for character in wanted))
    return "".join(_nearest(best, character) for character in text), best


def _nearest(font_name: str | None, character: str) -> str:
    """A character that the font lacks, without its accent; else a question mark."""
    if character.isspace() or _has(font_name, character):
        return character
    plain = [c for c in unicodedata.normalize("NFKD", character) if not unicodedata.combining(c)]
    return "".join(c if _has(font_name, c) else "?" for c in plain)


def can_letter(text: str) -> bool:
    """Whether one font of this machine has all letters of a text."""
    return _lettered(text)[0] == text


def lettered(text: str, size: int) -> tuple[str, Font]:
    """The text as it can be drawn, and the font to draw it with."""
    drawn, name = _lettered(text)
    return drawn, font(size) if name is None else _file_font(name, size)


def width_of(text: str, size: int) -> float:
    """Pixels that a line of text takes."""
    drawn, found = lettered(text, size)
    return found.getlength(drawn)


def fit_text(text: str, width: float, size: int) -> str:
    """Cut a text with an ellipsis where it would be wider than that many pixels."""
    text = " ".join(text.split())
    if width_of(text, size) <= width:
        return text
    while text and width_of(text + "…", size) > width:
        text = text[:-1]
    return text.rstrip() + "…"


def wrap_text(text: str, width: float, size: int, most: int) -> list[str]:
    """Break a text into lines of at most that many pixels; the last of `most` lines ends with an ellipsis."""
    lines: list[str] = []
    for word in " ".join(text.split()).split(" "):
        joined = f"{lines[-1]} {word}" if lines else word
        if lines and width_of(joined, size) <= width:
            lines[-1] = joined
            continue
        while word and width_of(word, size) > width:  # a word without a place to break, such as Chinese
            length = max(n for n in range(1, len(word) + 1) if n == 1 or width_of(word[:n], size) <= width)
            lines.append(word[:length])
            word = word[length:]
        if word:
            lines.append(word)
    if len(lines) > most:
        lines = [*lines[: most - 1], fit_text(" ".join(lines[most - 1 :]), width, size)]
    return lines
