"""A guider as a race's sampler sees it: it answers for the whole field, and asks the model for who is in."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import comfy.model_management as management
import torch
from torch import Tensor

from .anew import PassesAnew
from .gradients import plain_copy
from .memory import is_out_of_memory
from .remembered import roots_of
from .rows import with_rows

if TYPE_CHECKING:
    from ... import lclip

logger = logging.getLogger("latent-clip")

POST_CFG = "sampler_post_cfg_function"


class Field:
    """Stands in for a guider: everything else of it is the guider's own."""

    def __init__(self, guider: Any, run: lclip.RaceRun, options: dict[str, Any]) -> None:
        """options: the model options that the host gave; what a sampler adds to them is its own."""
        self._guider, self._run = guider, run
        patcher = guider.model_patcher
        roots = roots_of(patcher, options, guider.model_options)
        self._anew = PassesAnew(roots, patcher.model)
        self._known = len(options.get(POST_CFG, ()))
        self._conds: dict[int, Any] = {}

    def __getattr__(self, name: str) -> Any:
        return getattr(self._guider, name)

    def __call__(
        self,
        x: Tensor,
        timestep: Tensor,
        model_options: dict[str, Any] | None = None,
        seed: int | None = None,
    ) -> Tensor:
        """Predicted x0 of the whole field; who is out stays where it is."""
        options = model_options or {}
        if "easycache" in options.get("transformer_options", {}):
            raise ValueError(
                "The model carries a step cache (EasyCache or LazyCache), which compares a batch with the "
                "one before; in a race the batch shrinks. Take the cache out, the race saves passes itself."
            )
        hooks = options.get(POST_CFG, [])
        own = hooks[self._known :]
        seen = _Seen(x)
        if own:
            # Samplers of the kind cfg_pp look at the uncond prediction: they must see the whole field's.
            options = {**options, POST_CFG: [*hooks[: self._known], seen.note]}

        def ask(rows: Tensor) -> Tensor:
            management.throw_exception_if_processing_interrupted()
            return self._ask(rows, lambda part: self._part(part, x, timestep, options, seed, seen))

        x0 = self._run.predict(x, ask)
        for hook in own:
            x0 = hook(seen.whole(x0, timestep, model_options))
        return x0

    def _ask(self, rows: Tensor, answer: Callable[[Tensor], Tensor]) -> Tensor:
        """The model's answer for these rows; in halves where they do not fit into memory together."""
        try:
            return answer(rows)
        except Exception as error:
            if len(rows) == 1 or not is_out_of_memory(error):
                raise
        management.soft_empty_cache()
        half = (len(rows) + 1) // 2
        logger.warning(
            "Race: %d candidates do not fit into memory at once; going on with %d.", len(rows), half
        )
        self._run.settings = replace(self._run.settings, at_once=half)
        answered = [self._ask(part, answer) for part in rows.split(half)]
        return torch.cat(answered)

    def _part(
        self,
        rows: Tensor,
        x: Tensor,
        timestep: Tensor,
        options: dict[str, Any],
        seed: int | None,
        seen: _Seen,
    ) -> Tensor:
        """The guider's answer, item by item where the batch has several: conditions may be per item."""
        x0 = x[rows]
        items = self._run.items[rows]
        for item in items.unique().tolist():
            own = (items == item).nonzero().flatten()
            seen.rows = rows[own]
            x0[own] = self._for_item(item, x[rows[own]], timestep[rows[own]], options, seed)
        return x0

    def _for_item(
        self, item: int, x: Tensor, timestep: Tensor, options: dict[str, Any], seed: int | None
    ) -> Tensor:
        guider = self._guider
        options = with_rows(options, [item] * len(x))
        if self._run.batch == 1:
            return self._anew(lambda: guider(x, timestep, model_options=options, seed=seed))
        conds = guider.conds
        if item not in self._conds:
            self._conds[item] = plain_copy(conds, item, self._run.batch)
        guider.conds = self._conds[item]
        try:
            return self._anew(lambda: guider(x, timestep, model_options=options, seed=seed))
        finally:
            guider.conds = conds

    def close(self) -> None:
        """Leave what patches hold as it was found."""
        self._anew.close()


class _Seen:
    """What a sampler's own hook would be given, gathered over the parts of the field."""

    def __init__(self, x: Tensor) -> None:
        self.x = x
        self.rows: Tensor | None = None
        self.tensors: dict[str, Tensor] = {}
        self.others: dict[str, Any] = {}

    def note(self, args: dict[str, Any]) -> Tensor:
        for name, value in args.items():
            if isinstance(value, Tensor) and value.shape[1:] == self.x.shape[1:]:
                self.tensors.setdefault(name, self.x.clone())[self.rows] = value.to(self.x.dtype)
            else:
                self.others[name] = value
        return args["denoised"]

    def whole(self, x0: Tensor, timestep: Tensor, options: Any) -> dict[str, Any]:
        return {
            **self.others,
            **self.tensors,
            "denoised": x0,
            "input": self.x,
            "sigma": timestep,
            "model_options": options,
        }
