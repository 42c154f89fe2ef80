"""Every latent adapter answers what is asked of its kind; see kinds/adapters.py."""

import torch
import torch.nn.functional as F
from kinds.adapters import AdapterKind

import lclip
from lclip.adapters.adapter import AdapterShape
from lclip.adapters.bridge import Bridge
from lclip.adapters.interposer import Interposer
from lclip.latents.spaces import LatentSpace

MINI, WIDE = lclip.space_named("mini"), lclip.space_named("mini-16")
COARSE = LatentSpace("coarse", "coarse latents", 8, 16, 1.0, 1.0)
FINE = LatentSpace("fine", "fine latents", 3, 4, 1.0, 1.0)


def filled(source, target=MINI):
    """An adapter whose every weight counts: a fresh one's correction is zero."""
    adapter = lclip.LatentAdapter(AdapterShape(source, target, width=8, depth=1)).requires_grad_(False)
    generator = torch.Generator().manual_seed(0)
    for name, weight in adapter.named_parameters():
        values = torch.randn(weight.shape, generator=generator) * 0.3
        weight.copy_(values.abs() + 0.5 if name.endswith("_std") else values)
    return adapter.eval()


class TestEqualCells(AdapterKind):
    of = lclip.LatentAdapter

    def make(self):
        return filled(WIDE)


class TestSplitCells(AdapterKind):
    of = lclip.LatentAdapter
    cells = 2

    def make(self):
        return filled(COARSE)


class TestMergedCells(AdapterKind):
    of = lclip.LatentAdapter
    cells = 0.5

    def make(self):
        return filled(FINE)


class TestBridge(AdapterKind):
    of = Bridge

    def make(self):
        def decode(z):
            return torch.sigmoid(F.interpolate(z[:, :3] + 0.3 * z[:, 3:6], scale_factor=8.0))

        def encode(pixels):
            small = F.avg_pool2d(pixels, 8)
            return 6 * torch.cat([small, small.mean(1, keepdim=True)], 1) - 3

        return Bridge(decode, encode, WIDE, MINI, None)

    def saved(self, adapter, folder):
        return None


class TestInterposer(AdapterKind):
    of = Interposer

    def make(self):
        torch.manual_seed(0)
        return Interposer(AdapterShape(WIDE, MINI, width=8, depth=2)).requires_grad_(False).eval()

    def saved(self, adapter, folder):
        return None  # only published ones are read
