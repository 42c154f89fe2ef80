"""The noise search does what ReNO's paper publishes, and treats every batch item as a run of its own."""

import dataclasses
import math

import pytest
import reno_worlds as worlds
import torch
from hypothesis import given
from hypothesis import strategies as st

from lclip import ReNORun, ReNOSettings, reno
from lclip.reno.maths import item_noise_source, neighbour
from lclip.reno.types import ReNORecord, hacked_since


def published_trace(generate, start, reward, iterations, lr=5.0, clip=0.1, weight=0.01):
    """ReNO for one image, written down from the paper with torch's own optimiser and clipping."""
    x = start.clone().requires_grad_()
    optimizer = torch.optim.SGD([x], lr=lr, momentum=0.9, nesterov=True)
    dimension = x[0].numel()
    losses, best_loss, best = [], math.inf, None
    for iteration in range(iterations):
        optimizer.zero_grad()
        z = generate(x)
        reward_loss = -reward(z).sum()
        norm = torch.linalg.vector_norm(x)
        loss = reward_loss + weight * (0.5 * norm**2 - (dimension - 1) * torch.log(norm))
        losses.append(float(loss.detach()))
        if float(reward_loss.detach()) < best_loss:
            best_loss, best = float(reward_loss.detach()), z.detach().clone()
        if iteration < iterations - 1:
            loss.backward()
            torch.nn.utils.clip_grad_norm_([x], clip)
            optimizer.step()
    return losses, -best_loss, best


@pytest.mark.parametrize(
    "scale", [1.0, 0.6]
)  # on the Gaussian shell, and off it, where the regularizer pulls
def test_published_defaults_equal_torch_optim(scale):
    start = scale * worlds.noise(1, dtype=torch.float64)
    losses, best_reward, best = published_trace(worlds.mixing_generator, start, worlds.wave_reward, 5)
    result = reno(worlds.mixing_generator, start, worlds.wave_reward, ReNOSettings(iterations=5))
    assert [float(record.loss) for record in result.history] == pytest.approx(losses, abs=1e-6)
    assert float(result.best_reward) == pytest.approx(best_reward, abs=1e-6)
    torch.testing.assert_close(result.best_latents, best, atol=1e-6, rtol=0)


def test_adam_equals_torch_optim():
    start = worlds.noise(1, dtype=torch.float64)
    x = start.clone().requires_grad_()
    optimizer = torch.optim.Adam([x], lr=0.05)
    losses = []
    for _ in range(6):
        optimizer.zero_grad()
        norm = torch.linalg.vector_norm(x)
        loss = 0.01 * (0.5 * norm**2 - (x.numel() - 1) * torch.log(norm))
        loss = loss - worlds.wave_reward(worlds.mixing_generator(x)).sum()
        losses.append(float(loss.detach()))
        loss.backward()
        torch.nn.utils.clip_grad_norm_([x], 0.1)
        optimizer.step()
    settings = ReNOSettings(iterations=6, optimizer="adam", lr=0.05)
    result = reno(worlds.mixing_generator, start, worlds.wave_reward, settings)
    assert [float(record.loss) for record in result.history] == pytest.approx(losses, abs=1e-6)


def test_defaults_are_the_published_ones():
    settings = ReNOSettings()
    published = {"iterations": 50, "lr": 5.0, "momentum": 0.9, "nesterov": True, "grad_clip": 0.1}
    assert {name: getattr(settings, name) for name in published} == published
    assert (settings.optimizer, settings.regularization, settings.method) == ("sgd", 0.01, "gradient")


def test_quadratic_optimum_is_reached():
    goal = 0.3 * worlds.noise(2, seed=9)
    settings = ReNOSettings(iterations=200, lr=0.5, grad_clip=10.0, regularization=0.0)
    result = reno(lambda x: 2 * x, worlds.noise(2), worlds.quadratic_reward(goal), settings)
    torch.testing.assert_close(result.best_latents, goal, atol=1e-3, rtol=0)


@pytest.mark.parametrize(
    "settings",
    [
        ReNOSettings(iterations=8),
        ReNOSettings(iterations=8, optimizer="adam"),
        ReNOSettings(iterations=30, patience=3, lr=40.0),
        ReNOSettings(iterations=30, target=0.12),
        ReNOSettings(iterations=5, candidates=6, keep=2, seed=3),
        ReNOSettings(iterations=8, method="best_of_n", seed=3),
        ReNOSettings(iterations=8, method="zero_order", seed=3, patience=3),
    ],
    ids=["sgd", "adam", "patience", "target", "screening", "best_of_n", "zero_order"],
)
def test_a_batch_equals_runs_of_one(settings):
    batch = worlds.noise(3)
    together = reno(worlds.mixing_generator, batch, worlds.wave_reward, settings)
    for item in range(3):
        alone = dataclasses.replace(settings, places=(item,))
        single = reno(worlds.mixing_generator, batch[item : item + 1], worlds.wave_reward, alone)
        torch.testing.assert_close(together.best_noise[item], single.best_noise[0], atol=1e-5, rtol=0)
        torch.testing.assert_close(together.best_latents[item], single.best_latents[0], atol=1e-5, rtol=0)
        assert float(together.best_reward[item]) == pytest.approx(float(single.best_reward), abs=1e-5)
        assert together.stopped[item] == single.stopped[0]
        trace = [float(record.reward[item]) for record in together.history]
        alone_trace = [float(record.reward) for record in single.history]
        assert trace[: len(alone_trace)] == pytest.approx(alone_trace, abs=1e-5)


def test_best_is_the_best_render_and_reproducible_from_its_noise():
    result = reno(
        worlds.mixing_generator, worlds.noise(2), worlds.wave_reward, ReNOSettings(iterations=20, lr=40.0)
    )
    rewards = torch.stack([record.reward for record in result.history])
    assert len(result.history) == 20
    torch.testing.assert_close(result.best_reward, rewards.amax(dim=0))
    torch.testing.assert_close(worlds.mixing_generator(result.best_noise), result.best_latents)
    torch.testing.assert_close(worlds.wave_reward(result.best_latents), result.best_reward)
    assert (result.best_reward > result.initial_reward).all()


def test_iteration_zero_counts_when_every_move_makes_it_worse():
    peak = worlds.noise(2)
    result = reno(
        lambda x: x, peak, worlds.quadratic_reward(peak), ReNOSettings(iterations=4, regularization=10.0)
    )
    torch.testing.assert_close(result.best_noise, peak)
    assert (result.history[-1].reward < 0).all()


def test_no_backward_in_the_last_iteration():
    graphs = []

    def watched(x):
        graphs.append(torch.is_grad_enabled() and x.requires_grad)
        return worlds.mixing_generator(x)

    reno(watched, worlds.noise(1), worlds.wave_reward, ReNOSettings(iterations=4))
    assert graphs == [True, True, True, False]


def test_no_iterations_is_a_plain_render():
    calls = []

    def counted(x):
        calls.append(x.requires_grad)
        return worlds.mixing_generator(x)

    start = worlds.noise(2)
    result = reno(counted, start, worlds.wave_reward, ReNOSettings(iterations=0))
    assert calls == [False]
    torch.testing.assert_close(result.best_latents, worlds.mixing_generator(start))
    torch.testing.assert_close(result.best_noise, start)
    torch.testing.assert_close(result.best_reward, worlds.wave_reward(result.best_latents))


def test_the_callers_noise_is_never_written_to():
    start = worlds.noise(2)
    before = start.clone()
    steps = list(ReNORun(worlds.mixing_generator, start, worlds.wave_reward, ReNOSettings(iterations=5)))
    assert torch.equal(start, before)
    rendered = [worlds.mixing_generator(step.noise) for step in steps]  # held steps keep their own noise
    for step, again in zip(steps, rendered, strict=True):
        torch.testing.assert_close(step.latents, again)


def test_steps_can_be_cancelled_and_the_best_so_far_is_kept():
    run = ReNORun(worlds.mixing_generator, worlds.noise(2), worlds.wave_reward, ReNOSettings(iterations=50))
    for step in run:
        if step.iteration == 3:
            break
    result = run.result()
    assert len(result.history) == 4
    assert result.stopped == ["cancelled", "cancelled"]
    torch.testing.assert_close(result.best_reward, step.best_reward)
    torch.testing.assert_close(result.best_latents, step.best_latents)


def test_target_stops_each_item_by_itself():
    goal = worlds.noise(2, seed=4)
    start = torch.stack([goal[0] + 0.05, worlds.noise(1)[0]])
    settings = ReNOSettings(iterations=30, target=-0.01, lr=0.5, regularization=0.0)
    result = reno(lambda x: x, start, worlds.quadratic_reward(goal), settings)
    assert result.stopped == ["target", "iterations"]
    torch.testing.assert_close(result.best_noise[0], start[0])
    assert result.history[1].active.tolist() == [False, True]


def test_patience_stops_a_search_that_gets_no_better():
    flat = ReNOSettings(iterations=50, patience=4)
    result = reno(lambda x: x, worlds.noise(1), lambda z: z.flatten(1).sum(dim=1) * 0.0, flat)
    assert result.stopped == ["patience"]
    assert len(result.history) == 5


def test_screening_starts_from_the_best_candidates():
    settings = ReNOSettings(iterations=2, candidates=5, keep=2, seed=11)
    start = worlds.noise(2)
    steps = list(ReNORun(worlds.mixing_generator, start, worlds.wave_reward, settings))
    screened = [step for step in steps if step.phase == "screen"]
    assert len(screened) == 5
    assert len(steps) == settings.renders == 9
    assert torch.equal(screened[0].noise, start)
    ranking = torch.stack([step.reward for step in screened]).sort(dim=0, descending=True).values
    starts = [step for step in steps if step.phase == "search" and step.iteration == 0]
    torch.testing.assert_close(torch.stack([step.reward for step in starts]), ranking[:2])


@pytest.mark.parametrize("method", ["best_of_n", "zero_order"])
def test_gradient_free_methods_improve_a_generator_without_gradient(method):
    settings = ReNOSettings(iterations=40, method=method, seed=5)

    def opaque(x):
        return worlds.mixing_generator(x.detach())

    results = [reno(opaque, worlds.noise(2), worlds.wave_reward, settings) for _ in range(2)]
    gain = results[0].best_reward - results[0].initial_reward
    assert (gain >= 0).all()
    assert gain.mean() > 0.05
    torch.testing.assert_close(opaque(results[0].best_noise), results[0].best_latents)
    assert torch.equal(results[0].best_noise, results[1].best_noise)
    other = reno(opaque, worlds.noise(2), worlds.wave_reward, dataclasses.replace(settings, seed=6))
    assert not torch.equal(results[0].best_noise, other.best_noise)


@given(radius=st.floats(0.01, 1.0), seed=st.integers(0, 2**32))
def test_neighbours_stay_gaussian(radius, seed):
    x = torch.randn(2, 4096, generator=torch.Generator().manual_seed(1))
    moved = neighbour(x, item_noise_source(x, seed)(), radius)
    assert float(moved.std()) == pytest.approx(1.0, abs=0.06)
    correlation = float((moved * x).mean() / (x.std() * moved.std()))
    assert correlation == pytest.approx(math.sqrt(1 - radius**2), abs=0.06)


@pytest.mark.parametrize("method", ["screening", "best_of_n", "zero_order"])
@pytest.mark.parametrize("step", [1, 3, 7919, 2**32, -1])
def test_runs_with_neighbouring_seeds_share_no_noise(method, step):
    """Neither at the same place nor at another, nor between the phases of a search."""
    seen = set()
    for run in range(4):
        how = {"candidates": 3, "keep": 2} if method == "screening" else {"method": method, "radius": 1.0}
        settings = ReNOSettings(iterations=3, seed=5 + step * run, **how)
        start = worlds.noise(4, seed=100 + run)
        drawn = [step.noise for step in ReNORun(lambda x: x, start, worlds.wave_reward, settings)]
        drawn = drawn[1:3]
        assert not any(torch.equal(noise, start) for noise in drawn)
        seen |= {noise[item].numpy().tobytes() for noise in drawn for item in range(4)}
    assert len(seen) == 4 * 4 * 2


def test_every_search_from_a_screened_start_draws_its_own_noise():
    settings = ReNOSettings(iterations=3, method="zero_order", radius=1.0, candidates=2, keep=2, seed=1)
    steps = list(ReNORun(lambda x: x, worlds.noise(2), lambda z: -z.flatten(1).mean(1).abs(), settings))
    drawn = [step.noise for step in steps if step.phase == "screen" and step.iteration]
    drawn += [step.noise for step in steps if step.phase == "search" and step.iteration]
    assert len({noise[item].numpy().tobytes() for noise in drawn for item in range(2)}) == 2 * (1 + 2 * 2)


def test_places_say_which_items_of_a_larger_batch_these_are():
    settings = ReNOSettings(iterations=4, method="best_of_n", seed=9)
    whole = reno(worlds.mixing_generator, worlds.noise(5), worlds.wave_reward, settings)
    some = reno(
        worlds.mixing_generator,
        worlds.noise(5)[[4, 1]],
        worlds.wave_reward,
        dataclasses.replace(settings, places=(4, 1)),
    )
    assert torch.equal(some.best_noise, whole.best_noise[[4, 1]])


@pytest.mark.parametrize("places", [(0,), (0, 1, 2), (0, -1), (0.0, 1.5)])
def test_places_that_do_not_fit_the_batch_are_refused(places):
    with pytest.raises(ValueError, match="places"):
        reno(
            worlds.mixing_generator, worlds.noise(2), worlds.wave_reward,
            ReNOSettings(iterations=1, places=places),
        )  # fmt: skip


@pytest.mark.parametrize("seed", [0, 1, 2**63])
def test_candidates_are_no_copies_of_the_hosts_own_noise(seed):
    drawn = item_noise_source(worlds.noise(3), seed)()
    hosts = torch.randn(drawn.shape, generator=torch.Generator().manual_seed(seed))
    for a in range(3):
        assert not any(torch.equal(drawn[a], hosts[b]) for b in range(3))
        assert not any(torch.equal(drawn[a], drawn[b]) for b in range(3) if b != a)


def test_held_out_reward_is_watched_and_its_fall_is_told():
    goal = worlds.noise(2, seed=4)

    def optimised(z):
        return -((z - goal) ** 2).flatten(1).mean(dim=1)

    def turning(z):  # rises with the optimised one at first, then falls
        distance = ((z - goal) ** 2).flatten(1).mean(dim=1)
        return -((distance - torch.tensor([1.2, 0.0])) ** 2)

    settings = ReNOSettings(iterations=40, lr=30.0, regularization=0.0)
    result = reno(lambda x: x, worlds.noise(2), optimised, settings, held_out=turning)
    alone = reno(lambda x: x, worlds.noise(2), optimised, settings)
    assert torch.equal(result.best_noise, alone.best_noise)  # watching changes nothing
    since = result.hacked_since
    assert since[1] is None
    held_out = [float(record.held_out[0]) for record in result.history if record.held_out is not None]
    assert since[0] == held_out.index(max(held_out))
    assert hacked_since(alone.history) == [None, None]


def watched(held_out: list[float]) -> list[ReNORecord]:
    """A search whose reward rises with every render, and what was watched meanwhile."""
    one = torch.ones(1)
    return [
        ReNORecord("search", 0, number, one * number, {}, -one * number, one, one.bool(), one * value, one)
        for number, value in enumerate(held_out)
    ]


@pytest.mark.parametrize(
    ("held_out", "since"),
    [
        ([0.0, 1.0, 0.80], None),  # jitter: less than a quarter of the range
        ([0.0, 1.0, 0.70], 1),
        ([0.0, 0.4, 1.0, 0.5, 0.76], None),
        ([0.0, 0.4, 1.0, 0.5, 0.74], 2),
        ([0.2, 0.2, 0.2], None),
    ],
)
def test_a_fall_counts_from_a_quarter_of_the_range(held_out, since):
    assert hacked_since(watched(held_out)) == [since]
