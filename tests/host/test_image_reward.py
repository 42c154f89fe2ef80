"""Latent Image Reward by a picture and its VAE: the same as by latents that the host's node encodes."""

from __future__ import annotations

import pytest


@pytest.fixture
def world(graph):
    """The mini world, two of its pictures at native size, and latents to judge."""
    made = graph.add("LatentCLIP_MiniWorld")
    words = graph.add("CLIPTextEncode", clip=made[1], text="a red star above a blue ring")[0]
    empty = graph.add("EmptyLatentImage", width=64, height=64, batch_size=2)[0]
    latents = graph.add(
        "KSampler", model=made[0], positive=words, negative=words, latent_image=empty, seed=3, steps=1,
        cfg=1.0, sampler_name="euler", scheduler="normal", denoise=1.0,
    )[0]  # fmt: skip
    return made, latents, graph.add("VAEDecode", samples=latents, vae=made[2])[0]


def scores(graph, latents, **wires):
    reward = graph.add("LatentCLIP_ImageReward", weight=1.0, **wires)[0]
    selected = graph.add(
        "LatentCLIP_Select", latent=latents, reward=reward, k=1, keep_by="k", threshold=0.0, sort=True,
        variety=0.0,
    )  # fmt: skip
    return graph.add("PreviewAny", source=selected[3])


def texts(result, node):
    return result.entry["outputs"][node]["text"]


def test_a_picture_and_its_vae_are_the_latents_that_the_host_encodes(host, graph, world):
    made, latents, pictures = world
    wide = graph.add(
        "ImageScale", image=pictures, upscale_method="bicubic", width=128, height=64, crop="disabled"
    )[0]
    cut = graph.add("ImageScale", image=wide, upscale_method="bicubic", width=64, height=64, crop="center")[0]
    asked = []
    for image, same in ((pictures, pictures), (wide, cut)):
        encoded = graph.add("VAEEncode", pixels=same, vae=made[2])[0]
        asked.append(scores(graph, latents, latent_clip=made[3], image=image, vae=made[2]))
        asked.append(scores(graph, latents, latent_clip=made[3], reference=encoded))
    result = host.run(graph).require_ok()
    native, native_latents, wider, wider_latents = (texts(result, node) for node in asked)
    assert native == native_latents and wider == wider_latents and native != wider


@pytest.mark.parametrize(
    ("wired", "said"),
    [
        ((), "neither"),
        (("image",), "image without vae"),
        (("vae",), "vae without image"),
        (("reference", "image", "vae"), "has reference and image"),
    ],
)
def test_both_or_none_is_refused_by_name(host, graph, world, wired, said):
    made, latents, pictures = world
    wires = {"image": pictures, "vae": made[2], "reference": latents}
    scores(graph, latents, latent_clip=made[3], **{name: wires[name] for name in wired})
    assert said in host.run(graph).error


def test_another_models_vae_is_refused(host, graph, world):
    made, latents, pictures = world
    twin = graph.add("LatentCLIP_MiniTwin")
    scores(graph, latents, latent_clip=made[3], image=pictures, vae=twin[2])
    assert "VAE" in host.run(graph).error
