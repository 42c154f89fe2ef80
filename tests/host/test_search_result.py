"""What Search Result says of samplers in stock nodes, against the one-node versions and stock sampling."""

from __future__ import annotations

import numpy
import pytest
import torch
from agreement import near
from reno_bench import STATIC, Bench
from sampling_bench import GREY, Sampling

from lclip.latents.neutral import neutral_latents

RACE = {"candidates": 4, "checks": "0.3, 0.6", "keep": 0.5, "finish": 2, "method": "prune", "strength": 2.0}
STEPS = {"reno": 2, "race": 5}


class Lap(Bench):
    def sampler(self, kind, sampler_name="euler", **widgets):
        """A searching SAMPLER node."""
        node, usual = {"reno": ("LatentCLIP_ReNOSampler", STATIC), "race": ("LatentCLIP_Race", RACE)}[kind]
        values = {**usual, "sampler_name": sampler_name, **widgets}
        return self.graph.add(node, reward=self.reward(), **values)[0]

    def one_node(self, kind, latent, **widgets):
        """The same as KSampler's twin. -> its sockets noise, rewards, chart, report"""
        if kind == "reno":
            return [self.reno(latent, steps=STEPS[kind], **widgets)[place] for place in (2, 3, 4, 5)]
        stage = {"seed": 5, "steps": STEPS[kind], "cfg": 1.0, "sampler_name": "euler", "scheduler": "normal"}
        node = self.graph.add(
            "LatentCLIP_RaceKSampler", model=self.model[0], positive=self.positive, negative=self.negative,
            latent_image=latent, reward=self.reward(), denoise=1.0, **{**stage, **RACE, **widgets},
        )  # fmt: skip
        return [node[place] for place in (1, 2, 6, 5)]

    def custom(self, sampler, latent, noise, steps):
        add = self.graph.add
        guider = add(
            "CFGGuider", model=self.model[0], positive=self.positive, negative=self.negative, cfg=1.0
        )
        sigmas = add("BasicScheduler", model=self.model[0], scheduler="normal", steps=steps, denoise=1.0)
        return add(
            "SamplerCustomAdvanced", noise=noise, guider=guider[0], sampler=sampler, sigmas=sigmas[0],
            latent_image=latent,
        )  # fmt: skip

    def seeded(self, seed=5):
        return self.graph.add("RandomNoise", noise_seed=seed)[0]

    def stock(self):
        return self.graph.add("KSamplerSelect", sampler_name="euler")[0]

    def told(self, sampler, latent):
        return self.graph.add("LatentCLIP_SearchResult", sampler=sampler, latent=latent)

    def values(self, output):
        return self.graph.add("Probe_Values", value=output)


@pytest.fixture
def lap(host, graph, sdxl_clip):
    return Lap(host, graph, sdxl_clip)


@pytest.mark.parametrize("batch", [1, 2])
@pytest.mark.parametrize("kind", ["reno", "race"])
def test_it_gives_what_the_one_node_version_gives(lap, kind, batch):
    latent = lap.empty(batch)
    sampler = lap.sampler(kind)
    made = lap.custom(sampler, latent, lap.seeded(), STEPS[kind])
    found = lap.told(sampler, made[0])
    told = [[lap.values(found[place]) for place in (1, 3)]]
    wanted = lap.one_node(kind, latent)
    told.append([lap.values(wanted[place]) for place in (1, 3)])
    for chart, name in ((found[2], "custom"), (wanted[2], "one")):
        lap.graph.add("Probe_DumpTensor", tensor=chart, name=name)
    result = lap.run()
    (rewards, report), (all_rewards, full_report) = ([result.values(each) for each in both] for both in told)
    near(lap.host, torch.tensor(rewards), torch.tensor(all_rewards), 1e-4, 1e-4)
    assert len(rewards) == batch * (2 if kind == "race" else 1) and report == full_report
    charts = [numpy.load(lap.host.output / f"{name}.npy") for name in ("custom", "one")]
    assert charts[0].shape == charts[1].shape
    near(lap.host, *map(torch.from_numpy, charts), 1e-6, 1.0)


@pytest.mark.parametrize("output", [0, 1])
@pytest.mark.parametrize("kind", ["reno", "race"])
def test_its_noise_makes_the_same_again_in_stock_nodes(lap, kind, output):
    """By the first and by the second output of the sampling node, which is a prediction of the first."""
    latent, sampler = lap.empty(2), lap.sampler(kind)
    made = lap.custom(sampler, latent, lap.seeded(), STEPS[kind])
    found = lap.told(sampler, made[output])
    again = lap.custom(lap.stock(), latent, found[0], STEPS[kind])
    scores, judged_again = lap.values(found[1]), lap.score(again[0])
    result = lap.run()
    rewards, repeated = result.values(scores), result.values(judged_again)
    assert len(rewards) == (4 if kind == "race" else 2)
    near(lap.host, torch.tensor(rewards), torch.tensor(repeated), 1e-4, 1e-4)


def test_each_of_several_runs_of_one_sampler_has_its_own(lap):
    latent, sampler = lap.empty(), lap.sampler("reno")
    runs = [lap.custom(sampler, latent, lap.seeded(seed), 1) for seed in (5, 6)]
    told = [(lap.values(lap.told(sampler, run[0])[1]), lap.score(run[0])) for run in runs]
    result = lap.run()
    pairs = [(result.values(reward), result.values(score)) for reward, score in told]
    assert pairs[0][0] != pairs[1][0]
    for reward, score in pairs:
        near(lap.host, torch.tensor(reward), torch.tensor(score), 1e-4, 1e-4)


def test_it_may_be_wired_after_the_run(lap):
    """The sampling is not done again: the SAMPLER in the cache knows."""
    sampler = lap.sampler("race")
    made = lap.custom(sampler, lap.empty(), lap.seeded(), 5)
    lap.dump(made[0], "made")
    lap.run()
    rewards = lap.values(lap.told(sampler, made[0])[1])
    result = lap.run()
    assert str(made) not in result.executed and len(result.values(rewards)) == 2


@pytest.mark.parametrize("wrong", ["stock sampler", "not run", "other latents"])
def test_wrong_wires_are_named(lap, wrong):
    sampler = lap.sampler("reno")
    made = lap.custom(sampler, lap.empty(), lap.seeded(), 1)[0]
    if wrong == "stock sampler":
        sampler = lap.stock()
    if wrong == "not run":
        sampler = lap.sampler("reno", iterations=3)
    if wrong == "other latents":
        # a blend of what was sampled, so that it comes after the sampling
        made = lap.graph.add("LatentBlend", samples1=made, samples2=lap.picture(), blend_factor=0.5)[0]
    lap.values(lap.told(sampler, made)[1])
    error = lap.host.run(lap.graph).error
    said = {
        "stock sampler": "searches nothing",
        "not run": "This sampler has not run",
        "other latents": "are not what this sampler made",
    }
    assert error is not None and said[wrong] in error


@pytest.mark.parametrize("kind", ["reno", "race"])
def test_what_a_guard_holds_back_has_no_noise(host, graph, kind):
    track = Sampling(host, graph)
    track.positive = track.encode("a blue skull")
    guarded = track.guard(track.policy(own_threshold=0.5))
    reward = graph.add("LatentCLIP_TextReward", latent_clip=track.clip, text="a blue skull", weight=1.0)[0]
    usual = {"reno": {**STATIC, "method": "best_of_n"}, "race": {**RACE, "candidates": 8}}[kind]
    node = {"reno": "LatentCLIP_ReNOSampler", "race": "LatentCLIP_Race"}[kind]
    sampler = graph.add(node, reward=reward, sampler_name="euler", **usual)[0]
    sigmas = graph.add("BasicScheduler", model=guarded, scheduler="simple", steps=4, denoise=1.0)
    latent = graph.add("EmptyLatentImage", width=64, height=64, batch_size=3)[0]
    made = graph.add(
        "SamplerCustom", model=guarded, add_noise=True, noise_seed=5, cfg=1.0, positive=track.positive,
        negative=track.negative, sampler=sampler, sigmas=sigmas[0], latent_image=latent,
    )[0]  # fmt: skip
    track.dump(made, "made")
    found = graph.add("LatentCLIP_SearchResult", sampler=sampler, latent=made)
    graph.add("Probe_DumpNoise", noise=found[0], latent=latent, name="noise")
    host.run(graph).require_ok()
    samples = track.samples("made")
    grey = (samples - neutral_latents("mini", samples.shape, samples)).abs().flatten(1).amax(1) < GREY
    noise = torch.from_numpy(numpy.load(host.output / "noise.npy")).flatten(1).abs().amax(1)
    last = grey[-3:]  # a race has two ranks, and the second's noise is what was written last
    assert bool(last.any()) and torch.equal(noise == 0, last)
