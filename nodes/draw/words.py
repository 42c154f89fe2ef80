"""The words on pictures and in reports, in the language of who looks at them. Knows nothing of the host.

locales/<language>/sheets.json has them by the English ones, and cautions.json what the library says of
latents, texts and results, whole sentences with their values in them; what is in neither stays English.
"""

from __future__ import annotations

import json
import re
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
    """Words of a report. english: with {names} where the values go, of which `text` is a sentence too."""
    return own(english).format(**_with(told, values))


def own(english: str) -> str:
    """The words with their {names} still in them, for who puts the values in elsewhere."""
    return _words(_Speech.language()).get(english, english)


def cautions(texts: Iterable[str]) -> list[str]:
    """The lines of a report that its cautions are, one each."""
    return [said("Caution: {text}", text=text) for text in texts]


def told(sentence: str) -> str:
    """A sentence of the library's in the reader's language, and so are the sentences among its values."""
    for pattern, own in _sentences(_Speech.language()):
        if found := pattern.fullmatch(sentence):
            return own.format(**{name: told(value) for name, value in found.groupdict().items()})
    return sentence


def _drawn_told(sentence: str) -> str:
    """`told`, but English where no font of this machine has the letters."""
    from .lettering import can_letter

    own = told(sentence)
    return own if can_letter(own) else sentence


def _with(how: Callable[[str], str], values: dict[str, object]) -> dict[str, object]:
    text = values.get("text")
    return {**values, "text": how(text)} if isinstance(text, str) else values


def drawn(english: str, **values: object) -> str:
    """Words of a picture: `said`, but English where no font of this machine has the letters."""
    from .lettering import can_letter  # Pillow's fonts are not needed before something is drawn

    own = _words(_Speech.language()).get(english)
    return (own if own and can_letter(own) else english).format(**_with(_drawn_told, values))


@cache
def _words(language: str, name: str = "sheets") -> dict[str, str]:
    file = LOCALES / language / f"{name}.json"
    return json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}


@cache
def _sentences(language: str) -> list[tuple[re.Pattern[str], str]]:
    """Sentences as patterns with a group for each value, and the reader's."""
    return [(_pattern(english), own) for english, own in _words(language, "cautions").items()]


def _pattern(english: str) -> re.Pattern[str]:
    """ "item {item}: {text}" as a pattern."""
    parts = re.split(r"\{(\w+)\}", english)
    named = (f"(?P<{part}>.+?)" if at % 2 else re.escape(part) for at, part in enumerate(parts))
    return re.compile("".join(named), re.DOTALL)
