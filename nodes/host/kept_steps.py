"""Cells of a map under patches that keep something from step to step: step caches and their kin.

Such a patch decides by the mean over a batch whether a step is computed, so that a cell would depend on those
beside it; and where nothing lets it begin anew, on the cells before it.
"""

from __future__ import annotations

from typing import Any

import comfy.samplers
from torch import Tensor

from .anew import Anew
from .remembered import Remembered, roots_of


class CellsAnew(Anew):
    """Begins every cell as the first, and tells whether each must be rendered alone."""

    def __init__(self, patcher: Any) -> None:
        super().__init__(roots_of(patcher, patcher.model_options), patcher.model)
        self.needed = bool(self.kept)
        """With patches until the first cell has shown that they keep nothing, or for good."""
        self.told = not self.needed

    def begun_with(self, stock: Any) -> Any:
        """The sampler of the next cells."""
        if not self.told:
            return _Watched(stock, self)
        self.begin()
        return stock


class _Watched(comfy.samplers.Sampler):
    """A stock sampler that looks, before the sampling ends, at what patches have kept of it."""

    def __init__(self, stock: Any, cells: CellsAnew) -> None:
        self.stock, self.cells = stock, cells

    def sample(
        self, model_wrap: Any, sigmas: Tensor, extra_args: dict[str, Any], *rest: Any, **named: Any
    ) -> Tensor:
        patcher = model_wrap.model_patcher
        options = (extra_args["model_options"], model_wrap.model_options)
        kept = Remembered(roots_of(patcher, *options), patcher.model)
        found = self.stock.sample(model_wrap, sigmas, extra_args, *rest, **named)
        self.cells.needed, self.cells.told = kept.of_a_render(), True
        return found
