"""How files of our own say what they are: a format and a version, checked the same way for every kind."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Format:
    """A kind of file."""

    name: str
    """As the file says it."""
    what: str
    """As people call it."""
    version: int = 1
    """The newest that is read."""

    def head(self) -> dict[str, str]:
        """What a file of this kind says of itself, as texts."""
        return {"format": self.name, "version": str(self.version)}

    def check(self, said: Mapping[str, Any]) -> None:
        """Refuse what is of another kind, or newer. Raises ValueError."""
        if (name := said.get("format")) != self.name:
            raise ValueError(f"not a {self.what}: its format is {name!r}; expected {self.name!r}")
        self.check_version(said.get("version"))

    def check_version(self, version: Any) -> None:
        """Refuse what is no version, or a newer one; a whole number, or one in a text. Raises ValueError."""
        plain = isinstance(version, str) and version.isdecimal()
        number = int(version) if plain else version
        if type(number) is not int or number < 1:
            raise ValueError(f"its version is {version!r}; expected a whole number from 1 to {self.version}")
        if number > self.version:
            raise ValueError(
                f"the {self.what} is of version {number}; this program reads up to {self.version}. A newer "
                f"version of the program wrote it: update, or make the {self.what} again."
            )
