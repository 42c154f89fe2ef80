"""Every size rule answers what is asked of its kind; see kinds/size_rules.py."""

import pytest
from kinds.size_rules import SIZES, SizeRuleKind

from lclip.latents.fitting import SIZE_MAPS


class TestResize(SizeRuleKind):
    of = "resize"


class TestCrops(SizeRuleKind):
    of = "crops"


class TestTiles(SizeRuleKind):
    of = "tiles"


class TestInterpolate(SizeRuleKind):
    of = "interpolate"
    native = False


class TestFit(SizeRuleKind):
    of = "fit"
    rounding = 1e-5  # convolutions of a batch add in another order

    @pytest.mark.parametrize(("height", "width"), SIZES)
    def test_a_plain_colour_stays_as_it_is(self, reader, height, width, monkeypatch):
        """Where there is no map: numbers that are no picture's latents are nothing that one could keep."""
        monkeypatch.delitem(SIZE_MAPS, "mini")
        super().test_a_plain_colour_stays_as_it_is(reader, height, width)
