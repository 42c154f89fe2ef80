"""Rewards with something of its own for each item, in searches that look at parts of a batch."""

import pytest
import torch
from kinds import inputs
from reno_worlds import mixing_generator, noise

import lclip
from lclip.mini.captions import CaptionReward
from lclip.rewards.per_item import in_raw_latents, looks_across, of_batch, rows_of

TEXTS = ["a red circle", "a blue square", "a green circle"]
SIGMAS = torch.linspace(1, 0, 11)


def concepts(wanted, numbers=None):
    return lclip.ConceptReward(inputs.clip(), TEXTS, wanted, numbers=numbers)


MAKERS = {
    "concepts": lambda wanted: concepts(wanted),
    "captions": lambda wanted: CaptionReward(inputs.clip(), [TEXTS[place] for place in wanted]),
}


@pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS)
def test_rows_are_the_items_own(make):
    z = inputs.pictures(3)
    whole = make([0, 2, 1])
    rows = [2, 0, 0, 1]
    torch.testing.assert_close(rows_of(whole, rows)(z[rows]), whole(z)[rows])
    total = lclip.RewardSum([lclip.TextReward(inputs.clip(), TEXTS[0]), whole])
    torch.testing.assert_close(rows_of(total, rows)(z[rows]), total(z)[rows])
    torch.testing.assert_close(whole(z), make([0, 2, 1])(z), msg="the reward itself was changed")


def test_a_concept_reward_is_the_log_of_what_classify_says():
    z = inputs.pictures(3)
    found = lclip.classify(inputs.clip(), z, TEXTS)
    expected = 0.01 * found[torch.arange(3), torch.tensor([0, 2, 1])].log()
    torch.testing.assert_close(concepts([0, 2, 1])(z), expected)


def test_items_are_found_by_what_they_are_called():
    whole = concepts([0, 2, 1], numbers=[4, 7, 9])
    assert of_batch(whole, 3, [4, 7, 9]) is whole and of_batch(whole, 3) is whole
    assert of_batch(whole, 2, [9, 4]).wanted == (1, 0)
    plain = lclip.TextReward(inputs.clip(), TEXTS[0])
    assert of_batch(plain, 2, [9, 4]) is plain and rows_of(plain, [5]) is plain
    for reward in (whole, lclip.RewardSum([whole])):
        with pytest.raises(ValueError, match=r"the items 4, 7, 9; got a batch with item 5"):
            of_batch(reward, 1, [5])
        with pytest.raises(ValueError, match="a batch of 3, .*; got a batch of 2"):
            of_batch(reward, 2)
    with pytest.raises(ValueError, match=r"is for the items 0 to 2; got a batch with item 5"):
        of_batch(concepts([0, 2, 1]), 1, [5])


def test_a_race_judges_every_candidate_by_its_items_concept():
    """As in a race of that item alone, where that is all there is."""

    def denoise(x, sigma, items):
        return 6 * torch.tanh(x)

    settings = lclip.RaceSettings(candidates=5, checks=(0.3, 0.6), keep=0.5, seed=2)
    z = noise(3, seed=4)
    whole = lclip.race(denoise, z, concepts([0, 2, 1]), SIGMAS, settings)
    for item, place in enumerate([0, 2, 1]):
        own = lclip.RaceSettings(candidates=5, checks=(0.3, 0.6), keep=0.5, seed=2, places=(item,))
        alone = lclip.race(denoise, z[item : item + 1], concepts([place], [item]), SIGMAS, own)
        assert alone.places[0] == whole.places[item]
        torch.testing.assert_close(alone.rewards[0], whole.rewards[item])
    by_number = lclip.RaceSettings(candidates=5, checks=(0.3, 0.6), keep=0.5, seed=2, places=(2, 0))
    part = lclip.race(denoise, z[[2, 0]], concepts([0, 2, 1]), SIGMAS, by_number)
    torch.testing.assert_close(part.rewards, whole.rewards[[2, 0]])
    with pytest.raises(ValueError, match="got a batch of 2"):
        lclip.race(denoise, z[:2], concepts([0, 2, 1]), SIGMAS, settings)


@pytest.mark.parametrize("method", ["gradient", "best_of_n", "zero_order"])
def test_a_noise_search_of_a_part_is_that_of_the_whole(method):
    settings = {"iterations": 4, "method": method}
    start = noise(3, seed=6)

    def generate(x):
        return 3 * mixing_generator(x)

    whole = lclip.reno(generate, start, concepts([0, 2, 1]), lclip.ReNOSettings(**settings))
    part = lclip.ReNOSettings(**settings, places=(2, 0))
    found = lclip.reno(generate, start[[2, 0]], concepts([0, 2, 1]), part, held_out=concepts([1, 1, 1]))
    torch.testing.assert_close(found.best_reward, whole.best_reward[[2, 0]])
    with pytest.raises(ValueError, match="got a batch of 2"):
        lclip.reno(generate, start[:2], concepts([0, 2, 1]), lclip.ReNOSettings(**settings))


@pytest.mark.parametrize("wanted", [[0, 3], [-1, 0]])
def test_places_that_are_none_are_refused(wanted):
    with pytest.raises(ValueError, match="places in"):
        concepts(wanted)


@pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS)
def test_items_that_are_called_alike_are_not_guessed(make):
    """As where two batches were joined: 0, 1 and 0, 1."""
    whole = make([0, 2, 1])
    whole.numbers = (0, 1, 0)
    assert of_batch(whole, 3, [0, 1, 0]) is whole
    with pytest.raises(ValueError, match="called alike"):
        of_batch(whole, 2, [1, 0])


def test_a_reward_in_a_samplers_scale_looks_across_items_where_the_raw_one_does():
    clip = inputs.clip()
    plain, variety = lclip.TextReward(clip, TEXTS[0]), lclip.VarietyReward(clip)
    for reward, across in ((plain, False), (variety, True), (lclip.RewardSum([plain, variety]), True)):
        assert looks_across(reward) is across
        assert looks_across(in_raw_latents(reward, lambda z: z)) is across
