"""Every safety policy answers what is asked of its kind; see kinds/policies.py."""

from kinds import inputs
from kinds.policies import PolicyKind

import lclip
from lclip.mini.world import WEIGHTS


class TestI2P(PolicyKind):
    of = "i2p"


class TestMini(PolicyKind):
    of = "mini"

    def model(self):
        return lclip.load(WEIGHTS / "latent_clip.safetensors")


class TestOwn(PolicyKind):
    of = "my own"

    def policy(self):
        concepts = lclip.parse_concepts(
            "gore: blood | a wound // an arm | a bandage\nnudity: a naked person // a clothed person"
        )
        return lclip.SafetyPolicy(
            concepts,
            allow=("a statue",),
            templates=("{}", "a photo of {}"),
            augmentations=("whole", "mirror", "corners"),
            strictness="high",
            name="my own",
        )

    def model(self):
        return inputs.clip()
