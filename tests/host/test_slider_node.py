"""The concept slider inside the host's own sampling, against the library and the host's own nodes."""

from __future__ import annotations

import pytest
import torch
from agreement import near
from PIL import Image
from reno_bench import Bench

import lclip

SLIDER = {
    "positions": 3, "low": -0.1, "high": 0.1, "method": "auto", "anchor": 0.3, "iterations": 3,
    "strength": 0.05, "end": 1.0, "checkpointing": "auto", "less": "a red square", "more": "a blue circle",
}  # fmt: skip
STAGE = {
    "seed": 5, "steps": 1, "cfg": 1.0, "sampler_name": "euler", "scheduler": "normal", "denoise": 1.0,
}  # fmt: skip


class Slide(Bench):
    def slide(self, latent, model=None, **widgets):
        return self.graph.add(
            "LatentCLIP_Slider", model=model or self.model[0], positive=self.positive, negative=self.negative,
            latent_image=latent, latent_clip=self.clip[0], **{**STAGE, **SLIDER, **widgets},
        )  # fmt: skip

    def values(self, node, output):
        return self.graph.add("Probe_Values", value=node[output])


@pytest.fixture
def slide(host, graph, sdxl_clip):
    return Slide(host, graph, sdxl_clip)


def measured(slide, latents, less=SLIDER["less"]):
    """The library's own answer."""
    model = lclip.load(slide.host.models / "tiny_sdxl.safetensors")
    return lclip.SliderReward(model, less, SLIDER["more"]).position(latents)


@pytest.mark.parametrize(
    ("steps", "sampler_name"), [(1, "euler"), (2, "euler_ancestral"), (5, "dpmpp_2m"), (5, "uni_pc")]
)
def test_a_series_starts_from_ksamplers_picture_and_is_measured_by_the_library(slide, steps, sampler_name):
    stage = {"steps": steps, "sampler_name": sampler_name}
    latent = slide.empty()
    node = slide.slide(latent, **stage)
    slide.dump(node[0], "series")
    slide.dump(slide.ksampler(latent, **{**STAGE, **stage})[0], "plain")
    shown = [slide.values(node, output) for output in (1, 5)]
    result = slide.run()
    positions, report = result.values(shown[0]), result.values(shown[1])[0]
    series = slide.samples("series")
    assert len(series) == 3 and "picture 1: asked -0.100" in report
    near(slide.host, series[1:2], slide.samples("plain"), 1e-4, 1e-2)
    near(slide.host, torch.tensor(positions), measured(slide, series), 1e-4, 1e-2)
    assert positions[0] < positions[1] < positions[2]


@pytest.mark.parametrize(
    ("steps", "sampler_name", "cache"),
    [
        (1, "euler", None),
        (5, "euler", None),
        *((steps, "euler", cache) for steps in (1, 6) for cache in ("EasyCache", "LazyCache")),
    ],
)
def test_noise_and_model_of_a_position_make_its_picture_in_stock_nodes(slide, steps, sampler_name, cache):
    """Also under a step cache, whose state each render begins anew."""
    latent = slide.empty()
    if cache is not None:
        widgets = {"reuse_threshold": 3.0, "start_percent": 0.0, "end_percent": 0.95, "verbose": False}
        slide.model = slide.graph.add(cache, model=slide.model[0], **widgets)
    node = slide.slide(latent, steps=steps, sampler_name=sampler_name)
    add = slide.graph.add
    guider = add("CFGGuider", model=node[4], positive=slide.positive, negative=slide.negative, cfg=1.0)
    sigmas = add("BasicScheduler", model=slide.model[0], scheduler="normal", steps=steps, denoise=1.0)
    stock = add("KSamplerSelect", sampler_name=sampler_name)
    again = add(
        "SamplerCustomAdvanced", noise=node[3], guider=guider[0], sampler=stock[0], sigmas=sigmas[0],
        latent_image=latent,
    )  # fmt: skip
    shown = slide.values(node, 1)
    scores = add("LatentCLIP_Score", latent_clip=slide.clip[0], latent=again[0], text=SLIDER["more"])
    own = add("LatentCLIP_Score", latent_clip=slide.clip[0], latent=node[0], text=SLIDER["more"])
    each, whole = slide.values(scores, 2), slide.values(own, 2)
    result = slide.run()
    assert len(result.values(shown)) == 3
    near(slide.host, torch.tensor(result.values(each)), torch.tensor(result.values(whole)), 1e-4, 1e-3)


@pytest.mark.parametrize(("steps", "method"), [(2, "noise"), (5, "guidance")])
def test_an_attention_that_another_node_cut_changes_no_series(slide, steps, method):
    """It changes no picture, but would take the gradient away that the series follows."""
    latent, cut = slide.empty(), slide.graph.add("Probe_CutAttention", model=slide.model[0])[0]
    for name, model in (("whole", None), ("cut", cut)):
        slide.dump(slide.slide(latent, model, steps=steps, method=method)[0], name)
    slide.run()
    near(slide.host, slide.samples("cut"), slide.samples("whole"), 1e-4, 1e-2)
    assert (slide.samples("whole")[0] - slide.samples("whole")[2]).abs().max() > 1e-3


def test_a_batch_gives_a_series_of_each_item_position_by_position(slide):
    pair = slide.slide(slide.empty(2))
    slide.dump(pair[0], "pair")
    positions = slide.values(pair, 1)
    result = slide.run()
    assert slide.samples("pair").shape[0] == 6
    values = torch.tensor(result.values(positions)).view(3, 2)
    assert bool((values.diff(dim=0) > 0).all())


def test_groups_of_latents_take_the_place_of_texts(slide):
    latent, group = slide.empty(), slide.picture(2)
    node = slide.slide(latent, less="", less_latents=group)
    slide.dump(node[0], "series")
    slide.dump(group, "group")
    positions = slide.values(node, 1)
    result = slide.run()
    wanted = measured(slide, slide.samples("series"), slide.samples("group"))
    near(slide.host, torch.tensor(result.values(positions)), wanted, 1e-4, 1e-2)


@pytest.mark.parametrize(
    ("widgets", "words"),
    [
        ({"less": ""}, "text 'less' of the slider is empty"),
        ({"more": "a red square"}, "are the same to this model"),
        ({"low": 0.1, "high": 0.1}, "range is 0.1 to 0.1"),
        ({"sampler_name": "uni_pc"}, "Set method to guidance"),
    ],
)
def test_what_cannot_slide_is_refused_by_name(slide, widgets, words):
    node = slide.slide(slide.empty(), **widgets)
    slide.dump(node[0], "series")
    assert words in slide.host.run(slide.graph).error


@pytest.mark.parametrize("method", ["noise", "guidance"])
def test_models_of_another_latent_space_are_refused_by_name(slide, method):
    model = slide.graph.add("Probe_TinySDXL", seed=1, latents="SD1.5")
    slide.dump(slide.slide(slide.empty(), model[0], method=method)[0], "refused")
    error = slide.host.run(slide.graph).error
    assert "reads SDXL latents" in error and "makes SD1.5 latents" in error


def test_unknown_words_stand_on_the_node(host, new_graph):
    heights = []
    for word in ("blue", "zebra"):
        graph = new_graph()
        model, clip, _, latent_clip = (graph.add("LatentCLIP_MiniWorld")[output] for output in range(4))
        prompt = graph.add("CLIPTextEncode", clip=clip, text="a red circle")[0]
        latent = graph.add("EmptyLatentImage", width=64, height=64, batch_size=1)[0]
        texts = {"less": "a red circle", "more": f"a {word} circle"}
        node = graph.add(
            "LatentCLIP_Slider", model=model, positive=prompt, negative=prompt, latent_image=latent,
            latent_clip=latent_clip, **{**STAGE, **SLIDER, **texts},
        )  # fmt: skip
        graph.add("Probe_DumpLatent", latent=node[0], name="words")
        picture = host.run(graph).require_ok().images(node)[-1]
        with Image.open(host.base / "temp" / picture.name) as opened:
            heights.append(opened.height)
    assert heights[1] > heights[0] + 20


@pytest.mark.parametrize(("steps", "call"), [(1, 4), (5, 8)])
def test_an_interrupt_ends_the_series_at_once_and_leaves_nothing_behind(slide, steps, call):
    latent = slide.empty()
    slide.dump(slide.ksampler(latent)[0], "before")
    slide.run()
    interrupting = slide.graph.add("Probe_Interrupt", model=slide.model[0], call=call)
    slide.dump(slide.slide(latent, interrupting[0], steps=steps, positions=50)[0], "never")
    assert "execution_interrupted" in slide.host.run(slide.graph).messages
    after = Slide(slide.host, type(slide.graph)(), "tiny_sdxl.safetensors")
    after.dump(after.ksampler(after.empty(), denoise=1.0 - 3e-5)[0], "after")
    again = after.slide(after.empty(), seed=73)
    broken = after.graph.add("Probe_BrokenWeights", model=after.model[0], after=again[0])
    names = after.graph.add("Probe_Values", value=broken[0])
    assert after.run().values(names) == [""]
    assert torch.equal(slide.samples("before"), slide.samples("after"))


def test_a_batch_that_does_not_fit_is_slid_item_by_item(slide):
    latent = slide.empty(2)
    tight = slide.graph.add("Probe_RunsOutOfMemory", model=slide.model[0])
    slide.dump(slide.slide(latent)[0], "roomy")
    slide.dump(slide.slide(latent, tight[0])[0], "tight")
    slide.run()
    near(slide.host, slide.samples("tight"), slide.samples("roomy"), 1e-4, 1e-3)
