"""Every method of the noise search answers what is asked of its kind; see kinds/samplers.py."""

from kinds.samplers import SamplerKind

from lclip import ReNOSettings


class TestGradient(SamplerKind):
    of = "gradient"
    differentiates = True
    settings = ReNOSettings(iterations=6, lr=50.0)


class TestBestOfN(SamplerKind):
    of = "best_of_n"


class TestZeroOrder(SamplerKind):
    of = "zero_order"
