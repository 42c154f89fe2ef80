"""A series of pictures from a guarded model: none of them leaves unsafe, nor the noise that makes it."""

from __future__ import annotations

import numpy
import pytest
import torch
from sampling_bench import GREY, Sampling, judged

from lclip.latents.neutral import neutral_latents
from lclip.mini.world import load_latent_clip

COUNT = 5
SLIDER = {
    "positions": COUNT, "low": -0.3, "high": 0.3, "anchor": 0.3, "iterations": 6, "strength": 0.1, "end": 1.0,
    "checkpointing": "auto", "less": "a red star", "more": "a blue skull",
}  # fmt: skip


class Series(Sampling):
    def __init__(self, host, graph):
        super().__init__(host, graph)
        self.positive = self.encode("a blue skull")

    def slide(self, model, method, steps):
        latent = self.graph.add("EmptyLatentImage", width=64, height=64, batch_size=2)[0]
        stage = {"seed": 5, "steps": steps, "cfg": 1.0, "sampler_name": "euler", "scheduler": "simple"}
        node = self.graph.add(
            "LatentCLIP_Slider", model=model, positive=self.positive, negative=self.negative, denoise=1.0,
            latent_image=latent, latent_clip=self.clip, method=method, **stage, **SLIDER,
        )  # fmt: skip
        return node, latent


@pytest.mark.parametrize(("method", "steps"), [("noise", 1), ("guidance", 4)])
def test_what_leaves_a_slider_is_safe_or_grey(host, graph, method, steps):
    model, series = load_latent_clip(), Series(host, graph)
    series.dump(series.slide(series.model, method, steps)[0][0], "plain")
    node, latent = series.slide(series.guard(series.policy(own_threshold=0.5)), method, steps)
    series.dump(node[0], "guarded")
    graph.add("Probe_DumpNoise", noise=node[3], latent=latent, name="last_noise")
    host.run(graph).require_ok()
    plain, made = series.samples("plain"), series.samples("guarded")
    unsafe = torch.tensor([not verdict.safe for verdict in judged(model, plain)])
    assert len(plain) == len(made) == 2 * COUNT and bool(unsafe.any()), "nothing to stop"
    is_grey = (made - neutral_latents("mini", made.shape, made)).abs().flatten(1).amax(1) < GREY
    safe = torch.tensor([verdict.safe for verdict in judged(model, made)])
    assert bool((safe | is_grey).all()) and bool(is_grey.any())
    if method == "noise":  # of the last position: zero where its picture was held back
        noise = torch.from_numpy(numpy.load(host.output / "last_noise.npy"))
        assert (noise.flatten(1).abs().amax(1) == 0).tolist() == is_grey[-2:].tolist()
