"""The size rule "fit", shipped adapters, and the rule that a model was loaded with."""

import subprocess
import sys

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from tiny import random_model, tiny_config

import lclip
from lclip.adapters.shipped import FOLDER, MAPS, SHIPPED, size_map
from lclip.latents.fitting import SIZE_MAPS, fit
from lclip.latents.reader import NativeSize
from lclip.latents.spaces import LatentSpace
from lclip.mini import load_world
from lclip.mini.drawing import render, sample_scenes

WORDS = ("a", "red", "blue", "ring")
PLAIN = LatentSpace("plain", "plain latents", 4, 8, 1.0, 1.0)


@pytest.fixture
def halved(monkeypatch):
    """A space whose map is known: the mean of 2x2 cells. Gives the sizes that it was asked for."""
    sizes = []

    def halve(z):
        sizes.append(tuple(z.shape[-2:]))
        return F.avg_pool2d(z, 2)

    monkeypatch.setitem(SIZE_MAPS, "plain", lambda device, dtype: halve)
    return sizes


def small_model(tmp_path):
    config = tiny_config(WORDS, embed_dim=8, width=16, layers=1, heads=2, latent_space="sdxl")
    made = random_model(config, WORDS)
    return made, lclip.save_checkpoint(made, tmp_path / "m.safetensors")


def test_the_native_size_is_left_alone():
    z = torch.randn(2, 4, 64, 64)
    assert torch.equal(lclip.fit_latents(z)[:, 0], z)


@pytest.mark.parametrize(
    "size, passes, views",
    [
        ((16, 16), [(16, 16)], 1),  # 2x: as it is
        ((12, 12), [(16, 16)], 1),  # 1.5x: brought to twice the native size first
        ((16, 24), [(16, 24)], 2),  # two squares along the longer side
        ((24, 24), [(24, 24), (16, 16)], 1),  # 3x: twice
        ((32, 64), [(32, 64), (16, 32)], 3),
        ((33, 33), [(34, 34), (18, 18), (16, 16)], 1),  # beyond 4x
    ],
)
def test_larger_latents_are_halved_until_they_fit(halved, size, passes, views):
    found = fit(torch.randn(2, 4, *size), NativeSize(PLAIN, 8))
    assert halved == passes
    assert found.shape == (2, views, 4, 8, 8)


def test_smaller_latents_and_spaces_without_a_map_are_resampled(halved):
    small = torch.randn(1, 4, 4, 6)
    assert fit(small, NativeSize(PLAIN, 8)).shape[-2:] == (8, 8) and halved == []
    large = torch.randn(1, 16, 24, 16)
    reader = NativeSize(lclip.space_named("sd3"), 8)
    assert torch.equal(fit(large, reader), lclip.SIZE_RULES["crops"](large, reader))


def test_the_mini_worlds_map_brings_larger_pictures_nearer_to_their_native_latents():
    """Than any resampling does; what is near is asked of the VAE, at 1.5 and 2 times the size."""
    world = load_world()
    scenes = sample_scenes(24, 4242)
    reader = world.latent_clip.config

    def encoded(side):
        pixels = torch.from_numpy(np.stack([render(s, side, side) for s in scenes])).permute(0, 3, 1, 2) / 255
        with torch.no_grad():
            return world.encode(pixels)

    native = encoded(64)
    for side in (96, 128):
        large = encoded(side)
        errors = {
            rule: float((lclip.SIZE_RULES[rule](large, reader)[:, 0] - native).square().mean())
            for rule in ("fit", "resize")
        }
        assert errors["fit"] < 0.6 * errors["resize"], errors


def test_shipped_maps_are_known_to_whoever_imports_the_library_alone():
    code = (
        "import torch, lclip; from lclip.latents.reader import NativeSize\n"
        "for name in ('sdxl', 'mini'):\n"
        "    reader, z = NativeSize(lclip.space_named(name), 8), torch.randn(1, 4, 16, 16)\n"
        "    by = {rule: lclip.SIZE_RULES[rule](z, reader) for rule in ('fit', 'crops')}\n"
        "    assert not torch.equal(by['fit'], by['crops']), name\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("size", [(8, 8), (16, 16), (16, 24), (5, 9)])
def test_one_frame_is_a_picture(size):
    z = torch.randn(2, 4, *size)
    assert torch.equal(lclip.fit_latents(z[:, :, None], native=8), lclip.fit_latents(z, native=8))


@pytest.mark.parametrize("space", SHIPPED)
def test_a_shipped_adapter_reads_one_frame_as_a_picture(space):
    z = torch.randn(2, lclip.space_named(space).channels, 8, 8)
    adapter = lclip.shipped_adapter(space)
    assert torch.equal(adapter(z[:, :, None]), adapter(z))


def test_one_cell_wide_is_read():
    assert lclip.fit_latents(torch.randn(1, 4, 1, 200), native=8).shape[2:] == (4, 8, 8)


@pytest.mark.parametrize("space", MAPS)
def test_the_shipped_map_halves_with_gradients(space):
    z = (torch.randn(1, 4, 32, 48) * 5).requires_grad_()
    out = size_map(space, torch.device("cpu"))(z)
    assert out.shape == (1, 4, 16, 24) and bool(torch.isfinite(out).all())
    out.square().sum().backward()
    assert float(z.grad.abs().sum()) > 0


@pytest.mark.parametrize("space", SHIPPED)
def test_shipped_adapters_give_sdxl_latents_of_the_same_picture_size(space):
    source = lclip.space_named(space)
    adapter = lclip.shipped_adapter(space)
    z = torch.randn(2, source.channels, 128 // source.factor, 192 // source.factor).requires_grad_()
    out = adapter(z)
    assert out.shape == (2, 4, 16, 24) and bool(torch.isfinite(out).all())
    out.sum().backward()
    assert float(z.grad.abs().sum()) > 0
    with pytest.raises(ValueError, match="reads"):
        adapter(torch.randn(2, 5, 8, 8))


def test_shipped_files_are_small():
    sizes = {path.name: path.stat().st_size for path in FOLDER.glob("*.safetensors")}
    assert sizes.keys() == {*SHIPPED.values(), *MAPS.values()}
    assert all(sizes[name] <= 1.5e6 for name in SHIPPED.values()) and sizes[MAPS["sdxl"]] <= 1e6


def test_an_unknown_space_is_refused_by_name():
    with pytest.raises(ValueError, match=r"flux, flux2, sd3, sd1\.5"):
        lclip.shipped_adapter("cascade-c")
    with pytest.raises(ValueError, match="no latent space"):
        lclip.fit_latents(torch.randn(1, 4, 8, 8), "nobody's")
    with pytest.raises(ValueError, match="the size map reads SDXL latents with 4"):
        lclip.fit_latents(torch.randn(1, 16, 128, 128))
    with pytest.raises(ValueError, match="video latents"):
        lclip.fit_latents(torch.randn(1, 4, 3, 128, 128))


def test_a_model_reads_by_the_rule_that_it_was_loaded_with(tmp_path):
    made, path = small_model(tmp_path)
    wide = torch.randn(1, 4, 8, 20)
    for rule in lclip.SIZE_RULES:
        model = lclip.load(path, size_rule=rule)
        assert model.size_rule == rule
        assert torch.equal(model.encode_latents(wide), made.encode_latents(wide, size_rule=rule))
        same = lclip.TextReward(made, "a red ring", size_rule=rule)
        assert torch.equal(lclip.TextReward(model, "a red ring")(wide), same(wide))
    assert made.size_rule == lclip.load(path).size_rule == lclip.DEFAULT_SIZE_RULE == "fit"
    with pytest.raises(ValueError, match="size rule is 'largest'"):
        lclip.load(path, size_rule="largest")


@pytest.mark.parametrize("rule", [None, "fit"])
def test_a_space_without_a_map_is_read_as_before_there_were_maps(tmp_path, rule):
    config = tiny_config(WORDS, embed_dim=8, width=16, layers=1, heads=2, channels=16, latent_space="sd3")
    made = random_model(config, WORDS)
    model = lclip.load(lclip.save_checkpoint(made, tmp_path / "m.safetensors"), size_rule=rule)
    assert made.size_rule == model.size_rule == "interpolate"
    for size in ((16, 16), (9, 21), (4, 5)):
        z = torch.randn(2, 16, *size)
        expected = model.encode_latents(z, "interpolate")
        assert torch.equal(model.encode_latents(z), expected)
        assert torch.equal(model.encode_latents(z, "fit"), expected)


@pytest.mark.parametrize(
    "size, alike",
    [
        ((8, 8), "interpolate"),
        ((8, 20), "crops"),
        ((16, 16), None),
        ((6, 6), "interpolate"),
        ((6, 20), "interpolate"),
    ],
)
def test_the_default_maps_what_is_larger_and_reads_the_smaller_as_it_is(tmp_path, size, alike):
    _, path = small_model(tmp_path)
    model, z = lclip.load(path), torch.randn(2, 4, *size)
    found = model.encode_latents(z)
    same = {r for r in lclip.SIZE_RULES if torch.equal(found, model.encode_latents(z, r))} - {"fit"}
    assert alike in same if alike else not same


def test_a_model_behind_an_adapter_keeps_its_rule(tmp_path):
    _, path = small_model(tmp_path)
    adapter = lclip.shipped_adapter("sd1.5")
    model = lclip.apply_adapter(lclip.load(path, size_rule="tiles"), adapter)
    z = torch.randn(1, 4, 16, 8)
    assert torch.equal(model.encode_latents(z), model.base.encode_latents(adapter(z), "tiles"))
    by_default = lclip.apply_adapter(lclip.load(path), adapter)
    assert by_default.size_rule == "fit"  # of SDXL's latents, which is what the model reads
    assert torch.equal(by_default.encode_latents(z), by_default.base.encode_latents(adapter(z), "fit"))


@pytest.mark.parametrize("native", [0, -8, 8.0])
def test_a_native_size_that_is_none_is_refused(native):
    with pytest.raises(ValueError, match="native is"):
        lclip.fit_latents(torch.randn(1, 4, 16, 16), native=native)
