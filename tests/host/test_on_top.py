"""Guidance and guard on top of what else artists put on a model: LoRA, ControlNet, and each other."""

from __future__ import annotations

import pytest
import torch
from safety_bench import Bench, make_clip, pictures, policy_here

import lclip
from lclip.latents.neutral import neutral_latents

# From a picture with little noise: a model of random weights makes latents of a picture's scale only so.
SAMPLING = {"seed": 5, "steps": 4, "cfg": 2.0, "scheduler": "normal", "denoise": 0.2}
ANYTHING = {"own_threshold": 0.999, "strictness": "custom", "custom_shift": -10.0}
NOTHING = {"own_threshold": 0.001, "strictness": "custom", "custom_shift": 10.0}
EXTRAS = ("lora", "controlnet", "both")


class Stack(Bench):
    """The tiny SDXL-shaped model, with a LoRA, a ControlNet, both or nothing."""

    def __init__(self, host, graph, file):
        super().__init__(host, graph, file)
        self.base = graph.add("Probe_TinySDXL", seed=1, latents="SDXL")[0]
        self.positive = graph.add("Probe_Conditioning", seed=1, batch=1)[0]
        self.negative = graph.add("Probe_Conditioning", seed=2, batch=1)[0]
        self.picture = self.latent(pictures(3, size=12), name="on_top")

    def lora(self, model):
        return self.graph.add("Probe_LoRA", model=model, seed=3, strength=1.0)[0]

    def controlled(self):
        control = self.graph.add("Probe_TinyControlNet", seed=4)
        hint = self.graph.add("EmptyImage", width=96, height=96, batch_size=1, color=0x3366CC)
        return self.graph.add(
            "ControlNetApplyAdvanced", positive=self.positive, negative=self.negative, control_net=control[0],
            image=hint[0], strength=1.0, start_percent=0.0, end_percent=1.0,
        )[0]  # fmt: skip

    def model(self, extra):
        return self.lora(self.base) if extra in ("lora", "both") else self.base

    def sample(self, name, model, extra="", **widgets):
        positive = self.controlled() if extra in ("controlnet", "both") else self.positive
        node = self.graph.add(
            "KSampler", model=model, positive=positive, negative=self.negative, latent_image=self.picture,
            **{**SAMPLING, "sampler_name": "euler", **widgets},
        )  # fmt: skip
        self.dump(node[0], name)
        return node[0]

    def guard(self, model, policy, **widgets):
        settings = {"check_from": 0.0, "check_to": 1.0, "on_unsafe": "stop", "strength": 0.2}
        return self.graph.add(
            "LatentCLIP_SafetyGuard", model=model, policy=policy, **{**settings, **widgets}
        )[0]

    def guidance(self, model, strength=0.1):
        reward = self.graph.add(
            "LatentCLIP_TextReward", latent_clip=self.clip, text="a blue circle", weight=1.0
        )[0]
        return self.graph.add(
            "LatentCLIP_Guidance", model=model, reward=reward, strength=strength, start=0.0, end=1.0
        )[0]

    def run(self):
        return self.host.run(self.graph).require_ok()

    def samples(self, name):
        return torch.from_numpy(self.read(name)["samples"])


@pytest.fixture(scope="module")
def clip():
    return make_clip()


@pytest.fixture
def stack(host, graph, clip):
    file = host.models / "gate.safetensors"
    if not file.exists():
        lclip.save_checkpoint(clip, file)
    return Stack(host, graph, file.name)


def redness(clip, z):
    """p of the policy's concept, by the library in this process."""
    judge = lclip.SafetyJudge(policy_here(), clip, check_scale=False)
    return torch.tensor([verdict.probability for verdict in judge(z)])


def circleness(clip, z):
    return lclip.similarity(clip, z, ["a blue circle"])[:, 0]


@pytest.mark.parametrize("extra", EXTRAS)
def test_a_guard_that_finds_nothing_and_guidance_without_strength_change_nothing(stack, extra):
    model = stack.model(extra)
    stack.sample("bare", stack.base)
    stack.sample("stock", model, extra)
    policy = stack.policy(**ANYTHING)
    for on_unsafe in ("stop", "steer"):
        stack.sample(on_unsafe, stack.guard(model, policy, on_unsafe=on_unsafe), extra)
    stack.sample("off", stack.guidance(model, 0.0), extra)
    stack.run()
    stock = stack.samples("stock")
    assert not torch.allclose(stock, stack.samples("bare"), atol=0.01), "the extra does nothing here"
    for name in ("stop", "steer", "off"):
        torch.testing.assert_close(stack.samples(name), stock, rtol=0, atol=1e-4)


@pytest.mark.parametrize("sampler_name", ["euler", "dpmpp_2m_sde"])
@pytest.mark.parametrize("extra", EXTRAS)
def test_steering_lowers_the_concept_and_guidance_raises_the_reward(stack, clip, extra, sampler_name):
    model = stack.model(extra)
    stack.sample("stock", model, extra, sampler_name=sampler_name)
    steered = stack.guard(model, stack.policy(**NOTHING), on_unsafe="steer")
    stack.sample("steered", steered, extra, sampler_name=sampler_name)
    stack.sample("guided", stack.guidance(model), extra, sampler_name=sampler_name)
    stack.run()
    stock = stack.samples("stock")
    assert (redness(clip, stack.samples("steered")) < redness(clip, stock)).all()
    assert (circleness(clip, stack.samples("guided")) > circleness(clip, stock)).all()


@pytest.mark.parametrize("extra", EXTRAS)
def test_stop_gives_grey_and_the_next_stock_run_is_as_before(stack, extra):
    model = stack.model(extra)
    stack.sample("before", model, extra)
    stack.run()
    stack.sample("stopped", stack.guard(model, stack.policy(**NOTHING)), extra, steps=9)
    stack.run()
    grey = neutral_latents("sdxl", (3, 4, 12, 12))
    assert ((stack.samples("before") - grey).abs().amax((1, 2, 3)) > 0.1).all(), (
        "they are grey without a guard"
    )
    torch.testing.assert_close(stack.samples("stopped"), grey, rtol=0, atol=1e-3)
    # The denoise value differs in no bit of the schedule, but makes the host sample again.
    again = stack.sample("after", model, extra, denoise=0.2 - 1e-6)
    broken = stack.graph.add("Probe_BrokenWeights", model=model, after=again)
    names = stack.graph.add("Probe_Values", value=broken[0])
    assert stack.run().values(names) == [""]
    assert torch.equal(stack.samples("after"), stack.samples("before"))


@pytest.mark.parametrize("on_unsafe", ["stop", "steer"])
def test_it_does_not_matter_whether_the_lora_or_the_guard_comes_first(stack, clip, on_unsafe):
    stack.sample("unguarded", stack.lora(stack.base))
    stack.run()
    p = redness(clip, stack.samples("unguarded"))
    assert p.min() < p.max()
    policy = stack.policy(own_threshold=float((p.min() + p.max()) / 2))
    stack.sample("lora first", stack.guard(stack.lora(stack.base), policy, on_unsafe=on_unsafe))
    stack.sample("guard first", stack.lora(stack.guard(stack.base, policy, on_unsafe=on_unsafe)))
    stack.run()
    first, plain = stack.samples("lora first"), stack.samples("unguarded")
    assert torch.equal(first, stack.samples("guard first"))
    above = p >= (p.min() + p.max()) / 2
    moved = (first - plain).abs().amax((1, 2, 3)) > 1e-3
    assert moved[above].all()
    if on_unsafe == "stop":
        grey = neutral_latents("sdxl", (3, 4, 12, 12))
        torch.testing.assert_close(first[above], grey[above], rtol=0, atol=1e-3)
        assert not moved[~above].any()


@pytest.mark.parametrize("extra", ["", "both"])
def test_guard_and_guidance_work_on_one_model(stack, clip, extra):
    model = stack.model(extra)
    guided = stack.guidance(model, 0.05)
    stack.sample("both", stack.guard(guided, stack.policy(**NOTHING), on_unsafe="steer", strength=0.1), extra)
    stack.sample(
        "steered", stack.guard(model, stack.policy(**NOTHING), on_unsafe="steer", strength=0.1), extra
    )
    stack.sample("guided", guided, extra)
    stack.sample("stopped", stack.guard(guided, stack.policy(**NOTHING)), extra)
    stack.run()
    both, steered, alone = (stack.samples(name) for name in ("both", "steered", "guided"))
    assert (redness(clip, both) < redness(clip, alone)).all()  # what the guard adds to guidance
    assert (circleness(clip, both) > circleness(clip, steered)).all()  # what guidance adds to the guard
    grey = neutral_latents("sdxl", (3, 4, 12, 12))
    torch.testing.assert_close(stack.samples("stopped"), grey, rtol=0, atol=1e-3)
