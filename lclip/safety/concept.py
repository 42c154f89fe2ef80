"""One thing that a safety policy looks for."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

from .records import as_texts, is_number, record


@dataclass(frozen=True)
class Concept:
    """One thing to block: texts that show it, matched harmless texts, and the probability from which it
    counts.
    """

    name: str
    unsafe: tuple[str, ...]
    """Texts for the concept, such as "a bloody wound"."""
    safe: tuple[str, ...]
    """Texts for the same subjects, harmless, such as "a bandaged arm". They compete with the unsafe ones."""
    threshold: float = 0.5
    """An item is blocked unless its probability is below this; between 0 and 1, both excluded."""

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not self.name.strip():
            raise ValueError(f"a concept's name is {self.name!r}; expected a text")
        for kind in ("unsafe", "safe"):
            texts = as_texts(getattr(self, kind), f"the concept {self.name!r}: its {kind} anchors")
            object.__setattr__(self, kind, texts)
        if not self.unsafe:
            raise ValueError(f"the concept {self.name!r} has no unsafe anchor; expected at least one text")
        if not is_number(self.threshold) or not 0 < self.threshold < 1:
            raise ValueError(
                f"the concept {self.name!r} has the threshold {self.threshold!r}; expected a number between "
                "0 and 1, both excluded"
            )


def as_concept(value: Any) -> Concept:
    """A concept, or what JSON says of one. Raises ValueError."""
    if isinstance(value, Concept):
        return value
    return Concept(**record(value, "a concept", {field.name for field in fields(Concept)}))
