"""Shared by the tests of noise search in a real host: a tiny SDXL-shaped model, and graphs around it."""

from __future__ import annotations

from pathlib import Path

import numpy
import torch
from agreement import ROUNDING, same

import lclip

WORDS = ["a", "red", "square", "blue", "circle"]
SAMPLING = {
    "seed": 5,
    "steps": 1,
    "cfg": 1.0,
    "sampler_name": "euler",
    "scheduler": "normal",
    "denoise": 1.0,
}
STATIC = {
    "iterations": 4, "custom_lr": False, "lr": 5.0, "method": "gradient", "optimizer": "sgd",
    "regularization": 0.01,
    "grad_clip": 0.1, "candidates": 1, "keep": 1, "stop_on_plateau": False, "patience": 1,
    "stop_at_target": False, "target": 0.0, "checkpointing": "auto",
}  # fmt: skip


def save_clip(folder: Path) -> str:
    """A small random Latent-CLIP for SDXL latents, as a file in the folder. -> its name"""
    torch.manual_seed(0)
    config = lclip.LatentCLIPConfig(
        embed_dim=24, channels=4, patch_size=2, grid=4, vision_width=64, vision_layers=2, vision_heads=1,
        text_width=64, text_layers=1, text_heads=1, context_length=8, vocab_size=len(WORDS) + 4,
        latent_space="sdxl", tokenizer="words",
    )  # fmt: skip
    model = lclip.LatentCLIP(config, tokenizer=lclip.WordTokenizer(WORDS, 8))
    lclip.save_checkpoint(model, folder / "tiny_sdxl.safetensors")
    return "tiny_sdxl.safetensors"


class Bench:
    """Builds graphs around the tiny SDXL-shaped model."""

    def __init__(self, host, graph, clip):
        self.host, self.graph = host, graph
        self.clip = graph.add("LatentCLIP_Load", file=clip, dtype="float32")
        self.model = graph.add("Probe_TinySDXL", seed=1, latents="SDXL")
        self.positive = graph.add("Probe_Conditioning", seed=1, batch=1)[0]
        self.negative = graph.add("Probe_Conditioning", seed=2, batch=1)[0]

    def empty(self, batch=1, size=96):
        return self.graph.add("EmptyLatentImage", width=size, height=size, batch_size=batch)[0]

    def picture(self, batch=1, mask=False):
        """Latents of a picture's scale, with or without a noise mask."""
        samples = 6 * torch.randn(batch, 4, 12, 12, generator=torch.Generator().manual_seed(8))
        arrays = {"samples": samples.numpy()}
        if mask:
            arrays["noise_mask"] = numpy.tri(96, 96, dtype=numpy.float32)[None]
        numpy.savez(self.host.input / f"picture{batch}{mask}.npz", allow_pickle=False, **arrays)
        return self.graph.add("Probe_ReadLatent", name=f"picture{batch}{mask}")[0]

    def reward(self, text="a red square", weight=100.0, **more):
        return self.graph.add(
            "LatentCLIP_TextReward", latent_clip=self.clip[0], text=text, weight=weight, **more
        )[0]

    def ksampler(self, latent, model=None, positive=None, **widgets):
        return self.graph.add(
            "KSampler", model=model or self.model[0], positive=positive or self.positive,
            negative=self.negative, latent_image=latent, **{**SAMPLING, **widgets},
        )  # fmt: skip

    def reno(self, latent, model=None, positive=None, reward=None, **widgets):
        return self.graph.add(
            "LatentCLIP_ReNO", model=model or self.model[0], positive=positive or self.positive,
            negative=self.negative, latent_image=latent, reward=reward or self.reward(),
            **{**SAMPLING, **STATIC, **widgets},
        )  # fmt: skip

    def advanced(self, noise, latent, sampler_name="euler", steps=1, cfg=1.0, sigmas=None):
        """The stock SamplerCustomAdvanced on a NOISE socket, or on a file of noise."""
        if isinstance(noise, str):
            noise = self.graph.add("Probe_GivenNoise", name=noise, seed=5)[0]
        guider = self.graph.add(
            "CFGGuider", model=self.model[0], positive=self.positive, negative=self.negative, cfg=cfg
        )
        sigmas = sigmas or self.graph.add(
            "BasicScheduler", model=self.model[0], scheduler="normal", steps=steps, denoise=1.0
        )
        sampler = self.graph.add("KSamplerSelect", sampler_name=sampler_name)
        return self.graph.add(
            "SamplerCustomAdvanced", noise=noise, guider=guider[0], sampler=sampler[0], sigmas=sigmas[0],
            latent_image=latent,
        )  # fmt: skip

    def dump(self, latent, name):
        return self.graph.add("Probe_DumpLatent", latent=latent, name=name)

    def score(self, latent, reward=None):
        node = self.graph.add("LatentCLIP_Select", latent=latent, reward=reward or self.reward(), k=1)
        return self.graph.add("Probe_Values", value=node[2])

    def run(self):
        return self.host.run(self.graph).require_ok()

    def dumped(self, name):
        with numpy.load(self.host.output / f"{name}.npz") as arrays:
            return dict(arrays)

    def samples(self, name):
        return torch.from_numpy(self.dumped(name)["samples"])

    def same(self, first, second, on_gpu=ROUNDING):
        return same(self.host, self.samples(first), self.samples(second), on_gpu)
