"""What the race nodes say in numbers, against the library's own race on the mini world in this process."""

from __future__ import annotations

import json
import math

import pytest
import torch
from agreement import near
from reno_bench import STATIC
from sampling_bench import Sampling

import lclip
from lclip.choosing.race import euler
from lclip.mini.world import load_world

PROMPT, STEPS = "a red star", 5
RACE = {"candidates": 6, "checks": "0.3, 0.6", "keep": 0.5, "finish": 2, "method": "prune", "strength": 2.0}
BEST, REWARDS, SEEDS, SAVED, PLACES, CHECKS = 0, 2, 3, 4, 7, 8  # outputs of Race KSampler
TOLD = {"rewards": 1, "seeds": 4, "places": 5, "checks": 6, "saved": 7}  # of Search Result


@pytest.fixture(scope="module")
def world():
    return load_world()


@pytest.fixture
def track(host, graph):
    made = Sampling(host, graph)
    made.positive = made.encode(PROMPT)
    return made


def settings_of(**widgets):
    named = {**RACE, **widgets}
    checks = tuple(map(float, named.pop("checks").split(",")))
    return lclip.RaceSettings(checks=checks, seed=5, **named)


def drawn(seed):
    """What the host draws by a seed."""
    return torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(seed))


def raced_here(world, **widgets):
    """The library's race, from the noise that the host draws."""
    context, to_raw = world.context([PROMPT], 1), world.latent_format.to_raw
    judge = lclip.TextReward(world.latent_clip, PROMPT)
    run = lclip.RaceRun(drawn(5), lambda z: judge(to_raw(z)), settings_of(**widgets), drawn)

    def model(x, sigma):
        def denoise(rows):
            t = sigma.expand(len(rows))
            return x[rows] - sigma * world.denoiser(x[rows], t, context.expand(len(rows), -1, -1))

        return run.predict(x, denoise)

    def sampled(levels):
        return euler(model, run.noise * levels[0], levels, run.watch)

    levels = torch.linspace(1, 0, STEPS + 1)
    with torch.no_grad():
        if run.settings.method == "draft":
            run.draft(STEPS, lambda: sampled(run.settings.draft_levels(levels)))
        return run.result(sampled(levels))


def reward_of(track):
    return track.graph.add("LatentCLIP_TextReward", latent_clip=track.clip, text=PROMPT, weight=1.0)[0]


def empty(track):
    return track.graph.add("EmptyLatentImage", width=64, height=64, batch_size=1)[0]


def race(track, **widgets):
    stage = {"seed": 5, "steps": STEPS, "cfg": 1.0, "sampler_name": "euler", "scheduler": "simple"}
    return track.graph.add(
        "LatentCLIP_RaceKSampler", model=track.model, positive=track.positive, negative=track.negative,
        latent_image=empty(track), denoise=1.0, reward=reward_of(track), **{**stage, **RACE, **widgets},
    )  # fmt: skip


def custom(track, sampler):
    """What the stock SamplerCustom makes with a SAMPLER, and the Search Result behind it."""
    sigmas = track.graph.add(
        "BasicScheduler", model=track.model, scheduler="simple", steps=STEPS, denoise=1.0
    )
    made = track.graph.add(
        "SamplerCustom", model=track.model, add_noise=True, noise_seed=5, cfg=1.0, positive=track.positive,
        negative=track.negative, sampler=sampler, sigmas=sigmas[0], latent_image=empty(track),
    )  # fmt: skip
    return track.graph.add("LatentCLIP_SearchResult", sampler=sampler, latent=made[0])


def values(track, outputs):
    shown = {name: track.graph.add("Probe_Values", value=output) for name, output in outputs.items()}
    result = track.host.run(track.graph).require_ok()
    return {name: result.values(node) for name, node in shown.items()}


def check_told(host, told, wanted):
    assert told["places"] == wanted.places and told["seeds"] == wanted.seeds
    assert told["saved"] == [pytest.approx(wanted.saved)]
    near(host, torch.tensor(told["rewards"]), wanted.rewards, 1e-3, 1e-4)
    (text,) = told["checks"]
    assert "NaN" not in text
    found = json.loads(text)
    assert len(found) == len(wanted.checks) and [set(each) for each in found] == [
        {"step", "steps", "rewards", "kept"}
    ] * len(found)
    for each, check in zip(found, wanted.checks, strict=True):
        assert (each["step"], each["steps"]) == (check.step, check.steps)
        assert each["kept"] == check.kept.tolist()
        rewards = torch.tensor([[math.nan if v is None else v for v in row] for row in each["rewards"]])
        assert torch.equal(rewards.isnan(), check.rewards.isnan())
        near(host, rewards.nan_to_num(), check.rewards.nan_to_num(), 1e-3, 1e-4)


@pytest.mark.parametrize(
    "widgets", [{}, {"keep": 1.0, "finish": 6}, {"method": "draft", "draft_steps": 2, "finish": 1}]
)
def test_both_nodes_say_of_a_race_what_the_librarys_result_says(track, world, widgets):
    wanted = raced_here(world, **widgets)
    node = race(track, **widgets)
    outputs = {"rewards": REWARDS, "seeds": SEEDS, "saved": SAVED, "places": PLACES, "checks": CHECKS}
    one_node = values(track, {name: node[place] for name, place in outputs.items()})
    check_told(track.host, one_node, wanted)
    asked = {**RACE, "sampler_name": "euler", **widgets}
    sampler = track.graph.add("LatentCLIP_Race", reward=reward_of(track), **asked)[0]
    found = custom(track, sampler)
    check_told(track.host, values(track, {name: found[place] for name, place in TOLD.items()}), wanted)


def test_places_count_the_candidates_whose_seeds_follow_from_yours(track):
    node = race(track, finish=3)
    told = values(track, {"places": node[PLACES], "seeds": node[SEEDS], "checks": node[CHECKS]})
    of_all = settings_of().seeds
    assert told["seeds"] == [of_all[place] for place in told["places"]] and of_all[0] == 5
    last = json.loads(told["checks"][0])[-1]
    known = {place: value for place, value in enumerate(last["rewards"][0]) if value is not None}
    assert told["places"] == sorted(known, key=known.__getitem__)[::-1]


def test_a_noise_search_has_neither_seeds_nor_places_nor_checks(track):
    asked = {**STATIC, "sampler_name": "euler", "method": "best_of_n"}
    sampler = track.graph.add("LatentCLIP_ReNOSampler", reward=reward_of(track), **asked)[0]
    found = custom(track, sampler)
    never = [track.graph.add("Probe_Values", value=found[TOLD[name]]) for name in ("seeds", "places")]
    shown = [track.graph.add("Probe_Values", value=found[TOLD[name]]) for name in ("checks", "saved")]
    result = track.host.run(track.graph).require_ok()
    assert [result.values(node) for node in shown] == [[""], [0.0]]
    assert not {str(node) for node in never} & set(result.entry["outputs"])
