"""What the Safety Policy node's widgets say: a preset with own concepts, or a policy that was stored."""

from __future__ import annotations

import json
from collections.abc import Iterator

from ... import lclip
from ...lclip.safety.policy import FORMAT

NO_PRESET, ALL = "none", "all"


def composed(
    preset: str, categories: str, own: tuple[lclip.Concept, ...], allow: tuple[str, ...]
) -> lclip.SafetyPolicy:
    """The preset's categories with own concepts and an allow-list."""
    if preset == NO_PRESET:
        return lclip.SafetyPolicy(own, allow=allow)
    base = lclip.SafetyPolicy.preset(preset)
    names = [name.strip() for name in categories.split(",") if name.strip()]
    if names and names != [ALL]:  # an emptied box takes none away either: that blocks more, not less
        base = base.only(names)
    return base.changed(concepts=(*base.concepts, *own), allow=(*base.allow, *allow))


def stored_policy(pasted: str) -> lclip.SafetyPolicy:
    """A policy's JSON by itself, or with text around it, as in the report of Calibrate Safety Policy.

    ValueError where there is none, or more than one, or where it is damaged.
    """
    found = list(dict.fromkeys(_policies_in(pasted)))
    if len(found) > 1:
        raise ValueError(
            f"policy_json holds {len(found)} different policies; expected one. Paste a single report."
        )
    return lclip.SafetyPolicy.from_json(found[0] if found else pasted)


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
