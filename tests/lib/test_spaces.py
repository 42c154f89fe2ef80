"""Latent spaces by name: what is known of each, and refusals that name both sides."""

import pytest
import tiny
import torch
import torch.nn.functional as F

import lclip
from lclip.latents.reader import NativeSize
from lclip.latents.spaces import LatentSpace, require_shape, require_space, space_title, spaces_of_shape

WORDS = ["a", "red", "square"]


def test_names_are_unique_and_sizes_are_sensible():
    for name, space in lclip.LATENT_SPACES.items():
        assert space.name == name and space.title.endswith(("latents", "pictures"))
        assert space.channels >= 3 and space.factor >= 1
        assert space.std is None or space.std > 0
    assert {"sdxl", "sd1.5", "sd3", "flux", "mini", "mini-16"} <= set(lclip.LATENT_SPACES)


def test_published_scales():
    """The scaling and shift factors in the models' own VAE configurations."""
    published = {
        "sdxl": (0.13025, 0.0),
        "sd1.5": (0.18215, 0.0),
        "sd3": (1.5305, 0.0609),
        "flux": (0.3611, 0.1159),
    }
    for name, (scale, shift) in published.items():
        space = lclip.space_named(name)
        assert (space.scale, space.shift, space.factor) == (scale, shift, 8)
    assert [lclip.space_named(name).channels for name in published] == [4, 4, 16, 16]


def test_an_unknown_name_lists_the_known_ones():
    with pytest.raises(ValueError, match=r"'sd9'.*flux.*sdxl"):
        lclip.space_named("sd9")
    assert space_title("sd9") == "sd9 latents" and space_title("sd1.5") == "SD1.5 latents"


def test_what_a_vae_may_be():
    assert [space.name for space in spaces_of_shape(64, 32)] == ["hunyuan-image"]
    assert {"sdxl", "sd1.5"} <= {space.name for space in spaces_of_shape(4, 8)}
    assert not spaces_of_shape(5)


def test_refusals_name_both_sides():
    require_space("sdxl", "sdxl", "this", "that makes", "")
    with pytest.raises(ValueError, match="this reads SDXL latents; that makes FLUX latents. Mend it."):
        require_space("sdxl", "flux", "this", "that makes", "Mend it.")
    require_shape(lclip.space_named("sdxl"), 4, 8, "the VAE", "")
    with pytest.raises(ValueError, match=r"16 channels at 1/8 .*flux.*; expected SDXL latents: 4 channels"):
        require_shape(lclip.space_named("sdxl"), 16, 8, "the VAE", "")


def picture_like(space: lclip.LatentSpace, batch: int = 3) -> torch.Tensor:
    coarse = torch.randn(batch, space.channels, 3, 3, generator=torch.Generator().manual_seed(1))
    z = F.interpolate(coarse, (16, 16), mode="bicubic")
    return z / z.std() * space.std + space.shift


@pytest.mark.parametrize("name", ["sd1.5", "sd3", "flux", "mini-16", "cascade-b"])
def test_checks_know_every_space_by_its_own_scale(name):
    space = lclip.space_named(name)
    config = tiny.tiny_config(
        WORDS, embed_dim=8, width=16, layers=1, heads=1, channels=space.channels, latent_space=name
    )
    z = picture_like(space)
    assert lclip.scale_doubt(z, config) is None
    doubt = lclip.scale_doubt(0.1 * z, config)
    if space.scale < 1:
        assert f"multiplied by {space.scale:.5g}" in doubt
        assert (f"add {space.shift:g}" in doubt) == (space.shift != 0)
    else:
        assert "nearly empty" in doubt and "multiplied" not in doubt


def test_a_space_without_one_scale_is_doubted_for_noise_alone():
    config = tiny.tiny_config(
        WORDS, embed_dim=8, width=16, layers=1, heads=1, channels=16, latent_space="cosmos"
    )
    noise, smooth = torch.randn(2, 16, 8, 8), F.interpolate(torch.randn(2, 16, 3, 3), (8, 8), mode="bicubic")
    assert lclip.scale_doubt(0.01 * smooth, config) is None
    assert "looks like noise" in lclip.scale_doubt(0.01 * noise, config)
    concepts = lclip.parse_concepts("redness: a red // a square")
    model = tiny.random_model(config, WORDS)
    judged = lclip.SafetyPolicy(concepts).judge(model, torch.cat([noise, smooth]))
    assert [v.concept for v in judged] == ["unreadable"] * 2 + ["redness"] * 2


@pytest.mark.parametrize("name", ["sdxl", "flux", "sd3", "wan2.1", "wan2.2", "mochi"])
def test_scaling_for_sampling_is_undone(name):
    space = lclip.space_named(name)
    raw = torch.randn(2, space.channels, 3, 4, dtype=torch.float64) * 3
    torch.testing.assert_close(space.to_raw(space.to_sampler(raw)), raw)
    for change in (space.to_sampler, space.to_raw):  # one frame is a picture
        assert torch.equal(change(raw[:, :, None]), change(raw)[:, :, None])


def test_each_channel_is_scaled_by_its_own_mean_and_deviation():
    space = lclip.space_named("wan2.1")
    planes = torch.tensor(space.means, dtype=torch.float64).view(1, 16, 1, 1).expand(1, 16, 2, 2)
    assert float(space.to_sampler(planes).abs().max()) < 1e-12
    apart = planes + torch.tensor(space.stds, dtype=torch.float64).view(1, 16, 1, 1)
    torch.testing.assert_close(space.to_sampler(apart), torch.ones_like(apart))
    assert space.scaled_down and not lclip.space_named("wan2.2").scaled_down


def test_a_space_that_does_not_say_how_it_is_scaled_is_refused():
    silent = LatentSpace("silent", "silent latents", 64, 16, None, None)
    with pytest.raises(ValueError, match="how silent latents are scaled"):
        silent.to_raw(torch.zeros(1, 64, 2, 2))


@pytest.mark.parametrize("name", sorted(lclip.LATENT_SPACES))
def test_small_pictures_of_every_space_are_doubted_in_words_or_not_at_all(name):
    space = lclip.space_named(name)
    smooth = F.avg_pool2d(torch.randn(1, space.channels, 36, 36), 5, 1)
    said = lclip.scale_doubt(smooth * 0.01 * (space.std or 1), NativeSize(space, 8))
    assert (said is None) == (space.std is None or space.scale == 1)
    assert said is None or space.title in said
