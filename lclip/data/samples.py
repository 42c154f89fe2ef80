"""A sample is the files that share a key. The rule is WebDataset's: a key ends at the base name's first dot.

`cats/7.latent.npy` and `cats/7.txt` are the members "latent.npy" and "txt" of the sample `cats/7`, in a
folder as in a tar.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

from .files import SUFFIXES, Stored, stored_in

LATENTS, PICTURE, TEXT, LABEL = "latents", "picture", "txt", "cls"
"""What a member can be."""
PICTURES = ("png", "jpg", "jpeg", "webp")
KINDS = {
    **{suffix.removeprefix("."): LATENTS for suffix in SUFFIXES},
    **dict.fromkeys(PICTURES, PICTURE),
    TEXT: TEXT,
    LABEL: LABEL,
}


class Unusable(ValueError):
    """What cannot be used of a sample: a reason, under which it is counted, and the detail."""

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(f"{reason}: {detail}" if detail else reason)
        self.reason, self.detail = reason, detail


@dataclass(frozen=True)
class Refused:
    """A member that is there and is not read, and why."""

    reason: str
    detail: str


@dataclass(frozen=True)
class Sample:
    """The members that share a key: their content, or the files that it is in, by what follows the key's dot.

    Names of members are in lower case.
    """

    key: str
    members: Mapping[str, bytes | Path | Refused]

    def read(self, member: str) -> bytes:
        """A member's content. Raises Unusable, OSError."""
        content = self.members[member]
        if isinstance(content, Refused):
            raise Unusable(content.reason, content.detail)
        return content.read_bytes() if isinstance(content, Path) else content

    def stored(self, member: str) -> list[Stored]:
        """The latents in a member. Raises ValueError, OSError."""
        content = self.members[member]
        if isinstance(content, Path):
            return stored_in(content)
        return stored_in(self.read(member), f"{self.key}.{member}")

    def latents(self, wanted: str | None = None) -> list[str]:
        """The members that are its latents: the only one, or those of the name that is wanted.

        wanted: as `--latent-key`: a member's name, such as "latent.npy", or a pattern, such as "*" for every
        array, each a latent of its own. Raises Unusable where there is none, or one would have to be chosen.
        """
        there = self.of_kind(LATENTS)
        if wanted is not None:
            found = [member for member in there if fnmatchcase(member, wanted.lower().removeprefix("."))]
            if not found:
                raise Unusable(f"no latents named {wanted}", f"it holds {', '.join(there) or 'none'}")
            return found
        if not there:
            raise Unusable("no latents", f"expected a member that ends in one of {', '.join(SUFFIXES)}")
        if len(there) > 1:
            names = ", ".join(there[:6]) + (f" and {len(there) - 6} more" if len(there) > 6 else "")
            raise Unusable(
                "several latents", f"{names}; choose by --latent-key {there[0]}, or --latent-key '*' for each"
            )
        return there

    def one(self, wanted: str | None = None) -> str:
        """As `latents`, where a sample must have one. Raises Unusable."""
        found = self.latents(wanted)
        if len(found) > 1:
            raise Unusable("several latents", f"{', '.join(found[:6])}; expected one by --latent-key")
        return found[0]

    def text(self, beside: str = "") -> str | None:
        """The member that is the caption: that of the latents' own name, KEY.txt, or the only text."""
        texts = self.of_kind(TEXT)
        own = f"{beside.rpartition('.')[0]}.{TEXT}"
        for name in (own, TEXT):
            if name in texts:
                return name
        return texts[0] if len(texts) == 1 else None

    def picture(self) -> str:
        """The member that is the picture: KEY.png and so on, or the only one. Raises Unusable."""
        there = self.of_kind(PICTURE)
        plain = [suffix for suffix in PICTURES if suffix in there]
        if plain or len(there) == 1:
            return (plain or there)[0]
        if there:
            raise Unusable(
                "several pictures", f"{', '.join(there[:6])}; expected KEY.{there[0].split('.')[-1]}"
            )
        raise Unusable("without a picture")

    def of_kind(self, kind: str) -> list[str]:
        """The members of a kind, as they came."""
        return [member for member in self.members if kind_of(member) == kind]


def kind_of(member: str) -> str | None:
    """What a member is by the end of its name; None for what is none of ours."""
    return KINDS.get(member.rpartition(".")[2].lower())


def split_name(name: str) -> tuple[str, str]:
    """`a/b.latent.npy` -> ("a/b", "latent.npy"). No member where the file is hidden, or none of ours."""
    folder, slash, base = name.replace("\\", "/").rpartition("/")
    stem, _, member = base.partition(".")
    return (f"{folder}{slash}{stem}", member.lower()) if stem and kind_of(member) else (name, "")
