"""Preference Reward in a real host: LRM-XL's published layout, of random weights, as diffusers reads it."""

from __future__ import annotations

import shutil

import numpy
import pytest
import torch
from preference_bench import save_preference
from reno_bench import Bench

pytest.importorskip("diffusers")
PROMPT = "a red fox in (the:1.3) snow"
FOLDER = "latent_clip_preferences"


@pytest.fixture(scope="module")
def files(host, checkout, tmp_path_factory):
    """The folder as it is published, in the host's model folder, and the library's reward of it."""
    from lclip.diffusers import PreferenceReward

    made = tmp_path_factory.mktemp("preference")
    lrm = save_preference(made, checkout / "comfy" / "sd1_tokenizer")
    shutil.copytree(lrm, host.base / "models" / FOLDER / "lrm")
    return PreferenceReward(lrm, made / "base", PROMPT, weight=50.0)


@pytest.fixture(scope="module")
def z(host):
    latents = 6 * torch.randn(4, 4, 12, 16, generator=torch.Generator().manual_seed(1))
    numpy.savez(host.input / "preferred.npz", samples=latents.numpy())
    return latents


def reward(graph, file="lrm/state_dict.pt", text=PROMPT, weight=50.0, **more):
    return graph.add("LatentCLIP_PreferenceReward", file=file, text=text, weight=weight, **more)[0]


def chosen(graph, wired, **widgets):
    latent = graph.add("Probe_ReadLatent", name="preferred")[0]
    return graph.add("LatentCLIP_Select", latent=latent, reward=wired, k=2, **widgets)


def test_it_scores_as_diffusers_does_and_chooses(host, graph, files, z):
    select = chosen(graph, reward(graph))
    values, picks = (graph.add("Probe_Values", value=select[place]) for place in (2, 3))
    result = host.run(graph).require_ok()
    expected = files(z)
    torch.testing.assert_close(torch.tensor(result.values(values)), expected, rtol=1e-3, atol=1e-4)
    best = expected.topk(2).indices.tolist()
    assert [int(place) for place in result.values(picks)[0].split(",")] == best


def test_it_adds_up_with_another_and_watches_a_search(host, graph, files, z, sdxl_clip):
    """As a second reward, in guidance, and as the judge of a ReNO whose reward is another."""
    bench = Bench(host, graph, sdxl_clip)
    text = bench.reward()
    alone, both = (chosen(graph, wired)[2] for wired in (text, reward(graph, add_to=text)))
    first, second = (graph.add("Probe_Values", value=value) for value in (alone, both))
    guided = graph.add(
        "LatentCLIP_Guidance", model=bench.model[0], reward=reward(graph), strength=0.5, start=0.0, end=1.0
    )[0]
    for name, model in (("plain", None), ("guided", guided)):
        bench.dump(bench.ksampler(bench.empty(), model=model, steps=3)[0], name)
    found = bench.reno(bench.empty(), held_out=reward(graph), iterations=2)
    bench.dump(found[0], "found")
    result = bench.run()
    torch.testing.assert_close(
        torch.tensor(result.values(second)) - torch.tensor(result.values(first)),
        files(z),
        rtol=1e-2,
        atol=1e-3,
    )
    plain, steered = bench.samples("plain"), bench.samples("guided")
    assert float(files(steered) - files(plain)) > 0
    assert bool(bench.samples("found").isfinite().all())


@pytest.mark.parametrize(
    ("widgets", "said"),
    [
        ({"text": "  "}, "text is empty"),
        ({"file": "gone/state_dict.pt"}, "No file 'gone/state_dict.pt'"),
        ({"file": "half/state_dict.pt"}, "unet, which is not there"),
        ({"file": "other/state_dict.pt"}, "not that of an SDXL UNet"),
    ],
)
def test_what_is_wrong_is_said_in_a_line(host, graph, files, z, widgets, said):
    root = host.base / "models" / FOLDER
    (root / "half").mkdir(exist_ok=True)
    shutil.copy(root / "lrm" / "state_dict.pt", root / "half")
    if not (root / "other").is_dir():
        shutil.copytree(root / "lrm", root / "other")
        (root / "other" / "unet" / "config.json").write_text('{"block_out_channels": [32, 64]}')
    graph.add("Probe_Values", value=chosen(graph, reward(graph, **widgets))[2])
    assert said in host.run(graph).error


def test_variety_needs_an_embedding(host, graph, files, z):
    graph.add("Probe_Values", value=chosen(graph, reward(graph), variety=0.5)[2])
    assert "asks no Latent-CLIP" in host.run(graph).error
