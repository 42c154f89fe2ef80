"""A model's tokenizer as the files that transformers' tokenizers read: plain JSON and lists of merges."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from ..model.bpe import MARKERS, find_vocabulary, read_vocabulary
from ..model.config import LatentCLIPConfig
from ..model.tokenizer import WordTokenizer

START, END = "<|startoftext|>", "<|endoftext|>"  # as transformers calls CLIP's two markers
PAD, UNKNOWN = "<|pad|>", "<|unknown|>"


def tokenizer_files(config: LatentCLIPConfig, tokenizer: Mapping[str, Any]) -> dict[str, str]:
    """Texts by file name. tokenizer: as a checkpoint stores it.

    transformers repairs no text (ftfy, HTML's entities) as CLIP's own tokenizer and ours do: other than that
    the ids up to the end of the text are the same. Raises FileNotFoundError without CLIP's vocabulary.
    """
    kind = tokenizer.get("kind")
    files = _words(config, tokenizer) if kind == "words" else _clip(config)
    return {
        name: json.dumps(content, indent=1, ensure_ascii=False) + "\n" for name, content in files[0].items()
    } | (files[1])


def _clip(config: LatentCLIPConfig) -> tuple[dict[str, Any], dict[str, str]]:
    ids, ranks = read_vocabulary(find_vocabulary())
    names: dict[str, str] = dict(zip(MARKERS, (START, END), strict=True))
    merges = "\n".join(" ".join(pair) for pair in ranks)
    settings = {
        "tokenizer_class": "CLIPTokenizer",
        "model_max_length": config.context_length,
        "model_input_names": ["input_ids", "attention_mask"],
        **_marks(START, END, END, END),
    }
    return {
        "vocab.json": {names.get(token, token): number for token, number in ids.items()},
        "tokenizer_config.json": settings,
        "special_tokens_map.json": _marks(START, END, END, END),
    }, {"merges.txt": f"#version: 0.2\n{merges}\n"}


def _marks(start: str, end: str, pad: str, unknown: str) -> dict[str, str]:
    return {"bos_token": start, "eos_token": end, "pad_token": pad, "unk_token": unknown}


def _words(config: LatentCLIPConfig, tokenizer: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, str]]:
    words = WordTokenizer(tokenizer["vocabulary"], config.context_length)
    fixed = {PAD: words.PAD, UNKNOWN: words.UNKNOWN, START: words.START, END: words.end}
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": config.context_length,
        "model_input_names": ["input_ids", "attention_mask"],
        **_marks(START, END, PAD, UNKNOWN),
    }
    return {
        "tokenizer.json": _word_level(words.ids, fixed),
        "tokenizer_config.json": settings,
        "special_tokens_map.json": _marks(START, END, PAD, UNKNOWN),
    }, {}


def _word_level(ids: Mapping[str, int], fixed: Mapping[str, int]) -> dict[str, Any]:
    """The same rule as `WordTokenizer`: lower case, runs of letters or of digits, a number for each."""
    around = [{"SpecialToken": {"id": mark, "type_id": 0}} for mark in (START, END)]
    single = [around[0], {"Sequence": {"id": "A", "type_id": 0}}, around[1]]
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [{"id": number, "content": mark, **flags} for mark, number in fixed.items()],
        "normalizer": {"type": "Lowercase"},
        "pre_tokenizer": {
            "type": "Split",
            "pattern": {"Regex": "[a-z]+|[0-9]+"},
            "behavior": "Removed",
            "invert": True,
        },
        "post_processor": {
            "type": "TemplateProcessing",
            "single": single,
            "pair": [*single, {"Sequence": {"id": "B", "type_id": 0}}],
            "special_tokens": {
                mark: {"id": mark, "ids": [fixed[mark]], "tokens": [mark]} for mark in (START, END)
            },
        },
        "decoder": None,
        "model": {"type": "WordLevel", "vocab": {**fixed, **ids}, "unk_token": UNKNOWN},
    }
