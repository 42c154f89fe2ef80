"""Again until good: a search draws until the target is reached or the budget ends, and says which."""

import reno_worlds as worlds
import torch

import lclip


def first_component(z):
    return z[:, 0, 0, 0]


def test_it_says_which_items_reached_the_target_and_after_how_many_renders():
    settings = lclip.ReNOSettings(iterations=12, method="best_of_n", target=1.9, seed=2)
    result = lclip.reno(lambda x: x, worlds.noise(4, seed=1), first_component, settings)
    rewards = torch.stack([record.reward for record in result.history])
    endings = []
    for item in range(4):
        hits = (rewards[:, item] >= 1.9).nonzero().flatten().tolist()
        best = float(rewards[: hits[0] + 1 if hits else None, item].max())
        how = f"reached the target in render {hits[0] + 1}" if hits else "the budget of 12 renders ended"
        endings.append(f"{how}, reward {best:.4f}")
    assert result.endings == endings
    assert {ending.split()[0] for ending in endings} == {"reached", "the"}


def test_a_search_that_was_cancelled_or_stood_still_says_so():
    still = lclip.ReNOSettings(iterations=9, method="best_of_n", patience=2)
    result = lclip.reno(lambda x: x, worlds.noise(1), lambda z: torch.zeros(len(z)), still)
    assert result.endings == ["no new best for long, stopped after render 3, reward 0.0000"]
    run = lclip.ReNORun(lambda x: x, worlds.noise(1), first_component, lclip.ReNOSettings(method="best_of_n"))
    next(run)
    assert run.result().endings[0].startswith("cancelled after render 1, reward")
