"""CLIP's byte-pair encoding (arXiv 2103.00020, section 2.4; BPE: arXiv 1508.07909), in plain Python.

Own code, because the ids must not change with the host's version of transformers. Only the list of merges
is needed: CLIP's vocabulary is the 256 bytes, the 256 bytes at a word's end, the merges in order, and two
markers.
"""

from __future__ import annotations

import gzip
import importlib.util
import sys
import unicodedata
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

from .text_cleaning import clean
from .tokenizer import RowTokenizer, ids_digest

MERGES = 49152 - 256 - 2
WORD_END = "</w>"
CLIPS_OWN = "f795fc9a39f187b68484e7b2089ef2ceab51070a9a35a4ee75b659004795266c"  # of its vocabulary
MARKERS = ("<start_of_text>", "<end_of_text>")
CONTRACTIONS = ("'s", "'t", "'re", "'ve", "'m", "'ll", "'d")
# Where the list of merges may lie: the host's own copy, then packages that carry it (nothing in them is run).
PLACES = (
    ("comfy", "sd1_tokenizer/merges.txt"),
    ("open_clip", "bpe_simple_vocab_16e6.txt.gz"),
    ("clip", "bpe_simple_vocab_16e6.txt.gz"),
)


class BPETokenizer(RowTokenizer):
    """CLIP's tokenizer: the ids are those of the models' training, for any text.

    vocabulary: a merges.txt or bpe_simple_vocab_16e6.txt.gz; None looks in ComfyUI, then in installed
    packages. A text that does not fit is cut, keeps its end marker, and is logged.
    Raises FileNotFoundError, ValueError.
    """

    def __init__(self, context_length: int = 77, vocabulary: str | Path | None = None) -> None:
        self.context_length = context_length
        self._ids, self._ranks = read_vocabulary(Path(vocabulary) if vocabulary else find_vocabulary())
        self.vocab_size = len(self._ids)
        self.start, self.end = (self._ids[marker] for marker in MARKERS)
        self._merge = lru_cache(maxsize=1 << 16)(self._merge_word)

    def to_metadata(self) -> dict:
        return {"kind": "clip-bpe"}

    def digest(self) -> str:
        found = ids_digest(self._ids)
        return "" if found == CLIPS_OWN else found

    def _row(self, text: str) -> list[int]:
        words = split_words(clean(text))
        return [self.start, *(token for word in words for token in self._merge(word)), self.end]

    def _merge_word(self, word: str) -> tuple[int, ...]:
        """The ids of one word: its bytes, joined pair by pair, the earliest learnt pair first."""
        if word in MARKERS:
            return (self._ids[word],)
        parts = [_BYTE_SIGNS[byte] for byte in word.encode("utf-8", "replace")]
        parts[-1] += WORD_END
        while len(parts) > 1:
            pairs = set(zip(parts, parts[1:], strict=False))
            best = min(pairs, key=lambda pair: self._ranks.get(pair, MERGES))
            if best not in self._ranks:
                break
            parts = _join(parts, best)
        return tuple(self._ids[part] for part in parts)


def split_words(text: str) -> Iterator[str]:
    """Markers, contractions, runs of letters, single digits, runs of other signs; whitespace parts them."""
    at = 0
    while at < len(text):
        length = _word_length(text, at)
        if length:
            yield text[at : at + length]
        at += length or 1


def _word_length(text: str, at: int) -> int:
    for fixed in (*MARKERS, *CONTRACTIONS):
        if text[at : at + len(fixed)].casefold() == fixed:
            return len(fixed)
    kind = _kind(text[at])
    if kind in ("space", "number"):
        return int(kind == "number")
    end = at + 1
    while end < len(text) and _kind(text[end]) == kind:
        end += 1
    return end - at


def _kind(char: str) -> str:
    if char.isspace():
        return "space"
    return {"L": "letter", "N": "number"}.get(unicodedata.category(char)[0], "sign")


def _join(parts: list[str], pair: tuple[str, str]) -> list[str]:
    joined: list[str] = []
    at = 0
    while at < len(parts):
        step = 2 if tuple(parts[at : at + 2]) == pair else 1
        joined.append("".join(parts[at : at + step]))
        at += step
    return joined


def _byte_signs() -> list[str]:
    """A visible sign for each byte, as the list of merges writes them."""
    visible = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    hidden = [byte for byte in range(0x100) if byte not in visible]
    signs = {byte: chr(byte) for byte in visible} | {byte: chr(0x100 + i) for i, byte in enumerate(hidden)}
    return [signs[byte] for byte in range(0x100)]


_BYTE_SIGNS = _byte_signs()


@lru_cache(maxsize=4)
def read_vocabulary(path: Path) -> tuple[dict[str, int], dict[tuple[str, str], int]]:
    """Ids by token, and ranks by pair in their order, from a list of merges."""
    raw = path.read_bytes()
    text = (gzip.decompress(raw) if raw[:2] == b"\x1f\x8b" else raw).decode("utf-8")
    rows = [line.split() for line in text.split("\n")[1 : MERGES + 1]]
    merges = [(row[0], row[1]) for row in rows if len(row) == 2]
    if len(merges) != MERGES:
        raise ValueError(f"{path} has {len(merges)} merges; expected the {MERGES} of CLIP's vocabulary")
    signs = sorted(_BYTE_SIGNS, key=lambda sign: (ord(sign) >= 0x100, ord(sign)))
    tokens = [*signs, *(sign + WORD_END for sign in signs), *(a + b for a, b in merges), *MARKERS]
    return {token: i for i, token in enumerate(tokens)}, {pair: i for i, pair in enumerate(merges)}


def find_vocabulary() -> Path:
    """CLIP's list of merges on this machine. Raises FileNotFoundError that says how to get it."""
    for package, file in PLACES:
        for folder in _folders(package):
            if (folder / file).is_file():
                return folder / file
    raise FileNotFoundError(
        "CLIP's vocabulary is not on this machine; expected it in ComfyUI (comfy/sd1_tokenizer/merges.txt) "
        "or in the package open_clip_torch. Install the extra: pip install 'latent-clip[tokenizer]'."
    )


def _folders(package: str) -> list[Path]:
    """Where a top-level package lies, without importing it."""
    loaded = sys.modules.get(package)
    if loaded is not None:
        return [Path(folder) for folder in getattr(loaded, "__path__", [])]
    spec = importlib.util.find_spec(package)
    return [Path(folder) for folder in (spec.submodule_search_locations or [])] if spec else []
