"""Other latents read through two VAEs, and through published interposers."""

import functools
import re

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from tiny import random_model, tiny_config

import lclip
from lclip.adapters.adapter import AdapterShape
from lclip.adapters.interposer import Interposer
from lclip.checkpoints.fingerprint import fingerprint

WORDS = ("a", "red", "blue", "ring")


def reader(**changes):
    """A model of 4x4 native cells that reads SDXL's latents."""
    config = tiny_config(
        WORDS, embed_dim=8, width=16, layers=1, heads=2, patch_size=2, grid=4, latent_space="sdxl", **changes
    )
    return random_model(config, WORDS)


def decode(z):
    """16 channels at 1/8 -> pixels: some smooth function, in 0..1."""
    colours = torch.sigmoid(z[:, :3] + 0.3 * z[:, 3:6])
    return F.interpolate(colours, scale_factor=8, mode="bilinear", align_corners=False)


def encode(pixels):
    """Pixels -> 4 channels at 1/8."""
    small = F.avg_pool2d(pixels, 8)
    return 6 * torch.cat([small, small.mean(1, keepdim=True)], 1) - 3


def test_a_bridge_is_decoding_and_encoding():
    z = torch.randn(3, 16, 8, 8)
    found = lclip.bridge(decode, encode, "flux")(z)
    assert torch.equal(found, encode(decode(z)))


def test_a_bridge_shrinks_pixels_to_the_native_size_and_keeps_the_aspect():
    made = lclip.bridge(decode, encode, "flux", native=8)
    assert made(torch.randn(1, 16, 16, 24)).shape == (1, 4, 8, 12)
    assert made(torch.randn(1, 16, 5, 6)).shape == (1, 4, 5, 6)  # never enlarged


def test_a_model_behind_a_bridge_reads_the_other_latents_with_gradients():
    model = lclip.apply_adapter(reader(), lclip.bridge(decode, encode, "flux", native=8))
    assert model.config.channels == 16 and model.config.latent_space == "flux"
    z = torch.randn(2, 16, 8, 8, dtype=torch.float64)
    reward = lclip.TextReward(model, "a red ring")
    leaf = z.float().requires_grad_()
    reward(leaf).sum().backward()
    step, direction = 1e-2, torch.randn(z.shape, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        rise = (reward(z.float() + step * direction) - reward(z.float() - step * direction)).sum() / (
            2 * step
        )
    assert float((leaf.grad * direction).sum()) == pytest.approx(float(rise), rel=0.05, abs=1e-5)


def test_a_bridge_refuses_other_channels_and_unknown_spaces():
    with pytest.raises(ValueError, match="reads FLUX latents"):
        lclip.bridge(decode, encode, "flux")(torch.randn(1, 4, 8, 8))
    with pytest.raises(ValueError, match="no latent space"):
        lclip.bridge(decode, encode, "nobody's")


def told(decoder, encoder, native=8):
    return fingerprint(lclip.apply_adapter(reader(), lclip.bridge(decoder, encoder, "flux", native=native)))


def scaled(z, factor):
    return decode(z * factor)


def through(layer, scale):
    """A decoder that hides its weights in a function."""
    return lambda z: decode(layer(z) * scale)


class Network(torch.nn.Module):
    def __init__(self, channels, calls):
        super().__init__()
        self.inside, self.calls = layer_of(channels, 1), calls

    def forward(self, x):
        return self.calls(self.inside(x))

    def shown(self, x):
        return self(x)


def layer_of(channels, seed):
    torch.manual_seed(seed)
    return torch.nn.Conv2d(channels, channels, 1)


def test_a_fingerprint_tells_bridges_apart():
    one, other = (layer_of(16, seed) for seed in (1, 2))
    first = told(through(one, 1), encode)
    assert first == told(through(layer_of(16, 1), 1), encode)  # the same, made anew
    found = [first, told(through(other, 1), encode), told(through(one, 1.5), encode)]
    found += [told(functools.partial(scaled, factor=2.0), encode), told(decode, encode)]
    found += [told(decode, lambda pixels: encode(pixels) * 1.1), told(decode, encode, None)]
    found += [told(decode, encode, 7), told(decode, encode, 64)]
    found += [told(Network(16, decode), encode)]  # by its weights
    assert first == told(Network(16, decode).shown, encode)
    assert len(set(found)) == len(found)


def test_a_function_whose_weights_change_is_seen_and_noise_is_not():
    layer = layer_of(16, 1)
    model = lclip.apply_adapter(reader(), lclip.bridge(through(layer, 1), encode, "flux"))
    before = fingerprint(model)
    torch.manual_seed(5)
    drawn = torch.rand(3)
    torch.manual_seed(5)
    assert fingerprint(model) == before and torch.equal(torch.rand(3), drawn)
    layer.weight.data.mul_(-1)
    assert fingerprint(model) != before
    noisy = lclip.bridge(lambda z: decode(z + torch.randn_like(z)), lambda x: encode(x + 1e-7), "flux")
    model = lclip.apply_adapter(reader(), noisy)
    assert fingerprint(model) == fingerprint(model)


def test_two_networks_are_told_by_their_weights_as_ever():
    """Recorded before anything else counted; a policy that was calibrated behind such a bridge still fits."""
    networks = Network(16, decode), Network(3, encode)
    assert told(*networks, native=64) == "be9dd960d3552e90"
    assert told(*networks, native=8) != told(*networks, native=64)


def test_a_bridge_that_cannot_be_told_says_how_to_mend_it():
    def fails(z):
        raise RuntimeError("only 128x128")

    with pytest.raises(ValueError, match="decode.*only 128x128.*torch.nn.Module"):
        told(fails, encode)
    with pytest.raises(ValueError, match="encode.*torch.nn.Module"):
        told(decode, lambda pixels: None)


NAME = "fx-to-xl_interposer-v4.0.safetensors"


def published(folder, name=NAME, width=8, depth=3):
    """A file in the published layout, with random weights."""
    shape = AdapterShape(lclip.space_named("flux"), lclip.space_named("sdxl"), width, depth)
    weights = {key: torch.rand(value.shape) * 0.1 for key, value in Interposer(shape).state_dict().items()}
    weights = {
        key: torch.tensor(7) if key.endswith("num_batches_tracked") else value
        for key, value in weights.items()
    }
    save_file(weights, folder / name)
    return folder / name, weights


def by_hand(z, weights):
    """The published network, one operation after the other."""

    def long(x, at):
        for index in (0, 2, 4):
            x = F.conv2d(x, weights[f"{at}.{index}.weight"], weights[f"{at}.{index}.bias"], padding=1)
            x = F.silu(x) if index < 4 else x
        return x

    def norm(x, at):
        mean, var = weights[f"{at}.running_mean"], weights[f"{at}.running_var"]
        return F.batch_norm(x, mean, var, weights[f"{at}.weight"], weights[f"{at}.bias"])

    x = long(z, "head.long") + F.conv2d(
        z, weights["head.short.weight"], weights["head.short.bias"], padding=1
    )
    x = F.relu(x)
    for block in (1, 2, 3):
        inner = norm(x, f"core.{block}.norm")
        x = F.relu(long(inner, f"core.{block}.long") + inner)
    return F.conv2d(F.silu(norm(x, "core.4")), weights["tail.weight"], weights["tail.bias"], padding=1)


def test_a_published_interposer_is_read_by_its_name(tmp_path):
    path, weights = published(tmp_path)
    adapter = lclip.load_adapter(path)
    assert (adapter.source.name, adapter.target.name) == ("flux", "sdxl")
    z = torch.randn(2, 16, 6, 7)
    torch.testing.assert_close(adapter(z), by_hand(z, weights))
    read = lclip.apply_adapter(reader(), adapter).encode_latents(torch.randn(2, 16, 8, 8))
    assert read.shape == (2, 8)


@pytest.mark.parametrize("name", ["my-adapter.safetensors", "xl-to-xx_interposer-v4.0.safetensors"])
def test_an_interposer_of_another_name_says_what_names_mean(tmp_path, name):
    path, _ = published(tmp_path, name)
    with pytest.raises(lclip.CheckpointError, match=re.escape("fx-to-xl_interposer-v4.0.safetensors")):
        lclip.load_adapter(path)


def test_an_interposer_of_another_direction_or_layout_is_refused(tmp_path):
    path, _ = published(tmp_path, "v1-to-xl_interposer-v4.0.safetensors")
    with pytest.raises(lclip.CheckpointError, match="head"):
        lclip.load_adapter(path)
    path, weights = published(tmp_path)
    save_file({key: value for key, value in weights.items() if key != "tail.bias"}, path)
    with pytest.raises(lclip.CheckpointError, match=r"tail\.bias"):
        lclip.load_adapter(path)
