"""Latents of odd sizes and of other makes, before every shipped adapter and rule: read, or a clear error."""

import pytest
import torch
from tiny import random_model, tiny_config

import lclip
from lclip.adapters.adapter import AdapterShape, LatentAdapter
from lclip.adapters.shipped import SHIPPED
from lclip.latents.spaces import space_named

WORDS = ["a", "red", "apple"]


@pytest.fixture(scope="module")
def reader():
    return random_model(
        tiny_config(WORDS, embed_dim=8, width=16, layers=1, heads=2, latent_space="sdxl", patch_size=4), WORDS
    )


def latents(space, height, width):
    generator, known = torch.Generator().manual_seed(height * 100 + width), space_named(space)
    return known.std * torch.randn(2, known.channels, height, width, generator=generator)


@pytest.mark.parametrize("space", SHIPPED)
@pytest.mark.parametrize("rule", lclip.SIZE_RULES)
@pytest.mark.parametrize("size", [(5, 7), (13, 9), (31, 17), (4, 40)])
def test_sides_that_are_no_multiple_of_a_patch_are_read(reader, space, rule, size):
    adapted = lclip.apply_adapter(reader, lclip.shipped_adapter(space))
    z = latents(space, *size)
    whole = adapted.encode_latents(z, size_rule=rule)
    assert whole.isfinite().all()
    torch.testing.assert_close(adapted.encode_latents(z[1:], size_rule=rule), whole[1:], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("space", SHIPPED)
@pytest.mark.parametrize("size", [(1, 1), (1, 30), (30, 1)])
def test_latents_of_one_cell_are_refused_by_their_size(reader, space, size):
    adapted = lclip.apply_adapter(reader, lclip.shipped_adapter(space))
    with pytest.raises(ValueError, match=rf"{size[0]}x{size[1]} cells; expected at least one patch.*larger"):
        adapted.encode_latents(latents(space, *size))


@pytest.mark.parametrize("space", SHIPPED)
def test_an_adapter_alone_maps_one_cell_to_its_cells(space):
    adapter = lclip.shipped_adapter(space)
    fold = 2 if space == "flux2" else 1
    assert adapter(latents(space, 1, 3)).shape == (2, 4, fold, 3 * fold)


def test_flux2s_latents_are_read_folded_and_unfolded_ones_are_told_apart(reader):
    adapted = lclip.apply_adapter(reader, lclip.shipped_adapter("flux2"))
    folded = latents("flux2", 8, 8)
    assert adapted.encode_latents(folded).isfinite().all()
    unfolded = torch.nn.functional.pixel_shuffle(folded, 2)
    for read in (adapted.encode_latents, adapted.adapter):
        with pytest.raises(
            ValueError, match=r"32 channels.*FLUX\.2 latents with 128.*pixel_unshuffle\(z, 2\)"
        ):
            read(unfolded)
    again = torch.nn.functional.pixel_unshuffle(unfolded, 2)
    assert torch.equal(adapted.encode_latents(again), adapted.encode_latents(folded))


@pytest.mark.parametrize("space", SHIPPED)
def test_an_adapter_of_the_other_direction_is_refused_by_name(reader, space):
    back = LatentAdapter(AdapterShape(space_named("sdxl"), space_named(space), 8, 1))
    title = space_named(space).title
    with pytest.raises(ValueError, match=rf"reads SDXL latents; the adapter leads to {title}"):
        lclip.apply_adapter(reader, back)
