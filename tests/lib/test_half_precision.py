"""A Latent-CLIP kept in half precision answers as the same one in float32 does, and so do its gradients."""

import copy

import pytest
import torch
import torch.nn.functional as F

import lclip
from lclip import RewardSum, SafetyReward, TextReward
from lclip.reno.guidance import guided_x0
from lclip.reno.render import GradientRenderer

HALF = [torch.float16, torch.bfloat16]
TEXTS = ["a large red circle", "a small blue square left of a green star"]


@pytest.fixture(scope="module")
def latents(world):
    prompts = [TEXTS[0], TEXTS[1], "a yellow skull", "a green ring"]
    noise = torch.randn(4, 4, 8, 8, generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        return world.generate(prompts, noise)


@pytest.fixture(scope="module", params=HALF, ids=["fp16", "bf16"])
def half(world, request):
    return copy.deepcopy(world.latent_clip).to(request.param)


def cosine(a, b):
    return F.cosine_similarity(a.flatten(1).double(), b.flatten(1).double(), eps=1e-30)


@pytest.mark.parametrize("size", [1.0, 1e5, 1e7])
@pytest.mark.parametrize("rule", ["interpolate", "resize", "crops", "tiles"])
def test_large_finite_latents_are_scored_as_in_float32(world, half, latents, rule, size):
    """6e4 is the largest number of float16; what the tower computes with is of ordinary size all the same."""
    z = size * torch.cat([latents, latents], dim=3)
    exact, found = (lclip.similarity(model, z, TEXTS, rule) for model in (world.latent_clip, half))
    torch.testing.assert_close(found, exact, atol=0.02, rtol=0)
    assert lclip.classify(half, z, TEXTS, size_rule=rule).isfinite().all()
    assert lclip.heatmap(half, z, TEXTS[0]).isfinite().all()
    assert TextReward(half, TEXTS[0])(z).isfinite().all()
    judge = lclip.SafetyJudge(lclip.SafetyPolicy.preset("mini").changed(model=None), half)
    assert judge.probabilities(z).isfinite().all()


def test_heatmaps_agree_with_float32(world, half, latents):
    exact, found = (lclip.heatmap(model, latents, TEXTS[0]) for model in (world.latent_clip, half))
    assert (cosine(exact, found) > 0.99).all()


def rewards(model, weight):
    policy = lclip.SafetyPolicy.preset("mini").changed(model=None)
    return {"text": TextReward(model, TEXTS[0], weight), "safety": SafetyReward(policy, model, abs(weight))}


@pytest.mark.parametrize("kind", ["text", "safety"])
@pytest.mark.parametrize("weight", [1e-8, 0.01, 1.0, 1e4, 1e8])
def test_guidance_keeps_the_direction_of_float32(world, half, latents, kind, weight):
    moves = [
        guided_x0(latents, rewards(model, weight)[kind], 0.1) - latents for model in (world.latent_clip, half)
    ]
    least = 0.99 if next(half.parameters()).dtype == torch.float16 else 0.95
    assert (cosine(*moves) > least).all()
    torch.testing.assert_close(moves[1].norm(), moves[0].norm(), rtol=1e-3, atol=0)


@pytest.mark.parametrize("kind", ["text", "safety"])
@pytest.mark.parametrize("weight", [1e-8, 0.01, 1.0, 1e4, 1e8])
def test_a_search_keeps_the_direction_and_length_of_float32(world, half, latents, kind, weight):
    everyone = torch.ones(len(latents), dtype=torch.bool)
    found = [
        GradientRenderer(lambda x: x, RewardSum([rewards(model, weight)[kind]]), len(latents))(
            latents, everyone
        )[2]
        for model in (world.latent_clip, half)
    ]
    least = 0.99 if next(half.parameters()).dtype == torch.float16 else 0.95
    assert (cosine(*found) > least).all()
    if kind == "text":  # the safety reward fades exponentially, and rounding of the cosine with it
        lengths = [gradient.flatten(1).norm(dim=1) for gradient in found]
        torch.testing.assert_close(lengths[1], lengths[0], rtol=0.15, atol=0)


@pytest.mark.parametrize("scale", [1e-30, 1e-12, 1e20])
def test_a_reward_of_any_size_guides(latents, scale):
    """In float32 alone: squares of such gradients are 0 or infinite."""
    goal = torch.flip(latents, [0])

    def quadratic(z):
        return -scale * ((z - goal) ** 2).flatten(1).mean(dim=1)

    move = guided_x0(latents, quadratic, 0.1) - latents
    assert (cosine(move, goal - latents) > 0.999).all()


def test_items_of_very_different_gradients_share_a_batch(world, latents):
    half = copy.deepcopy(world.latent_clip).half()
    weights = torch.tensor([1e-8, 1.0, 1e6, 0.0])

    def mixed(model):
        return lambda z: weights * TextReward(model, TEXTS[0])(z)

    everyone = torch.ones(4, dtype=torch.bool)
    exact, found = (
        GradientRenderer(lambda x: x, RewardSum([mixed(model)]), 4)(latents, everyone)[2]
        for model in (world.latent_clip, half)
    )
    assert (cosine(exact, found)[:3] > 0.99).all()
    assert found[3].abs().max() == 0
    moves = [guided_x0(latents, mixed(model), 0.1) - latents for model in (world.latent_clip, half)]
    assert (cosine(*moves)[:3] > 0.99).all() and moves[1][3].abs().max() == 0
