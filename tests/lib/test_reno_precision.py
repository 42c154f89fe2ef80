"""Half-precision generators: loss scaling keeps the direction of the fp32 gradient."""

import copy

import pytest
import reno_worlds as worlds
import torch
import torch.nn.functional as F

from lclip import RewardSum, TextReward
from lclip.mini.world import generate_from
from lclip.reno.maths import power_of_two_scale
from lclip.reno.render import GradientRenderer


def gradient(generate, reward, batch=2):
    everyone = torch.ones(batch, dtype=torch.bool)
    return GradientRenderer(generate, RewardSum([reward]), batch)(worlds.noise(batch), everyone)[2]


def cosine_of(a, b):
    """Per item; in fp64, where the norms of tiny gradients do not vanish."""
    return F.cosine_similarity(a.flatten(1).double(), b.flatten(1).double(), eps=1e-30)


def weighted(weight):
    return lambda z: weight * worlds.wave_reward(z)


@pytest.mark.parametrize(("dtype", "least"), [(torch.float16, 0.99), (torch.bfloat16, 0.95)])
@pytest.mark.parametrize("weight", [1e-8, 1.0, 1e6])
def test_half_precision_keeps_the_fp32_direction(dtype, least, weight):
    exact = gradient(worlds.DeepGenerator(torch.float32), weighted(weight))
    half = gradient(worlds.DeepGenerator(dtype), weighted(weight))
    assert (cosine_of(exact, half) >= least).all()
    ratio = half.flatten(1).norm(dim=1) / exact.flatten(1).norm(dim=1)
    torch.testing.assert_close(ratio, torch.ones_like(ratio), atol=0.1, rtol=0)


def test_without_scaling_the_same_gradient_would_underflow():
    x = worlds.noise(2).requires_grad_()
    reward = 1e-8 * worlds.wave_reward(worlds.DeepGenerator(torch.float16)(x))
    (plain,) = torch.autograd.grad(reward.sum(), x)
    assert plain.abs().max() == 0


def test_an_overflow_lowers_the_scale_and_repeats_the_backward():
    class Steep(torch.autograd.Function):
        """Passes values on and multiplies gradients by 2^18: they leave fp16 unless the scale gives way."""

        @staticmethod
        def forward(ctx, x):
            return x.clone()

        @staticmethod
        def backward(ctx, grad):
            return grad * 2.0**18

    def steep(x):
        return Steep.apply(worlds.mixing_generator(x).half())

    expected = 2.0**18 * gradient(lambda x: worlds.mixing_generator(x), worlds.wave_reward)
    got = gradient(steep, worlds.wave_reward)
    assert torch.isfinite(got).all()
    assert (cosine_of(expected, got) > 0.99).all()


def test_scaling_changes_no_fp32_bit():
    start = worlds.noise(2)
    x = start.clone().requires_grad_()
    (plain,) = torch.autograd.grad(worlds.wave_reward(worlds.mixing_generator(x)).sum(), x)
    torch.testing.assert_close(
        gradient(worlds.mixing_generator, worlds.wave_reward), plain, atol=0, rtol=1e-6
    )


def test_scales_are_powers_of_two_and_survive_zero_and_nan():
    values = torch.tensor([[3e-9, 1e-9], [0.0, 0.0], [float("nan"), 1.0], [700.0, -2.0]])
    scale = power_of_two_scale(values)
    assert torch.equal(torch.log2(scale), torch.log2(scale).round())
    assert torch.isfinite(scale).all()
    top = (values * scale[:, None]).abs().amax(dim=1)
    assert ((top[[0, 3]] > 0.5) & (top[[0, 3]] <= 1)).all()


def cast_network(denoiser, dtype):
    """As a host runs it: the sampler counts in float32, weights and activations of the network are half."""
    half = copy.deepcopy(denoiser).to(dtype)
    return lambda x, t, context: half(x.to(dtype), t.to(dtype), context.to(dtype)).float()


def mixed_network(denoiser, dtype):
    """Mixed precision: half in the products, float32 in sums and norms."""

    def network(x, t, context):
        with torch.autocast("cpu", dtype):
            return denoiser(x, t, context).float()

    return network


@pytest.mark.parametrize(
    ("make", "dtype", "least"),
    [
        (cast_network, torch.float16, 0.99),
        (cast_network, torch.bfloat16, 0.95),
        (mixed_network, torch.bfloat16, 0.95),
    ],
)
def test_half_precision_keeps_the_direction_on_the_mini_worlds_generator(world, make, dtype, least):
    """The typical item: in pure bf16 some renders are other pictures already, and so have other gradients."""
    prompts = [
        f"a {size} {colour} circle" for size in ("large", "small") for colour in ("red", "blue", "green")
    ]
    context, start = world.context(prompts, 6).repeat(4, 1, 1), torch.randn(24, 4, 8, 8)
    reward = RewardSum([TextReward(world.latent_clip, prompts)])
    everyone = torch.ones(24, dtype=torch.bool)
    found = []
    for network in (world.denoiser, make(world.denoiser, dtype)):

        def generate(x, network=network):
            return generate_from(network, context, x, steps=1) / world.scale_factor

        found.append(GradientRenderer(generate, reward, 24)(start, everyone)[2])
    assert cosine_of(*found).median() >= least
