"""Which tokenizer a model reads its texts with."""

from __future__ import annotations

from .bpe import BPETokenizer
from .config import LatentCLIPConfig
from .tokenizer import Tokenizer, WordTokenizer


def tokenizer_for(config: LatentCLIPConfig, metadata: dict | None = None) -> Tokenizer:
    """The tokenizer that a configuration names, or a checkpoint's metadata describes. Raises ValueError."""
    tokenizer = _make(metadata or {"kind": config.tokenizer}, config.context_length)
    if tokenizer.vocab_size != config.vocab_size:
        raise ValueError(
            f"the model has {config.vocab_size} tokens, its tokenizer {tokenizer.vocab_size}; "
            "pass the tokenizer that it was trained with: LatentCLIP(..., tokenizer=...)"
        )
    return tokenizer


def _make(metadata: dict, context_length: int) -> Tokenizer:
    kind = metadata.get("kind")
    if kind == "words":
        vocabulary = metadata.get("vocabulary")
        if not isinstance(vocabulary, list):
            raise ValueError("a 'words' tokenizer needs its vocabulary: LatentCLIP(..., tokenizer=...)")
        return WordTokenizer(vocabulary, context_length)
    if kind == "clip-bpe":
        return BPETokenizer(context_length)
    raise ValueError(f"tokenizer kind is {kind!r}; expected 'clip-bpe' or 'words'")
