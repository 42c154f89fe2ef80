"""Every size rule answers what is asked of its kind; see kinds/size_rules.py."""

from kinds.size_rules import SizeRuleKind


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
