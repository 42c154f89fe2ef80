"""Everyday texts: what pictures show that show nothing of a policy's subjects.

A concept's own texts are all about its subject. On a picture of something else every one of them fits equally
badly, and a softmax over them would say about a half. So everyday texts compete with every concept: on a
picture of none of its subjects one of them fits better, and the concept's probability is small.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ..model.latent_clip import LatentCLIP

PEOPLE = (
    "a person",
    "a smiling face",
    "a portrait of a person",
    "a group of people",
    "a child playing",
    "a family",
    "a hand",
    "a person at work",
    "a person doing sports",
    "a person dancing",
)
NATURE = (
    "an animal",
    "a dog",
    "a cat",
    "a horse",
    "a farm animal",
    "a wild animal",
    "a bird",
    "a fish",
    "an insect",
    "a reptile",
    "a sea creature",
    "a plant",
    "a flower",
    "a tree",
    "a leaf",
    "a mushroom",
    "a forest",
    "grass",
    "a rock",
)
FOOD = (
    "food",
    "a fruit",
    "a vegetable",
    "a cake",
    "sweets",
    "a loaf of bread",
    "a meal on a plate",
    "a drink",
    "a cup of coffee",
    "a bottle",
)
PLACES = (
    "a landscape",
    "a mountain",
    "a beach",
    "the sea",
    "a river",
    "a desert",
    "a field",
    "a garden",
    "snow",
    "the sky",
    "clouds",
    "rain",
    "a sunset",
    "the moon",
    "a planet",
    "a starry sky",
    "a city",
    "a street",
    "a house",
    "a building",
    "a church",
    "a bridge",
    "a room",
    "a kitchen",
    "an office",
    "a shop",
)
THINGS = (
    "an object",
    "furniture",
    "a chair",
    "a lamp",
    "a candle",
    "a clock",
    "a key",
    "a box",
    "a bag",
    "a gift",
    "a toy",
    "a ball",
    "a doll",
    "a book",
    "a pen",
    "scissors",
    "a tool",
    "a machine",
    "a kitchen utensil",
    "a musical instrument",
    "sports equipment",
    "a medal",
    "money",
    "jewellery",
    "clothing",
    "a shoe",
    "a hat",
    "glasses",
    "an umbrella",
    "a computer",
    "a telephone",
    "a camera",
    "a television",
    "a car",
    "a bus",
    "a truck",
    "a train",
    "a bicycle",
    "an aeroplane",
    "a ship",
    "a rocket",
)
SIGNS = (
    "a page of text",
    "a document",
    "a sign with words",
    "a letter of the alphabet",
    "a number",
    "a clock face",
    "a road sign",
    "an arrow",
    "a symbol",
    "an icon",
    "a logo",
    "a national flag",
    "a heart",
    "a star",
    "a speech bubble",
    "a musical note",
    "a chart",
    "a diagram",
    "a map",
    "a poster",
    "a screenshot",
    "a cartoon character",
    "a mask",
    "a pattern",
    "a texture",
    "a geometric shape",
    "an abstract picture",
    "a plain colour",
    "a blank page",
)

EVERYDAY = (*PEOPLE, *NATURE, *FOOD, *PLACES, *THINGS, *SIGNS)
"""For models with an open vocabulary, such as CLIP's."""

OF_WORLDS: dict[str, tuple[str, ...]] = {}
"""For models with a closed vocabulary, by the name of their latent space; `lclip.mini` adds its own."""


def without(everyday: Iterable[str], unsafe: Iterable[str]) -> tuple[str, ...]:
    """Everyday texts but those that say all that some unsafe text says: "a skull" beside an unsafe "skull".

    A more general one stays, such as "a person" beside "a person in a fight": the unsafe text fits better
    where it is true.
    """
    subjects = [words for text in unsafe if (words := _words(text))]
    return tuple(text for text in everyday if not any(words <= _words(text) for words in subjects))


def _words(text: str) -> set[str]:
    return set(re.findall(r"\w+", text.casefold())) - {"a", "an", "the"}


def everyday_texts(model: LatentCLIP) -> tuple[str, ...]:
    """The everyday texts of a model's own world, in words that it knows; none where nobody named any."""
    tokenizer = model.tokenizer
    if not tokenizer.closed:
        return EVERYDAY
    texts = OF_WORLDS.get(model.config.latent_space, ())
    return tuple(t for t, unknown in zip(texts, tokenizer.unknown_words(texts), strict=True) if not unknown)
