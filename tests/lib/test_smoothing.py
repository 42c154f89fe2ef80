"""The mean of a reward over noisy copies of the latents."""

from __future__ import annotations

import copy

import pytest
import torch

from lclip import RewardSum, SmoothedReward


def wave(latents: torch.Tensor) -> torch.Tensor:
    """A slope with a fast wave on it, per item."""
    return (latents + 0.3 * torch.sin(40.0 * latents)).flatten(1).sum(1)


def some(items: int = 3) -> torch.Tensor:
    return 6.0 * torch.randn(items, 4, 8, 8, generator=torch.Generator().manual_seed(1))


def gradient(reward, latents: torch.Tensor) -> torch.Tensor:
    latents = latents.clone().requires_grad_(True)
    return torch.autograd.grad(reward(latents).sum(), latents)[0]


def test_the_wave_is_gone_and_the_slope_stays():
    # The mean of sin(40 (z + n)) over normal n of std 0.9 is exp(-(40 * 0.9)^2 / 2) sin(40 z): nothing.
    rough, smooth = gradient(wave, some()), gradient(SmoothedReward(wave, 0.15, pairs=200), some())
    assert (rough - 1).abs().mean() > 5
    assert (smooth - 1).abs().mean() < 0.6
    assert abs(float(smooth.mean()) - 1) < 0.05


def test_a_linear_reward_stays_what_it_is():
    slope = torch.randn(4, 8, 8, generator=torch.Generator().manual_seed(2))
    linear = lambda z: (z * slope).flatten(1).sum(1)  # noqa: E731
    torch.testing.assert_close(SmoothedReward(linear)(some()), linear(some()), atol=1e-4, rtol=1e-5)


def test_items_do_not_depend_on_their_batch_and_the_same_calls_agree():
    latents = some()
    together = SmoothedReward(wave)(latents)
    alone = [SmoothedReward(wave)(latents[index : index + 1]) for index in range(3)]
    torch.testing.assert_close(torch.cat(alone), together, atol=1e-3, rtol=1e-5)
    first, second = SmoothedReward(wave), SmoothedReward(wave)
    calls = [first(latents), first(latents)]
    assert torch.equal(second(latents), calls[0])
    assert torch.equal(second(latents), calls[1])
    assert not torch.equal(calls[0], calls[1])  # new noise in every call


def test_it_speaks_for_the_reward_inside():
    wave.weight, wave.latent_space = 0.0, "mini"
    try:
        smoothed = copy.copy(SmoothedReward(wave))
        assert (smoothed.name, smoothed.latent_space) == ("wave", "mini")
        assert len(RewardSum([smoothed])) == 0  # weight 0 drops out
        with pytest.raises(AttributeError):
            smoothed.channels  # noqa: B018
    finally:
        del wave.weight, wave.latent_space


def test_a_broken_item_spoils_no_other():
    latents = some()
    latents[1, 0, 0, 0] = float("nan")
    values = SmoothedReward(wave)(latents)
    assert values.isfinite().tolist() == [True, False, True]


@pytest.mark.parametrize(
    "wrong", [{"share": 0.0}, {"share": -1.0}, {"share": float("nan")}, {"share": float("inf")}, {"pairs": 0}]
)
def test_no_smoothing_is_refused(wrong):
    with pytest.raises(ValueError, match="use the reward itself"):
        SmoothedReward(wave, **wrong)
