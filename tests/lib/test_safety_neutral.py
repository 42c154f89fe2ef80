"""What stands in for a blocked picture is grey, and is nothing else's picture."""

import pytest
import torch

import lclip
from lclip.latents.neutral import is_neutral, neutral_latents
from lclip.latents.spaces import space_named
from lclip.mini.vae import MiniVAE
from lclip.mini.world import WEIGHTS, load_module

OF_MODELS = ("sdxl", "sd1.5", "sd3", "flux", "flux2")


@pytest.fixture(scope="module")
def vae():
    return load_module(MiniVAE(), WEIGHTS / "vae.safetensors")[0]


@pytest.mark.parametrize("size", [(8, 8), (8, 16), (16, 8), (3, 5)])
def test_the_mini_worlds_decodes_to_mid_grey_through_its_vae(vae, size):
    picture = (vae.decode(neutral_latents("mini", (2, 4, *size))) + 1) / 2
    torch.testing.assert_close(picture.mean((2, 3)), torch.full((2, 3), 0.5), atol=0.02, rtol=0)
    assert picture.std((2, 3)).max() < 0.05
    zeros = (vae.decode(torch.zeros(1, 4, *size)) + 1) / 2
    assert (picture[0] - 0.5).abs().mean() <= (zeros - 0.5).abs().mean() + 0.005


# Two published linear maps from scaled SDXL latents to RGB: each row a channel; then the constant.
COMFYUI = (
    [
        [0.3651, 0.4232, 0.4341],
        [-0.2533, -0.0042, 0.1068],
        [0.1076, 0.1111, -0.0362],
        [-0.3165, -0.2492, -0.2188],
    ],
    [0.1084, -0.0175, -0.0011],
    (-1.0, 1.0),
)
VASS = ([[60, 60, 60], [-60, -5, 10], [25, 15, -5], [-70, -50, -35]], [150, 140, 130], (0.0, 255.0))


@pytest.mark.parametrize(("factors", "constant", "scale"), [COMFYUI, VASS], ids=["comfyui", "vass"])
def test_sdxls_is_mid_grey_by_both_published_approximations(factors, constant, scale):
    z = neutral_latents("sdxl", (1, 4, 2, 2))[0, :, 0, 0] * 0.13025
    rgb = z @ torch.tensor(factors, dtype=torch.float32) + torch.tensor(constant)
    levels = (rgb - scale[0]) / (scale[1] - scale[0]) * 255
    assert (levels - 127.5).abs().max() < 6
    zeros = (torch.tensor(constant) - scale[0]) / (scale[1] - scale[0]) * 255
    assert (levels - 127.5).abs().max() < (zeros - 127.5).abs().max()


# ComfyUI's linear maps from scaled latents to RGB, for the spaces whose grey was measured through TAESD.
# fmt: off
PREVIEWS = {
    "sd1.5": (
        [[0.3512, 0.2297, 0.3227], [0.325, 0.4974, 0.235], [-0.2829, 0.1762, 0.2721],
         [-0.212, -0.2616, -0.7177]],
        (0.0, 0.0, 0.0),
    ),
    "flux": (
        [[-0.0346, 0.0244, 0.0681], [0.0034, 0.021, 0.0687], [0.0275, -0.0668, -0.0433],
         [-0.0174, 0.016, 0.0617], [0.0859, 0.0721, 0.0329], [0.0004, 0.0383, 0.0115],
         [0.0405, 0.0861, 0.0915], [-0.0236, -0.0185, -0.0259], [-0.0245, 0.025, 0.118],
         [0.1008, 0.0755, -0.0421], [-0.0515, 0.0201, 0.0011], [0.0428, -0.0012, -0.0036],
         [0.0817, 0.0765, 0.0749], [-0.1264, -0.0522, -0.1103], [-0.028, -0.0881, -0.0499],
         [-0.1262, -0.0982, -0.0778]],
        (-0.0329, -0.0718, -0.0851),
    ),
}
# fmt: on


@pytest.mark.parametrize("space", PREVIEWS)
def test_measured_greys_are_grey_by_a_published_approximation_too(space):
    """Roughly: these maps are rough themselves. SD1.5's blue is 34 of 255 off, all else 10 at most."""
    factors, constant = PREVIEWS[space]
    known = space_named(space)
    z = known.to_sampler(neutral_latents(space, (1, known.channels, 2, 2)))[0, :, 0, 0]
    levels = (z @ torch.tensor(factors) + torch.tensor(constant) + 1) * 127.5
    off = (levels - 127.5).abs()
    assert off.median() < 10 and off.max() < 40


@pytest.mark.parametrize("space", ["sd1.5", "sd3", "flux", "flux2"])
def test_measured_greys_decode_to_mid_grey(space):
    """Through TAESD, where its files are: away from the border, where it sees beyond the picture."""
    taesd = pytest.importorskip("benchmarks.real.taesd")
    try:
        tiny = taesd.load_taesd(space)
    except taesd.TinyMissing as missing:
        pytest.skip(str(missing))
    side = 256 // space_named(space).factor
    with torch.no_grad():
        picture = tiny.decode(neutral_latents(space, (1, space_named(space).channels, side, side)))
    inside = picture[0, :, 64:-64, 64:-64]
    torch.testing.assert_close(inside, torch.full_like(inside, 0.5), atol=0.035, rtol=0)
    with torch.no_grad():  # and what an adapter makes of it is one plain colour, not noise
        mapped = lclip.shipped_adapter(space)(
            neutral_latents(space, (1, space_named(space).channels, side, side))
        )
    assert float(mapped[..., 8:-8, 8:-8].std((2, 3)).max()) < 0.1 * space_named("sdxl").std


def test_it_has_the_shape_and_precision_asked_for():
    like = torch.empty(1, dtype=torch.float16)
    z = neutral_latents("sdxl", (3, 4, 5, 7), like)
    assert z.shape == (3, 4, 5, 7) and z.dtype == torch.float16
    z[0] += 1  # items do not share memory
    assert torch.equal(z[1], z[2]) and not torch.equal(z[0], z[1])
    assert torch.equal(neutral_latents("mini", (1, 4, 8, 8)), neutral_latents("mini", (1, 4, 8, 8)))


def test_a_stand_in_that_is_changed_does_not_change_the_next():
    neutral_latents("mini", (1, 4, 8, 8)).zero_()
    assert neutral_latents("mini", (1, 4, 8, 8)).abs().sum() > 0


@pytest.mark.parametrize(
    ("space", "shape", "says"),
    [
        ("wan2.1", (1, 16, 8, 8), "not known"),
        ("sd3", (1, 4, 8, 8), "16 channels"),
        ("sdxl", (1, 16, 8, 8), "channels"),
        ("sdxl", (0, 4, 8, 8), "empty"),
    ],
)
def test_what_is_not_known_is_refused(space, shape, says):
    with pytest.raises(ValueError, match=says):
        neutral_latents(space, shape)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("size", [(8, 8), (24, 16), (3, 5)])
def test_it_is_known_again_whatever_a_wire_or_a_sampler_has_rounded(dtype, size):
    for space, scale in (("mini", 1 / 6), *((name, space_named(name).scale) for name in OF_MODELS)):
        grey = neutral_latents(space, (2, space_named(space).channels, *size)).to(dtype)
        assert is_neutral(grey, space).all()
        assert is_neutral(((grey * scale).to(dtype) / scale).to(dtype), space).all()
        assert is_neutral(grey[:, :, None], space).all()


def test_nothing_else_is_taken_for_it(vae):
    grey = neutral_latents("mini", (1, 4, 8, 8))
    spot = grey.clone()
    spot[0, 1, 3, 4] += 0.2
    other = torch.cat([spot, grey * 1.1, torch.zeros_like(grey), torch.full_like(grey, torch.nan), -grey])
    assert not is_neutral(other, "mini").any()
    nearly = vae.encode(torch.full((1, 3, 64, 64), 0.06))  # 8 levels of 255 brighter
    assert not is_neutral(nearly, "mini").any()
    assert not is_neutral(neutral_latents("sdxl", (1, 4, 8, 8)), "mini").any()
    assert not is_neutral(grey, "unheard of").any()
    assert not is_neutral(torch.zeros(1, 16, 8, 8), "mini").any()
