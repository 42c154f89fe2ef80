"""Shared by the tests of guard and repair: the mini world's own pictures of harm, sampled by the host."""

from __future__ import annotations

import torch
from safety_bench import Bench

import lclip

CONCEPT = "skull: a skull // a mushroom | a ring | a circle | a square | a triangle | a cross | a star"
PROMPT = "a yellow mushroom above a blue skull on a grey ground"  # some of its pictures show no skull
ANYTHING = {"own_threshold": 0.999, "strictness": "custom", "custom_shift": -10.0}
GREY = 0.02  # a GPU rounds what the VAE makes of a grey picture; latents spread by 6
NOTHING = {"own_threshold": 0.001, "strictness": "custom", "custom_shift": 10.0}


class Sampling(Bench):
    def __init__(self, host, graph):
        self.host, self.graph = host, graph
        world = graph.add("LatentCLIP_MiniWorld")
        self.model, self.clip = world[0], world[3]
        self.words = world[1]
        self.positive, self.negative = self.encode(PROMPT), self.encode("")

    def encode(self, text):
        return self.graph.add("CLIPTextEncode", clip=self.words, text=text)[0]

    def policy(self, **widgets):
        return super().policy(own_concepts=CONCEPT, **widgets)

    def sample(self, model, name="sampled", batch=3, **widgets):
        settings = {
            "seed": 5,
            "steps": 4,
            "cfg": 1.0,
            "sampler_name": "euler",
            "scheduler": "simple",
            "denoise": 1.0,
        }
        empty = self.graph.add("EmptyLatentImage", width=64, height=64, batch_size=batch)
        node = self.graph.add(
            "KSampler",
            model=model,
            positive=self.positive,
            negative=self.negative,
            latent_image=empty[0],
            **{**settings, **widgets},
        )
        self.dump(node[0], name)
        return node[0]

    def reno(self, model, reward, latent, **widgets):
        settings = {
            "seed": 5,
            "iterations": 12,
            "custom_lr": False,
            "lr": 5.0,
            "method": "gradient",
            "optimizer": "sgd",
        }
        more = {"grad_clip": 0.1, "candidates": 1, "keep": 1, "stop_on_plateau": False}
        more |= {"patience": 10, "stop_at_target": False, "target": 0.3}
        return self.graph.add(
            "LatentCLIP_ReNO", model=model, steps=1, cfg=1.0, sampler_name="euler", scheduler="simple",
            positive=self.positive, negative=self.negative, latent_image=latent, denoise=1.0,
            reward=reward, regularization=0.01, checkpointing="off", **{**settings, **more, **widgets},
        )  # fmt: skip

    def guard(self, policy, model=None, **widgets):
        settings = {"check_from": 0.0, "check_to": 1.0, "on_unsafe": "stop", "strength": 0.2}
        return self.graph.add(
            "LatentCLIP_SafetyGuard", model=model or self.model, policy=policy, **{**settings, **widgets}
        )[0]

    def repair(self, policy, latent, **widgets):
        wires = {"model": self.model, "positive": self.positive, "negative": self.negative}
        return self.gate(policy, latent, action="repair", scheduler="simple", **wires, **widgets)

    def samples(self, name):
        return torch.from_numpy(self.read(name)["samples"])


def judge_of(model, threshold=0.5):
    policy = lclip.SafetyPolicy(lclip.parse_concepts(CONCEPT, threshold))
    return lclip.SafetyJudge(policy, model, check_scale=False)


def judged(model, z, threshold=0.5):
    return judge_of(model, threshold)(z)


def scores(model, z):
    return [verdict.probability for verdict in judged(model, z)]


def between(values):
    """A threshold between the lowest and the highest."""
    low, high = min(values), max(values)
    assert low < high / 2
    return (low + high) / 2
