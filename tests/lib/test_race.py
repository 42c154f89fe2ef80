"""A race drops the candidates that fall behind, and changes nothing for those that stay."""

import itertools
import logging
from typing import Any, cast

import numpy as np
import pytest
import torch
from reno_worlds import noise

import lclip
from lclip import RaceSettings
from lclip.choosing.race import euler
from lclip.choosing.types import resampled

SIGMAS = torch.linspace(1, 0, 21)
PRIOR = {"candidates": 6, "checks": (0.2, 0.5), "keep": 0.5, "seed": 3}


def denoise(x, sigma, items=None):
    """Nonlinear, row by row; item 1 aims elsewhere than item 0."""
    goal = 0.0 if items is None else items.view(-1, 1, 1, 1).to(x) * 0.4
    return torch.tanh(x.roll(1, -1) * (1.5 - sigma)) + 0.2 * x + goal


def reward(z):
    return torch.sin(3 * z).flatten(1).mean(1)


def two_steps_back(model, x, sigmas, watch):
    """A multistep sampler (Adams-Bashforth): its history spans the checks."""
    before = None
    for step in range(len(sigmas) - 1):
        x0 = model(x, sigmas[step])
        watch(step, len(sigmas) - 1, x0)
        slope = (x - x0) / sigmas[step]
        used = slope if before is None else 1.5 * slope - 0.5 * before
        x, before = x + used * (sigmas[step + 1] - sigmas[step]), slope
    return x


def alone(start, item=0, sampler=euler):
    items = torch.full((len(start),), item)
    return sampler(lambda x, sigma: denoise(x, sigma, items), start, SIGMAS, lambda *_: None)


@pytest.mark.parametrize("sampler", [euler, two_steps_back])
@pytest.mark.parametrize("at_once", [None, 1, 4])
def test_a_winner_is_the_picture_that_its_noise_gives_alone(sampler, at_once):
    settings = RaceSettings(**PRIOR, finish=2, at_once=at_once)
    found = lclip.race(denoise, noise(2), reward, SIGMAS, settings, sampler)
    assert found.latents.shape == (4, 4, 8, 8) and len(found.places) == len(found.seeds) == 4
    for row in range(4):
        own = alone(found.noise[row : row + 1], row % 2, sampler)
        torch.testing.assert_close(found.latents[row : row + 1], own, atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(found.rewards[row : row + 1], reward(own), atol=1e-5, rtol=1e-4)


def field_of(settings, start):
    run = lclip.RaceRun(start, reward, settings)
    return run.noise.unflatten(0, (settings.candidates, len(start)))


def best_of(rows, values):
    return sorted(rows, key=lambda row: -float(values[row]))


def watched(start, item):
    """What a field ends as, and its predicted x0 at every step."""
    seen, items = [], torch.full((len(start),), item)
    end = euler(lambda x, s: denoise(x, s, items), start, SIGMAS, lambda i, n, x0: seen.append(x0))
    return end, seen


def test_it_keeps_whom_brute_force_would_keep():
    settings, start = RaceSettings(**PRIOR), noise(2)
    found = lclip.race(denoise, start, reward, SIGMAS, settings)
    for item in range(2):
        end, seen = watched(field_of(settings, start)[:, item], item)
        left = list(range(6))
        for check, (step, number) in enumerate([(4, 3), (10, 2)]):
            left = best_of(left, reward(seen[step - 1]))[:number]
            assert found.checks[check].kept[item].nonzero().flatten().tolist() == sorted(left)
        assert found.places[item] == best_of(left, reward(end))[0]


def test_the_model_sees_only_those_in_and_the_passes_are_counted():
    seen = []

    def counting(x, sigma, items):
        seen.append(len(x))
        return denoise(x, sigma)

    found = lclip.race(counting, noise(1), reward, SIGMAS)
    assert seen == [16] * 6 + [4] * 6 + [1] * 8
    assert (found.passes, found.passes_all) == (128, 320) and found.saved == pytest.approx(0.6)
    assert [check.step for check in found.checks] == [6, 12, 20]
    assert [int(check.rewards.isfinite().sum()) for check in found.checks] == [16, 4, 1]


@pytest.mark.parametrize("sampler", [euler, two_steps_back])
@pytest.mark.parametrize("at_once", [None, 1, 4])
def test_only_the_best_drafts_are_sampled_in_all_steps(sampler, at_once):
    settings, start = RaceSettings(**PRIOR, method="draft", finish=2, at_once=at_once), noise(2)
    found = lclip.race(denoise, start, reward, SIGMAS, settings, sampler)
    assert (found.passes, found.passes_all) == (2 * (6 * 3 + 3 * 20), 2 * 6 * 20)
    assert [(check.step, check.steps) for check in found.checks] == [(0, 20), (20, 20)]
    for item in range(2):
        rows, items = field_of(settings, start)[:, item], torch.full((6,), item)
        few = SIGMAS[[0, 7, 13, 20]]
        drafts = reward(sampler(lambda x, s, i=items: denoise(x, s, i), rows, few, lambda *_: None))
        left = best_of(range(6), drafts)[:3]
        torch.testing.assert_close(found.checks[0].rewards[item], drafts, atol=1e-5, rtol=1e-4)
        assert found.checks[0].kept[item].nonzero().flatten().tolist() == sorted(left)
        whole = alone(rows, item, sampler)
        best = best_of(left, reward(whole))[:2]
        assert found.places[item::2] == best
        torch.testing.assert_close(found.latents[item::2], whole[best], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("steps", [1, 2, 3])
def test_a_draft_as_long_as_the_schedule_is_refused_before_the_model_is_asked(steps):
    def never(*_):
        raise AssertionError

    with pytest.raises(ValueError, match=f"draft_steps is 3, and the schedule has {steps}; expected fewer"):
        lclip.race(never, noise(1), reward, torch.linspace(1, 0, steps + 1), RaceSettings(method="draft"))


@pytest.mark.parametrize("draft_steps", [0, -1, 1.5, True])
def test_draft_steps_that_are_none_are_refused(draft_steps):
    with pytest.raises(ValueError, match="draft_steps is"):
        RaceSettings(method="draft", draft_steps=draft_steps)


def test_a_draft_without_any_number_keeps_the_first_and_says_so():
    calls = []

    def broken(z):
        calls.append(len(z))
        return reward(z) if len(calls) > 1 else torch.full((len(z),), torch.nan)

    found = lclip.race(denoise, noise(1), broken, SIGMAS, RaceSettings(**PRIOR, method="draft"))
    assert found.checks[0].kept[0].tolist() == [True] * 3 + [False] * 3
    assert calls == [6, 3] and "no reward is a number" in found.notes[0]


def test_the_first_candidate_has_the_callers_noise_and_the_seed_says_the_rest():
    field = [field_of(RaceSettings(candidates=4, seed=seed), noise(2)) for seed in (7, 7, 8)]
    assert torch.equal(field[0], field[1]) and torch.equal(field[0][0], noise(2))
    drawn = [*field[0].flatten(0, 1), *field[2][1:].flatten(0, 1)]
    assert not any(torch.equal(a, b) for a, b in itertools.combinations(drawn, 2))
    assert torch.stack(drawn).std() == pytest.approx(1, abs=0.03)


def test_an_item_draws_by_its_place_in_the_larger_batch():
    both = field_of(RaceSettings(candidates=3, seed=5), noise(2))
    second = field_of(RaceSettings(candidates=3, seed=5, places=(1,)), noise(2)[1:])
    assert torch.equal(second[:, 0], both[:, 1])


@pytest.mark.parametrize("at_check", [True, False])
def test_nan_is_kept_only_where_nothing_else_is(at_check):
    def broken(z):
        value = reward(z)
        if len(z) == 16 or not at_check:
            value[: len(z) // 2] = torch.nan
        return value

    found = lclip.race(denoise, noise(1), broken, SIGMAS, RaceSettings(finish=2))
    assert found.rewards.isfinite().tolist() == ([True, True] if at_check else [True, False])
    assert min(found.places) >= 8


def test_without_any_reward_the_first_goes_on_with_a_warning(caplog):
    caplog.set_level(logging.WARNING, "latent-clip")
    found = lclip.race(denoise, noise(1), lambda z: torch.full((len(z),), torch.nan), SIGMAS)
    assert found.places == [0] and found.rewards.isnan().all()
    assert "no reward is a number" in caplog.text


def test_equal_rewards_keep_the_first_with_a_warning(caplog):
    caplog.set_level(logging.WARNING, "latent-clip")
    found = lclip.race(denoise, noise(1), lambda z: torch.ones(len(z)), SIGMAS)
    assert found.places == [0]
    assert "all rewards are equal" in caplog.text


def test_few_steps_are_judged_where_they_can_be():
    settings = RaceSettings()
    assert settings.steps_judged(1) == [] and settings.steps_judged(2) == [1]
    assert settings.steps_judged(4) == [1, 2]
    assert lclip.race(denoise, noise(1), reward, torch.tensor([1.0, 0.0])).saved == 0


def test_a_sampler_that_shows_no_x0_is_refused():
    with pytest.raises(ValueError, match="showed no predicted x0"):
        lclip.race(denoise, noise(1), reward, SIGMAS, sampler=lambda model, x, sigmas, watch: x)


def test_counts_of_numpy_are_counts():
    counts = {"candidates": np.int64(4), "finish": np.int32(2), "at_once": np.int64(3)}
    found = lclip.race(denoise, noise(1), reward, SIGMAS, RaceSettings(**counts))
    same = lclip.race(denoise, noise(1), reward, SIGMAS, RaceSettings(4, finish=2, at_once=3))
    assert torch.equal(found.latents, same.latents) and len(found.latents) == 2


@pytest.mark.parametrize(
    ("bad", "what"),
    [
        ({"candidates": 1}, "candidates is 1"),
        ({"candidates": 2.5}, "candidates is 2.5; expected a whole number"),
        ({"finish": 1.5}, "finish is 1.5; expected a whole number"),
        ({"checks": ()}, "checks"),
        ({"checks": (0.3, 1.0)}, "checks"),
        ({"keep": 0.0}, "keep"),
        ({"finish": 17}, "finish is 17"),
        ({"method": "cull"}, "prune, resample"),
        ({"strength": float("nan")}, "strength"),
        ({"checks": 0.5}, r"checks is 0.5; expected shares of the steps"),
        ({"seed": 1.5}, "seed is 1.5"),
        ({"seed": -1}, "seed is -1"),
        ({"seed": 2**64}, "0 to 2"),
        ({"seed": True}, "seed is True"),
    ],
)
def test_settings_that_no_race_can_use_are_refused(bad, what):
    with pytest.raises(ValueError, match=what):
        RaceSettings(**bad)


@pytest.mark.parametrize("bad", [torch.zeros(1, 4, 8, 8), noise(1) * torch.nan, torch.ones(2, 3).long()])
def test_noise_that_no_race_can_start_from_is_refused(bad):
    with pytest.raises(ValueError, match="The race's noise"):
        lclip.race(denoise, bad, reward, SIGMAS)


def test_systematic_resampling_draws_each_by_its_weight_and_leaves_it_in_its_slot():
    weights = torch.tensor([0.05, 0.5, 0.0, 0.2, 0.25])
    for offset in torch.linspace(0, 0.999, 21).tolist():
        rows = resampled(weights, offset)
        copies = torch.bincount(rows, minlength=5)
        assert ((copies - 5 * weights).abs() < 1).all() and copies[2] == 0
        assert all(rows[row] == row for row in range(5) if copies[row])
    assert resampled(torch.ones(6), 0.3).tolist() == list(range(6))


def wandering(model, x, sigmas, watch):
    """Euler with fresh noise in every step, each row from its own source."""
    sources = [torch.Generator().manual_seed(row) for row in range(len(x))]
    for step in range(len(sigmas) - 1):
        x0 = model(x, sigmas[step])
        rows = watch(step, len(sigmas) - 1, x0)
        if rows is not None:
            x0 = x0[rows]
        fresh = torch.stack([torch.randn(x.shape[1:], generator=source) for source in sources])
        x = x0 + sigmas[step + 1] * fresh
    return x


def test_resampling_leads_a_stochastic_sampler_to_higher_rewards():
    plain, steered = [], []
    for seed in range(12):
        for strength, results in ((1e-9, plain), (4.0, steered)):
            settings = RaceSettings(
                candidates=8,
                checks=(0.3, 0.5, 0.7, 0.9),
                method="resample",
                strength=strength,
                finish=8,
                seed=seed,
            )
            found = lclip.race(denoise, noise(1, seed), reward, SIGMAS, settings, wandering)
            assert found.saved == 0 and found.rewards.tolist() == sorted(found.rewards.tolist())[::-1]
            results.append(float(found.rewards.mean()))
            assert len(set(found.places)) == 8 if strength < 1 else len(set(found.places)) < 8
    assert sum(a < b for a, b in zip(plain, steered, strict=True)) >= 10


def test_resampling_with_equal_rewards_leaves_the_field_as_it_is():
    settings = RaceSettings(candidates=4, method="resample", finish=4)
    found = lclip.race(denoise, noise(1), lambda z: torch.ones(len(z)), SIGMAS, settings, wandering)
    assert found.places == [0, 1, 2, 3]


@pytest.mark.parametrize(
    "bad", [SIGMAS[:-1], SIGMAS[:1], SIGMAS.flip(0), SIGMAS * torch.nan, SIGMAS[None], torch.zeros(3)]
)
def test_noise_levels_that_end_in_no_clean_picture_are_refused(bad):
    with pytest.raises(ValueError, match="The race's sigmas are .* expected two noise levels or more"):
        lclip.race(denoise, noise(1), reward, bad)
    with pytest.raises(ValueError, match="The race's sigmas are list; expected a tensor"):
        lclip.race(denoise, noise(1), reward, cast(Any, SIGMAS.tolist()))


@pytest.mark.parametrize(
    ("model", "said"),
    [(lambda x, sigma, items: None, "NoneType"), (lambda x, sigma, items: x[:, :2], r"\(16, 2, 8, 8\)")],
)
def test_a_model_that_answers_no_clean_latents_is_refused(model, said):
    with pytest.raises(ValueError, match=f"model answered with {said}; expected its predicted"):
        lclip.race(model, noise(1), reward, SIGMAS)


def test_rewards_that_are_all_equal_or_nan_keep_the_first_and_say_so():
    equal = lclip.race(denoise, noise(2), lambda z: torch.ones(len(z)), SIGMAS)
    assert equal.places == [0, 0]
    assert (
        lclip.race(denoise, noise(2), lambda z: z.new_full((len(z),), torch.nan), SIGMAS)
        .rewards.isnan()
        .all()
    )


def test_what_only_rounding_tells_apart_keeps_the_first():
    """At every check and at the end, item by item."""

    def nearly(z):
        return 0.2 + 1e-8 * torch.arange(len(z)) ** 1.0

    assert len(set(nearly(noise(9)).tolist())) > 1
    assert lclip.race(denoise, noise(2), nearly, SIGMAS).places == [0, 0]
