"""Policies as people keep them: the JSON by itself, or a whole report that has it in it."""

from __future__ import annotations

import json
from collections.abc import Iterator

from .policy import FORMAT
from .safety_policy import SafetyPolicy


def policy_in(text: str) -> SafetyPolicy:
    """The one policy of a text: its JSON by itself, or with words around it, as in a calibration's report.

    ValueError where there is none, or more than one, or where it is damaged.
    """
    found = list(dict.fromkeys(_policies_in(text)))
    if len(found) > 1:
        raise ValueError(
            f"the text holds {len(found)} different policies; expected one. Give a single report."
        )
    return SafetyPolicy.from_json(found[0] if found else text)


def _policies_in(text: str) -> Iterator[str]:
    """The JSON of every policy, out of whatever text."""
    decoder, place = json.JSONDecoder(), text.find("{")
    while place >= 0:
        try:
            content, end = decoder.raw_decode(text, place)
        except (ValueError, RecursionError):
            end = place + 1
        else:
            if isinstance(content, dict) and content.get("format") == FORMAT.name:
                yield text[place:end]
        place = text.find("{", end)
