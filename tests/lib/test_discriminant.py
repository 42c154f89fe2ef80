"""The discriminant against plain refits: what is left out is really left out, and chance reads as chance."""

import numpy as np
import pytest
import torch

from lclip.rewards.discriminant import discriminant, oracle_shrinkage


def two_sets(n, m, apart=1.0, width=24, seed=0):
    """Unit rows around two means in a space where some directions vary more than others."""
    generator = torch.Generator().manual_seed(seed)
    spread = torch.linspace(2.0, 0.1, width, dtype=torch.float64)
    rows = torch.randn(n + m, width, generator=generator, dtype=torch.float64) * spread
    rows[:n, width // 2] += apart
    rows = torch.nn.functional.normalize(rows + 3, dim=1)
    return rows[:n], rows[n:]


def refit(first, second, shrinkage, level, count):
    """w and the middle by the textbook, for a covariance that is divided by `count`."""
    means = first.mean(0), second.mean(0)
    centred = torch.cat([first - means[0], second - means[1]])
    covariance = centred.T @ centred
    identity = torch.eye(first.shape[1], dtype=torch.float64)
    matrix = (1 - shrinkage) * covariance / count + shrinkage * level * identity
    return torch.linalg.solve(matrix, means[0] - means[1]), (means[0] + means[1]) / 2, matrix


def expected_distance(first, second, shrinkage, level, count):
    """T: squared distance of an item from its set's mean without it, less that mean's own error."""
    found = []
    for own, other in ((first, second), (second, first)):
        for i in range(len(own)):
            rest = torch.cat([own[:i], own[i + 1 :]])
            _, _, matrix = refit(rest, other, shrinkage, level, count)
            offset = own[i] - rest.mean(0)
            found.append(offset @ torch.linalg.solve(matrix, offset) / (1 + 1 / len(rest)))
    return torch.stack(found).mean()


@pytest.mark.parametrize(("n", "m"), [(2, 2), (5, 9), (12, 12), (40, 7)])
@pytest.mark.parametrize("shrinkage", [None, 0.05, 1.0])
def test_leaving_out_in_closed_form_equals_refitting(n, m, shrinkage):
    first, second = two_sets(n, m)
    found = discriminant(first, second, shrinkage)
    count, width = n + m, first.shape[1]
    centred = torch.cat([first - first.mean(0), second - second.mean(0)])
    level = centred.square().sum() / count / width
    distance = expected_distance(first, second, found.shrinkage, level, count)
    for side, (own, other) in enumerate(((first, second), (second, first))):
        for i in range(len(own)):
            rest = torch.cat([own[:i], own[i + 1 :]])
            direction, middle, _ = refit(rest, other, found.shrinkage, level, count)
            margin = direction @ (own[i] - middle) + distance / 2 * (1 / len(rest) - 1 / len(other))
            assert float(found.margins[side][i]) == pytest.approx(float(margin), rel=1e-6)
    direction, middle, _ = refit(first, second, found.shrinkage, level, count)
    torch.testing.assert_close(found.direction, direction)
    wanted = direction @ middle + distance / 2 * (1 / m - 1 / n)
    assert found.threshold == pytest.approx(float(wanted), rel=1e-6, abs=1e-9)


def accuracy(found):
    return sum(float((side > 0).double().mean()) for side in found.margins) / 2


@pytest.mark.parametrize(("n", "m"), [(10, 10), (5, 30), (10, 60)])
def test_without_a_difference_left_out_items_are_right_by_chance(n, m):
    """Also where one set is larger: the bias towards the larger set is off."""
    runs = [discriminant(*two_sets(n, m, apart=0.0, seed=seed)) for seed in range(80)]
    assert np.mean([accuracy(run) for run in runs]) == pytest.approx(0.5, abs=0.06)
    sides = [[float((side > 0).double().mean()) for side in run.margins] for run in runs]
    assert np.abs(np.diff(np.mean(sides, 0))) < 0.15


@pytest.mark.parametrize(("n", "m"), [(6, 6), (15, 15), (6, 40)])
def test_the_left_out_accuracy_is_that_on_new_items(n, m):
    left_out, new = [], []
    for seed in range(60):
        first, second = two_sets(n + 200, m + 200, apart=2.5, seed=100 + seed)
        found = discriminant(first[:n], second[:m])
        left_out.append(accuracy(found))
        scores = (first[n:] @ found.direction, second[m:] @ found.direction)
        right = (scores[0] > found.threshold, scores[1] < found.threshold)
        new.append(np.mean([float(side.double().mean()) for side in right]))
    assert np.mean(left_out) == pytest.approx(np.mean(new), abs=0.04)
    assert np.mean(new) > 0.6


def test_the_shrinkage_comes_near_the_best_one():
    """Chen et al.: the expected error against the true covariance is close to that of the best shrinkage."""
    width, spread = 24, torch.linspace(2.0, 0.1, 24, dtype=torch.float64)
    truth, identity = torch.diag(spread**2), torch.eye(24, dtype=torch.float64)
    ours, best = [], []
    for seed in range(40):
        generator = torch.Generator().manual_seed(seed)
        rows = torch.randn(20, width, generator=generator, dtype=torch.float64) * spread
        sample = rows.T @ rows / len(rows)

        def error(g, sample=sample):
            shrunk = (1 - g) * sample + g * sample.trace() / width * identity
            return float((shrunk - truth).square().sum())

        ours.append(error(oracle_shrinkage(rows)))
        best.append(min(error(g) for g in np.linspace(0, 1, 51)))
    assert np.mean(ours) < 1.15 * np.mean(best)


def test_shrinkage_falls_with_examples():
    few, many = (discriminant(*two_sets(n, n)).shrinkage for n in (4, 100))
    assert 0 < many < few <= 1


def test_sets_that_agree_within_themselves_are_parted_by_the_gap():
    first, second = two_sets(1, 1)
    found = discriminant(first.repeat(3, 1), second.repeat(2, 1))
    assert all((side > 0).all() for side in found.margins)
    gap = torch.nn.functional.normalize(first - second, dim=1)[0]
    torch.testing.assert_close(torch.nn.functional.normalize(found.direction, dim=0), gap)


@pytest.mark.parametrize("shrinkage", [0.0, -0.1, 1.1, float("nan")])
def test_a_shrinkage_outside_its_range_is_refused(shrinkage):
    with pytest.raises(ValueError, match="above 0 and at most 1"):
        discriminant(*two_sets(4, 4), shrinkage)


def test_too_few_or_equal_items_are_refused():
    first, second = two_sets(3, 3)
    with pytest.raises(ValueError, match="1 and 3 items; expected at least 2"):
        discriminant(first[:1], second)
    with pytest.raises(ValueError, match="same embedding"):
        discriminant(first[:1].repeat(4, 1), first[:1].repeat(3, 1))
