"""What a search holds is its own: generators and rewards may write into what they get, and answer with one
buffer for ever."""

import pytest
import reno_worlds as worlds
import torch

from lclip import ReNORun, ReNOSettings, RewardSum, reno
from lclip.reno.guidance import guided_x0

SETTINGS = {
    "gradient": ReNOSettings(iterations=5, lr=20.0),
    "screening": ReNOSettings(iterations=3, candidates=4, keep=2, seed=3),
    "best_of_n": ReNOSettings(iterations=6, method="best_of_n", seed=3),
    "zero_order": ReNOSettings(iterations=6, method="zero_order", seed=3),
    "none": ReNOSettings(iterations=0),
}


def overwriting(function):
    """The same function; its input holds something else afterwards."""

    def overwrites(x):
        x.mul_(2.0)
        answer = function(x / 2.0)
        x.fill_(7.0)
        return answer

    return overwrites


def one_buffer(function):
    """The same function; every answer lies where the last one lay."""
    buffer = []

    def reuses(x):
        answer = function(x)
        if not buffer:
            buffer.append(torch.empty_like(answer))
        return buffer[0].detach_().copy_(answer)

    return reuses


def both(function):
    return overwriting(one_buffer(function))


@pytest.mark.parametrize("settings", SETTINGS.values(), ids=SETTINGS.keys())
@pytest.mark.parametrize("habit", [overwriting, one_buffer, both])
@pytest.mark.parametrize("who", ["generator", "reward", "held-out reward"])
def test_a_search_finds_the_same_whatever_is_done_to_tensors_it_hands_out(settings, habit, who):
    roles = {
        "generator": worlds.mixing_generator,
        "reward": worlds.wave_reward,
        "held-out reward": worlds.quadratic_reward(0.5),
    }
    rude = {**roles, who: habit(roles[who])}
    start = worlds.noise(3)
    expected, got = (
        reno(each["generator"], start, each["reward"], settings, each["held-out reward"])
        for each in (roles, rude)
    )
    for name in ("best_noise", "best_latents", "best_reward", "initial_latents", "initial_reward"):
        torch.testing.assert_close(getattr(got, name), getattr(expected, name), atol=1e-6, rtol=1e-6)
    for now, then in zip(got.history, expected.history, strict=True):
        torch.testing.assert_close(now.reward, then.reward, atol=1e-6, rtol=1e-6)
        torch.testing.assert_close(now.held_out, then.held_out, atol=1e-6, rtol=1e-6)
    again = worlds.mixing_generator(got.best_noise)
    torch.testing.assert_close(got.best_latents, again)
    torch.testing.assert_close(got.best_reward, worlds.wave_reward(again))
    assert torch.equal(start, worlds.noise(3))


@pytest.mark.parametrize("settings", SETTINGS.values(), ids=SETTINGS.keys())
def test_a_watcher_may_do_as_it_likes_with_the_steps_that_it_is_given(settings):
    start = worlds.noise(2)
    expected = reno(worlds.mixing_generator, start, worlds.wave_reward, settings)
    run = ReNORun(worlds.mixing_generator, start, worlds.wave_reward, settings)
    for step in run:
        for tensor in (step.noise, step.latents, step.best_noise, step.best_latents, step.best_reward):
            tensor.fill_(-3.0)
        step.reward.fill_(9.0)
        step.active.fill_(False)
    got = run.result()
    assert torch.equal(got.best_noise, expected.best_noise)
    assert torch.equal(got.best_latents, expected.best_latents)
    assert torch.equal(got.initial_latents, expected.initial_latents)
    assert torch.equal(got.best_reward, expected.best_reward)
    assert [r.reward.tolist() for r in got.history] == [r.reward.tolist() for r in expected.history]
    assert got.stopped == expected.stopped


def test_the_parts_of_a_sum_do_not_see_what_the_others_wrote():
    z = worlds.noise(2)
    before = z.clone()
    shared = one_buffer(lambda x: x)  # two rewards that answer with one buffer
    parts = RewardSum(
        {
            "first": lambda x: shared(worlds.wave_reward(x)),
            "second": lambda x: shared(2 * worlds.wave_reward(x)),
            "rude": overwriting(worlds.wave_reward),
            "last": worlds.wave_reward,
        }
    ).parts(z)
    expected = worlds.wave_reward(z)
    torch.testing.assert_close(parts["first"], expected)
    torch.testing.assert_close(parts["second"], 2 * expected)
    torch.testing.assert_close(parts["rude"], expected)
    torch.testing.assert_close(parts["last"], expected)
    assert torch.equal(z, before)


@pytest.mark.parametrize("habit", [overwriting, one_buffer, both])
def test_guidance_by_a_reward_that_writes(habit):
    x0 = worlds.noise(2)
    expected = guided_x0(x0, worlds.wave_reward, 0.1)
    rude = habit(worlds.wave_reward)
    for _ in range(2):
        torch.testing.assert_close(guided_x0(x0, rude, 0.1), expected)
        torch.testing.assert_close(guided_x0(x0, worlds.wave_reward, 0.1, habit(lambda z: z)), expected)
    assert torch.equal(x0, worlds.noise(2))
