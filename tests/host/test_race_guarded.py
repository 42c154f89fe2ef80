"""A race on a guarded model: it gives more latents than it was given, and none of them is unsafe."""

from __future__ import annotations

import pytest
import torch
from sampling_bench import GREY, Sampling, judged

from lclip.latents.neutral import neutral_latents
from lclip.mini.world import load_latent_clip

RACE = {
    "candidates": 8, "checks": "0.5", "keep": 0.75, "finish": 4, "method": "prune", "strength": 2.0,
    "sampler_name": "euler",
}  # fmt: skip


@pytest.fixture(scope="module")
def model():
    return load_latent_clip()


class Track(Sampling):
    def __init__(self, host, graph):
        super().__init__(host, graph)
        self.positive = self.encode("a blue skull")

    def reward(self):
        return self.graph.add(
            "LatentCLIP_TextReward", latent_clip=self.clip, text="a blue skull", weight=1.0
        )[0]

    def race(self, model, batch):
        latent = self.graph.add("EmptyLatentImage", width=64, height=64, batch_size=batch)[0]
        stage = {"seed": 5, "steps": 4, "cfg": 1.0, "scheduler": "simple", "denoise": 1.0}
        return self.graph.add(
            "LatentCLIP_RaceKSampler", model=model, positive=self.positive, negative=self.negative,
            latent_image=latent, reward=self.reward(), **stage, **RACE,
        )  # fmt: skip

    def custom(self, model, batch):
        add = self.graph.add
        sampler = add("LatentCLIP_Race", reward=self.reward(), **RACE)
        sigmas = add("BasicScheduler", model=model, scheduler="simple", steps=4, denoise=1.0)
        latent = add("EmptyLatentImage", width=64, height=64, batch_size=batch)[0]
        return add(
            "SamplerCustom", model=model, add_noise=True, noise_seed=5, cfg=1.0, positive=self.positive,
            negative=self.negative, sampler=sampler[0], sigmas=sigmas[0], latent_image=latent,
        )  # fmt: skip


@pytest.mark.parametrize("batch", [1, 2])
def test_what_leaves_is_safe_or_grey_by_every_way_out(host, graph, model, batch):
    track = Track(host, graph)
    track.dump(track.race(track.model, batch)[0], "plain")
    guarded = track.guard(track.policy(own_threshold=0.5))
    race, custom = track.race(guarded, batch), track.custom(guarded, batch)
    ways = {"race": race[0], "custom": custom[0], "denoised": custom[1]}
    for name, output in ways.items():
        track.dump(output, name)
    host.run(graph).require_ok()
    plain = track.samples("plain")
    unsafe = torch.tensor([not verdict.safe for verdict in judged(model, plain)])
    assert len(plain) == 4 * batch and bool(unsafe.any()), "nothing to stop"
    grey = neutral_latents("mini", plain.shape, plain)
    for name in ways:
        made = track.samples(name)
        assert len(made) == 4 * batch, name
        is_grey = (made - grey).abs().flatten(1).amax(1) < GREY
        safe = torch.tensor([verdict.safe for verdict in judged(model, made)])
        assert bool((safe | is_grey).all()) and bool(is_grey.any()), name
