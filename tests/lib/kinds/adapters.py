"""What is asked of every latent adapter: whatever brings raw latents of one space to another."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import lclip

from . import inputs

SIZES = [(8, 8), (4, 12), (7, 9)]


class AdapterKind:
    """Inherit, say what it is (`of`) and how one is made.

    cells: target cells a side over source cells a side, for sizes that it need not round.
    differentiable: whether gradients pass. tolerance: of a batch against its items.
    """

    of: type
    cells: float = 1

    def make(self) -> Any:
        """An adapter with weights that are not those of a fresh one: called with raw source latents."""
        raise NotImplementedError

    def saved(self, adapter: Any, folder: Path) -> Any:
        """The adapter after it was written and read; None where its kind is not kept in files."""
        return lclip.load_adapter(lclip.save_adapter(adapter, folder / "adapter.safetensors"))

    @pytest.fixture
    def adapter(self):
        return self.make()

    def latents(self, adapter, height=8, width=8, seed=1) -> Tensor:
        return inputs.pictures(channels=adapter.source.channels, height=height, width=width, seed=seed)

    def test_it_is_what_it_says(self, adapter):
        assert type(adapter) is self.of
        assert adapter.source.title in adapter.describe() and adapter.target.title in adapter.describe()

    @pytest.mark.parametrize(("height", "width"), SIZES)
    def test_a_batch_equals_its_items_one_by_one(self, adapter, height, width):
        z = self.latents(adapter, height, width)
        mapped = adapter(z)
        assert tuple(mapped.shape[:2]) == (len(z), adapter.target.channels)
        assert mapped.dtype == torch.float32
        alone = torch.cat([adapter(z[item : item + 1]) for item in range(len(z))])
        torch.testing.assert_close(mapped, alone, atol=1e-4, rtol=1e-4)

    def test_one_frame_is_a_picture(self, adapter):
        z = self.latents(adapter)
        assert torch.equal(adapter(z[:, :, None]), adapter(z))

    def test_cells_become_as_many_as_the_spaces_say(self, adapter):
        mapped = adapter(self.latents(adapter, 8, 16))
        assert tuple(mapped.shape[-2:]) == (8 * self.cells, 16 * self.cells)
        assert self.cells == adapter.source.factor / adapter.target.factor

    @pytest.mark.parametrize("dtype", inputs.HALF)
    @pytest.mark.parametrize(("height", "width"), SIZES)
    def test_half_precision_latents_are_read_as_the_numbers_they_are(self, adapter, height, width, dtype):
        z = self.latents(adapter, height, width).to(dtype)
        torch.testing.assert_close(adapter(z), adapter(z.float()), atol=1e-5, rtol=1e-5)
        x = z.clone().requires_grad_()
        (gradient,) = torch.autograd.grad(adapter(x).square().sum(), x)
        assert gradient.dtype == dtype and bool(torch.isfinite(gradient).all()) and bool(gradient.any())

    @pytest.mark.parametrize("dtype", inputs.HALF)
    def test_half_precision_weights_change_little(self, adapter, dtype):
        z = self.latents(adapter)
        exact = adapter(z)
        mapped = self.make().to(dtype)(z)
        assert float((mapped.float() - exact).square().mean().sqrt()) < 0.03 * float(exact.std())

    @pytest.mark.parametrize(("height", "width"), SIZES)
    def test_the_gradient_equals_finite_differences_and_reaches_every_cell(self, adapter, height, width):
        adapter, z = adapter.double(), self.latents(adapter, height, width).double()
        found, expected = inputs.slope(lambda latents: adapter(latents).square().flatten(1).sum(1), z)
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-4)
        x = z.clone().requires_grad_()
        (gradient,) = torch.autograd.grad(adapter(x).square().sum(), x)
        assert bool((gradient != 0).any(1).all())

    @pytest.mark.parametrize("layout", inputs.LAYOUTS)
    def test_the_layout_in_memory_does_not_matter(self, adapter, layout):
        z = inputs.LAYOUTS[layout](self.latents(adapter))
        plain = adapter(z.clone(memory_format=torch.contiguous_format))
        torch.testing.assert_close(adapter(z), plain, atol=1e-4, rtol=1e-4)

    @pytest.mark.parametrize(("height", "width"), SIZES)
    def test_nothing_is_written_into_the_latents(self, adapter, height, width):
        z = self.latents(adapter, height, width)
        before = inputs.written(z)
        adapter(z)
        assert inputs.same(before, z)

    def test_saved_and_loaded_it_is_the_same(self, adapter, tmp_path):
        loaded = self.saved(adapter, tmp_path)
        if loaded is not None:
            z = self.latents(adapter)
            assert loaded is not adapter and torch.equal(loaded(z), adapter(z))
            assert (loaded.source, loaded.target) == (adapter.source, adapter.target)

    def test_a_latent_clip_behind_it_reads_what_it_maps(self, adapter):
        side = adapter.target.factor / adapter.source.factor
        clip = inputs.clip(channels=adapter.target.channels, latent_space=adapter.target.name)
        adapted = lclip.apply_adapter(clip, adapter)
        z = self.latents(adapter, int(8 * side), int(8 * side))
        torch.testing.assert_close(adapted.encode_latents(z), clip.encode_latents(adapter(z)))
        assert (adapted.config.channels, adapted.config.latent_space) == (
            adapter.source.channels,
            adapter.source.name,
        )
        with pytest.raises(ValueError, match="sdxl|SDXL"):
            lclip.apply_adapter(inputs.clip(latent_space="sdxl"), adapter)

    @pytest.mark.parametrize("case", inputs.UNREADABLE)
    def test_what_cannot_be_read_is_refused_by_name(self, adapter, case):
        change, word = inputs.UNREADABLE[case]
        with pytest.raises(ValueError, match=word):
            adapter(change(self.latents(adapter)))
