"""What the Safety Policy node's widgets say: a preset with own concepts, or a policy that was stored."""

from __future__ import annotations

from ... import lclip
from .choices import parted

NO_PRESET, ALL = "none", "all"


def composed(
    preset: str, categories: str, own: tuple[lclip.Concept, ...], allow: tuple[str, ...]
) -> lclip.SafetyPolicy:
    """The preset's categories with own concepts and an allow-list."""
    if preset == NO_PRESET:
        return lclip.SafetyPolicy(own, allow=allow)
    base = lclip.SafetyPolicy.preset(preset)
    names = parted(categories)
    if names and names != [ALL]:  # an emptied box takes none away either: that blocks more, not less
        base = base.only(names)
    return base.changed(concepts=(*base.concepts, *own), allow=(*base.allow, *allow))
