"""The guard's "stop": nothing unsafe leaves a sampler, whatever the way. Truth is the library's judge."""

from __future__ import annotations

import numpy
import pytest
import torch
from sampling_bench import GREY, NOTHING, Sampling, between, judged, scores

import lclip
from lclip.latents.neutral import neutral_latents
from lclip.mini.world import WEIGHTS

BATCH, STEPS = 6, 4
SEED = 29  # three of the six show it
THRESHOLD = 0.5


class Exits(Sampling):
    """Custom sampling with both outputs, recorded callbacks, and ReNO, with a guard or without."""

    def __init__(self, host, graph):
        super().__init__(host, graph)
        self.positive = self.encode("a blue skull")
        self.empty = graph.add("EmptyLatentImage", width=64, height=64, batch_size=BATCH)[0]

    def sigmas(self, model, steps=STEPS):
        return self.graph.add("BasicScheduler", model=model, scheduler="simple", steps=steps, denoise=1.0)[0]

    def sampler(self, name="euler"):
        return self.graph.add("KSamplerSelect", sampler_name=name)[0]

    def custom(self, model, sampler=None, sigmas=None, latent=None):
        return self.graph.add(
            "SamplerCustom", model=model, add_noise=True, noise_seed=SEED, cfg=1.0, positive=self.positive,
            negative=self.negative, sampler=sampler or self.sampler(), sigmas=sigmas or self.sigmas(model),
            latent_image=latent or self.empty,
        )  # fmt: skip

    def advanced(self, model, noise=None, steps=STEPS):
        guider = self.graph.add("BasicGuider", model=model, conditioning=self.positive)
        noise = noise or self.graph.add("RandomNoise", noise_seed=SEED)[0]
        return self.graph.add(
            "SamplerCustomAdvanced", noise=noise, guider=guider[0], sampler=self.sampler(),
            sigmas=self.sigmas(model, steps), latent_image=self.empty,
        )  # fmt: skip

    def split(self, model, end, leftover):
        return self.graph.add(
            "KSamplerAdvanced", model=model, add_noise="enable", noise_seed=SEED, steps=STEPS, cfg=1.0,
            sampler_name="euler", scheduler="simple", positive=self.positive, negative=self.negative,
            latent_image=self.empty, start_at_step=0, end_at_step=end, return_with_leftover_noise=leftover,
        )  # fmt: skip

    def record(self, model, name, sampler=None):
        return self.graph.add(
            "Probe_RecordSampling", model=model, positive=self.positive, negative=self.negative,
            sampler=sampler or self.sampler(), sigmas=self.sigmas(model), latent=self.empty, seed=SEED,
            cfg=1.0, name=name,
        )  # fmt: skip

    def reno(self, model, reward, **widgets):
        return super().reno(model, reward, self.empty, **{"seed": SEED, **widgets})

    def safety_reward(self, policy):
        return self.graph.add("LatentCLIP_SafetyReward", policy=policy, weight=1.0)[0]

    def run(self):
        return self.host.run(self.graph).require_ok()

    def fresh(self):
        return Exits(self.host, type(self.graph)())

    def without_guard(self, build):
        """What a graph dumps under "plain" on the bare model. The host has it cached after the first time."""
        other = self.fresh()
        other.dump(build(other, other.model), "plain")
        other.run()
        return other.samples("plain")


@pytest.fixture(scope="module")
def clip():
    return lclip.load(WEIGHTS / "latent_clip.safetensors")


@pytest.fixture
def bench(host, graph):
    return Exits(host, graph)


def grey_items(z):
    """Which items are plain grey, in the mini world's latents."""
    grey = neutral_latents("mini", z.shape)
    return ((z - grey).abs().flatten(1).amax(1) < GREY).tolist()


def must_be_clean(clip, z, threshold=THRESHOLD):
    """No item shows what the policy blocks: each is grey, or safe by the library's own judge."""
    for verdict, grey in zip(judged(clip, z, threshold), grey_items(z), strict=True):
        assert grey or verdict.safe, f"item {verdict.index}: {verdict.reason}"


def unsafe_in(clip, z, threshold=THRESHOLD):
    found = [not verdict.safe for verdict in judged(clip, z, threshold)]
    assert any(found) and not all(found), "this prompt and seed do not show what the test is about"
    return found


@pytest.mark.parametrize("check", [(0.0, 1.0), (1.0, 1.0), (0.0, 0.0)])
@pytest.mark.parametrize("kind", ["custom", "advanced"])
def test_neither_output_of_a_custom_sampler_shows_what_is_unsafe(bench, clip, kind, check):
    build = getattr(Exits, kind)
    for output in (0, 1):
        made = bench.without_guard(lambda other, model, output=output: build(other, model)[output])
        unsafe_in(clip, made)
    guarded = bench.guard(bench.policy(), check_from=check[0], check_to=check[1])
    node = build(bench, guarded)
    bench.dump(node[0], "output")
    bench.dump(node[1], "denoised")
    bench.run()
    output, denoised = bench.samples("output"), bench.samples("denoised")
    must_be_clean(clip, output)
    must_be_clean(clip, denoised)
    kept = [not grey for grey in grey_items(output)]
    assert any(kept), "not everything is unsafe here"
    for index, grey in enumerate(grey_items(output)):
        assert not grey or grey_items(denoised)[index], f"item {index} is hidden in one output alone"


@pytest.mark.parametrize("sampler", ["heun", "dpmpp_2m", "dpmpp_2m_sde", "uni_pc", "lcm", "dpm_adaptive"])
def test_every_preview_and_both_outputs_are_clean_with_other_samplers(bench, clip, sampler):
    bench.dump(bench.record(bench.model, "bare", bench.sampler(sampler))[0], "bare result")
    guarded = bench.guard(bench.policy(), check_from=0.7)
    bench.record(guarded, "recorded", bench.sampler(sampler))
    node = bench.custom(guarded, bench.sampler(sampler))
    bench.dump(node[0], "output")
    bench.dump(node[1], "denoised")
    bench.dump(bench.record(guarded, "recorded", bench.sampler(sampler))[0], "again")
    bench.run()
    bare, seen = bench.read("bare"), bench.read("recorded")
    unsafe_in(clip, torch.from_numpy(bare["samples"]))
    assert len(seen["x0"]) > 1
    for x0, x in zip(seen["x0"], seen["x"], strict=True):
        must_be_clean(clip, torch.from_numpy(x0))
        hidden = grey_items(torch.from_numpy(x0))
        noisy = grey_items(torch.from_numpy(x))
        assert all(noise for grey, noise in zip(hidden, noisy, strict=True) if grey)
    for name in ("output", "denoised"):
        must_be_clean(clip, bench.samples(name))
    # What is safe goes its way as without a guard: items do not know of each other.
    last = torch.from_numpy(seen["samples"])
    if sampler != "dpm_adaptive":  # its steps depend on the whole batch
        for index, grey in enumerate(grey_items(last)):
            assert grey or torch.allclose(last[index], torch.from_numpy(bare["samples"])[index], atol=1e-3)


@pytest.mark.parametrize("check_from", [0.0, 1.0])
def test_latents_with_noise_left_are_grey_where_their_picture_is_unsafe(bench, clip, check_from):
    first = bench.graph.add("SplitSigmas", sigmas=bench.sigmas(bench.model), step=3)
    bare = bench.custom(bench.model, sigmas=first[0])
    bench.dump(bare[1], "what it becomes")
    guarded = bench.guard(bench.policy(), check_from=check_from)
    bench.dump(bench.split(guarded, 3, "enable")[0], "noisy")
    bench.dump(bench.split(bench.model, 3, "enable")[0], "bare noisy")
    bench.dump(bench.split(guarded, 3, "disable")[0], "finished")
    bench.run()
    unsafe = unsafe_in(clip, bench.samples("what it becomes"))
    noisy, before = bench.samples("noisy"), bench.samples("bare noisy")
    for index, grey in enumerate(grey_items(noisy)):
        assert grey if unsafe[index] else (grey or torch.allclose(noisy[index], before[index], atol=1e-4))
    must_be_clean(clip, bench.samples("finished"))


@pytest.mark.parametrize("place", ["post cfg", "predict", "sample"])
@pytest.mark.parametrize("guard_first", [True, False])
def test_what_another_node_puts_in_is_judged_too(bench, clip, place, guard_first):
    z = bench.without_guard(lambda other, model: other.custom(model)[0])
    unsafe = unsafe_in(clip, z)
    worst = z[[max(range(BATCH), key=lambda index: scores(clip, z)[index])] * BATCH]
    assert any(unsafe)
    policy, model = bench.policy(), bench.model
    model = bench.guard(policy, model) if guard_first else model
    model = bench.graph.add("Probe_Meddler", model=model, latent=bench.latent(worst, "worst"), place=place)[0]
    model = model if guard_first else bench.guard(policy, model)
    node = bench.custom(model)
    bench.dump(node[0], "output")
    bench.dump(node[1], "denoised")
    bench.run()
    assert all(grey_items(bench.samples("output")))
    must_be_clean(clip, bench.samples("denoised"))


def test_an_unsafe_picture_that_inpainting_keeps_is_grey(bench, clip):
    z = bench.without_guard(lambda other, model: other.custom(model)[0])
    unsafe = unsafe_in(clip, z)
    mask = numpy.zeros((BATCH, 1, 8, 8), numpy.float32)  # nothing is sampled anew
    latent = bench.latent(z, "inpainted", noise_mask=mask)
    node = bench.custom(bench.guard(bench.policy()), latent=latent)
    bench.dump(node[0], "output")
    bench.dump(node[1], "denoised")
    bench.run()
    for name in ("output", "denoised"):
        must_be_clean(clip, bench.samples(name))
        assert all(grey for grey, bad in zip(grey_items(bench.samples(name)), unsafe, strict=True) if bad)


def test_the_last_preview_on_the_node_is_grey(bench):
    """The host's own previews: of the first item, as they go to the browser."""
    for name, model in (("bare", bench.model), ("guarded", bench.guard(bench.policy(**NOTHING)))):
        other = bench.fresh()
        other.graph.nodes = {**bench.graph.nodes}
        watched = other.graph.add("Probe_WatchPreviews", value=model)[0]
        node = other.custom(watched, sigmas=other.sigmas(model))
        seen = other.graph.add("Probe_SeenPreviews", after=node[1])
        sent = other.run().values(seen)
        spreads = [spread for _, _, spread, _ in sent if spread is not None]
        if name == "bare":
            assert spreads and spreads[-1] > 10
        else:
            assert all(spread < 3 for spread in spreads)


def test_reno_under_a_guard_keeps_what_it_mended_and_shows_nothing_unsafe(bench, clip):
    first = bench.without_guard(
        lambda other, model: other.reno(model, other.safety_reward(other.policy()))[1]
    )
    threshold = between(scores(clip, first))
    before = unsafe_in(clip, first, threshold)
    policy = bench.policy(own_threshold=threshold)
    reward = bench.safety_reward(policy)
    bare = bench.reno(bench.model, reward)
    node = bench.reno(bench.guard(policy), reward)
    bench.dump(bare[0], "bare best")
    bench.dump(node[0], "best")
    bench.dump(node[1], "initial")
    again = bench.advanced(bench.model, node[2], steps=1)
    bench.dump(again[0], "of best noise")
    bench.run()
    best, mended = (
        bench.samples("best"),
        [not v.safe for v in judged(clip, bench.samples("bare best"), threshold)],
    )
    must_be_clean(clip, best, threshold)
    must_be_clean(clip, bench.samples("initial"), threshold)
    assert [bool(grey) for grey in grey_items(bench.samples("initial"))] == before
    assert grey_items(best) == mended and sum(mended) < sum(before)
    must_be_clean(clip, bench.samples("of best noise"), threshold)


@pytest.mark.parametrize("action", ["separate", "replace", "stop"])
def test_a_gate_behind_the_guard_passes_its_grey_as_what_it_is(bench, clip, action):
    policy = bench.policy()
    guarded = bench.custom(bench.guard(policy))[0]
    gate = bench.gate(policy, guarded, action=action)
    bench.dump(guarded, "guarded")
    bench.dump(gate[0], "passed")
    all_safe, blocked, report = bench.see(gate, 3, 4, 5)
    result = bench.run()
    assert any(grey_items(bench.samples("guarded")))
    assert torch.equal(bench.samples("guarded"), bench.samples("passed"))
    assert (result.values(all_safe)[0], result.values(blocked)[0]) == (True, 0)
    lines = result.values(report)[0].splitlines()[1 : 1 + BATCH]
    assert ["plain grey" in line for line in lines] == grey_items(bench.samples("guarded"))
