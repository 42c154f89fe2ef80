"""What a safety gate looks for: named concepts as anchor texts with thresholds, as a value that can be
stored.

A policy is plain data. `lclip.safety.judge` asks a Latent-CLIP; `SafetyPolicy` is what users hold.
"""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field, fields, replace
from typing import TYPE_CHECKING, Any

from ..checkpoints.formats import Format
from ..latents.size_rules import SIZE_RULES
from .concept import Concept, as_concept
from .everyday import EVERYDAY, without
from .records import (
    as_hashed,
    as_texts,
    as_tuple,
    checksum,
    is_number,
    parsed,
    record,
    sha256,
    with_todays_names,
)

if TYPE_CHECKING:
    from typing_extensions import Self

logger = logging.getLogger("latent-clip")

FORMAT = Format("latent-clip-safety-policy", "safety policy", 2)
WITHOUT_EVERYDAY = 1
"""The version before there were everyday texts: its files are read, and keep their hash and verdicts."""

AUGMENTATIONS = ("whole", "mirror", "corners")
"""Test-time augmentations that a judgement averages: latents as they are, mirrored, four corner crops."""

STRICTNESS = {"low": -2.0, "medium": 0.0, "high": 2.0}
"""How far each word lowers every threshold, in log-odds: "high" blocks at odds e^2 = 7.4 times smaller."""
MOST_STRICTNESS = 10.0


def check_augmentations(names: Any) -> tuple[str, ...]:
    """Which augmentations a judgement averages. ValueError for unknown ones, for none and for copies."""
    chosen = as_tuple(names, "augmentations")
    if not chosen or any(each not in AUGMENTATIONS for each in chosen) or len(set(chosen)) != len(chosen):
        raise ValueError(
            f"augmentations are {list(chosen)}; expected some of {', '.join(AUGMENTATIONS)}, each once"
        )
    return chosen


@dataclass(frozen=True)
class PolicyData:
    """Concepts with thresholds, and how to look for them; immutable, comparable, storable as JSON.

    p(concept | z) = softmax over the concept's unsafe and safe anchors, the allow-list and the everyday texts
    of s cos(z, anchor), summed over the unsafe ones; s is the model's logit scale. An item is safe when p is
    finite and below the threshold for every concept.

    ValueError for a policy that could not block anything, or contradicts itself.
    """

    concepts: tuple[Concept, ...]
    allow: tuple[str, ...] = ()
    """Texts that compete as harmless anchors of every concept, such as "a marble statue"."""
    templates: tuple[str, ...] = ("{}",)
    """Sentences with {} where an anchor goes; an anchor's embedding is the mean over them."""
    strictness: str | float = "medium"
    """One of `STRICTNESS`, or log-odds that lower every threshold (negative: raise)."""
    augmentations: tuple[str, ...] = ("whole",)
    """Which of `AUGMENTATIONS` are judged; their probabilities are averaged."""
    size_rule: str | None = None
    """How other sizes than the model's own are brought to it (`lclip.latents.size_rules`): None as the model
    itself does, and for thresholds that were calibrated the rule that they were calibrated under; calibrated
    ones without a rule are older than any other than "interpolate".
    """
    name: str = "custom"
    description: str = ""
    latent_space: str | None = None
    """The latent space that the thresholds are for, or None: any."""
    model: str | None = None
    """Fingerprint of the Latent-CLIP that the thresholds were calibrated with, or None: not calibrated."""
    everyday: tuple[str, ...] | None = None
    """Texts about anything else, such as "a landscape": they compete with every concept, so that a picture of
    none of its subjects has a small probability. None: those of the model's own world; see
    `lclip.safety.everyday`. A policy of version 1 has none.
    """
    version: int = FORMAT.version
    seal: str | None = field(default=None, repr=False, compare=False)
    """What a calibration stands on, as a hash: made here, never stored. A copy with other texts has that of
    the first, by which it is found to be calibrated no more. None: what is given is what was calibrated.
    """

    def __post_init__(self) -> None:
        self._check_version()
        for each in ("concepts", "allow", "templates", "augmentations"):
            object.__setattr__(self, each, as_tuple(getattr(self, each), each))
        object.__setattr__(self, "concepts", tuple(as_concept(concept) for concept in self.concepts))
        if self.everyday is not None:
            object.__setattr__(self, "everyday", as_texts(self.everyday, "the everyday texts"))
        self._check_concepts()
        as_texts(self.allow, "the allow-list")
        for template in as_texts(self.templates, "templates"):
            if "{}" not in template:
                raise ValueError(f"the template {template!r} has no {{}}; expected it where the anchor goes")
        if not self.templates:
            raise ValueError('a policy needs at least one template; "{}" is the plain one')
        check_augmentations(self.augmentations)
        if self.size_rule not in (None, *SIZE_RULES):
            known = ", ".join(SIZE_RULES)
            raise ValueError(f"size rule is {self.size_rule!r}; expected one of {known}, or None")
        for each in ("latent_space", "model"):
            if not isinstance(getattr(self, each), (str, type(None))):
                raise ValueError(f"a policy's {each} is {getattr(self, each)!r}; expected a text or nothing")
        for each in ("name", "description"):
            if not isinstance(getattr(self, each), str):
                raise ValueError(f"a policy's {each} is {getattr(self, each)!r}; expected a text")
        _ = self.shift
        self._check_seal()

    def _check_seal(self) -> None:
        """Thresholds belong to their texts, and to how those are asked."""
        content = asdict(self)
        for moved in ("name", "description", "strictness", "model", "seal"):
            del content[moved]
        seal = None if self.model is None else sha256(content)
        if seal is not None and self.seal not in (None, seal):
            logger.warning(
                "The safety policy %r was calibrated, and is no more: its thresholds were found for other "
                "texts, or for another way to ask about them. Its rates are unknown until you calibrate it "
                "again.",
                self.name,
            )
            object.__setattr__(self, "model", None)
            seal = None
        object.__setattr__(self, "seal", seal)

    def _check_version(self) -> None:
        if type(self.version) is not int:
            raise ValueError(f"a policy's version is {self.version!r}; expected a whole number")
        FORMAT.check_version(self.version)
        if self.version == WITHOUT_EVERYDAY:
            if self.everyday:
                raise ValueError(f"a policy of version {self.version} has no everyday texts; expected none")
            object.__setattr__(self, "everyday", ())

    def _check_concepts(self) -> None:
        if not self.concepts:
            raise ValueError(
                "the policy has no concept, so it could not block anything; expected at least one"
            )
        names: set[str] = set()
        for concept in self.concepts:
            if concept.name.casefold() in names:
                raise ValueError(f"two concepts are called {concept.name!r}; expected a name for each")
            names.add(concept.name.casefold())
            if not (concept.safe or self.allow or self.everyday):
                raise ValueError(
                    f"the concept {concept.name!r} has no safe anchor, so its probability would always be 1. "
                    "Add a harmless text about the same subject."
                )
            for text in concept.unsafe:
                if text in concept.safe or text in self.allow:
                    raise ValueError(
                        f"the concept {concept.name!r} calls {text!r} both unsafe and safe; expected one of "
                        "them"
                    )
                if text in (self.everyday or ()):
                    raise ValueError(
                        f"the concept {concept.name!r} calls {text!r} unsafe, and it is one of the everyday "
                        "texts; expected one of them: take it out of the everyday texts"
                    )

    @property
    def shift(self) -> float:
        """How far the strictness lowers every threshold, in log-odds."""
        strictness = self.strictness
        if isinstance(strictness, str) and strictness in STRICTNESS:
            return STRICTNESS[strictness]
        if is_number(strictness) and abs(float(strictness)) <= MOST_STRICTNESS:
            return float(strictness)
        raise ValueError(
            f"strictness is {self.strictness!r}; expected one of {', '.join(STRICTNESS)}, or a number of "
            f"log-odds from {-MOST_STRICTNESS:g} to {MOST_STRICTNESS:g}"
        )

    @property
    def thresholds(self) -> tuple[float, ...]:
        """The thresholds in force, with the strictness applied, one per concept."""
        return tuple(_shifted(concept.threshold, self.shift) for concept in self.concepts)

    def changed(self, **changes: Any) -> Self:
        """A copy with other fields, checked again.

        Everyday texts that say what new concepts call unsafe step back; those given with them do not. With
        other concepts, texts, augmentations or another size rule it is calibrated no more, and has no model.
        """
        if changes.get("model") is not None:
            changes.setdefault("seal", None)  # whoever names the model says that it was calibrated like this
        if "everyday" in changes:
            changes.setdefault("version", FORMAT.version)
        elif "concepts" in changes and self.everyday:
            changes["concepts"] = as_tuple(changes["concepts"], "concepts")
            unsafe = [text for concept in changes["concepts"] for text in as_concept(concept).unsafe]
            changes["everyday"] = without(self.everyday, unsafe)
        return replace(self, **changes)

    def settled(self, **said: Any) -> Self:
        """A copy with what it left open: what the model it asks would have it be. As calibrated as before."""
        return replace(self, seal=None, **said)

    def only(self, names: Iterable[str]) -> Self:
        """A copy with these concepts alone, each as calibrated as before. ValueError for an unknown name."""
        wanted = list(names)
        known = [concept.name for concept in self.concepts]
        if missing := [name for name in wanted if name not in known]:
            raise ValueError(
                f"there is no concept {missing[0]!r} in {self.name!r}; there are: {', '.join(known)}"
            )
        return self.settled(concepts=tuple(concept for concept in self.concepts if concept.name in wanted))

    def _fields(self) -> dict[str, Any]:
        content = asdict(self)
        del content["seal"]
        if self.version == WITHOUT_EVERYDAY:
            del content["everyday"]
        return content

    def digest(self, models: Iterable[str] = ()) -> str:
        """SHA-256 of everything that can change a verdict, with the fingerprints of the models: 64 hex
        digits.

        Of a judge's own policy, in which the everyday texts are those that it asks about.
        """
        content = {**as_hashed(self._fields()), "thresholds": self.thresholds, "models": list(models)}
        if self.version != WITHOUT_EVERYDAY and self.everyday is None:
            content["everyday"] = EVERYDAY  # a library with another list is another policy
        for irrelevant in ("name", "description"):
            del content[irrelevant]
        return sha256(content)

    def to_json(self) -> str:
        """The policy as readable JSON; `from_json` gives an equal one."""
        content = self._fields()
        head = {"format": FORMAT.name, "checksum": checksum(content)}
        return json.dumps({**head, **content}, indent=2, ensure_ascii=False)

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Read what `to_json` wrote. ValueError for anything damaged, incomplete or unknown: never a guess.

        The checksum may be missing, as in files written by hand; one that is there must be right. Calibrated
        thresholds need it: nothing else tells that they are of these texts.
        """
        content = parsed(text)
        stated = content.pop("checksum", None) if isinstance(content, dict) else None
        content = with_todays_names(content)
        names = {"format", *(field.name for field in fields(cls))} - {"seal"}
        if isinstance(content, dict) and content.get("version") == WITHOUT_EVERYDAY:
            names -= {"everyday"}
        content = record(content, "the safety policy", names)
        FORMAT.check(content)
        del content["format"]
        lists = ["concepts", "allow", "templates", "augmentations"]
        lists += ["everyday"] if content.get("everyday") is not None else []
        for each in lists:
            if not isinstance(content[each], list):
                raise ValueError(f"the safety policy's {each} is {content[each]!r}; expected a list")
        if stated not in (None, checksum(content)):
            raise ValueError(
                "the safety policy does not fit its checksum: it was damaged, or changed by hand. If you "
                "changed it, take the checksum out, and set its model to null: it is calibrated no more."
            )
        if stated is None and content["model"] is not None:
            raise ValueError(
                "the safety policy says that it was calibrated, and has no checksum, so that nothing tells "
                "whether its texts are those of then. Calibrate it again, or set its model to null to use it "
                "as it is."
            )
        return cls(**content)


def log_odds(probability: float) -> float:
    """ln(p / (1 - p)), finite also for 0 and 1, which become 1e-15 away from them."""
    p = min(max(probability, 1e-15), 1 - 1e-15)
    return math.log(p / (1 - p))


def _shifted(threshold: float, shift: float) -> float:
    """A threshold lowered by log-odds; as it is, to the last bit, for a shift of 0."""
    return 1 / (1 + math.exp(shift - log_odds(threshold))) if shift else threshold
