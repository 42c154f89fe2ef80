"""Every node through each adapter that comes with the pack: a tiny random model makes latents of that form,
twice as large as the tiny Latent-CLIP reads, and the library alone says what the nodes must say.
"""

from __future__ import annotations

from functools import cached_property

import numpy
import pytest
import torch
import torch.nn.functional as F
from agreement import near
from reno_bench import SAMPLING, STATIC

import lclip

TEXT, CONCEPT = "a red square", "redness: a red square | a red circle // a blue square | a blue circle"
POLICY = {
    "preset": "none", "categories": "all", "own_concepts": CONCEPT, "allow": "", "strictness": "medium",
    "custom_shift": 0.0, "augmentations": "whole", "policy_json": "",
}  # fmt: skip
# in Load Latent-CLIP -> the tiny model's format, the space
FORMS = {
    "SD1.5": ("SD1.5", "sd1.5"),
    "SD3.5": ("SD3", "sd3"),
    "FLUX.1 · Z-Image · Chroma": ("FLUX", "flux"),
    "FLUX.2": ("FLUX.2", "flux2"),
}
SIDE, BATCH, STEPS = 128, 3, 3  # pixels: 16x16 cells of SDXL's; the tiny Latent-CLIP was made for 8x8


class Bench:
    """One graph with everything in it, run once; what it gave, beside what the library says."""

    def __init__(self, host, graph, title, file):
        self.host, self.graph = host, graph
        form, self.space = FORMS[title]
        self.name = f"shipped-{self.space}"
        self.known = lclip.space_named(self.space)
        self.loaded = graph.add("LatentCLIP_Load", file=file, latents=title, dtype="float32")[0]
        self.source = graph.add("Probe_TinySDXL", seed=1, latents=form)[0]
        self.words = [graph.add("Probe_Conditioning", seed=seed, batch=1)[0] for seed in (1, 2)]
        self.path = host.models / file

    @cached_property
    def model(self):
        """What the library makes of the same file and the same adapter."""
        return lclip.apply_adapter(lclip.load(self.path), lclip.shipped_adapter(self.space))

    def add(self, kind, **inputs):
        return self.graph.add(kind, **inputs)

    def latent(self, samples, name):
        numpy.savez(self.host.input / f"{self.name}-{name}.npz", samples=samples.numpy())
        return self.add("Probe_ReadLatent", name=f"{self.name}-{name}")[0]

    def empty(self, batch=BATCH):
        side = SIDE // self.known.factor
        return self.latent(torch.zeros(batch, self.known.channels, side, side), f"empty{batch}")

    def pictures(self, batch, seed):
        """Smooth latents of the space's usual size."""
        source, side = torch.Generator().manual_seed(seed), SIDE // self.known.factor
        coarse = torch.randn(batch, self.known.channels, 3, 3, generator=source)
        return (self.known.std or 1.0) * F.interpolate(coarse, (side, side), mode="bicubic")

    def sampled(self, model=None, batch=BATCH, **widgets):
        return self.add(
            "KSampler", model=model or self.source, positive=self.words[0], negative=self.words[1],
            latent_image=self.empty(batch), **{**SAMPLING, "steps": STEPS, **widgets},
        )[0]  # fmt: skip

    def reward(self, weight=100.0):
        return self.add("LatentCLIP_TextReward", latent_clip=self.loaded, text=TEXT, weight=weight)[0]

    def policy(self, threshold):
        widgets = {**POLICY, "own_threshold": threshold}
        return self.add("LatentCLIP_SafetyPolicy", latent_clip=self.loaded, **widgets)[0]

    def dump(self, latent, name):
        self.add("Probe_DumpLatent", latent=latent, name=f"{self.name}-{name}")

    def values(self, socket):
        return self.add("Probe_Values", value=socket)

    def samples(self, name):
        with numpy.load(self.host.output / f"{self.name}-{name}.npz") as arrays:
            return torch.from_numpy(arrays["samples"])

    def scores(self, z):
        return lclip.similarity(self.model, z, [TEXT])[:, 0]

    def judged(self, z, threshold=0.5):
        policy = lclip.SafetyPolicy(lclip.parse_concepts(CONCEPT, threshold))
        return policy.judge(self.model, z)

    def run(self):
        return self.host.run(self.graph).require_ok()


@pytest.mark.parametrize("title", FORMS)
class TestShippedAdapter:
    @pytest.fixture
    def bench(self, host, graph, sdxl_clip, title):
        forms = host.object_info["Probe_TinySDXL"]["input"]["required"]["latents"][0]
        if FORMS[title][0] not in forms:
            pytest.skip(f"this host knows no {title} latents")
        return Bench(host, graph, title, sdxl_clip)

    def test_what_reads_a_latent(self, bench):
        """Score, Heatmap, Select, Taste and the gate, on what the tiny model samples."""
        sampled = bench.sampled()
        liked, disliked = bench.pictures(4, 1), bench.pictures(4, 2)
        bench.dump(sampled, "sampled")
        score = bench.add("LatentCLIP_Score", latent_clip=bench.loaded, latent=sampled, text=TEXT)
        scores = bench.values(score[2])
        heat = bench.add("LatentCLIP_Heatmap", latent_clip=bench.loaded, latent=sampled, text=TEXT)
        bench.add("Probe_DumpTensor", tensor=heat[0], name=f"{bench.name}-heat")
        select = bench.add("LatentCLIP_Select", latent=sampled, reward=bench.reward(1.0), k=1)
        chosen = bench.values(select[2])
        taste = bench.add(
            "LatentCLIP_TrainTaste", latent_clip=bench.loaded, liked=bench.latent(liked, "liked"),
            disliked=bench.latent(disliked, "disliked"), weight=1.0, save=False, save_as="",
            regularization="medium",
        )  # fmt: skip
        tasted = bench.values(bench.add("LatentCLIP_Select", latent=sampled, reward=taste[0], k=1)[2])
        pictures = bench.pictures(6, 3)
        odds = sorted(verdict.probability for verdict in bench.judged(pictures))
        middle = (odds[2] + odds[3]) / 2
        gate = bench.add(
            "LatentCLIP_SafetyGate", policy=bench.policy(middle), latent=bench.latent(pictures, "judged"),
            action="replace", report_as="text", repair_iterations=2, seed=1, steps=1, cfg=1.0,
            sampler_name="euler", scheduler="normal",
        )  # fmt: skip
        blocked = bench.values(gate[4])
        bench.dump(gate[0], "replaced")
        result = bench.run()

        z, model = bench.samples("sampled"), bench.model
        assert model.size_rule == "fit" and z.shape[1] == bench.known.channels
        near(bench.host, torch.tensor(result.values(scores)), bench.scores(z), 1e-4, 1e-3)
        wanted = lclip.TextReward(model, TEXT)(z)
        near(bench.host, torch.tensor(result.values(chosen)), wanted, 1e-4, 1e-3)
        maps = F.interpolate(
            lclip.heatmap(model, z, TEXT)[:, None], scale_factor=bench.known.factor, mode="bilinear"
        )[:, 0]
        low, high = maps.amin((1, 2), keepdim=True), maps.amax((1, 2), keepdim=True)
        shown = torch.from_numpy(numpy.load(bench.host.output / f"{bench.name}-heat.npy"))
        near(bench.host, shown, (maps - low) / (high - low), 2e-3, 2e-2)
        learnt = lclip.train_taste(model, liked, disliked, shrinkage=0.3)
        near(bench.host, torch.tensor(result.values(tasted)), lclip.TasteReward(model, learnt)(z), 1e-3, 1e-2)

        unsafe = torch.tensor([not verdict.safe for verdict in bench.judged(pictures, middle)])
        assert result.values(blocked) == [int(unsafe.sum())] and 0 < int(unsafe.sum()) < 6
        after = bench.samples("replaced")
        torch.testing.assert_close(after[~unsafe], pictures[~unsafe])
        grey = [verdict.concept for verdict in bench.judged(after[unsafe])]
        assert grey == ["grey"] * int(unsafe.sum())

    def test_what_works_while_it_is_sampled(self, bench):
        """Guidance raises the reward; the guard steers, and with stop lets nothing out but grey."""
        plain = bench.sampled()
        bench.dump(plain, "plain")
        guided = bench.add(
            "LatentCLIP_Guidance", model=bench.source, reward=bench.reward(), strength=0.3, start=0.0, end=1.0
        )
        bench.dump(bench.sampled(guided[0]), "guided")
        for name, on_unsafe, threshold in (("steered", "steer", 0.01), ("stopped", "stop", 0.01)):
            guarded = bench.add(
                "LatentCLIP_SafetyGuard", model=bench.source, policy=bench.policy(threshold), check_from=0.0,
                check_to=1.0, on_unsafe=on_unsafe, strength=0.3,
            )  # fmt: skip
            bench.dump(bench.sampled(guarded[0]), name)
        bench.run()
        z = {name: bench.samples(name) for name in ("plain", "guided", "steered", "stopped")}
        assert bool((bench.scores(z["guided"]) > bench.scores(z["plain"])).all())
        judge = lclip.SafetyJudge(
            lclip.SafetyPolicy(lclip.parse_concepts(CONCEPT, 0.01)), bench.model, check_scale=False
        )
        odds = {name: judge.probabilities(each)[:, 0] for name, each in z.items()}
        assert bool((odds["plain"] > 0.01).all()) and bool((odds["steered"] < odds["plain"]).all())
        assert [verdict.concept for verdict in bench.judged(z["stopped"])] == ["grey"] * BATCH

    def test_renos_gradient_agrees_with_finite_differences(self, bench):
        """The first step of the search shows its gradient; perturbed noise is rendered by stock nodes."""
        rate, reward, latent = 2.0, bench.reward(), bench.empty(1)
        for name, iterations in (("start", 0), ("moved", 2)):
            found = bench.add(
                "LatentCLIP_ReNO", model=bench.source, positive=bench.words[0], negative=bench.words[1],
                latent_image=latent, reward=reward,
                **{
                    **SAMPLING, **STATIC, "iterations": iterations, "custom_lr": True, "lr": rate,
                    "regularization": 0.0, "grad_clip": 100.0,
                },
            )  # fmt: skip
            bench.add("Probe_DumpNoise", noise=found[2], latent=latent, name=f"{bench.name}-{name}")
        bench.run()
        start, moved = (
            torch.from_numpy(numpy.load(bench.host.output / f"{bench.name}-{name}.npy"))
            for name in ("start", "moved")
        )
        gradient = (moved - start) / (1.9 * rate)  # the first Nesterov step is (1 + momentum) lr g
        direction = torch.randn(start.shape, generator=torch.Generator().manual_seed(3))
        direction = direction + 20 * gradient / gradient.norm()  # so that the slope is not nearly zero
        reach, shown = 0.0005, []  # an adapter bends much where latents are of no picture
        for sign in (1, -1):
            noise = start + sign * reach * direction
            numpy.save(bench.host.input / f"{bench.name}{sign}.npy", noise.numpy())
            shown.append(bench.values(self.rendered(bench, f"{bench.name}{sign}", latent, reward)))
        result = bench.run()
        ahead, behind = (result.values(node)[0] for node in shown)
        slope = float((gradient.double() * direction.double()).sum())
        assert slope == pytest.approx((ahead - behind) / (2 * reach), rel=1e-2)

    def rendered(self, bench, noise, latent, reward):
        given = bench.add("Probe_GivenNoise", name=noise, seed=5)[0]
        guider = bench.add(
            "CFGGuider", model=bench.source, positive=bench.words[0], negative=bench.words[1], cfg=1.0
        )
        sigmas = bench.add(
            "BasicScheduler", model=bench.source, scheduler="normal", steps=SAMPLING["steps"], denoise=1.0
        )
        sampler = bench.add("KSamplerSelect", sampler_name="euler")
        render = bench.add(
            "SamplerCustomAdvanced", noise=given, guider=guider[0], sampler=sampler[0], sigmas=sigmas[0],
            latent_image=latent,
        )  # fmt: skip
        return bench.add("LatentCLIP_Select", latent=render[0], reward=reward, k=1)[2]
