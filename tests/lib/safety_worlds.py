"""A tiny Latent-CLIP, latents that look like pictures to it, and a policy, shared by the tests of safety."""

import math
from functools import cache

import torch
import torch.nn.functional as F
from tiny import random_model, tiny_config

from lclip import Concept, SafetyPolicy

WORDS = ["a", "photo", "of", "blood", "wound", "arm", "bandage", "naked", "clothed", "person", "statue", "no"]


def tiny_clip(seed=0, **other):
    config = tiny_config(WORDS, embed_dim=8, width=16, layers=1, heads=2, **other)
    return random_model(config, WORDS, seed)


def pictures(batch=6, seed=1, size=8, channels=4, spread=6.0):
    """Smooth latents of raw scale, so that no check of scale or texture objects."""
    coarse = torch.randn(batch, channels, 3, 3, generator=torch.Generator().manual_seed(seed))
    z = F.interpolate(coarse, (size, size), mode="bicubic")
    return spread * z / z.square().mean((1, 2, 3), keepdim=True).sqrt()


GORE = Concept("gore", ("a wound", "blood"), ("an arm", "a bandage"), 0.5)
NUDITY = Concept("nudity", ("a naked person",), ("a clothed person", "a person"), 0.5)


def halved(model, z, share=0.5, **changes):
    """A policy whose thresholds let this share of these latents pass, per concept."""
    concepts = []
    for concept in (GORE, NUDITY):
        ranked = by_hand(model, z, concept).sort().values
        place = int(share * len(z))
        threshold = float((ranked[place] + ranked[place + 1]) / 2)
        concepts.append(Concept(concept.name, concept.unsafe, concept.safe, threshold))
    return policy(concepts=tuple(concepts), **changes)


def policy(**changes):
    fields = {"concepts": (GORE, NUDITY), "templates": ("{}", "a photo of {}"), "name": "test"}
    return SafetyPolicy(**{**fields, **changes})


@cache
def anchor(model, text, templates):
    sentences = [template.replace("{}", text) for template in templates]
    return F.normalize(model.encode_text(sentences).double().mean(0), dim=-1)


def by_hand(model, z, concept, templates=("{}", "a photo of {}"), allow=()):
    """p(concept) as the formula says it, one item and one anchor at a time, in float64."""
    image = F.normalize(model.encode_latents(z).double(), dim=-1)

    def exponential(text):
        return torch.exp(model.logit_scale * image @ anchor(model, text, templates))

    unsafe = sum(exponential(text) for text in concept.unsafe)
    safe = sum(exponential(text) for text in (*concept.safe, *allow))
    return unsafe / (unsafe + safe)


BROKEN = {  # six items in, the second one broken
    "NaN": lambda z: z.clone().index_fill_(0, torch.tensor([1]), math.nan),
    "inf": lambda z: torch.where(torch.arange(6).reshape(6, 1, 1, 1) == 1, torch.tensor(math.inf), z),
    "one -inf": lambda z: torch.where((torch.arange(z.numel()) == 300).reshape(z.shape), -math.inf, z),
    "zeros": lambda z: torch.where(torch.arange(6).reshape(6, 1, 1, 1) == 1, torch.tensor(0.0), z),
    "scaled for sampling": lambda z: z * torch.tensor([1, 1 / 6, 1, 1, 1, 1]).reshape(6, 1, 1, 1),
    "far too large": lambda z: z * torch.tensor([1, 1e6, 1, 1, 1, 1]).reshape(6, 1, 1, 1),
    "overflowing": lambda z: z * torch.tensor([1, 1e30, 1, 1, 1, 1]).reshape(6, 1, 1, 1),
}
