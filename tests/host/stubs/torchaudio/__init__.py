"""Test stub: see _absent.py."""

from _absent import absent

from . import functional as functional
from . import transforms as transforms

__version__ = "0.0"
__getattr__ = absent("torchaudio")
