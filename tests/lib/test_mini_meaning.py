"""Which captions are true of which pictures, against the pixel oracle and by hand."""

import numpy as np
import pytest

from lclip.mini import oracle
from lclip.mini.drawing import render, sample_scenes
from lclip.mini.meaning import Facts, true_of
from lclip.mini.scenes import Content, caption, neighbours, phrase, vague
from lclip.mini.train_clip import speak

RED_STAR_ABOVE_BLUE_RING = Content(
    "pair", ("star", "ring"), ("red", "blue"), "grey", relation="above", count=2
)


def fits(said, shown=RED_STAR_ABOVE_BLUE_RING):
    return bool(true_of(Facts.of([said]), Facts.of([shown]))[0, 0])


@pytest.mark.parametrize(
    ("said", "true"),
    [
        (Content("single", ("star",), ("red",)), True),
        (Content("single", ("ring",), ("blue",), "grey"), True),
        (Content("single", ("ring",), ("red",)), False),
        (Content("single", ("ring",), ("blue",), "white"), False),
        (Content("single", ("star",), ("red",), None, "small"), False),
        (Content("pair", ("ring", "star"), ("blue", None), relation="below", count=2), True),
        (Content("pair", ("ring", "star"), ("blue", "red"), relation="above", count=2), False),
        (Content("pair", ("star", "ring"), ("red", "blue"), relation="left of", count=2), False),
        (Content("count", ("star",), ("red",), count=2), False),
    ],
)
def test_what_is_true_of_a_pair(said, true):
    assert fits(said) is true


def test_agrees_with_the_oracle():
    """For whole captions, true means that the oracle finds everything in the picture."""
    rng = np.random.default_rng(0)
    for scene in sample_scenes(60, seed=1, split="all"):
        picture = render(scene)
        said = [scene.content, vague(scene.content, rng, 0.5), *neighbours(scene.content, rng, 3)]
        if scene.content.kind == "single":
            said = [content for content in said if content.size]  # without a size it may be a mention
        for content in said:
            assert fits(content, scene.content) == oracle.judge(picture, content).correct, caption(content)


def test_what_training_says_of_a_picture_is_true_of_it():
    rng = np.random.default_rng(0)
    contents = [scene.content for scene in sample_scenes(200, seed=2)]
    for spoken in zip(*(speak(content, rng) for content in contents), strict=True):
        assert np.diag(true_of(Facts.of(spoken), Facts.of(contents))).all()
        assert len({caption(content) for content in spoken}) > 60


def test_phrases_keep_the_words():
    rng = np.random.default_rng(0)
    forms = {phrase("a red star", rng) for _ in range(200)}
    assert {"a red star", "the red star", "red star", "a picture of a red star"} <= forms
    assert all("red star" in form for form in forms)
    assert phrase("two red stars", rng).endswith("two red stars")
