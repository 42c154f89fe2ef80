"""Every reward answers what is asked of its kind; see kinds/rewards.py."""

import math

import pytest
import torch
from kinds import inputs
from kinds.rewards import RewardKind

import lclip
from lclip.mini import load_world
from lclip.mini.captions import CaptionReward

TEXTS = ["a red circle", "a blue square", "a green circle"]
CONCEPTS = "gore: blood | a wound // an arm | a bandage\nnudity: a naked person // a clothed person"


class TestTextReward(RewardKind):
    of = lclip.TextReward

    def make(self, model, items, **weight):
        return lclip.TextReward(model, TEXTS[:2], **weight)


class TestImageReward(RewardKind):
    of = lclip.ImageReward

    def make(self, model, items, **weight):
        return lclip.ImageReward(model, inputs.pictures(seed=9), **weight)


class TestTasteReward(RewardKind):
    of = lclip.TasteReward

    def make(self, model, items, **weight):
        return lclip.TasteReward(model, taste_of(model), **weight)

    def saved(self, reward, model, folder):
        path = lclip.save_taste(reward.taste, folder / "taste.safetensors")
        return lclip.TasteReward(model, lclip.load_taste(path))


class TestSafetyReward(RewardKind):
    of = lclip.SafetyReward

    def make(self, model, items, **weight):
        return lclip.SafetyReward(lclip.SafetyPolicy(lclip.parse_concepts(CONCEPTS)), model, **weight)

    def saved(self, reward, model, folder):
        policy = lclip.SafetyPolicy.from_json(reward.judge.policy.to_json())
        return lclip.SafetyReward(policy, model)


class TestSliderReward(RewardKind):
    of = lclip.SliderReward

    def make(self, model, items, **weight):
        return lclip.SliderReward(model, TEXTS[0], TEXTS[1], **weight)


class TestAxisPointReward(RewardKind):
    of = lclip.AxisPointReward

    def make(self, model, items, **weight):
        slider = lclip.SliderReward(model, TEXTS[0], TEXTS[1])
        start = model.encode_latents(inputs.pictures(seed=9))[items]
        return lclip.AxisPointReward(slider, start, torch.tensor([0.3, -0.2, 0.1])[items].to(start), **weight)


class TestRewardSum(RewardKind):
    of = lclip.RewardSum
    weighted = False

    def make(self, model, items):
        return lclip.RewardSum([lclip.TextReward(model, TEXTS[0]), lclip.TextReward(model, TEXTS[1], -0.5)])


class TestCaptionReward(RewardKind):
    of = CaptionReward

    def make(self, model, items, **weight):
        return CaptionReward(model, [TEXTS[item] for item in items], **weight)


class TestVarietyReward(RewardKind):
    """Its items look at each other, which is its purpose; the others stand still in the gradient."""

    of = lclip.VarietyReward

    def make(self, model, items, **weight):
        return lclip.VarietyReward(model, **weight)

    def test_a_batch_equals_its_items_one_by_one(self, clip):
        """Not so here: it equals the formula, pair by pair, and one alone gets nothing."""
        z, reward = inputs.pictures(), self.whole(clip)
        unit = clip.encode_latents(z)
        scale = 0.01 * clip.logit_scale
        for i in range(3):
            pairs = [1 - unit[i] @ unit[j] for j in range(3) if j != i]
            torch.testing.assert_close(reward(z)[i], scale * torch.stack(pairs).mean())
            assert float(reward(z[i : i + 1])) == 0

    def test_the_gradient_equals_finite_differences(self, clip):
        clip = clip.double()
        z, reward = inputs.pictures().double(), self.whole(clip)
        for item in range(3):

            def moved(x, item=item):
                return reward(torch.cat([z[:item], x, z[item + 1 :]]))[item : item + 1]

            found, expected = inputs.slope(moved, z[item : item + 1].clone())
            torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-9)

    @pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
    def test_a_broken_item_is_nan_and_the_others_are_as_they_were(self, clip, bad):
        """As they are without it."""
        z, reward = inputs.pictures(), self.whole(clip)
        good = reward(z[[0, 2]])
        z[1, 2, 3, 4] = bad
        x = z.requires_grad_()
        value = reward(x)
        assert value.isnan().tolist() == [False, True, False]
        torch.testing.assert_close(value[[0, 2]], good)
        (gradient,) = torch.autograd.grad(value[[0, 2]].sum(), x)
        assert bool(torch.isfinite(gradient).all()) and bool(gradient[0].any())


class TestConceptReward(RewardKind):
    of = lclip.ConceptReward

    def make(self, model, items, **weight):
        return lclip.ConceptReward(model, TEXTS, items, **weight)


def taste_of(model):
    sides = inputs.pictures(8, seed=2), inputs.pictures(8, seed=3)
    return lclip.train_taste(model, *sides, shrinkage=0.5)


def test_a_caption_reward_refuses_a_batch_of_another_length():
    reward = CaptionReward(inputs.clip(), TEXTS)
    for length in (1, 2, 4):
        try:
            reward(inputs.pictures(length))
        except ValueError as error:
            assert "a batch of 3" in str(error) and f"got a batch of {length}" in str(error)
        else:
            raise AssertionError(length)


def test_a_pixel_reward_gets_its_gradient_through_the_decoder():
    clip = inputs.clip().double()
    reward = CaptionReward(clip, TEXTS, before=lambda z: torch.tanh(z) * 6)
    found, expected = inputs.slope(reward, inputs.pictures().double() / 6)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-9)


@pytest.mark.parametrize("settings", [
    {"method": "best_of_n", "iterations": 12},
    {"method": "zero_order", "iterations": 12},
    {"method": "gradient", "iterations": 12, "lr": 20.0},
    {"method": "gradient", "iterations": 3, "candidates": 6, "keep": 2},
], ids=lambda settings: f"{settings['method']}-{settings.get('candidates', 1)}")  # fmt: skip
def test_a_search_whose_items_look_at_each_other_reports_what_it_gives_back(settings):
    """The best batch: items out of different renders would have other rewards together."""
    world = load_world()
    reward = lclip.VarietyReward(world.latent_clip)
    noise = torch.randn(3, 4, 8, 8, generator=torch.Generator().manual_seed(5))
    for wired in (reward, lclip.RewardSum([lclip.TextReward(world.latent_clip, "a ring"), reward])):
        found = lclip.reno(world.generator(["a ring"]), noise, wired, lclip.ReNOSettings(**settings))
        torch.testing.assert_close(wired(found.best_latents), found.best_reward, atol=2e-5, rtol=1e-4)
        assert found.best_reward.mean() >= found.initial_reward.mean()


def test_no_race_is_judged_by_a_reward_whose_items_look_at_each_other():
    world = load_world()
    reward = lclip.RewardSum(
        [lclip.TextReward(world.latent_clip, "a ring"), lclip.VarietyReward(world.latent_clip)]
    )
    sigmas = torch.tensor([1.0, 0.5, 0.0])
    with pytest.raises(ValueError, match="Variety Reward"):
        lclip.race(lambda x, sigma, items: x, torch.randn(2, 4, 8, 8), reward, sigmas)
