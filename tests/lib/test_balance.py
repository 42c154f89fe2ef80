"""Balancing a batch: choices against all that there are, and what cannot be balanced."""

import itertools
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import lclip
from lclip.choosing.balance import balance_of, total_variation
from lclip.mini import load_world
from lclip.mini.drawing import render, sample_scenes

NAMES = ("a cat", "a dog", "a fox")


def sure(shown, concepts, p=0.9):
    """Probabilities of items that show these concepts; -1 is unclear, None is broken."""
    table = torch.full((len(shown), concepts), (1 - p) / (concepts - 1))
    for item, place in enumerate(shown):
        if place is None:
            table[item] = math.nan
        elif place < 0:
            table[item] = 1 / concepts
        else:
            table[item, place] = p
    return table


def every_choice(shown, sizes):
    able = [item for item, place in enumerate(shown) if place is not None and place >= 0]
    return [chosen for size in sizes for chosen in itertools.combinations(able, size)]


def distance(chosen, shown, target):
    return total_variation([sum(shown[i] == place for i in chosen) for place in range(len(target))], target)


BATCHES = st.lists(st.integers(-1, 2), min_size=2, max_size=8).filter(lambda shown: max(shown) >= 0)
TARGETS = st.lists(st.integers(0, 4), min_size=3, max_size=3).filter(any)
REWARDS = st.lists(st.integers(0, 5), min_size=8, max_size=8)


@settings(deadline=None, max_examples=60)
@given(BATCHES, TARGETS, REWARDS, st.integers(1, 8))
def test_no_k_items_are_nearer_or_as_near_and_better(shown, target, rewards, k):
    target = [aim / sum(target) for aim in target]
    able = sum(place >= 0 for place in shown)
    found = balance_of(sure(shown, 3), NAMES, target, torch.tensor(rewards[: len(shown)]).float(), k)
    choices = every_choice(shown, [min(k, able)])
    best = min((round(distance(c, shown, target), 9), -sum(rewards[i] for i in c)) for c in choices)
    assert len(found.chosen) == min(k, able)
    assert round(distance(found.chosen, shown, target), 9) == best[0]
    assert -sum(rewards[i] for i in found.chosen) == best[1]


@settings(deadline=None, max_examples=60)
@given(BATCHES, TARGETS, REWARDS, st.sampled_from([0.0, 0.02, 0.2]))
def test_no_larger_choice_comes_within_the_tolerance(shown, target, rewards, tolerance):
    target = [aim / sum(target) for aim in target]
    values = torch.tensor(rewards[: len(shown)]).float()
    found = balance_of(sure(shown, 3), NAMES, target, values, tolerance=tolerance)
    choices = every_choice(shown, range(1, len(shown) + 1))
    good = [c for c in choices if distance(c, shown, target) <= tolerance + 1e-9]
    if good:
        assert len(found.chosen) == max(map(len, good)) and found.chosen in good
        assert found.after == pytest.approx(distance(found.chosen, shown, target))
    else:
        assert any("no choice comes within" in note for note in found.notes) == bool(found.chosen)
        for place, aim in enumerate(target):
            kept = sum(shown[item] == place for item in found.chosen)
            assert kept <= math.ceil(aim * len(shown) - 1e-9)
            assert kept >= min(shown.count(place), math.floor(aim * len(shown) + 1e-9))
            assert all(found.wanted[item] == shown[item] for item in found.chosen)


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 10_000), st.integers(2, 6), TARGETS, st.sampled_from([None, 1, 3]))
def test_what_is_wanted_meets_the_target_at_the_least_cost(seed, size, target, k):
    target = [aim / sum(target) for aim in target]
    table = torch.rand(size, 3, generator=torch.Generator().manual_seed(seed)).double() ** 3
    table = table / table.sum(1, keepdim=True)
    found = balance_of(table, NAMES, target, k=k)
    plans = list(itertools.product(range(3), repeat=size))

    def counts(plan):
        return [plan.count(place) for place in range(3)]

    def cost(plan):
        kept = sum(plan[item] == found.seen[item] for item in found.chosen)
        return -kept, -sum(math.log(table[item, place]) for item, place in enumerate(plan))

    assert found.steered == pytest.approx(min(total_variation(counts(plan), target) for plan in plans))
    least = min(cost(plan) for plan in plans if counts(plan) == counts(found.wanted))
    assert cost(found.wanted) == pytest.approx(least)


def test_a_batch_with_unclear_and_broken_items():
    found = balance_of(sure([0, 0, None, 1, 0, -1, 0, 0], 2), NAMES[:2])
    assert found.seen == (0, 0, -1, 1, 0, -1, 0, 0)
    assert found.chosen == (0, 3) and found.rest == (1, 2, 4, 5, 6, 7)
    assert found.before == pytest.approx(5 / 6 - 1 / 2) and found.after == found.steered == 0
    assert found.wanted.count(1) == 4 and found.wanted[2] == found.wanted[5] == 1
    told = found.report()
    assert told.startswith("2 of 8 chosen; distance to the target 0.333 before, 0.000 of the chosen")
    assert "a dog: 1 seen, 1 chosen, 4 wanted (50%)" in told and "item 2: unclear -> a dog" in told


def test_with_rewards_the_better_are_kept_and_nan_never_is():
    table = sure([0, 0, 0, 1, 1, 1], 2)
    rewards = torch.tensor([0.1, 0.3, math.nan, math.nan, 0.2, 0.5])
    found = balance_of(table, NAMES[:2], None, rewards, 2)
    assert found.chosen == (1, 5) and any("items [2, 3] is NaN" in note for note in found.notes)
    equal = balance_of(table, NAMES[:2], None, torch.ones(6), 4)
    assert equal.chosen == (0, 1, 3, 4) and any("all rewards are equal" in note for note in equal.notes)


def test_where_a_concept_is_missing_it_says_so_and_steers():
    found = balance_of(sure([0] * 6, 2), NAMES[:2])
    assert found.chosen == (0, 1, 2) and found.after == 0.5 and found.steered == 0
    assert "too few to choose show a dog" in found.notes
    found = balance_of(sure([0] * 6, 2), NAMES[:2], k=2)
    assert len(found.chosen) == 2 and found.wanted.count(1) == 3
    nothing = balance_of(sure([-1, -1], 2), NAMES[:2])
    assert nothing.chosen == () and math.isnan(nothing.before) and sorted(nothing.wanted) == [0, 1]
    assert "none is chosen" in nothing.report()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"target": (0.5, 0.6)}, "sum"),
        ({"target": (1.0,)}, "expected 2 shares"),
        ({"k": 0}, "k is 0"),
        ({"margin": 1.0}, "margin"),
        ({"tolerance": -0.1}, "tolerance"),
        ({"rewards": torch.ones(3)}, "one for each item"),
    ],
)
def test_what_cannot_be_used_is_refused(change, said):
    with pytest.raises(ValueError, match=said):
        balance_of(sure([0, 1], 2), NAMES[:2], **change)


def test_one_item_alone_and_none_that_is_a_number_are_refused():
    with pytest.raises(ValueError, match="two or more"):
        balance_of(sure([0], 2), NAMES[:2])
    with pytest.raises(ValueError, match="no item has a probability"):
        balance_of(sure([None, None], 2), NAMES[:2])


def test_k_beyond_the_batch_keeps_what_there_is_and_says_so():
    found = balance_of(sure([0, 1, -1], 2), NAMES[:2], k=9)
    assert found.chosen == (0, 1) and "k is 9, and there are 3 items" in found.notes[0]


def test_large_batches_take_no_minutes():
    shown = [0] * 3900 + [1] * 100
    found = balance_of(sure(shown, 2), NAMES[:2])
    assert len(found.chosen) == 208 and found.after <= 0.02
    assert found.steered == 0


def test_equal_concepts_are_refused():
    world = load_world()
    with pytest.raises(ValueError, match="one and the same"):
        lclip.balance(world.latent_clip, torch.randn(2, 4, 8, 8) * 6, ["a red star", "A red  star"])


def test_on_the_mini_world_the_chosen_are_what_was_drawn():
    world = load_world()
    scenes = [s for s in sample_scenes(400, 5, split="dev") if s.content.ground and s.content.count == 1]
    grounds = ("white", "black")
    some = [s for s in scenes if s.content.ground == "white"][:20]
    some += [s for s in scenes if s.content.ground == "black"][:6]
    pixels = torch.stack([torch.from_numpy(render(scene)).permute(2, 0, 1) for scene in some]) / 255
    with torch.no_grad():
        z = world.encode(pixels)
    names = [f"a shape on a {ground} ground" for ground in grounds]
    found = lclip.balance(world.latent_clip, z, names, k=8)
    drawn = [some[item].content.ground for item in found.chosen]
    assert drawn.count("white") == drawn.count("black") == 4
