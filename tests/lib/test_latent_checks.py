"""Each mistake with latents has its own text; clean latents have none."""

import logging
import re

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

import lclip


def sdxl_like(batch: int, side: int = 32) -> torch.Tensor:
    """Smooth latents with the raw SDXL latents' means and spreads."""
    smooth = F.interpolate(torch.randn(batch, 4, side // 4, side // 4), (side, side), mode="bicubic")
    smooth = (smooth - smooth.mean((2, 3), keepdim=True)) / smooth.std((2, 3), keepdim=True)
    mean, std = torch.tensor([-1.66, 1.89, -1.38, 2.52]), torch.tensor([8.49, 5.92, 6.55, 5.23])
    return smooth * std.view(4, 1, 1) + mean.view(4, 1, 1)


@pytest.mark.parametrize(
    ("z", "told"),
    [
        (None, "NoneType"),
        ([[1.0]], "list"),
        (torch.zeros(4, 8, 8), r"3 dimensions.*z\[None\]"),
        (torch.zeros(8, 8), "2 dimensions"),
        (torch.zeros(1, 4, 3, 8, 8), "video latents, 3 frames.*Latent Cut"),
        (torch.zeros(1, 64, 99), "sound and of 3-D shapes"),
        (torch.zeros(1, 16, 1, 8, 8), "16 channels.*SDXL latents with 4"),
        (torch.zeros(0, 4, 1, 8, 8), "batch is empty"),
        (torch.zeros(1, 4, 0, 8, 8), "video latents, 0 frames"),
        (torch.zeros(0, 4, 8, 8), "batch is empty"),
        (torch.zeros(1, 16, 8, 8), "16 channels.*SDXL latents with 4.*trained on"),
        (torch.zeros(1, 8, 8, 4), "8 channels.*permute"),
        (torch.zeros(1, 4, 1, 8), "1x8 cells.*one patch of 2x2"),
        (torch.zeros(1, 4, 8, 8, dtype=torch.long), "int64"),
        (torch.full((1, 4, 8, 8), float("nan")), "item 0 of 1: NaN"),
        (torch.full((2, 4, 8, 8), float("inf")), "item 0, 1 of 2: NaN or infinity"),
    ],
)
@pytest.mark.parametrize("ask", ["check_latents", "encode_latents", "similarity", "heatmap", "classify"])
def test_what_cannot_be_read(tiny_model, z, told, ask):
    asks = {
        "check_latents": lambda: lclip.check_latents(z, tiny_model.config),
        "encode_latents": lambda: tiny_model.encode_latents(z),
        "similarity": lambda: lclip.similarity(tiny_model, z, ["red"]),
        "heatmap": lambda: lclip.heatmap(tiny_model, z, "red"),
        "classify": lambda: lclip.classify(tiny_model, z, ["red"]),
    }
    with pytest.raises(ValueError, match=told):
        asks[ask]()


@given(st.lists(st.booleans(), min_size=1, max_size=12).filter(any), st.sampled_from(["nan", "inf", "-inf"]))
def test_bad_items_are_named(bad, value):
    config = lclip.LatentCLIPConfig(8, 4, 2, 4, 8, 1, 1, 8, 1, 1, 4, 8)
    z = torch.zeros(len(bad), 4, 8, 8)
    for i, is_bad in enumerate(bad):
        if is_bad:
            z[i, i % 4, i % 8, 0] = float(value)
    named = ", ".join(str(i) for i in [i for i, is_bad in enumerate(bad) if is_bad][:8])
    if not all(bad):  # the others can be read
        text = lclip.check_latents(z, config, scale="ignore")
        assert re.search(f"item {named}.* of {len(bad)}: NaN", text) and "worst of the batch" in text
        return
    with pytest.raises(ValueError, match=f"item {named}.* of {len(bad)}"):
        lclip.check_latents(z, config)


def test_clean_latents_raise_no_doubt(tiny_config):
    assert lclip.scale_doubt(sdxl_like(32), tiny_config) is None
    plain = torch.tensor([16.0, 4.0, -7.0, 3.0]).view(1, 4, 1, 1).expand(1, 4, 32, 32)
    assert lclip.scale_doubt(plain, tiny_config) is None


@pytest.mark.parametrize("sigma", [1.0, 14.6])
@pytest.mark.parametrize("side", [8, 64])
def test_noise_is_called_noise(tiny_config, sigma, side):
    text = lclip.scale_doubt(torch.randn(4, 4, side, side) * sigma, tiny_config)
    assert text is not None and "looks like noise" in text and "0, 1, 2, 3 of 4" in text


def test_scaled_latents_are_told_their_factor(tiny_config):
    batch = sdxl_like(4)
    batch[2] *= 0.13025
    text = lclip.scale_doubt(batch, tiny_config)
    assert text is not None and "item 2 of 4" in text and "0.13025" in text and "process_latent_out" in text


def test_what_a_doubt_leads_to(tiny_model, caplog):
    noise = torch.randn(1, 4, 8, 8)
    with pytest.raises(ValueError, match="looks like noise"):
        lclip.check_latents(noise, tiny_model.config, scale="refuse")
    with caplog.at_level(logging.WARNING, logger="latent-clip"):
        assert lclip.check_latents(noise, tiny_model.config, scale="ignore") is None
        assert not caplog.records
        lclip.similarity(tiny_model, noise, "red")
    assert "looks like noise" in caplog.text
    with pytest.raises(ValueError, match="'maybe'"):
        lclip.check_latents(noise, tiny_model.config, scale="maybe")


def test_a_space_without_a_known_scale_is_not_doubted(tiny_config):
    unknown = lclip.LatentCLIPConfig(**{**vars(tiny_config), "latent_space": "of my own"})
    assert lclip.scale_doubt(torch.randn(2, 4, 8, 8), unknown) is None
