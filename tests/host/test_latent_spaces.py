"""The library's latent spaces against the host's own descriptions of them."""

from __future__ import annotations

import pytest
import torch

import lclip

# The host's class -> our name. Playground's scaling is per channel, of SDXL's latents.
NAMES = {
    "SD15": "sd1.5", "SDXL": "sdxl", "SD3": "sd3", "Flux": "flux", "Flux2": "flux2", "SD_X4": "sd-x4",
    "SC_Prior": "cascade-c", "SC_B": "cascade-b", "HunyuanImage21": "hunyuan-image", "Wan21": "wan2.1",
    "Wan22": "wan2.2", "Mochi": "mochi", "LTXV": "ltxv", "Cosmos1CV8x8x8": "cosmos",
    "HunyuanVideo": "hunyuan-video", "HunyuanVideo15": "hunyuan-video-1.5", "CogVideoX": "cogvideox",
    "CogVideoX1_5": "cogvideox-1.5", "SeedVR2": "seedvr2", "MiniMaxH3Video": "minimax-h3",
    "QwenImage21": "qwen-image-2.1", "MingImage": "ming-image",
}  # fmt: skip
NOT_PICTURES = (
    "Audio", "Hunyuan3D", "Radiance", "Pixel", "Refiner", "LTXAV", "Playground", "TripoSplat", "Trellis2",
    "MiniMaxH3AV", "MiniMaxMusic", "YuE2",
)  # fmt: skip


@pytest.fixture(scope="module")
def formats(host, new_graph):
    """Channels, scale, shift and factor of every class of latents that the host has."""
    graph = new_graph()
    shown = graph.add("Probe_Values", value=graph.add("Probe_LatentFormats")[0])
    return {row["name"]: row for row in host.run(graph).require_ok().values(shown)[0]}


def test_channels_scales_shifts_and_factors_are_the_hosts(formats):
    found = {name: row for name, row in formats.items() if name in NAMES}
    assert {"SD15", "SDXL", "SD3", "Flux", "Wan21", "HunyuanImage21"} <= set(found)
    for name, row in found.items():
        space = lclip.space_named(NAMES[name])
        assert space.channels == row["channels"], name
        if not row["per_channel"]:
            assert space.scale == pytest.approx(row["scale"]) and space.shift == row["shift"], name
        else:
            assert space.scale is None, name
        if row["factor"] is not None and name != "SD_X4":  # the upscaler's VAE halves twice; the host has 8
            assert space.factor == row["factor"], name


def test_latents_are_scaled_for_sampling_as_the_host_does(formats):
    """Channel by channel, both ways, one frame of a video model's as a picture."""
    asked = {name: row for name, row in formats.items() if name in NAMES}
    assert sum(row["per_channel"] for row in asked.values()) >= 3  # Wan 2.1, Wan 2.2, Mochi
    for name, row in asked.items():
        space = lclip.space_named(NAMES[name])
        raw = torch.linspace(-3.0, 5.0, space.channels).view(1, -1, 1, 1)
        for z in (raw, raw[:, :, None]):
            for change, wanted in zip((space.to_sampler, space.to_raw), row["scaled"], strict=True):
                found = change(z)
                assert found.shape == z.shape, name
                assert found.flatten().tolist() == pytest.approx(wanted, rel=1e-5, abs=2e-5), name


def test_every_space_of_pictures_that_the_host_has_is_known(formats):
    unknown = [
        name for name in formats if name not in NAMES and not any(part in name for part in NOT_PICTURES)
    ]
    assert not unknown


def test_a_picture_vae_is_refused_by_channels_where_it_tells_no_name(host, graph):
    """The host's own kind of VAE, of the wrong shape, in the place of the mini world's."""
    world = graph.add("LatentCLIP_MiniWorld")
    stranger = graph.add("Probe_StrangeVAE", channels=16)
    graph.add(
        "LatentCLIP_TrainAdapter", latent_clip=world[3], vae=stranger[0], own_vae=world[2], latents="auto",
        save_as="strange", steps=10, seed=0, folder="none", custom_side=False, side=512, batch=4,
    )  # fmt: skip
    error = host.run(graph).error
    assert "16 channels at 1/8" in error and "flux" in error and "sd3" in error and "mini-16" not in error
    graph = type(graph)()
    world = graph.add("LatentCLIP_MiniWorld")
    stranger = graph.add("Probe_StrangeVAE", channels=16)
    graph.add(
        "LatentCLIP_TrainAdapter", latent_clip=world[3], vae=stranger[0], own_vae=world[2], latents="sdxl",
        save_as="strange", steps=10, seed=0, folder="none", custom_side=False, side=512, batch=4,
    )  # fmt: skip
    assert "expected SDXL latents: 4 channels" in host.run(graph).error


def test_an_empty_latent_is_brought_into_the_models_form_as_the_host_does_in_time_too(host, graph):
    shown = graph.add("Probe_Values", value=graph.add("Probe_EmptyInForm")[0])
    ours, stock, taken, kept = host.run(graph).require_ok().values(shown)[0]
    assert ours == stock
    if "downscale_ratio_temporal" in taken:
        assert ours[2] == 2  # one frame of 8 as two of 4
    assert kept == ["samples"]
