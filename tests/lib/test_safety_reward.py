"""The safety reward goes up as harm goes down, leaves the harmless alone, and passes its gradient."""

import math

import pytest
import safety_worlds as worlds
import torch
import torch.nn.functional as F

import lclip
from lclip import Concept, ReNOSettings, RewardSum, SafetyJudge, SafetyReward, reno
from lclip.mini import load_world
from lclip.safety.reward import HEADROOM

Z = worlds.pictures()


@pytest.fixture(scope="module")
def clip():
    return worlds.tiny_clip()


def log_odds(p):
    return torch.log(p / (1 - p))


def test_the_reward_follows_its_formula(clip):
    policy = worlds.halved(clip, Z, strictness="high")
    beyond = [
        log_odds(worlds.by_hand(clip, Z, concept)) - math.log(t / (1 - t))
        for concept, t in zip(policy.concepts, policy.thresholds, strict=True)
    ]
    wanted = -3.0 * 0.01 * F.softplus(torch.stack(beyond).amax(0) + HEADROOM)
    got = SafetyReward(policy, clip, weight=3.0)(Z).double()
    torch.testing.assert_close(got, wanted, rtol=1e-3, atol=1e-6)


def many(number=96):
    return worlds.pictures(number, seed=21)


@pytest.fixture(scope="module")
def two():
    """Two models that disagree strongly, and thresholds that they block half of by their mean."""
    models, concepts = [worlds.tiny_clip(), worlds.tiny_clip(seed=7)], []
    for model in models:
        model.log_logit_scale.data.fill_(math.log(100))
    for concept in (worlds.GORE, worlds.NUDITY):
        threshold = float(mean_by_hand(models, many(), concept).median())
        concepts.append(Concept(concept.name, concept.unsafe, concept.safe, threshold))
    return models, worlds.policy(concepts=tuple(concepts), augmentations=("whole", "mirror"))


def mean_by_hand(models, z, concept):
    looks = [worlds.by_hand(model, view, concept) for model in models for view in (z, z.flip(-1))]
    return torch.stack(looks).mean(0)


def test_the_reward_measures_the_very_probability_that_the_judge_compares(two):
    models, policy = two
    z = many()
    judge = SafetyJudge(policy, models)
    beyond = [
        log_odds(mean_by_hand(models, z, c)) - math.log(c.threshold / (1 - c.threshold))
        for c in policy.concepts
    ]
    torch.testing.assert_close(judge.excess(z).double(), torch.stack(beyond).amax(0), rtol=1e-3, atol=1e-3)
    wanted = -0.01 * F.softplus(torch.stack(beyond).amax(0) + HEADROOM)
    torch.testing.assert_close(SafetyReward(policy, models)(z).double(), wanted, rtol=1e-3, atol=1e-5)


def test_what_the_judge_blocks_has_an_excess_and_what_it_passes_has_none(two):
    models, policy = two
    judge = SafetyJudge(policy, models)
    excess, verdicts = judge.excess(many()), judge(many())
    assert {v.safe for v in verdicts} == {True, False}
    for value, verdict in zip(excess.tolist(), verdicts, strict=True):
        assert verdict.safe == (value < 0) or abs(value) < 1e-4, (value, verdict)


def test_an_excess_keeps_its_value_and_gradient_where_probabilities_round_to_1(clip):
    """Log-odds of 200 and more: p is 1 in any precision."""
    sure = worlds.tiny_clip().double()
    sure.log_logit_scale.data.fill_(math.log(5000))
    judge = SafetyJudge(worlds.policy(augmentations=("whole", "mirror")), sure)
    z = many(8).double().requires_grad_()
    excess = judge.excess(z)
    assert excess.abs().max() > 100 and torch.isfinite(excess).all()
    (gradient,) = torch.autograd.grad(excess.sum(), z)
    assert (gradient.flatten(1).norm(dim=1) > 0).all() and torch.isfinite(gradient).all()


@pytest.mark.parametrize("beyond", [-0.5, -0.01, 0.01, 0.5, 2.5, 4.0])
def test_only_unsafe_lets_go_at_the_threshold_and_nowhere_else(clip, beyond):
    """One concept with a threshold that lies so far below the item's own log-odds."""
    odds = float(log_odds(worlds.by_hand(clip, Z[:1], worlds.NUDITY))) - beyond
    concept = Concept("nudity", worlds.NUDITY.unsafe, worlds.NUDITY.safe, 1 / (1 + math.exp(-odds)))
    reward = SafetyReward(worlds.policy(concepts=(concept,)), clip, only_unsafe=True)
    z = Z[:1].clone().requires_grad_()
    value = reward(z)
    (gradient,) = torch.autograd.grad(value.sum(), z)
    assert (float(value.detach()) < 0) == (float(gradient.abs().max()) > 0) == (beyond > 0)


def test_above_the_target_every_concept_is_below_its_threshold(clip):
    policy = worlds.halved(clip, Z, share=0.6)
    reward = SafetyReward(policy, clip)
    for value, verdict in zip(reward(Z).tolist(), policy.judge(clip, Z), strict=True):
        assert verdict.safe or value < reward.target
        assert value < 0


def test_gradient_equals_finite_differences(clip):
    double = worlds.tiny_clip().double()
    reward = SafetyReward(worlds.policy(), double)
    z = Z[:2].double().requires_grad_()
    direction = torch.randn(z.shape, dtype=torch.float64)
    (gradient,) = torch.autograd.grad(reward(z).sum(), z)
    with torch.no_grad():
        expected = (reward(z + 1e-5 * direction) - reward(z - 1e-5 * direction)) / 2e-5
    torch.testing.assert_close((gradient * direction).flatten(1).sum(1), expected, rtol=1e-4, atol=1e-9)


def test_noise_search_goes_away_from_harm(clip):
    policy = worlds.halved(clip, Z, share=0.2)
    reward = SafetyReward(policy, clip, weight=10.0)
    settings = ReNOSettings(iterations=30, lr=20.0, target=reward.target)
    result = reno(lambda x: 6 * x, Z / 6, reward, settings)
    before, after = (policy.judge(clip, z) for z in (Z, result.best_latents))
    worst = [max(v.probabilities["gore"], v.probabilities["nudity"]) for v in before]
    better = [max(v.probabilities["gore"], v.probabilities["nudity"]) for v in after]
    assert sum(v.safe for v in after) > sum(v.safe for v in before)
    assert sum(better) < sum(worst)


def test_one_broken_item_is_nan_and_the_others_are_as_they_were(clip):
    reward = SafetyReward(worlds.policy(), clip)
    z = Z.clone()
    z[2] = math.inf
    got = reward(z)
    assert math.isnan(got[2])
    torch.testing.assert_close(got[[0, 1, 3]], reward(Z)[[0, 1, 3]])


def test_it_adds_up_with_other_rewards_and_refuses_to_seek_harm(clip):
    reward = SafetyReward(worlds.policy(), clip, name="away from harm")
    total = RewardSum([reward, SafetyReward(worlds.policy(), clip, weight=0)])
    assert list(total.parts(Z)) == ["away from harm"]
    with pytest.raises(ValueError, match="seeks harm"):
        SafetyReward(worlds.policy(), clip, weight=-1)


def test_a_reward_made_in_inference_mode_still_gives_a_gradient(clip):
    with torch.inference_mode():
        reward = SafetyReward(worlds.policy(), clip)
    z = Z.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(reward(z).sum(), z)
    assert (gradient.flatten(1).norm(dim=1) > 0).all()


@pytest.mark.parametrize("names", [("whole", "miror"), "whole", ("miror",), ("whole", "whole")])
def test_augmentations_that_there_are_not_are_refused(names):
    policy, model = lclip.SafetyPolicy.preset("mini"), load_world().latent_clip
    judge = SafetyJudge(policy, model, check_scale=False)
    for ask in (
        lambda: lclip.SafetyReward(policy, model, augmentations=names),
        lambda: judge.excess(torch.randn(1, 4, 8, 8), names),
    ):
        with pytest.raises(ValueError, match="augmentations"):
            ask()


def test_a_headroom_that_is_no_number_is_refused():
    with pytest.raises(ValueError, match="headroom"):
        lclip.SafetyReward(lclip.SafetyPolicy.preset("mini"), load_world().latent_clip, headroom=math.nan)
