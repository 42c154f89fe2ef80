"""Guidance moves predicted clean latents along the reward's gradient, by a length that has no unit."""

import math

import pytest
import reno_worlds as worlds
import torch

import lclip
from lclip.reno.guidance import guided_x0

GOAL = worlds.noise(3, seed=7)


def rms(x):
    return x.flatten(1).square().mean(dim=1).sqrt()


@pytest.mark.parametrize("strength", [0.02, 0.3, -0.1])
@pytest.mark.parametrize("weight", [1e-6, 1.0, 1e6])
def test_the_move_is_relative_to_the_item_and_blind_to_the_rewards_scale(strength, weight):
    x0 = worlds.noise(3) * torch.tensor([0.5, 1.0, 8.0]).reshape(3, 1, 1, 1)
    quadratic = worlds.quadratic_reward(GOAL)
    moved = guided_x0(x0, lambda z: weight * quadratic(z), strength)
    torch.testing.assert_close(rms(moved - x0), abs(strength) * rms(x0), rtol=1e-4, atol=0)
    towards = (GOAL - x0) * math.copysign(1, strength)  # the gradient of the quadratic points at its goal
    cosine = torch.cosine_similarity((moved - x0).flatten(1), towards.flatten(1))
    assert (cosine > 0.999).all()


def test_the_reward_sees_raw_latents():
    seen = []

    def watching(z):
        seen.append(z.detach())
        return worlds.wave_reward(z)

    x0 = worlds.noise(2)
    guided_x0(x0, watching, 0.1, to_raw=lambda z: z / 0.13025)
    torch.testing.assert_close(seen[0], x0 / 0.13025)


def test_items_do_not_touch_each_other_and_inputs_stay_as_they_are():
    x0 = worlds.noise(3)
    before = x0.clone()
    together = guided_x0(x0, worlds.wave_reward, 0.1)
    for item in range(3):
        alone = guided_x0(x0[item : item + 1], worlds.wave_reward, 0.1)
        torch.testing.assert_close(together[item : item + 1], alone)
    assert torch.equal(x0, before)


@pytest.mark.parametrize("kind", ["value", "gradient", "flat"])
def test_an_item_without_a_usable_gradient_stays_as_it_is(kind):
    def broken(z):
        factor = torch.tensor([1.0, 0.0, 1.0])
        if kind == "value":
            return torch.where(factor == 0, torch.full((3,), math.nan), worlds.wave_reward(z))
        if kind == "gradient":
            return worlds.wave_reward(z) + torch.sqrt(z[:, 0, 0, 0] * 0 + torch.tensor([9.0, 0.0, 9.0]))
        return worlds.wave_reward(z) * factor

    x0 = worlds.noise(3)
    moved = guided_x0(x0, broken, 0.1)
    assert torch.equal(moved[1], x0[1])
    torch.testing.assert_close(moved[[0, 2]], guided_x0(x0[[0, 2]], worlds.wave_reward, 0.1))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_latents_are_moved_in_their_own_type(dtype):
    x0 = worlds.noise(2)
    moved = guided_x0(x0.to(dtype), worlds.wave_reward, 0.2)
    assert moved.dtype == dtype
    torch.testing.assert_close(moved.float(), guided_x0(x0, worlds.wave_reward, 0.2), rtol=0.02, atol=0.03)


def test_guidance_inside_no_grad_finds_its_gradient_all_the_same():
    x0 = worlds.noise(2)
    with torch.no_grad():
        moved = guided_x0(x0, worlds.wave_reward, 0.1)
    assert torch.equal(moved, guided_x0(x0, worlds.wave_reward, 0.1))


def test_a_search_around_guidance_gets_the_gradient_of_x0_alone():
    x0 = worlds.noise(2).requires_grad_()
    (gradient,) = torch.autograd.grad(guided_x0(x0, worlds.wave_reward, 0.1).sum(), x0)
    torch.testing.assert_close(gradient, torch.ones_like(gradient))


@pytest.mark.parametrize("reward", [lambda z: torch.ones(len(z)), lambda z: z.detach().mean(dim=(1, 2, 3))])
def test_a_reward_that_does_not_read_the_latents_is_refused(reward):
    with pytest.raises(ValueError, match="does not depend on the latents"):
        guided_x0(worlds.noise(2), reward, 0.1)


def test_inference_mode_is_refused():
    with torch.inference_mode(), pytest.raises(ValueError, match="inference_mode"):
        guided_x0(worlds.noise(2), worlds.wave_reward, 0.1)


@pytest.mark.parametrize("strength", [float("nan"), float("inf")])
def test_a_strength_that_is_no_number_is_refused(strength):
    with pytest.raises(ValueError, match="strength"):
        lclip.guided_x0(torch.randn(1, 4, 8, 8), lambda z: z.mean((1, 2, 3)), strength)
