"""The words on pictures and in reports, in the language of who looks at them. Knows nothing of the host.

locales/<language>/sheets.json has them by the English ones; what is not in there stays English.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from functools import cache
from pathlib import Path

LOCALES = Path(__file__).resolve().parents[2] / "locales"
ENGLISH = "en"


class _Speech:
    """Who is asked for the language; the host puts its own function here."""

    language: Callable[[], str] = staticmethod(lambda: ENGLISH)


def speak(language: Callable[[], str]) -> None:
    """Ask that function for the language, such as "zh", whenever words are needed."""
    _Speech.language = staticmethod(language)


def said(english: str, **values: object) -> str:
    """Words of a report. english: with {names} at the places of the values."""
    return own(english).format(**values)


def own(english: str) -> str:
    """The words with their {names} still in them, for who puts the values in elsewhere."""
    return _words(_Speech.language()).get(english, english)


def cautions(texts: Iterable[str]) -> list[str]:
    """The lines of a report that its cautions are, one each."""
    return [said("Caution: {text}", text=text) for text in texts]


def drawn(english: str, **values: object) -> str:
    """Words of a picture: `said`, but English where no font of this machine has the letters."""
    from .lettering import can_letter  # Pillow's fonts are not needed before something is drawn

    own = _words(_Speech.language()).get(english)
    return (own if own and can_letter(own) else english).format(**values)


@cache
def _words(language: str) -> dict[str, str]:
    file = LOCALES / language / "sheets.json"
    return json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
