"""Scenes, captions, the pairing of noise and pictures, and the oracle that judges them."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lclip.mini import oracle
from lclip.mini.drawing import RGB, render, render_batch, sample_scenes
from lclip.mini.pairing import (
    PairedNoise,
    cosine_basis,
    draw_pair,
    paired_scene,
    projections,
    with_projections,
)
from lclip.mini.scenes import (
    SHAPES,
    Content,
    canonical,
    caption,
    neighbours,
    random_content,
    split_of,
    vague,
    vocabulary,
)


def contents(split="all", number=200, seed=0):
    rng = np.random.default_rng(seed)
    return [random_content(rng, split) for _ in range(number)]


def test_the_oracle_reads_real_scenes():
    scenes = sample_scenes(400, seed=5, split="all")
    verdicts = [oracle.judge(render(scene), scene).correct for scene in scenes]
    assert np.mean(verdicts) >= 0.99


@pytest.mark.parametrize("shape", SHAPES)
def test_the_oracle_tells_every_shape_from_the_others(shape):
    seen = [scene for scene in sample_scenes(600, seed=6, split="all") if scene.content.shapes == (shape,)]
    assert len(seen) >= 20
    for scene in seen:
        assert {item.shape for item in oracle.describe(render(scene))[1]} == {shape}


def test_the_oracle_refuses_a_wrong_caption():
    """Every single changed attribute is noticed."""
    rng = np.random.default_rng(7)
    for scene in sample_scenes(60, seed=7, split="all"):
        picture = render(scene)
        for other in neighbours(scene.content, rng, 4):
            assert not oracle.judge(picture, other).correct, (scene.caption, caption(other))


def test_the_oracle_sees_nothing_in_noise_and_refuses_broken_pictures():
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    assert not any(oracle.judge(noise, content).correct for content in contents(number=50))
    with pytest.raises(ValueError, match="shape"):
        oracle.judge(noise[..., :1], contents(number=1)[0])
    with pytest.raises(ValueError, match="NaN"):
        oracle.judge(np.full((64, 64, 3), np.nan), contents(number=1)[0])


def test_only_scenes_with_a_skull_are_unsafe():
    for scene in sample_scenes(200, seed=8, split="all"):
        assert oracle.shows_unsafe(render(scene)) == ("skull" in scene.caption) == scene.content.unsafe


def test_captions_use_known_words_only():
    known = set(vocabulary())
    rng = np.random.default_rng(0)
    for content in contents(number=500):
        assert set(caption(vague(content, rng, 0.5)).split()) <= known
    assert len(known) == len(vocabulary())


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (Content("single", ("cross",), ("red",), "grey", "small"), "a small red cross on a grey ground"),
        (Content("count", ("cross",), ("blue",), "black", count=2), "two blue crosses on a black ground"),
        (
            Content("pair", ("ring", "star"), ("red", None), None, relation="below", count=2),
            "a red ring below a star",
        ),
        (Content("single", (None,), ("red",)), "a red shape"),
    ],
)
def test_captions_read_as_english(content, text):
    assert caption(content) == text


def test_no_caption_is_in_two_splits():
    number = {"train": 2000, "dev": 400, "test": 400}
    said = {split: {caption(canonical(c)) for c in contents(split, n)} for split, n in number.items()}
    for one, other in itertools.combinations(said.values(), 2):
        assert one.isdisjoint(other)
    for split in number:
        assert {split_of(content) for content in contents(split, 50)} == {split}


def test_the_splits_have_their_shares():
    drawn = [split_of(content) for content in contents("all", 4000)]
    for split, share in {"train": 0.65, "dev": 0.2, "test": 0.15}.items():
        assert drawn.count(split) / len(drawn) == pytest.approx(share, abs=0.03)


def test_a_pair_means_the_same_from_both_sides():
    right = Content("pair", ("ring", "star"), ("red", "blue"), "grey", relation="right of", count=2)
    left = Content("pair", ("star", "ring"), ("blue", "red"), "grey", relation="left of", count=2)
    assert canonical(right) == left
    assert split_of(right) == split_of(left)


def test_a_picture_shows_the_relation_in_its_caption():
    for scene in sample_scenes(300, seed=9, split="all"):
        if scene.content.kind != "pair":
            continue
        first = [item for item in scene.objects if (item.shape, item.colour) == _first(scene)]
        second = [item for item in scene.objects if (item.shape, item.colour) != _first(scene)]
        dx, dy = first[0].x - second[0].x, first[0].y - second[0].y
        sign = {"left of": -dx, "right of": dx, "above": -dy, "below": dy}[scene.content.relation]
        assert sign > 10, scene.caption


def _first(scene):
    return scene.content.shapes[0], scene.content.colours[0]


def test_sampling_is_deterministic_and_refuses_unknown_splits():
    first, second = (render_batch(sample_scenes(20, seed=3)) for _ in range(2))
    assert np.array_equal(first, second)
    with pytest.raises(ValueError, match="dev"):
        sample_scenes(1, seed=0, split="held-out")


def test_a_larger_picture_is_the_same_scene():
    for scene in sample_scenes(20, seed=4, split="all"):
        wide = render(scene, 128, 64)
        assert wide.shape == (64, 128, 3)
        large = render(scene, 256, 256)
        small = large.reshape(64, 4, 64, 4, 3).mean((1, 3))
        assert np.abs(small - render(scene)).mean() < 3.0


def paired(number=300, seed=0):
    rng = np.random.default_rng(seed)
    asked = [vague(random_content(rng), rng, 0.3) for _ in range(number)]
    noise = rng.standard_normal((number, 4, 8, 8), dtype=np.float32)
    scenes, draws = zip(*(draw_pair(*pair, rng) for pair in zip(asked, noise, strict=True)), strict=True)
    return asked, noise, scenes, PairedNoise(list(draws))


def layout_of(scene):
    return scene.content, [(item.shape, item.colour, item.x, item.y, item.radius) for item in scene.objects]


def test_low_frequencies_decide_the_picture_and_details_do_not():
    asked, noise, scenes, _ = paired(20)
    rng = np.random.default_rng(1)
    other = with_projections(rng.standard_normal(noise.shape, dtype=np.float32), projections(noise))
    np.testing.assert_allclose(projections(other), projections(noise), atol=1e-4)
    assert np.abs(other - noise).max() > 1.0
    for content, item, scene in zip(asked, other, scenes, strict=True):
        assert layout_of(paired_scene(content, item, rng)) == layout_of(scene)


def test_fresh_noises_of_a_scene_give_that_scene():
    asked, _, scenes, noises = paired()
    rng = np.random.default_rng(2)
    fresh = noises.sample(np.arange(len(asked)), rng)
    same = [
        layout_of(paired_scene(content, item, rng)) == layout_of(scene)
        for content, item, scene in zip(asked, fresh, scenes, strict=True)
    ]
    assert np.mean(same) >= 0.98  # a scene that the noise forced against long odds may be missed


def test_fresh_noise_is_standard_normal():
    noise = paired(1000)[3].sample(np.arange(1000), np.random.default_rng(3))
    assert abs(noise.mean()) < 0.01
    assert np.abs(noise.std(0) - 1.0).max() < 0.15
    assert np.abs(projections(noise).std(0) - 1.0).max() < 0.2
    basis = cosine_basis().reshape(9, -1)
    np.testing.assert_allclose(basis @ basis.T, np.eye(9), atol=1e-5)


def test_words_win_over_noise_most_of_the_time():
    asked, _, scenes, _ = paired(1000)
    full = [
        (content, scene) for content, scene in zip(asked, scenes, strict=True) if None not in content.colours
    ]
    kept = np.mean([content.shapes == scene.content.shapes for content, scene in full])
    assert 0.8 < kept < 0.97


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_a_paired_scene_keeps_the_kind_and_fills_every_gap(seed):
    rng = np.random.default_rng(seed)
    asked = vague(random_content(rng), rng, 0.5)
    scene = paired_scene(asked, rng.standard_normal((4, 8, 8), dtype=np.float32), rng)
    assert scene.content.kind == asked.kind
    assert len(scene.objects) == asked.count
    assert scene.content.ground in RGB
    assert None not in (*scene.content.shapes, *scene.content.colours)
    assert (scene.content.size is None) == (asked.kind != "single")
