"""Reading the fields of a policy: of JSON and of callers, never a guess, each mistake with its own text."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from typing import Any

EARLIER_NAME, EARLIER_VALUES = "views", {"corners": "crops"}
"""What `augmentations` were called at first: in old files, and for ever in hashes and checksums."""


def parsed(text: str) -> Any:
    """JSON of which every entry is there once and every number finite. Raises ValueError."""
    try:
        return json.loads(text, parse_constant=_no_constant, object_pairs_hook=_unique)
    except (ValueError, TypeError, RecursionError) as error:
        raise ValueError(f"the safety policy is no valid JSON: {error}") from error


def record(content: Any, what: str, names: set[str]) -> dict[str, Any]:
    """An object with exactly these entries. Raises ValueError."""
    if not isinstance(content, dict):
        raise ValueError(
            f"{what} is a {type(content).__name__}; expected an object with {', '.join(sorted(names))}"
        )
    if missing := sorted(names - set(content)):
        raise ValueError(f"{what} lacks {', '.join(missing)}; it may be damaged")
    if unknown := sorted(set(content) - names):
        raise ValueError(f"{what} has unknown entries: {', '.join(unknown)}; it may be newer")
    return dict(content)


def is_number(value: Any) -> bool:
    """Whether it is a number, and no truth value."""
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def as_tuple(values: Any, what: str) -> tuple:
    """A list of whatever. Raises ValueError for a text, a mapping or a single thing."""
    if isinstance(values, (str, Mapping)) or not isinstance(values, Iterable):
        raise ValueError(f"{what} is {values!r}; expected a list")
    return tuple(values)


def as_texts(values: Any, what: str) -> tuple[str, ...]:
    """A list of texts that are not empty. Raises ValueError."""
    texts = as_tuple(values, what)
    for text in texts:
        if not isinstance(text, str) or not text.strip():
            raise ValueError(f"{what} contain {text!r}; expected texts that are not empty")
    return texts


def checksum(content: Mapping[str, Any]) -> str:
    """SHA-256 of a policy's fields: 64 hex digits."""
    return sha256(as_hashed(content))


def sha256(content: Any) -> str:
    """Of JSON with sorted entries: 64 hex digits."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def as_hashed(content: Mapping[str, Any]) -> dict[str, Any]:
    """A policy's fields by the names that were the first to be hashed."""
    renamed = dict(content)
    renamed[EARLIER_NAME] = _renamed(renamed.pop("augmentations"), EARLIER_VALUES)
    return renamed


def with_todays_names(content: Any) -> Any:
    """What was read from JSON, an earlier name replaced by today's; anything else as it is."""
    if not isinstance(content, dict) or EARLIER_NAME not in content or "augmentations" in content:
        return content
    renamed = dict(content)
    renamed["augmentations"] = _renamed(renamed.pop(EARLIER_NAME), {v: k for k, v in EARLIER_VALUES.items()})
    return renamed


def _renamed(values: Any, names: Mapping[str, str]) -> Any:
    """Texts of a list by other names; what else is there stays, for the checks to refuse."""
    if not isinstance(values, (list, tuple)):
        return values
    return [names.get(each, each) if isinstance(each, str) else each for each in values]


def _no_constant(name: str) -> float:
    raise ValueError(f"{name} is no number that a policy can use")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len(dict(pairs)) != len(pairs):
        raise ValueError("an entry is there twice")
    return dict(pairs)
