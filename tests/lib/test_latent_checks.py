"""Each mistake with latents has its own text; clean latents have none."""

import logging
import re

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

import lclip
from lclip.adapters.shipped import SHIPPED
from lclip.latents import advice
from lclip.latents.checks import READ_BY_CHOICE
from lclip.latents.reader import NativeSize
from lclip.latents.scale import _is_nearly_white, _unit_channels, looks_like_noise, scale_doubts


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
        (torch.ones(1, 4, 8, 8).to(torch.float8_e4m3fn), "float8_e4m3fn.*expected float16"),
        (torch.ones(1, 4, 8, 8).to(torch.float8_e5m2), "float8_e5m2.*expected float16"),
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
    assert lclip.scale_doubt(plain + 1e-4 * torch.randn(1, 4, 32, 32), tiny_config) is None


SIDES = [(8, 8), (4, 16), (9, 13), (16, 16), (24, 40), (64, 64)]


@pytest.mark.parametrize("spread", [0.1, 1.0, 6.5, 9.0, 14.6, 1 / 0.13025, 1e20])
@pytest.mark.parametrize("side", SIDES)
def test_noise_is_called_noise_whatever_its_spread(tiny_config, spread, side):
    z = torch.randn(200, 4, *side, generator=torch.Generator().manual_seed(1)) * spread
    told = ["looks like noise" in (told or "") for told in scale_doubts(z, tiny_config)]
    assert sum(told) >= (200 if side[0] * side[1] >= 256 else 195)
    text = lclip.scale_doubt(z[torch.tensor(told)][:4], tiny_config)
    assert text is not None and "looks like noise" in text and "0, 1, 2, 3 of 4" in text


@pytest.mark.parametrize("channels", [3, 4, 16, 32, 128])
@pytest.mark.parametrize("side", [8, 16, 32])
def test_noise_is_told_in_every_space_also_in_an_unknown_one(channels, side):
    """Of any mean and spread of each channel: what is told are relations."""
    source = torch.Generator().manual_seed(channels)
    mean, std = (torch.randn(2, channels, 1, 1, generator=source) * 4).unbind()
    z = torch.randn(20, channels, side, side, generator=source) * std + mean
    assert looks_like_noise(z, 8).sum() >= 19
    assert looks_like_noise(z, 64).sum() >= (19 if side >= 16 else 0)
    assert looks_like_noise(z.half().float(), 8).sum() >= 19


@pytest.mark.parametrize("share", [0.7, 0.8, 0.9])
def test_what_is_mostly_noise_is_noise_to_the_rule(share):
    """As flow models mix it: (1 - t) latents + t noise, in unit scale."""
    z = (1 - share) * sdxl_like(40, 64) * 0.13025 + share * torch.randn(40, 4, 64, 64)
    assert looks_like_noise(z, 64).float().mean() > 0.4 + 0.5 * (share > 0.75)


def documents(number: int = 30, side: int = 64) -> torch.Tensor:
    """Pages as an encoder sees them: a light ground, and rows of strokes that no neighbour shares."""
    source = torch.Generator().manual_seed(5)
    ink = (torch.rand(number, 1, side, side, generator=source) < 0.5).float()
    ink[:, :, ::2] = 0.0  # lines of letters, and what is between them
    colour = torch.tensor([14.0, 8.0, -11.0, 9.0]).view(1, 4, 1, 1)
    page = colour * (1 - 1.6 * ink) + 0.5 * torch.randn(number, 4, side, side, generator=source)
    return page


def test_a_page_of_black_text_is_no_noise(tiny_config):
    """Neighbouring cells are as unrelated as in noise, and the spread is large; the channels go together."""
    pages = documents()
    centred = pages - pages.mean((2, 3), keepdim=True)
    beside = (centred[..., 1:] * centred[..., :-1]).mean() / centred.square().mean()
    below = (centred[..., 1:, :] * centred[..., :-1, :]).mean() / centred.square().mean()
    assert ((beside + below) / 2).abs() < 0.15 and pages.square().mean().sqrt() > 1.3 * 6.5
    assert lclip.scale_doubt(pages, tiny_config) is None


def test_a_noise_among_pictures_is_named_alone(tiny_config):
    batch = sdxl_like(5)
    batch[3] = 6.5 * torch.randn(4, 32, 32)
    told = scale_doubts(batch, tiny_config)
    assert [text is not None for text in told] == [False, False, False, True, False]
    assert "item 3 of 5: looks like noise" in lclip.scale_doubt(batch, tiny_config)


def test_items_that_are_odd_in_different_ways_are_each_told(tiny_config):
    batch = sdxl_like(5)
    batch[0] = torch.randn(4, 32, 32)
    batch[2] *= 0.13025
    batch[3] *= 10
    batch[4] = 0
    told = scale_doubts(batch, tiny_config)
    for text, said in zip(told, ("noise", None, "0.13025", "far larger", "is empty"), strict=True):
        assert text is None if said is None else said in text
    together = lclip.scale_doubt(batch, tiny_config)
    assert all(said in together for said in ("item 0", "item 2", "item 3", "item 4", "noise", "is empty"))


def test_in_few_cells_nothing_is_called_noise():
    """In fewer cells than both 16x16 and the model's own pictures show too little: docs/safety.md says so."""
    assert not looks_like_noise(torch.randn(200, 4, 7, 9), 8).any()
    assert looks_like_noise(torch.randn(200, 4, 8, 8), 8).sum() >= 195
    for native, most in ((0, 256), (4, 64), (12, 144), (16, 256), (64, 256)):
        assert not looks_like_noise(torch.randn(200, 4, 5, most // 5), native).any()
        assert looks_like_noise(torch.randn(200, 4, 4, most // 4), native).sum() >= 195


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_precision_does_not_matter(tiny_config, dtype):
    noise = (6 * torch.randn(50, 4, 24, 24)).to(dtype)
    assert all(scale_doubts(noise, tiny_config))
    assert not any(scale_doubts(sdxl_like(50).to(dtype), tiny_config))


def test_scaled_latents_are_told_their_factor(tiny_config):
    batch = sdxl_like(4)
    batch[2] *= 0.13025
    text = lclip.scale_doubt(batch, tiny_config)
    assert text is not None and "item 2 of 4" in text and "0.13025" in text and "process_latent_out" in text


def test_what_a_doubt_leads_to(tiny_model, caplog):
    noise = torch.randn(1, 4, 16, 16)
    with pytest.raises(ValueError, match="looks like noise"):
        lclip.check_latents(noise, tiny_model.config, scale="refuse")
    with caplog.at_level(logging.WARNING, logger="latent-clip"):
        assert lclip.check_latents(noise, tiny_model.config, scale="ignore") is None
        assert not caplog.records
        lclip.similarity(tiny_model, noise, "red")
    assert "looks like noise" in caplog.text
    with pytest.raises(ValueError, match="'maybe'"):
        lclip.check_latents(noise, tiny_model.config, scale="maybe")


def test_a_space_without_a_known_scale_is_doubted_for_noise_alone(tiny_config):
    unknown = lclip.LatentCLIPConfig(**{**vars(tiny_config), "latent_space": "of my own"})
    assert "looks like noise" in lclip.scale_doubt(torch.randn(2, 4, 16, 16), unknown)
    assert lclip.scale_doubt(0.01 * sdxl_like(2), unknown) is None


@pytest.mark.parametrize(
    "channels, says",
    [
        (
            16,
            r"SD3, FLUX latents have 16, and others\. Choose whose .* in Load Latent-CLIP",
        ),
        (128, r"FLUX\.2 latents have 128, and others\. Choose"),
        (48, r"Wan 2\.2 latents have 48\. Wire Bridge"),
        (5, r"with 4\. Use latents of the VAE"),
    ],
)
def test_latents_of_another_model_are_refused_with_what_to_choose(channels, says):
    with pytest.raises(ValueError, match=says):
        lclip.check_latents(torch.randn(1, channels, 8, 8), NativeSize(lclip.space_named("sdxl"), 8))


@pytest.mark.parametrize(
    ("reads", "shape", "says"),
    [
        # SDXL's at 1024 px are as wide as FLUX.2's are deep.
        ("flux2", (4, 128, 128), "SDXL, SD1.5 latents have 4"),
        ("flux2", (16, 96, 128), "SD3, FLUX latents have 16"),
        ("flux", (4, 16, 16), "SDXL, SD1.5 latents have 4"),
        ("sd3", (128, 16, 16), r"FLUX\.2 latents have 128"),
        ("flux2", (32, 128, 128), "before 2x2 cells are folded"),
        ("flux2", (64, 96, 128), "Qwen-Image 2.1 latents have 64"),
        ("flux2", (60, 96, 128), r"z\.permute"),
        ("sdxl", (128, 128, 4), r"z\.permute"),
        ("sdxl", (96, 128, 4), r"z\.permute"),
        ("flux", (128, 96, 16), r"z\.permute"),
        ("flux", (64, 48, 16), r"z\.permute"),
    ],
)
def test_a_width_that_is_the_readers_channels_by_chance_is_no_order_of_dimensions(reads, shape, says):
    with pytest.raises(ValueError, match=says):
        lclip.check_latents(torch.randn(1, *shape), NativeSize(lclip.space_named(reads), 8))


def test_what_can_be_chosen_is_what_adapters_come_for():
    assert {"sdxl", *SHIPPED} == set(READ_BY_CHOICE)


SDXL = NativeSize(lclip.space_named("sdxl"), 64)


def of_spread(spread: float, mean: float = 0.0) -> torch.Tensor:
    """Smooth latents of that spread about that mean, in units of SDXL's usual spread."""
    z = F.interpolate(torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(2)), 32, mode="bicubic")
    z = z - z.mean((2, 3), keepdim=True)
    usual = SDXL.space.std
    return usual * (spread * z / z.square().mean().sqrt() + mean)


@pytest.mark.parametrize(
    ("z", "told"),
    [
        (of_spread(0.35), "multiplied by"),
        (of_spread(0.41), None),
        (of_spread(4.2), "far larger"),
        (of_spread(3.8), None),
        (of_spread(0.5, 8.2), "far larger"),
        (of_spread(0.5, 7.8), None),
    ],
)
def test_from_where_on_a_scale_is_odd(z, told):
    """Below 0.38 of the usual spread, above 4 of it, and above 8 of it about zero."""
    text = lclip.scale_doubt(z, SDXL)
    assert text is None if told is None else told in (text or "")


@pytest.mark.parametrize(("neighbours", "noise"), [(0.05, True), (0.3, False), (0.5, False)])
def test_neighbours_that_resemble_each_other_are_no_noise_however_unlike_the_channels(neighbours, noise):
    """From 0.15 on. Seen by the rule for half-noisy pictures alone, whatever the other says."""
    white = torch.randn(4, 4, 64, 64, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    a = neighbours
    for side in (-1, -2):  # r = b / (1 + b^2) along each axis
        b = (1 - (1 - 4 * a * a) ** 0.5) / (2 * a)
        white = white + b * white.roll(1, side)
    assert bool(_is_nearly_white(_unit_channels(white)).all()) == noise
    assert noise or not looks_like_noise(white).any()


@pytest.fixture
def in_a_graph():
    advice.speak(advice.IN_A_GRAPH)
    yield
    advice.speak(advice.IN_PYTHON)


CODE = re.compile(r"permute|pixel_unshuffle|process_latent_out|divide by|lclip\.|z\[|Python")


@pytest.mark.parametrize(
    ("reads", "shape"),
    [
        ("sdxl", (1, 8, 8, 4)),
        ("flux2", (1, 32, 128, 128)),
        ("sdxl", (1, 16, 8, 8)),
        ("sdxl", (1, 128, 8, 8)),
        ("sdxl", (4, 8, 8)),
    ],
)
def test_in_a_graph_errors_say_what_to_wire_and_no_code(in_a_graph, reads, shape):
    with pytest.raises(ValueError, match=r"[Ww]ire") as caught:
        lclip.check_latents(torch.randn(*shape), NativeSize(lclip.space_named(reads), 8))
    assert not CODE.search(str(caught.value))


def test_in_a_graph_a_doubt_says_what_to_wire_and_no_code(in_a_graph):
    for name in ("sdxl", "sd1.5", "flux"):
        space = lclip.space_named(name)
        z = space.std * of_spread(space.scale) / SDXL.space.std
        z = z.repeat(1, space.channels // 4, 1, 1)
        text = lclip.scale_doubt(z, NativeSize(space, 64))
        if name != "flux":
            assert text is not None
        assert text is None or ("wire" in text and not CODE.search(text))
