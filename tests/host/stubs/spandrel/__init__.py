"""Test stub: see _absent.py. Without an upscale model loader, frontend 1.27 makes no checkpoint loader."""

from _absent import absent

__getattr__ = absent("spandrel")
