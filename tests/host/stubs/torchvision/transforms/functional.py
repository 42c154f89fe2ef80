"""Test stub: see _absent.py."""

from _absent import absent

__getattr__ = absent("torchvision.transforms.functional")
