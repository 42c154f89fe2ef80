"""Text as CLIP's tokenizer reads it: repaired, unescaped, whitespace folded, lower-cased.

CLIP was trained on text that ftfy had repaired. Where ftfy is installed it is used. ComfyUI does not bring
it, so the same repairs are made here, in the same order; the one that needs ftfy's statistics, mojibake, is
limited to the common kind: UTF-8 that was read as Windows-1252 or Latin-1.
"""

from __future__ import annotations

import html
import re
import unicodedata
from collections.abc import Callable

PASSES = 8  # one repair can uncover another, as in doubly escaped text; ftfy repeats until nothing changes


def clean(text: str, repair: Callable[[str], str] | None = None) -> str:
    """What CLIP's tokenizer splits into words. repair: None picks ftfy, or `repair_text` without it."""
    text = (repair or _repair())(text)
    text = html.unescape(html.unescape(text))
    return re.sub(r"\s+", " ", text).strip().lower()


def repair_text(text: str) -> str:
    """Undo what encodings, word processors and terminals do to text, as ftfy.fix_text does."""
    unescape = "<" not in text  # with a tag in it, the text is HTML on purpose
    for _ in range(PASSES):
        before = text
        if unescape:
            text = _ENTITY.sub(_unescape_one, text)
        text = _fix_mojibake(text)
        for pattern, replacement in _REPLACEMENTS:
            text = pattern.sub(replacement, text)
        text = unicodedata.normalize("NFC", _fix_surrogates(text).translate(_REMOVED))
        if text == before:
            break
    return text


def _repair() -> Callable[[str], str]:
    try:
        from ftfy import fix_text
    except ImportError:
        return repair_text
    return fix_text


_ENTITY = re.compile(r"&#?[0-9A-Za-z]{1,24};")


def _unescape_one(match: re.Match[str]) -> str:
    entity = match[0]
    plain = html.unescape(entity)
    if plain == entity and entity.isupper():  # &EACUTE; is no entity, but plainly means É
        lower = html.unescape(entity.lower())
        return lower.upper() if lower != entity.lower() else entity
    return plain


def _compatible(match: re.Match[str]) -> str:
    return unicodedata.normalize("NFKC", match[0])


def _control_to_windows(match: re.Match[str]) -> str:
    return _WINDOWS.get(ord(match[0]), match[0])


# Bytes 0x80 to 0x9F as Windows-1252 shows them; five of them it does not define.
_WINDOWS = {byte: bytes([byte]).decode("cp1252", "ignore") or chr(byte) for byte in range(0x80, 0xA0)}
_REPLACEMENTS: list[tuple[re.Pattern[str], str | Callable[[re.Match[str]], str]]] = [
    (re.compile("[\x80-\x9f]"), _control_to_windows),
    (re.compile("[\u0132\u0133\u0149\u01c4-\u01cc\u01f1-\u01f3\ufb00-\ufb06]"), _compatible),  # ligatures
    (re.compile("[\u3000\uff01-\uffef]"), _compatible),  # full and half width
    (re.compile("[\u02bc\u2018-\u201b]"), "'"),
    (re.compile("[\u201c-\u201f]"), '"'),
    (re.compile("\r\n|[\r\x85\u2028\u2029]"), "\n"),
    (re.compile("\x1b\\[[0-9;]*[a-zA-Z]"), ""),  # terminal colours
]
_REMOVED = dict.fromkeys(
    [*range(0x09), 0x0B, *range(0x0E, 0x20), 0x7F, *range(0x206A, 0x2070), 0xFEFF, *range(0xFFF9, 0xFFFD)]
)


def _fix_surrogates(text: str) -> str:
    """Join pairs of surrogates; a lone one becomes the replacement character."""
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


# Every character that one byte of a UTF-8 sequence turns into when read as Windows-1252 or Latin-1.
_BYTES = {chr(byte): byte for byte in range(0x80, 0x100)} | {text: byte for byte, text in _WINDOWS.items()}
_SEQUENCE = re.compile(
    "[{two}][{rest}]|[{three}][{rest}]{{2}}|[{four}][{rest}]{{3}}".format(
        two="\xc2-\xdf",
        three="\xe0-\xef",
        four="\xf0-\xf4",
        rest="".join(re.escape(char) for char, byte in _BYTES.items() if byte < 0xC0),
    )
)


def _fix_mojibake(text: str) -> str:
    """Read runs that are valid UTF-8 in disguise as the characters they were: "cafÃ©" is "café"."""
    return _SEQUENCE.sub(_decode_sequence, text)


def _decode_sequence(match: re.Match[str]) -> str:
    try:
        return bytes(_BYTES[char] for char in match[0]).decode("utf-8")
    except UnicodeDecodeError:
        return match[0]
