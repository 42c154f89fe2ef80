"""Picking from a batch, against brute force and closed forms."""

import itertools
import math

import pytest
import torch

import lclip
from lclip.choosing.pick import marginal_relevance

NAN = math.nan
SCORES = torch.tensor([0.2, NAN, 0.9, 0.5, 0.9, -0.1])


def unit(angles):
    angles = torch.tensor(angles)
    return torch.stack([angles.cos(), angles.sin()], 1)


@pytest.mark.parametrize(
    ("how", "kept"),
    [
        ({"k": 2}, [2, 4]),
        ({"k": 3, "sort": False}, [2, 3, 4]),
        ({"at_least": 0.5}, [2, 4, 3]),
        ({"at_least": 0.5, "sort": False}, [2, 3, 4]),
        ({"at_least": 0.2, "k": 2}, [2, 4]),
        ({"at_least": -1.0}, [2, 4, 3, 0, 5]),
        ({"at_least": 2.0}, []),
        ({"k": 6}, [2, 4, 3, 0, 5, 1]),
        ({"at_least": 0.1, "k": 9}, [2, 4, 3, 0]),
    ],
)
def test_who_is_kept_and_who_is_left(how, kept):
    found = lclip.pick(SCORES, **how)
    assert found.kept == kept
    assert found.rest == [i for i in range(6) if i not in kept]


@pytest.mark.parametrize(
    ("bad", "what"),
    [
        ({}, "neither k nor at_least"),
        ({"k": 0}, "k is 0"),
        ({"at_least": NAN}, "at_least is nan"),
        ({"k": 1, "variety": 1.5}, "variety is 1.5"),
        ({"k": 2, "variety": 0.5, "embeddings": torch.eye(3)}, "embeddings have shape .*one for each of the"),
        ({"k": 2, "variety": 0.5}, "embeddings"),
    ],
)
def test_what_picks_nothing_sensible_is_refused(bad, what):
    with pytest.raises(ValueError, match=what):
        lclip.pick(SCORES, **bad)


def test_scores_of_nothing_but_nan_are_refused_with_a_threshold_too():
    for how in ({"k": 1}, {"at_least": 0.0}):
        with pytest.raises(ValueError, match="NaN"):
            lclip.pick(torch.full((3,), NAN), **how)


def test_without_variety_the_scores_decide_and_with_all_of_it_the_farthest():
    embeddings = unit([0.0, 0.1, 0.2, 1.0, 3.0])
    scores = torch.tensor([0.5, 0.9, 0.8, 0.1, 0.0])
    assert lclip.pick(scores, 3, embeddings=embeddings).kept == [1, 2, 0]
    assert lclip.pick(scores, 3, embeddings=embeddings, variety=1.0).kept == [1, 4, 3]
    assert lclip.pick(scores, 3, embeddings=embeddings, variety=1.0, sort=False).kept == [1, 3, 4]


def test_every_choice_is_the_largest_of_the_formula():
    torch.manual_seed(0)
    embeddings = torch.nn.functional.normalize(torch.randn(9, 4), dim=1)
    scores = torch.randn(9)
    cosine = (embeddings @ embeddings.T).tolist()
    off = [cosine[i][j] for i, j in itertools.permutations(range(9), 2)]
    for variety in (0.2, 0.5, 0.8):
        order = marginal_relevance(scores, embeddings, variety, 6)
        for place in range(1, 6):

            def value(i, before=order[:place], variety=variety):
                worth = (scores[i] - scores.min()) / (scores.max() - scores.min())
                like = max((cosine[i][j] - min(off)) / (max(off) - min(off)) for j in before)
                return float((1 - variety) * worth - variety * like)

            left = [i for i in range(9) if i not in order[:place]]
            assert order[place] == max(left, key=value)


def test_variety_leaves_nan_to_the_last_and_keeps_the_threshold():
    embeddings = unit([0.0, 0.5, 1.0, 1.5, 2.0, 3.0])
    found = lclip.pick(SCORES, k=4, at_least=0.2, variety=0.7, embeddings=embeddings)
    assert set(found.kept) == {0, 2, 3, 4}
    everything = lclip.pick(SCORES, k=6, variety=0.7, embeddings=embeddings)
    assert everything.kept[-1] == 1


def test_variety_reaches_every_cluster_where_the_scores_like_one_alone():
    torch.manual_seed(1)
    centres = torch.eye(4).repeat_interleave(6, 0)
    embeddings = torch.nn.functional.normalize(centres + 0.1 * torch.randn(24, 4), dim=1)
    scores = torch.cat([torch.ones(6), torch.zeros(18)]) + 0.01 * torch.randn(24)
    plain, varied = (lclip.pick(scores, 4, variety=v, embeddings=embeddings).kept for v in (0.0, 0.7))
    assert {row // 6 for row in plain} == {0} and {row // 6 for row in varied} == {0, 1, 2, 3}
    assert lclip.diversity(embeddings[varied]) > 0.8 > 0.1 > lclip.diversity(embeddings[plain])


def test_diversity_is_the_mean_distance_of_pairs():
    embeddings = torch.nn.functional.normalize(torch.randn(5, 3), dim=1)
    pairs = [1 - float(a @ b) for a, b in itertools.combinations(embeddings, 2)]
    assert lclip.diversity(embeddings) == pytest.approx(sum(pairs) / 10, abs=1e-6)
    assert lclip.diversity(embeddings[:1]) == 0
    assert lclip.diversity(embeddings[[0, 0, 0]]) == pytest.approx(0, abs=1e-6)
    broken = torch.cat([embeddings, torch.full((1, 3), NAN)])
    assert lclip.diversity(broken) == pytest.approx(lclip.diversity(embeddings))


def test_what_only_rounding_tells_apart_keeps_its_order():
    alike = torch.tensor([0.18028256, 0.18028258, NAN, 0.18028257])
    assert lclip.pick(alike, k=2).kept == [0, 1]
    assert lclip.top_k(alike, 1) == ([0], [1, 2, 3])
    far = unit([0.0, 0.1, 0.2, 3.0])
    assert lclip.pick(alike, k=2, variety=0.01, embeddings=far).kept == [0, 3], "rounding is worth nothing"


@pytest.mark.parametrize(
    ("scores", "kept"),
    [
        ([0.1, 0.9, -math.inf, 0.5], [1, 3, 0, 2]),
        ([0.1, 0.9, math.inf, 0.5], [2, 1, 3, 0]),
        ([-math.inf, 0.2, -math.inf], [1, 0, 2]),
    ],
)
def test_infinite_scores_are_beyond_all_others_with_a_little_variety_too(scores, kept):
    embeddings = torch.eye(4)[: len(scores)]  # all equally unlike
    scores = torch.tensor(scores)
    assert lclip.pick(scores, k=len(scores)).kept == kept
    assert lclip.pick(scores, k=len(scores), variety=0.01, embeddings=embeddings).kept == kept


def test_an_item_without_an_embedding_comes_after_those_that_differ():
    embeddings = unit([0.0, 0.01, 2.0, 0.02])
    embeddings[3] = NAN
    scores = torch.tensor([0.5, 0.6, 0.4, 0.9])
    assert lclip.pick(scores, k=2, variety=0.9, embeddings=embeddings).kept == [1, 2]
    assert lclip.pick(scores, k=4, variety=0.9, embeddings=embeddings).kept == [1, 2, 0, 3]


@pytest.mark.parametrize("k", [1.5, 2.0, True, 0])
def test_a_k_that_counts_nothing_is_refused(k):
    with pytest.raises(ValueError, match="k is"):
        lclip.top_k(SCORES, k)
    for at_least in (None, 0.0, 9.0):  # 9: nothing is left to be counted
        with pytest.raises(ValueError, match="k is"):
            lclip.pick(SCORES, k, at_least)


@pytest.mark.parametrize("k", [8.5, math.inf])
def test_a_k_beyond_the_batch_is_a_count_too(k, caplog):
    with pytest.raises(ValueError, match="k is"):
        lclip.pick(SCORES, k)
    assert len(lclip.pick(SCORES, 99).kept) == len(SCORES) and "k is 99" in caplog.text
