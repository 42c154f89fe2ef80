"""What a noise search does with input that is wrong or breaks half way: a clear error, or the item's last
best."""

import logging
import math

import pytest
import reno_worlds as worlds
import torch

from lclip import ReNORun, ReNOSettings, RewardSum, reno


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("iterations", -1),
        ("lr", 0.0),
        ("lr", -5.0),
        ("lr", math.nan),
        ("momentum", 1.0),
        ("grad_clip", 0.0),
        ("regularization", -0.1),
        ("radius", 0.0),
        ("target", math.inf),
        ("patience", 0),
        ("keep", 2),
        ("candidates", 0),
        ("method", "magic"),
        ("optimizer", "lbfgs"),
    ],
)
def test_settings_that_no_search_can_use_are_refused_by_name(field, value):
    with pytest.raises(ValueError, match="expected") as error:
        ReNOSettings(**{field: value})
    assert str(value) in str(error.value) or field == "candidates"


def test_screening_and_best_of_n_are_the_same_thing():
    with pytest.raises(ValueError, match="set iterations"):
        ReNOSettings(method="best_of_n", candidates=4)


@pytest.mark.parametrize(
    "start",
    [torch.empty(0, 4, 8, 8), torch.empty(1, 4, 0, 8), torch.zeros(4), torch.zeros(1, 4, 8, 8).long(), None],
    ids=["no items", "no pixels", "no batch", "integers", "no tensor"],
)
def test_empty_or_malformed_noise(start):
    with pytest.raises(ValueError, match="expected a floating-point tensor"):
        reno(worlds.mixing_generator, start, worlds.wave_reward)


def test_noise_with_nan_names_the_item():
    start = worlds.noise(3)
    start[1, 0, 0, 0] = math.nan
    with pytest.raises(ValueError, match=r"items \[1\]"):
        reno(worlds.mixing_generator, start, worlds.wave_reward)


def test_noise_that_was_switched_off_is_refused():
    start = worlds.noise(2)
    start[1] = 0
    with pytest.raises(ValueError, match="zero everywhere"):
        reno(worlds.mixing_generator, start, worlds.wave_reward)


@pytest.mark.parametrize("reward", [RewardSum([]), RewardSum([RewardSum([])])])
def test_no_reward_is_refused_before_anything_renders(reward):
    def never(x):
        pytest.fail("rendered although there is no reward")

    with pytest.raises(ValueError, match="every part has weight 0"):
        reno(never, worlds.noise(1), reward)


@pytest.mark.parametrize(
    "reward",
    [
        lambda z: torch.ones(len(z)),
        lambda z: z.detach().mean(dim=(1, 2, 3)),
        lambda z: torch.ones(len(z)) * OTHER,
    ],
    ids=["constant", "detached", "another variable"],
)
def test_a_reward_that_does_not_depend_on_the_latents(reward):
    with pytest.raises(ValueError, match="does not depend on the latents.*best_of_n"):
        reno(worlds.mixing_generator, worlds.noise(1), reward)


OTHER = torch.ones((), requires_grad=True)


def test_a_generator_that_cuts_the_gradient():
    with pytest.raises(ValueError, match="latents carry no gradient.*zero_order"):
        reno(lambda x: worlds.mixing_generator(x.detach()), worlds.noise(1), worlds.wave_reward)


def test_inference_mode_is_refused_for_gradients_only():
    with torch.inference_mode():
        with pytest.raises(ValueError, match="inference_mode"):
            reno(worlds.mixing_generator, worlds.noise(1), worlds.wave_reward, ReNOSettings(iterations=3))
        settings = ReNOSettings(iterations=3, method="best_of_n")
        result = reno(worlds.mixing_generator, worlds.noise(1), worlds.wave_reward, settings)
    assert torch.isfinite(result.best_reward).all()


@pytest.mark.parametrize("answer", [lambda z: z.mean(), lambda z: z.mean(dim=(2, 3)), lambda z: 1.0])
def test_a_reward_must_answer_per_item(answer):
    with pytest.raises(ValueError, match="one number per batch item"):
        reno(worlds.mixing_generator, worlds.noise(2), answer)


def test_a_generator_must_answer_per_item():
    with pytest.raises(ValueError, match="one per item"):
        reno(lambda x: x[:1], worlds.noise(2), worlds.wave_reward)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("at", [0, 3])
def test_a_reward_that_breaks_for_one_item(bad, at, caplog):
    """Item 1 keeps its last finite best and is reported; item 0 does not notice."""
    calls = []

    def breaking(z):
        calls.append(len(calls))
        broken = torch.tensor([False, calls[-1] >= at])
        return torch.where(broken, torch.full((2,), bad), worlds.wave_reward(z))

    start = worlds.noise(2)
    with caplog.at_level(logging.WARNING, logger="latent-clip"):
        result = reno(worlds.mixing_generator, start, breaking, ReNOSettings(iterations=8))
    healthy = reno(worlds.mixing_generator, start[:1], worlds.wave_reward, ReNOSettings(iterations=8))
    torch.testing.assert_close(result.best_noise[:1], healthy.best_noise)
    assert result.stopped == ["iterations", f"a reward that is not finite at iteration {at}"]
    assert "item 1" in caplog.text
    if at == 0:
        assert math.isnan(result.best_reward[1])
        torch.testing.assert_close(result.best_latents[1], result.initial_latents[1])
    else:
        short = reno(worlds.mixing_generator, start[1:], worlds.wave_reward, ReNOSettings(iterations=at))
        torch.testing.assert_close(result.best_reward[1:], short.best_reward)
        torch.testing.assert_close(result.best_latents[1:], short.best_latents)


def test_latents_that_break_for_one_item():
    def overflowing(x):
        return x * torch.tensor([1.0, math.inf]).reshape(2, 1, 1, 1)

    result = reno(overflowing, worlds.noise(2), worlds.wave_reward, ReNOSettings(iterations=5))
    assert result.stopped[0] == "iterations"
    assert "not finite" in result.stopped[1]
    assert result.best_reward[0] > result.initial_reward[0]


def test_a_gradient_that_breaks_for_one_item():
    """sqrt has an infinite slope at 0: a finite reward without a usable gradient."""

    def sharp(z):
        edge = torch.sqrt(z[:, 0, 0, 0] * torch.tensor([1.0, 0.0]) + torch.tensor([9.0, 0.0]))
        return worlds.wave_reward(z) + edge

    result = reno(worlds.mixing_generator, worlds.noise(2), sharp, ReNOSettings(iterations=5))
    assert result.stopped == ["iterations", "a gradient that is not finite at iteration 0"]
    assert torch.isfinite(result.best_reward).all()


@pytest.mark.parametrize("method", ["best_of_n", "zero_order"])
def test_random_searches_survive_broken_renders(method, caplog):
    calls = []

    def sometimes(z):
        calls.append(None)
        return worlds.wave_reward(z) * (math.nan if len(calls) in (1, 3) else 1.0)

    settings = ReNOSettings(iterations=10, method=method)
    result = reno(worlds.mixing_generator, worlds.noise(1), sometimes, settings)
    assert len(result.history) == 10
    assert torch.isfinite(result.best_reward).all()
    assert "in 2 renders" in caplog.text


def test_there_is_no_result_before_the_first_step():
    run = ReNORun(worlds.mixing_generator, worlds.noise(1), worlds.wave_reward)
    with pytest.raises(ValueError, match="at least one step"):
        run.result()
