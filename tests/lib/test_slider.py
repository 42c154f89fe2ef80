"""Sliders: series along an axis, against the mini world's own pictures and plain arithmetic."""

from __future__ import annotations

import logging
import math
from dataclasses import replace

import pytest
import torch

import lclip
from lclip.choosing.slider import polyak_move, slide_x0

PROMPT = "a green square on a black ground"
LESS, MORE = "a small green square on a black ground", "a large green square on a black ground"
QUICK = {"positions": 3, "low": -0.3, "high": 0.3, "iterations": 5, "anchor": 0.3, "end": 1.0}


@pytest.fixture(scope="module")
def noise():
    return torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(3))


@pytest.fixture(scope="module")
def slider(world):
    return lclip.SliderReward(world.latent_clip, LESS, MORE)


def one_step(world):
    return world.generator([PROMPT])


def guided(world, noise, steps=6):
    to_raw, scale = world.latent_format.to_raw, world.scale_factor

    def render(change):
        levels = iter(range(steps, 0, -1))

        def scaled(x0):
            return x0 + scale * (change(to_raw(x0), next(levels)) - to_raw(x0))

        return world.generate([PROMPT], noise, steps, change and scaled)

    return render


def test_the_reward_is_the_difference_of_two_text_rewards(world, slider, noise):
    z = one_step(world)(noise)
    texts = [lclip.TextReward(world.latent_clip, text)(z) for text in (LESS, MORE)]
    torch.testing.assert_close(slider(z), texts[1] - texts[0])


def test_positions_are_minus_one_and_one_at_the_ends_themselves(world, slider):
    ends = world.latent_clip.encode_text([LESS, MORE])
    torch.testing.assert_close(slider.position_of(ends), torch.tensor([-1.0, 1.0]))
    middle = (ends[0] + ends[1])[None]
    torch.testing.assert_close(slider.position_of(middle), torch.zeros(1), atol=1e-5, rtol=0)


def test_an_axis_by_two_groups_of_latents_has_their_means_as_ends(world):
    model = world.latent_clip
    small, large = (world.generate([text], torch.randn(3, 4, 8, 8)) for text in (LESS, MORE))
    axis = lclip.SliderReward(model, small, large)
    mean = model.encode_latents(large).mean(0)
    torch.testing.assert_close(axis.more, mean / mean.norm())
    assert float(axis.position(large).mean()) > 0.5 and float(axis.position(small).mean()) < -0.5
    broken = torch.cat([large, torch.full_like(large[:1], math.nan)])
    torch.testing.assert_close(lclip.SliderReward(model, small, broken).more, axis.more)
    assert lclip.SliderReward(model, LESS, large).name.endswith("3 latents")


@pytest.mark.parametrize("by", ["noise", "guidance"])
def test_a_series_rises_along_the_axis_around_the_start(world, slider, noise, by):
    settings = lclip.SlideSettings(**QUICK)
    if by == "noise":
        result = lclip.slide(one_step(world), noise, slider, settings)
        plain = one_step(world)(noise)
        torch.testing.assert_close(one_step(world)(result.noise[:2]), result.latents[:2])
        torch.testing.assert_close(result.noise[2:4], noise)
        norms = result.noise.flatten(1).norm(dim=1).view(3, 2)
        torch.testing.assert_close(norms, norms[1].expand(3, 2))
    else:
        result = lclip.slide_guided(guided(world, noise), slider, settings)
        plain = guided(world, noise)(lambda x0, level: x0)
        assert result.noise is None
    assert result.latents.shape == (6, 4, 8, 8) and result.positions.shape == (3, 2)
    torch.testing.assert_close(result.latents[2:4], plain)
    torch.testing.assert_close(result.start_latents, plain)
    torch.testing.assert_close(result.positions.flatten(), slider.position(result.latents))
    torch.testing.assert_close(
        result.targets - result.start, torch.tensor([[-0.3], [0.0], [0.3]]).expand(3, 2)
    )
    assert bool((result.positions.diff(dim=0) > 0.05).all())
    assert bool((result.kept > 0.9).all()) and bool((result.kept <= 1 + 1e-6).all())


@pytest.mark.parametrize("by", ["noise", "guidance"])
def test_a_batch_is_its_items_one_by_one(world, slider, noise, by):
    settings = lclip.SlideSettings(**QUICK)

    def series(part):
        if by == "noise":
            return lclip.slide(one_step(world), part, slider, settings)
        return lclip.slide_guided(guided(world, part), slider, settings)

    both = series(noise)
    for item in range(2):
        alone = series(noise[item : item + 1])
        torch.testing.assert_close(both.latents[item::2], alone.latents, atol=1e-3, rtol=1e-3)
        torch.testing.assert_close(both.positions[:, item], alone.positions[:, 0], atol=1e-3, rtol=1e-3)


def test_an_anchor_keeps_more_of_the_rest(world, slider, noise):
    kept = [
        lclip.slide(
            one_step(world), noise, slider, lclip.SlideSettings(**{**QUICK, "anchor": anchor})
        ).kept.mean()
        for anchor in (0.0, 1.0)
    ]
    assert kept[1] > kept[0]


def test_a_place_is_at_distance_zero_only_there(slider, noise, world):
    z = one_step(world)(noise)
    start = world.latent_clip.encode_latents(z)
    here = slider.position_of(start)
    reward = lclip.AxisPointReward(slider, start, here)
    torch.testing.assert_close(reward(z), torch.zeros(2), atol=1e-3, rtol=0)
    away = lclip.AxisPointReward(slider, start, here + torch.tensor([0.5, -0.25]), anchor=0.7)
    torch.testing.assert_close(away(z), torch.tensor([-0.5, -0.25]), atol=1e-3, rtol=0)
    with pytest.raises(ValueError, match="2 starts; got a batch of 1"):
        reward(z[:1])


def test_polyaks_step_ends_on_a_line_at_zero_and_is_never_too_long():
    x = torch.tensor([[3.0, 4.0], [3.0, 4.0], [3.0, 4.0]])
    gradient = torch.tensor([[0.5, 0.0], [1.0, 0.0], [math.nan, 0.0]])
    move = polyak_move(x, torch.tensor([-0.2, -9.0, -1.0]), gradient, 0.1)
    torch.testing.assert_close(move, torch.tensor([[0.4, 0.0], [0.5, 0.0], [0.0, 0.0]]))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_latents_are_moved_as_the_numbers_they_are(world, slider, noise, dtype):
    z = one_step(world)(noise).to(dtype)
    start = world.latent_clip.encode_latents(z.float())
    point = lclip.AxisPointReward(slider, start, slider.position_of(start) + 0.3)
    moved = slide_x0(z, point, 0.1)
    assert moved.dtype == dtype
    torch.testing.assert_close(moved.float(), slide_x0(z.float(), point, 0.1), atol=0.05, rtol=0.02)


def test_what_cannot_be_an_axis_is_refused(world):
    model = world.latent_clip
    for less, more, word in (
        (LESS, LESS, "are the same to this model"),
        ("", MORE, "The text 'less' of the slider is empty"),
        (LESS, " \n ", "The text 'more' of the slider is empty"),
        (torch.zeros(0, 4, 8, 8), MORE, "group 'less'.*at least one"),
        (LESS, torch.full((2, 4, 8, 8), math.nan), "group 'more'.*NaN"),
        (torch.zeros(2, 3, 8, 8), MORE, "group 'less'.*channels"),
    ):
        with pytest.raises(ValueError, match=word):
            lclip.SliderReward(model, less, more)
    with pytest.raises(ValueError, match="finite"):
        lclip.SliderReward(model, LESS, MORE, weight=math.nan)


@pytest.mark.parametrize(
    ("bad", "named"),
    [
        ({"positions": 1}, "positions is 1"),
        ({"low": 0.0, "high": 0.0}, "range is 0.0 to 0.0"),
        ({"low": 0.3, "high": -0.3}, "range is 0.3 to -0.3"),
        ({"high": math.nan}, "range is -0.4 to nan"),
        ({"low": -math.inf}, "range is -inf"),
        ({"iterations": 1}, "iterations is 1"),
        ({"anchor": -0.1}, "anchor is -0.1"),
        ({"anchor": math.nan}, "anchor is nan"),
        ({"anchor": 1.5}, "anchor is 1.5"),
        ({"strength": 0.0}, "strength is 0.0"),
        ({"strength": 1.5}, "strength is 1.5"),
        ({"end": 0.0}, "end is 0.0"),
    ],
)
def test_settings_that_no_slider_can_use_are_refused(bad, named):
    with pytest.raises(ValueError, match=named):
        lclip.SlideSettings(**bad)


def test_the_way_goes_outward_from_the_start_and_the_start_is_one_picture():
    settings = lclip.SlideSettings(positions=5, low=-0.2, high=0.2)
    assert settings.targets == pytest.approx([-0.2, -0.1, 0.0, 0.1, 0.2]) and settings.targets[2] == 0.0
    assert settings.order == [2, 3, 4, 1, 0] and settings.moved == [3, 4, 1, 0]
    beside = lclip.SlideSettings(positions=3, low=0.1, high=0.5)
    assert beside.moved == [0, 1, 2] and beside.renders == 31


def test_a_generator_without_a_gradient_is_refused_and_one_that_shows_none_is_told(
    world, slider, noise, caplog
):
    settings = lclip.SlideSettings(**QUICK)
    with pytest.raises(ValueError, match="carry no gradient.*GuidedSlide"):
        lclip.slide(lambda x: one_step(world)(x).detach(), noise, slider, settings)
    still = one_step(world)(noise)
    with caplog.at_level(logging.WARNING, "latent-clip"):
        result = lclip.slide(lambda x: still + 0 * x, noise, slider, settings)
    assert "did not move" in caplog.text
    torch.testing.assert_close(result.latents, still.repeat(3, 1, 1, 1))


def test_a_broken_item_leaves_the_others_as_they_are(world, slider, noise):
    settings = lclip.SlideSettings(**QUICK)
    with pytest.raises(ValueError, match="slider's noise holds NaN"):
        lclip.slide(one_step(world), noise * math.nan, slider, settings)

    def half_broken(x):
        z = one_step(world)(x)
        return torch.cat([z[:1] * math.nan, z[1:]])

    result = lclip.slide(half_broken, noise, slider, settings)
    alone = lclip.slide(one_step(world), noise[1:], slider, settings)
    assert bool(result.positions[:, 0].isnan().all())
    torch.testing.assert_close(result.positions[:, 1], alone.positions[:, 0], atol=1e-3, rtol=1e-3)


def test_stopped_early_the_start_stands_where_nothing_was_reached(world, slider, noise):
    run = lclip.NoiseSlide(one_step(world), noise, slider, lclip.SlideSettings(**QUICK))
    with pytest.raises(ValueError, match="not rendered anything"):
        run.result()
    steps = [next(run) for _ in range(4)]
    assert [step.index for step in steps] == [-1, 2, 2, 2]
    result = run.result()
    torch.testing.assert_close(result.latents[:2], result.start_latents)
    assert bool((result.positions[2] > result.positions[1]).all())


def test_a_render_that_gives_no_latents_is_refused(world):
    slider = lclip.SliderReward(world.latent_clip, "a small star", "a large star")
    with pytest.raises(ValueError, match="render gave NoneType; expected latents"):
        lclip.slide_guided(lambda change: None, slider)


def test_a_sampler_that_shows_no_x0_cannot_be_guided(slider):
    with pytest.raises(ValueError, match="showed no predicted x0"):
        lclip.slide_guided(lambda change: torch.randn(1, 4, 8, 8), slider)


def test_a_series_that_nothing_guided_says_why(world, slider, noise):
    settings = lclip.SlideSettings(**{**QUICK, "end": 0.01})
    found = lclip.slide_guided(guided(world, noise), slider, settings)
    assert (found.guided, len(found.notes)) == (0, 1) and "no step is guided" in found.notes[0]
    moved = lclip.slide_guided(guided(world, noise), slider, lclip.SlideSettings(**QUICK))
    assert moved.guided > 0 and not any("no step" in note for note in moved.notes)


def test_a_series_that_runs_the_wrong_way_says_so(world, slider, noise):
    found = lclip.slide(one_step(world), noise, slider, lclip.SlideSettings(**QUICK))
    assert not found.notes
    wrong = replace(found, positions=2 * found.start - found.positions)
    assert [note.partition(" where")[0] for note in wrong.notes] == [
        f"item {item} moved away from {end}" for end in ("more", "less") for item in (0, 1)
    ]
