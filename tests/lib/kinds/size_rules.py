"""What is asked of every size rule."""

from __future__ import annotations

import pytest
import torch

from lclip import SIZE_RULES

from . import inputs

SIZES = [(2, 2), (8, 8), (8, 20), (20, 6), (11, 13), (16, 16)]


class SizeRuleKind:
    """Inherit and say which rule (`of`, its name in SIZE_RULES).

    native: whether its views always have the native size. rounding: by which a batch may differ from its
    items.
    """

    of: str
    native = True
    rounding = 1e-6

    @property
    def rule(self):
        return SIZE_RULES[self.of]

    @pytest.fixture
    def reader(self):
        return inputs.clip().config

    @pytest.mark.parametrize(("height", "width"), SIZES)
    def test_a_batch_equals_its_items_one_by_one(self, reader, height, width):
        z = inputs.pictures(height=height, width=width)
        views = self.rule(z, reader)
        assert views.ndim == 5 and views.shape[0] == len(z) and views.shape[2] == z.shape[1]
        side = reader.native_size
        if self.native:
            assert tuple(views.shape[-2:]) == (side, side)
        assert all(length % reader.patch_size == 0 for length in views.shape[-2:])
        alone = torch.cat([self.rule(z[item : item + 1], reader) for item in range(len(z))])
        torch.testing.assert_close(views, alone, atol=self.rounding, rtol=self.rounding)

    def test_latents_of_the_native_size_stay_as_they_are(self, reader):
        z = inputs.pictures()
        assert torch.equal(self.rule(z, reader), z[:, None])

    @pytest.mark.parametrize("dtype", inputs.HALF)
    @pytest.mark.parametrize(("height", "width"), SIZES)
    def test_half_precision_is_resampled_as_float32_is(self, reader, height, width, dtype):
        z = inputs.pictures(height=height, width=width).to(dtype)
        views = self.rule(z, reader)
        assert views.dtype == dtype
        torch.testing.assert_close(views, self.rule(z.float(), reader).to(dtype), rtol=0.01, atol=0.01)

    @pytest.mark.parametrize(("height", "width"), SIZES)
    def test_the_gradient_equals_finite_differences_and_reaches_every_cell(self, reader, height, width):
        z = inputs.pictures(height=height, width=width).double()

        def mixed(latents):
            views = self.rule(latents, reader)
            weights = torch.rand(views.shape[1:], generator=torch.Generator().manual_seed(4)).double() + 0.1
            return (views.square() * weights).flatten(1).sum(1)

        found, expected = inputs.slope(mixed, z)
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)
        x = z.clone().requires_grad_()
        (gradient,) = torch.autograd.grad(self.rule(x, reader).sum(), x)
        assert bool((gradient != 0).all())

    @pytest.mark.parametrize("layout", inputs.LAYOUTS)
    @pytest.mark.parametrize(("height", "width"), [(8, 8), (11, 20)])
    def test_the_layout_in_memory_does_not_matter(self, reader, height, width, layout):
        z = inputs.LAYOUTS[layout](inputs.pictures(height=height, width=width))
        plain = self.rule(z.clone(memory_format=torch.contiguous_format), reader)
        torch.testing.assert_close(self.rule(z, reader), plain)

    @pytest.mark.parametrize(("height", "width"), SIZES)
    def test_nothing_is_written_into_the_latents(self, reader, height, width):
        z = inputs.pictures(height=height, width=width)
        before = inputs.written(z)
        self.rule(z, reader)
        assert inputs.same(before, z)

    @pytest.mark.parametrize(("height", "width"), SIZES)
    def test_a_plain_colour_stays_as_it_is(self, reader, height, width):
        z = torch.tensor([1.0, -2.0, 3.0, 0.5]).view(1, 4, 1, 1).expand(1, 4, height, width)
        views = self.rule(z, reader)
        torch.testing.assert_close(views, z[:, None, :, :1, :1].expand_as(views))

    def test_a_model_reads_by_it_under_its_name(self):
        model = inputs.clip()
        z = inputs.pictures(height=12, width=20)
        views = self.rule(z, model.config)
        each = torch.stack([model.encode_latents(view, as_it_is) for view in views.unbind(1)])
        expected = torch.nn.functional.normalize(each.mean(0), dim=-1)
        torch.testing.assert_close(model.encode_latents(z, self.of), expected, atol=1e-6, rtol=1e-5)

    @pytest.mark.parametrize("case", inputs.UNREADABLE)
    def test_what_cannot_be_read_is_refused_by_name(self, reader, case):
        change, word = inputs.UNREADABLE[case]
        with pytest.raises(ValueError, match=word):
            self.rule(change(inputs.pictures()), reader)


def as_it_is(z, reader):
    """The rule that changes nothing: one view, of any size."""
    return z[:, None]
