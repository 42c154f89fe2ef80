"""A socket type that takes everything."""

from __future__ import annotations


class AnyType(str):
    """Fits every socket."""

    def __ne__(self, other: object) -> bool:
        return False

    __hash__ = str.__hash__


ANY = AnyType("*")
