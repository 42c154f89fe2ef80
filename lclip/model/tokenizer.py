"""From texts to token ids: what all tokenizers share, and the word tokenizer of small worlds."""

from __future__ import annotations

import hashlib
import json
import logging
import re
from collections.abc import Mapping, Sequence
from typing import Protocol

import torch
from torch import Tensor

logger = logging.getLogger("latent-clip")


class Tokenizer(Protocol):
    """What a model asks of a tokenizer. The end-of-text id is the highest one; padding is 0."""

    context_length: int
    vocab_size: int
    closed: bool
    """Whether there are words that it does not know. A vocabulary of bytes or word pieces is open."""

    def encode(self, texts: Sequence[str]) -> Tensor:
        """Texts -> ids [T, context_length], cut where too long; a cut is logged."""
        ...

    def truncated(self, texts: Sequence[str]) -> list[bool]:
        """Which of the texts do not fit."""
        ...

    def unknown_words(self, texts: Sequence[str]) -> list[list[str]]:
        """Of each text the words that a closed vocabulary does not have; articles are not missed."""
        ...

    def to_metadata(self) -> dict:
        """What a checkpoint must store to build this tokenizer again."""
        ...

    def digest(self) -> str:
        """SHA-256 of which word has which id; empty for CLIP's own vocabulary, of which there is one."""
        ...


def pad(texts: Sequence[str], rows: Sequence[list[int]], end: int, context_length: int) -> Tensor:
    """Rows of ids, start and end included -> [T, context_length]; a cut row keeps its end and is reported."""
    ids = torch.zeros(len(rows), context_length, dtype=torch.long)
    for i, (text, row) in enumerate(zip(texts, rows, strict=True)):
        if len(row) > context_length:
            logger.warning(
                "text has %d tokens, the model reads %d: the last %d are ignored: %.80r",
                len(row), context_length, len(row) - context_length, text,
            )  # fmt: skip
            row = [*row[: context_length - 1], end]
        ids[i, : len(row)] = torch.tensor(row)
    return ids


def ids_digest(ids: Mapping[str, int]) -> str:
    """SHA-256 of a vocabulary: 64 hex digits."""
    return hashlib.sha256(json.dumps(sorted(ids.items())).encode()).hexdigest()


def check_texts(texts: Sequence[str]) -> None:
    for i, text in enumerate(texts):
        if not isinstance(text, str):
            raise ValueError(f"text {i} is a {type(text).__name__}; expected a string")


class RowTokenizer:
    """What tokenizers share that turn one text into a row of ids, start and end included."""

    context_length: int
    end: int
    closed = False

    def digest(self) -> str:
        """SHA-256 of which word has which id; empty for CLIP's own vocabulary."""
        raise NotImplementedError

    def encode(self, texts: Sequence[str]) -> Tensor:
        """Texts -> ids [T, context_length], zero-padded; cut, and logged, where too long."""
        check_texts(texts)
        return pad(texts, [self._row(text) for text in texts], self.end, self.context_length)

    def truncated(self, texts: Sequence[str]) -> list[bool]:
        """Which of the texts have more tokens than fit."""
        check_texts(texts)
        return [len(self._row(text)) > self.context_length for text in texts]

    def unknown_words(self, texts: Sequence[str]) -> list[list[str]]:
        """None: every text can be spelled."""
        check_texts(texts)
        return [[] for _ in texts]

    def _row(self, text: str) -> list[int]:
        raise NotImplementedError


class WordTokenizer(RowTokenizer):
    """One id per known word, for worlds whose captions use a short list of words.

    Text is lower-cased; a word is a run of letters or of digits. Ids: 0 padding, 1 unknown word, 2 start,
    then the vocabulary in its order, then the end.
    """

    PAD, UNKNOWN, START, FIRST = 0, 1, 2, 3
    ARTICLES = ("a", "an", "the")  # no text means another thing without them
    closed = True

    def __init__(self, vocabulary: Sequence[str], context_length: int) -> None:
        self.vocabulary = list(vocabulary)
        self.context_length = context_length
        if not self.vocabulary or not all(isinstance(word, str) for word in self.vocabulary):
            raise ValueError("the vocabulary is empty or holds something else than words")
        self.ids = {word: i for i, word in enumerate(self.vocabulary, self.FIRST)}
        if len(self.ids) != len(self.vocabulary):
            raise ValueError("the vocabulary names a word twice; expected distinct words")
        self.end = self.FIRST + len(self.vocabulary)
        self.vocab_size = self.end + 1

    def to_metadata(self) -> dict:
        return {"kind": "words", "vocabulary": self.vocabulary}

    def unknown_words(self, texts: Sequence[str]) -> list[list[str]]:
        """Of each text the words outside the vocabulary, as the tokenizer reads them, each once."""
        check_texts(texts)
        known = {*self.ids, *self.ARTICLES}
        return [list(dict.fromkeys(w for w in self._words(text) if w not in known)) for text in texts]

    def digest(self) -> str:
        return ids_digest(self.ids)

    def _words(self, text: str) -> list[str]:
        return re.findall(r"[a-z]+|[0-9]+", text.lower())

    def _row(self, text: str) -> list[int]:
        return [self.START, *(self.ids.get(word, self.UNKNOWN) for word in self._words(text)), self.end]
