"""The map between corners in a real host, against the host's own samplers and its ConditioningAverage."""

from __future__ import annotations

import base64
import io
import math
import re

import numpy
import pytest
import torch
from agreement import near
from PIL import Image
from reno_bench import Bench
from sampling_bench import GREY, Sampling, judged

from lclip.latents.neutral import neutral_latents
from lclip.mini.world import load_latent_clip

STAGE = {"seed": 5, "steps": 2, "cfg": 1.0, "sampler_name": "euler", "scheduler": "normal", "denoise": 1.0}
EXPLORE = {
    "texts": "a red square\na blue circle", "cells": 3, "other_seeds": "6, 7, 8", "x_axis": "auto",
    "y_axis": "auto", "elsewhere": "", "custom_contour": False, "contour": 0.3, "column": 1, "row": 2,
}  # fmt: skip
LATENT, NOISE, MAP, SCORES, POSITIVE, START, REPORT = range(7)


class Atlas(Bench):
    def explore(self, latent=None, model=None, positive=None, **widgets):
        return self.graph.add(
            "LatentCLIP_Explore", model=model or self.model[0], positive=positive or self.positive,
            negative=self.negative, latent_image=latent or self.empty(), latent_clip=self.clip[0],
            **{**STAGE, **EXPLORE, **widgets},
        )  # fmt: skip

    def custom(self, found, stage, noise=None):
        """The stock SamplerCustomAdvanced with what came out for a cell."""
        add, model = self.graph.add, self.model[0]
        guider = add(
            "CFGGuider", model=model, positive=found[POSITIVE], negative=self.negative, cfg=stage["cfg"]
        )
        names = ("scheduler", "steps", "denoise")
        sigmas = add("BasicScheduler", model=model, **{name: stage[name] for name in names})
        sampler = add("KSamplerSelect", sampler_name=stage["sampler_name"])
        return add(
            "SamplerCustomAdvanced", noise=noise or found[NOISE], guider=guider[0], sampler=sampler[0],
            sigmas=sigmas[0], latent_image=found[START],
        )  # fmt: skip

    def noise_of(self, noise, latent, name):
        self.graph.add("Probe_DumpNoise", noise=noise, latent=latent, name=name)

    def noise(self, name):
        return torch.from_numpy(numpy.load(self.host.output / f"{name}.npy"))

    def values(self, output):
        return self.graph.add("Probe_Values", value=output)

    def text(self, seed):
        return self.graph.add("Probe_Conditioning", seed=seed, batch=1)[0]


@pytest.fixture
def atlas(host, graph, sdxl_clip):
    return Atlas(host, graph, sdxl_clip)


def close(atlas, first, second):
    near(atlas.host, atlas.samples(first), atlas.samples(second), 1e-4, 1e-3)


@pytest.mark.parametrize(
    ("sampler_name", "cfg", "denoise"),
    [
        ("euler", 1.0, 1.0), ("euler", 3.0, 0.7), ("heun", 1.0, 1.0), ("euler_ancestral", 1.0, 1.0),
        ("dpmpp_2m_sde", 2.0, 1.0), ("dpmpp_sde_gpu", 1.0, 1.0), ("lcm", 1.0, 1.0),
        ("dpm_adaptive", 1.0, 1.0), ("euler_ancestral_cfg_pp", 2.0, 1.0),
    ],
)  # fmt: skip
def test_the_chosen_latent_is_what_stock_nodes_make_of_the_chosen_noise(atlas, sampler_name, cfg, denoise):
    latent = atlas.empty() if denoise == 1.0 else atlas.picture(1, mask=True)
    stage = {**STAGE, "sampler_name": sampler_name, "cfg": cfg, "denoise": denoise}
    found = atlas.explore(latent, **stage)
    atlas.dump(found[LATENT], "cell")
    atlas.dump(atlas.custom(found, stage)[0], "stock")
    atlas.run()
    close(atlas, "cell", "stock")


CACHED = [("EasyCache", 3), ("LazyCache", 3), ("closure", 5), ("network", 5), ("class", 5), ("diffusion", 5)]


@pytest.mark.parametrize(("cache", "cells"), CACHED)
def test_under_a_step_cache_a_cell_is_what_stock_nodes_make_of_it_alone(atlas, cache, cells):
    """Decided by the mean over a batch, a cell would depend on those beside it, and on those before."""
    if cache.endswith("Cache"):
        widgets = {"reuse_threshold": 0.2, "start_percent": 0.15, "end_percent": 0.95, "verbose": False}
        atlas.model = atlas.graph.add(cache, model=atlas.model[0], **widgets)
    else:
        atlas.model = atlas.graph.add("Probe_StepCache", model=atlas.model[0], kind=cache)
    stage = {**STAGE, "steps": 8}
    found = atlas.explore(cells=cells, column=cells - 1, row=cells - 1, **stage)
    atlas.dump(found[LATENT], "cell")
    atlas.run()
    atlas.dump(atlas.custom(found, stage)[0], "stock")
    atlas.run()
    close(atlas, "cell", "stock")


@pytest.mark.parametrize(
    ("column", "row", "seed", "sampler_name"),
    [(0, 0, 5, "euler"), (2, 0, 6, "uni_pc"), (0, 2, 7, "dpm_2"), (2, 2, 8, "dpmpp_2m")],
)
def test_a_corner_is_what_ksampler_makes_of_its_seed(atlas, column, row, seed, sampler_name):
    latent, stage = atlas.empty(), {**STAGE, "sampler_name": sampler_name, "steps": 3}
    found = atlas.explore(latent, column=column, row=row, **stage)
    atlas.dump(found[LATENT], "cell")
    atlas.dump(atlas.ksampler(latent, **{**stage, "seed": seed})[0], "stock")
    atlas.run()
    close(atlas, "cell", "stock")


def test_between_noises_it_goes_along_arcs(atlas):
    latent = atlas.empty()
    found = atlas.explore(latent, cells=4, other_seeds="6", column=1)
    atlas.noise_of(found[NOISE], latent, "between")
    for seed in (5, 6):
        atlas.noise_of(atlas.graph.add("RandomNoise", noise_seed=seed)[0], latent, f"seed{seed}")
    atlas.run()
    a, b = (atlas.noise(f"seed{seed}").double() for seed in (5, 6))
    angle = math.acos(float((a / a.norm() * (b / b.norm())).sum()))
    wanted = math.sin(2 / 3 * angle) * a / a.norm() + math.sin(1 / 3 * angle) * b / b.norm()
    wanted = wanted / math.sin(angle) * (2 / 3 * a.norm() + 1 / 3 * b.norm())
    torch.testing.assert_close(atlas.noise("between").double(), wanted, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(("corner", "tokens"), [("corner_2", 7), ("corner_4", 7), ("corner_3", 12)])
def test_between_prompts_it_goes_as_conditioning_average_does(atlas, corner, tokens):
    latent = atlas.empty()
    other = atlas.graph.add("Probe_Conditioning", seed=9, batch=1, tokens=tokens)[0]
    found = atlas.explore(latent, cells=5, other_seeds="", column=3, **{corner: other})
    atlas.dump(found[LATENT], "cell")
    average = atlas.graph.add(
        "ConditioningAverage", conditioning_to=other, conditioning_from=atlas.positive,
        conditioning_to_strength=0.75,
    )  # fmt: skip
    atlas.dump(atlas.ksampler(latent, positive=average[0], **STAGE)[0], "stock")
    end = atlas.explore(latent, cells=5, other_seeds="", column=4, **{corner: other})
    atlas.dump(end[LATENT], "end")
    atlas.dump(atlas.ksampler(latent, positive=other, **STAGE)[0], "stock end")
    atlas.run()
    close(atlas, "cell", "stock")
    close(atlas, "end", "stock end")


def test_three_prompts_and_a_batch_of_cells_each_with_its_own(atlas):
    """Opposite of corner 1 stands 2 + 3 - 1, and nearest to a corner the corner itself."""
    latent = atlas.empty()
    texts = {"corner_2": atlas.text(9), "corner_3": atlas.text(10)}
    for column, row, name in ((1, 0, "corner_2"), (0, 1, "corner_3")):
        found = atlas.explore(latent, cells=2, other_seeds="", column=column, row=row, **texts)
        atlas.dump(found[LATENT], f"cell {name}")
        atlas.dump(atlas.ksampler(latent, positive=texts[name], **STAGE)[0], f"stock {name}")
    atlas.run()
    for name in texts:
        close(atlas, f"cell {name}", f"stock {name}")


def test_between_latents_it_goes_straight(atlas):
    first = atlas.picture()
    flipped = atlas.graph.add("LatentFlip", samples=first, flip_method="x-axis: vertically")[0]
    stage = {**STAGE, "denoise": 0.6}
    found = atlas.explore(first, other_seeds="", column=1, row=0, corner_2=flipped, **stage)
    atlas.dump(found[START], "between")
    atlas.dump(found[LATENT], "cell")
    atlas.dump(atlas.ksampler(found[START], **stage)[0], "stock")
    atlas.dump(first, "first")
    atlas.dump(flipped, "second")
    atlas.run()
    torch.testing.assert_close(
        atlas.samples("between"), (atlas.samples("first") + atlas.samples("second")) / 2
    )
    close(atlas, "cell", "stock")


def test_a_wired_noise_takes_the_place_of_other_seeds(atlas):
    latent = atlas.empty()
    wired = atlas.graph.add("RandomNoise", noise_seed=42)[0]
    found = atlas.explore(latent, column=2, row=0, corner_3=wired)
    report = atlas.values(found[REPORT])
    atlas.dump(found[LATENT], "cell")
    atlas.dump(atlas.ksampler(latent, **{**STAGE, "seed": 42})[0], "stock")
    assert "at noise 1-3 1" in atlas.run().values(report)[0]
    close(atlas, "cell", "stock")


def test_axes_of_several_kinds_are_shown_two_at_a_time(atlas):
    latent, other = atlas.empty(), atlas.text(9)
    settings = {"corner_2": other, "x_axis": "noise 1-3", "y_axis": "prompt 1-2", "elsewhere": "noise 1-2 1"}
    found = atlas.explore(latent, column=2, row=2, **settings)  # seed 8, the other prompt
    report = atlas.values(found[REPORT])
    atlas.dump(found[LATENT], "cell")
    atlas.dump(atlas.ksampler(latent, positive=other, **{**STAGE, "seed": 8})[0], "stock")
    assert "at prompt 1-2 1, noise 1-2 1, noise 1-3 1" in atlas.run().values(report)[0]
    close(atlas, "cell", "stock")


def test_scores_are_those_of_the_score_node_and_the_map_tells_every_cell(atlas):
    latent = atlas.empty()
    found, scores, reports = atlas.explore(latent), [], []
    for text in EXPLORE["texts"].splitlines():
        node = atlas.graph.add("LatentCLIP_Score", latent_clip=atlas.clip[0], latent=found[LATENT], text=text)
        scores.append(atlas.values(node[2]))
    own = atlas.values(found[SCORES])
    reports = atlas.values(found[REPORT])
    atlas.graph.add("Probe_DumpTensor", tensor=found[MAP], name="map")
    result = atlas.run()
    told = [result.values(each)[0] for each in scores]
    assert result.values(own) == pytest.approx(told, abs=1e-4)
    (shown,) = result.entry["outputs"][found]["latent_clip_map"]
    assert [each[2 * 3 + 1] for each in shown["scores"]] == pytest.approx(told, abs=1e-4)
    assert (shown["columns"], shown["rows"], shown["x"], shown["y"]) == (3, 3, "noise 1-2", "noise 1-3")
    assert shown["file"]["type"] == "temp" and len(shown["scores"][0]) == 9
    (own,) = re.findall(r"a red square: (-?[.\d]+)", result.values(reports)[0])
    assert float(own) == pytest.approx(told[0], abs=2e-4)
    chart = atlas.noise("map")
    assert chart.shape[0] == 1 and chart.shape[2] == 1024 and float(chart.std()) > 0.05


def tiles(picture, columns=5):
    """A sheet of square cells -> [cells, h, w, 3] in 0..1, without the rim that a JPEG smears."""
    pixels = numpy.asarray(picture.convert("RGB"), numpy.float32) / 255
    side = pixels.shape[1] // columns
    cells = pixels.reshape(-1, side, columns, side, 3).swapaxes(1, 2).reshape(-1, side, side, 3)
    return cells[:, 16:-16, 16:-16]


def test_its_map_shows_while_it_renders_and_fills_up_cell_by_cell(atlas):
    """25 cells, of which 16 are rendered at a time: the browser is sent those first, then all of them."""
    model = atlas.graph.add("Probe_WatchEvents", value=atlas.model[0], event="latent-clip.map")
    node = atlas.explore(model=model[0], cells=5)
    seen = atlas.graph.add("Probe_SeenEvents", after=node[LATENT])
    result = atlas.run()
    sent = result.values(seen)
    assert [each["node"] for each in sent] == [str(node)] * 2
    for shown in (each["map"] for each in sent):
        assert (shown["columns"], shown["rows"], shown["x"], shown["y"]) == (5, 5, "noise 1-2", "noise 1-3")
        assert len(shown["places"]) == 25 and shown["scores"] == []
    half, whole = (
        tiles(Image.open(io.BytesIO(base64.b64decode(each["map"]["picture"].split(",")[1])))) for each in sent
    )
    assert abs(half[16:] - 0.5).max() < 0.05, "what is not rendered yet is grey"
    assert all(tile.std() > 0.02 for tile in whole), "every cell shows a picture in the end"
    assert abs(half[:15] - whole[:15]).mean() < 0.02
    (told,) = result.entry["outputs"][node]["latent_clip_map"]
    with Image.open(atlas.host.base / "temp" / told["file"]["filename"]) as picture:
        last = tiles(picture)
    assert abs(last - whole).mean() < 0.02, "the last live map is the one that stays"


def counted(atlas, calls):
    """A MODEL that interrupts the prompt when it is called more often."""
    return atlas.graph.add("Probe_Interrupt", model=atlas.model[0], call=calls + 1)[0]


def test_another_cell_and_other_texts_sample_nothing_again_and_another_seed_does(atlas):
    calls = 2 * STAGE["steps"]  # of one cell, to see what patches keep, and of eight at once
    latent, model = atlas.empty(), counted(atlas, calls)
    node = atlas.explore(latent, model)
    atlas.dump(node[LATENT], "first")
    atlas.run()
    inputs = atlas.graph.nodes[node]["inputs"]
    for change in ({"column": 2, "row": 0}, {"texts": "a blue square"}, {"elsewhere": "noise 1-2 0.5"}):
        inputs |= change
        atlas.run()
    second = atlas.samples("first")
    atlas.dump(atlas.ksampler(latent, **{**STAGE, "seed": 6})[0], "stock")
    atlas.run()
    near(atlas.host, second, atlas.samples("stock"), 1e-4, 1e-3)
    inputs["seed"] = 11
    assert "execution_interrupted" in atlas.host.run(atlas.graph).messages


def test_the_last_maps_are_remembered_and_an_earlier_one_is_forgotten(atlas):
    latent, model = atlas.empty(), counted(atlas, 3 * 2 * STAGE["steps"])
    node = atlas.explore(latent, model)
    atlas.dump(node[LATENT], "cell")
    inputs = atlas.graph.nodes[node]["inputs"]
    for seed in (1, 2, 1, 2, 3, 2):
        inputs |= {"seed": seed, "column": inputs["column"] ^ 1}
        atlas.run()
    inputs |= {"seed": 1, "column": inputs["column"] ^ 1}
    assert "execution_interrupted" in atlas.host.run(atlas.graph).messages


def test_an_interrupt_ends_it_and_nothing_half_is_remembered(atlas):
    latent = atlas.empty()
    broken = atlas.graph.add("Probe_Interrupt", model=atlas.model[0], call=2)[0]
    node = atlas.explore(latent, broken)
    atlas.dump(node[LATENT], "cell")
    assert "execution_interrupted" in atlas.host.run(atlas.graph).messages
    atlas.dump(atlas.ksampler(latent, **{**STAGE, "seed": 6})[0], "stock")
    atlas.graph.nodes[node]["inputs"] |= {"column": 2, "row": 0}
    atlas.run()  # the probe interrupts once
    close(atlas, "cell", "stock")


def test_what_does_not_fit_into_memory_is_run_in_parts_and_ends_the_same(atlas):
    latent = atlas.empty()
    tight = atlas.graph.add("Probe_RunsOutOfMemory", model=atlas.model[0], always=True)
    atlas.dump(atlas.explore(latent)[LATENT], "roomy")
    atlas.dump(atlas.explore(latent, tight[0])[LATENT], "tight")
    atlas.run()
    close(atlas, "tight", "roomy")
    assert atlas.host.has_logged("cells do not fit into memory at once")


def test_under_a_variety_reward_a_cell_is_as_it_is_alone(atlas):
    reward = atlas.graph.add("LatentCLIP_VarietyReward", latent_clip=atlas.clip[0], weight=1.0)[0]
    model = atlas.graph.add(
        "LatentCLIP_Guidance", model=atlas.model[0], reward=reward, strength=0.3, start=0.0, end=1.0
    )[0]
    latent = atlas.empty()
    atlas.dump(atlas.explore(latent, model, column=0, row=0)[LATENT], "cell")
    atlas.dump(atlas.ksampler(latent, model, **STAGE)[0], "stock")
    atlas.run()
    close(atlas, "cell", "stock")


@pytest.mark.parametrize("text", ["6，7", "6；7", "6、 7", "6, 7,", "6 7"])
def test_seeds_are_parted_by_commas_of_any_keyboard(atlas, text):
    report = atlas.values(atlas.explore(other_seeds=text, elsewhere="noise 1-3 0.5，")[REPORT])
    assert "noise 1-3 1" in atlas.run().values(report)[0]


def test_of_a_batch_the_first_item_is_explored(atlas):
    atlas.dump(atlas.explore(atlas.empty(3), column=0, row=0)[LATENT], "cell")
    atlas.dump(atlas.ksampler(atlas.empty(), **STAGE)[0], "stock")
    atlas.run()
    close(atlas, "cell", "stock")


def test_a_cell_beyond_the_map_is_its_last_one_and_said_so(atlas):
    latent = atlas.empty()
    found = atlas.explore(latent, other_seeds="6", column=9, row=9)
    report = atlas.values(found[REPORT])
    atlas.dump(found[LATENT], "cell")
    atlas.dump(atlas.ksampler(latent, **{**STAGE, "seed": 6})[0], "stock")
    assert "Caution: column 9, row 9 is beyond the map of 3 x 1 cells" in atlas.run().values(report)[0]
    close(atlas, "cell", "stock")


def test_the_seed_itself_among_the_others_gives_way_to_the_next_that_is_free(atlas):
    """A seed box that counts up comes past the numbers that are in other_seeds by default."""
    latent = atlas.empty()
    found = atlas.explore(latent, other_seeds="5", column=2)
    report = atlas.values(found[REPORT])
    atlas.dump(found[LATENT], "cell")
    atlas.dump(atlas.ksampler(latent, **{**STAGE, "seed": 6})[0], "stock")
    said = atlas.run().values(report)[0]
    assert "Caution: other_seeds has the seed itself, 5, which is corner 1's: seed 6 in its place" in said
    close(atlas, "cell", "stock")


@pytest.mark.parametrize(
    ("widgets", "error"),
    [
        ({"other_seeds": ""}, "one corner only"),
        ({"other_seeds": "6, 7, 8, 9"}, "5 corners; expected 1 to 4"),
        ({"other_seeds": "6, 7, 6"}, "other_seeds has 6 twice"),
        ({"other_seeds": "six"}, "other_seeds has 'six'"),
        ({"other_seeds": "-1"}, "other_seeds has '-1'"),
        ({"other_seeds": str(2**64)}, "expected whole numbers from 0 to 2^64 - 1"),
        ({"texts": " \n "}, "no text"),
        ({"x_axis": "prompt 1-2"}, "the x axis is 'prompt 1-2', which these corners do not span"),
        ({"y_axis": "noise 1-2", "x_axis": "noise 1-2"}, "x and y are both noise 1-2"),
        ({"elsewhere": "noise 1-3"}, "expected an axis and a number from 0 to 1"),
        ({"cells": 1}, "cells"),
    ],
)
def test_what_makes_no_map_is_refused_in_words(atlas, widgets, error):
    atlas.dump(atlas.explore(**widgets)[LATENT], "never")
    assert error in atlas.host.run(atlas.graph).error


def written(atlas, name, samples):
    numpy.savez(atlas.host.input / f"{name}.npz", allow_pickle=False, samples=samples.numpy())
    return atlas.graph.add("Probe_ReadLatent", name=name)[0]


@pytest.mark.parametrize(
    ("shape", "broken", "error"),
    [
        ((1, 4, 8, 8), False, "corner 2 of the latent has shape"),
        ((1, 16, 12, 12), False, "corner 2 of the latent has shape"),
        ((1, 4, 12, 12), True, "corner 2 of the latent holds NaN"),
    ],
)
def test_latents_that_cannot_be_corners_are_refused(atlas, shape, broken, error):
    samples = torch.randn(shape, generator=torch.Generator().manual_seed(1))
    if broken:
        samples[0, 0, 0, 0] = math.nan
    atlas.dump(atlas.explore(corner_2=written(atlas, "corner", samples))[LATENT], "never")
    assert error in atlas.host.run(atlas.graph).error


@pytest.mark.parametrize(
    ("shape", "error"),
    [((1, 16, 12, 12), "corner 2 of the noise has shape"), ((1, 4, 12, 12), "zero everywhere")],
)
def test_noise_that_cannot_be_a_corner_is_refused(atlas, shape, error):
    name = f"odd{shape[1]}"
    numpy.save(atlas.host.input / f"{name}.npy", numpy.zeros(shape, numpy.float32) + (shape[1] == 16))
    noise = atlas.graph.add("Probe_GivenNoise", name=name, seed=5)[0]
    atlas.dump(atlas.explore(corner_2=noise)[LATENT], "never")
    assert error in atlas.host.run(atlas.graph).error


def test_prompts_that_cannot_be_corners_are_refused(atlas):
    both = atlas.graph.add("ConditioningCombine", conditioning_1=atlas.text(9), conditioning_2=atlas.text(10))
    node = atlas.explore(corner_2=both[0])
    atlas.dump(node[LATENT], "never")
    assert "[1, 2] entries" in atlas.host.run(atlas.graph).error
    atlas.graph.nodes[node]["inputs"]["corner_2"] = atlas.positive
    assert "corners 1 and 2 of the prompt are equal" in atlas.host.run(atlas.graph).error


@pytest.mark.parametrize(
    ("number", "odd", "error"),
    [
        (2, {"width": 32}, r"2 of the prompt \(entry 0\) has shape \(1, 7, 32\), corner 1 has \(1, 7, 64\)"),
        (4, {"width": 32}, r"corner 4 of the prompt \(entry 0\) has shape"),
        (3, {"pooled": 8}, r"corner 3 of the prompt \(pooled_output 0\) has shape"),
        (2, {"broken": "tokens"}, r"corner 2 of the prompt \(entry 0\) holds NaN"),
        (3, {"broken": "pooled"}, r"corner 3 of the prompt \(pooled_output 0\) holds NaN"),
        (1, {"broken": "tokens"}, r"corner 1 of the prompt \(entry 0\) holds NaN"),
    ],
)
def test_prompts_of_another_width_or_with_nan_are_refused_by_name(atlas, number, odd, error):
    wired = atlas.graph.add("Probe_Conditioning", seed=9, batch=1, **odd)[0]
    given = {"positive" if number == 1 else f"corner_{number}": wired}
    model = atlas.graph.add("Probe_Interrupt", model=atlas.model[0], call=1)  # before anything is sampled
    atlas.dump(atlas.explore(model=model[0], **given)[LATENT], "never")
    assert re.search(error, atlas.host.run(atlas.graph).error)


def test_latents_at_full_noise_are_doubted(atlas):
    report = atlas.values(atlas.explore(corner_2=atlas.picture())[REPORT])
    assert "denoise is 1" in atlas.run().values(report)[0]


def test_a_model_of_another_space_is_refused_by_name(atlas):
    other = atlas.graph.add("Probe_TinySDXL", seed=1, latents="SD1.5")
    atlas.dump(atlas.explore(model=other[0])[LATENT], "never")
    assert "makes SD1.5 latents" in atlas.host.run(atlas.graph).error


def test_what_a_guard_stops_leaves_by_no_way_out(host, graph):
    bench, judge = Sampling(host, graph), load_latent_clip()
    guarded = bench.guard(bench.policy(own_threshold=0.5))
    latent = graph.add("EmptyLatentImage", width=64, height=64, batch_size=1)[0]
    stage = {**STAGE, **EXPLORE, "steps": 1, "texts": "a blue skull", "negative": bench.negative}
    positive, vae = bench.encode("a blue skull"), graph.add("LatentCLIP_MiniWorld")[2]
    for name, model in (("plain", bench.model), ("guarded", guarded)):
        for cell in range(9):
            made = graph.add(
                "LatentCLIP_Explore", model=model, positive=positive, latent_image=latent, vae=vae,
                latent_clip=bench.clip, **{**stage, "column": cell % 3, "row": cell // 3},
            )  # fmt: skip
            bench.dump(made[LATENT], f"{name}{cell}")
            graph.add("Probe_DumpNoise", noise=made[NOISE], latent=latent, name=f"{name} noise{cell}")
    host.run(graph).require_ok()
    plain, left = (
        torch.cat([bench.samples(f"{name}{i}") for i in range(9)]) for name in ("plain", "guarded")
    )
    unsafe = torch.tensor([not verdict.safe for verdict in judged(judge, plain)])
    assert bool(unsafe.any()), "nothing to stop"
    grey = (left - neutral_latents("mini", left.shape, left)).abs().flatten(1).amax(1) < GREY
    assert torch.equal(grey, unsafe)
    for cell in range(9):
        noise = numpy.load(host.output / f"guarded noise{cell}.npy")
        assert (not noise.any()) == bool(unsafe[cell])
