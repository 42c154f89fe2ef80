"""What a model cannot read of texts, said in words: for logs, reports, nodes and tables alike."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from .tokenizer import Tokenizer

SHOWN = 40  # words of a vocabulary, or unknown ones, that a sentence names


class TextReader(Protocol):
    """What reads texts: a Latent-CLIP, or anything else that has a tokenizer."""

    @property
    def tokenizer(self) -> Tokenizer:
        """What it reads them with."""
        ...


def text_doubts(model: TextReader, texts: str | Sequence[str]) -> list[str]:
    """A sentence for each thing that a model cannot read of these texts; none where it reads all of them.

    Words outside a closed vocabulary, such as the mini world's: they all look alike to it, so a score says
    nothing of them. And texts that are longer than the model's context: their end is not read.
    """
    texts = [texts] if isinstance(texts, str) else list(texts)
    if not texts:
        return []  # without looking for a vocabulary
    return [*unknown_words_doubts(model.tokenizer, texts), *cut_doubts(model.tokenizer, texts)]


def unknown_words_doubts(tokenizer: Tokenizer, texts: Sequence[str]) -> list[str]:
    """The first half of `text_doubts`: one sentence that names the unknown words of all texts."""
    if not tokenizer.closed:
        return []
    words = list(dict.fromkeys(word for found in tokenizer.unknown_words(texts) for word in found))
    return [f"this model does not know {named(words)}, so it cannot look for that"] if words else []


def cut_doubts(tokenizer: Tokenizer, texts: Sequence[str]) -> list[str]:
    """The other half: a sentence for every text whose end is not read."""
    return [
        f"the end of a text is not read, as the model reads {tokenizer.context_length} tokens at most: "
        f"{shortened(text)!r}"
        for text, cut in zip(texts, tokenizer.truncated(texts), strict=True)
        if cut
    ]


def named(words: Sequence[str]) -> str:
    """Words in a sentence."""
    more = f" and {len(words) - SHOWN} more" if len(words) > SHOWN else ""
    return f"the word{'s' if len(words) > 1 else ''} {', '.join(words[:SHOWN])}{more}"


def shortened(text: str, length: int = 60) -> str:
    """A long text's beginning and end."""
    return text if len(text) <= length else f"{text[: length // 2]}...{text[-length // 2 :]}"
