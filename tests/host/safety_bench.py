"""Shared by the tests of safety in a real host: a tiny Latent-CLIP for SDXL latents, and graphs around it."""

from __future__ import annotations

from dataclasses import replace

import numpy
import torch
import torch.nn.functional as F

import lclip

WORDS = ["a", "red", "square", "blue", "circle", "green", "on", "photo"]
CONCEPT = "redness: a red square | a red circle // a blue square | a blue circle"
GATE = {
    "action": "separate", "report_as": "text", "repair_iterations": 4, "seed": 5, "steps": 1, "cfg": 1.0,
    "sampler_name": "euler", "scheduler": "normal",
}  # fmt: skip
POLICY = {
    "preset": "none", "categories": "all", "own_concepts": CONCEPT, "allow": "", "strictness": "medium",
    "custom_shift": 0.0, "own_threshold": 0.5, "augmentations": "whole", "policy_json": "",
}  # fmt: skip


def make_clip() -> lclip.LatentCLIP:
    torch.manual_seed(4)
    config = lclip.LatentCLIPConfig(
        embed_dim=16,
        channels=4,
        patch_size=2,
        grid=4,
        vision_width=32,
        vision_layers=1,
        vision_heads=2,
        text_width=32,
        text_layers=1,
        text_heads=2,
        context_length=8,
        vocab_size=len(WORDS) + 4,
        latent_space="sdxl",
        tokenizer="words",
    )
    return lclip.LatentCLIP(config, tokenizer=lclip.WordTokenizer(WORDS, 8)).eval()


def pictures(batch: int, seed: int = 1, size: int = 8) -> torch.Tensor:
    coarse = torch.randn(batch, 4, 3, 3, generator=torch.Generator().manual_seed(seed))
    z = F.interpolate(coarse, (size, size), mode="bicubic")
    return 6 * z / z.square().mean((1, 2, 3), keepdim=True).sqrt()


def make_reader() -> lclip.LatentCLIP:
    """The same of CLIP's own vocabulary, which has every word: for presets in plain English."""
    torch.manual_seed(4)
    config = replace(make_clip().config, context_length=77, vocab_size=49408, tokenizer="clip-bpe")
    return lclip.LatentCLIP(config).eval()


Z = pictures(6)


def policy_here(threshold: float = 0.5, **changes) -> lclip.SafetyPolicy:
    return lclip.SafetyPolicy(lclip.parse_concepts(CONCEPT, threshold), **changes)


def scores(clip, z: torch.Tensor = Z) -> list[float]:
    return [verdict.probability for verdict in policy_here().judge(clip, z)]


def middle(clip, z: torch.Tensor = Z) -> float:
    """A threshold that lets half of these latents pass."""
    ranked = sorted(scores(clip, z))
    return (ranked[len(z) // 2 - 1] + ranked[len(z) // 2]) / 2


def policy_on_the_mini_world(graph):
    clip = graph.add("LatentCLIP_MiniWorld")[3]
    own = {"own_concepts": "skull: a skull // a red star"}
    return graph.add("LatentCLIP_SafetyPolicy", latent_clip=clip, **{**POLICY, **own})[0]


class Bench:
    def __init__(self, host, graph, file):
        self.host, self.graph = host, graph
        self.clip = graph.add("LatentCLIP_Load", file=file, dtype="float32")[0]

    def latent(self, samples, name="gate", **more):
        numpy.savez(self.host.input / f"{name}.npz", samples=numpy.asarray(samples), **more)
        return self.graph.add("Probe_ReadLatent", name=name)[0]

    def policy(self, **widgets):
        return self.graph.add("LatentCLIP_SafetyPolicy", latent_clip=self.clip, **{**POLICY, **widgets})[0]

    def gate(self, policy, latent, **widgets):
        return self.graph.add("LatentCLIP_SafetyGate", policy=policy, latent=latent, **{**GATE, **widgets})

    def see(self, node, *outputs):
        return [self.graph.add("Probe_Values", value=node[i]) for i in outputs]

    def dump(self, link, name):
        return self.graph.add("Probe_DumpLatent", latent=link, name=name)

    def read(self, name):
        with numpy.load(self.host.output / f"{name}.npz") as arrays:
            return dict(arrays)

    def forget(self, *names):
        for name in names:
            (self.host.output / f"{name}.npz").unlink(missing_ok=True)

    def exists(self, name):
        return (self.host.output / f"{name}.npz").exists()
