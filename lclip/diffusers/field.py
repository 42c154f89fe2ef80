"""A race's field inside a pipeline: a pipeline holds all of it, the model sees who is still in."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from ..choosing.race import RaceRun
from .latents import PipelineLatents

PLACES = ("img_ids", "txt_ids")
"""Arguments of transformers that have no rows for batch items."""


class Field:
    """A `RaceRun` that a pipeline drives."""

    def __init__(self, run: RaceRun, form: PipelineLatents) -> None:
        self.run, self.form = run, form
        self.step = 0
        self.chosen: Tensor | None = None

    def watch(self, x0: Tensor) -> Tensor:
        """Called with every predicted x0, which stays as it is."""
        steps = len(self.form.pipe.scheduler.timesteps)
        self.chosen = self.run.watch(self.step, steps, self.form.to_raw(x0))
        self.step += 1
        return x0

    def rows(self) -> Tensor | None:
        """Which rows go on after the step, where it is resampled."""
        return self.chosen

    @contextmanager
    def only_running(self, model: Any) -> Iterator[None]:
        """The model computes only the rows of who is still in; the others get zeros."""
        forward, own = model.forward, model.__dict__.get("forward")

        def some(*args: Any, **named: Any) -> tuple[Any, ...]:
            return (self._answer(forward, args, named),)

        model.forward = some
        try:
            yield
        finally:
            if own is None:
                del model.forward
            else:
                model.forward = own

    def _answer(self, forward: Any, args: tuple[Any, ...], named: dict[str, Any]) -> Any:
        shown = args[0] if args else named.get("hidden_states", named.get("sample"))
        if shown is None:
            raise ValueError("the pipeline's model is called without latents that are known; it cannot race")
        count, total = len(self.run.running), len(shown)
        if total % count:
            raise ValueError(
                f"the pipeline asks its model for {total} rows at once; expected {count} or twice"
            )
        as_list = not isinstance(shown, Tensor)
        whole = torch.stack(list(shown)) if as_list else shown
        zeros = torch.zeros_like(whole).unflatten(0, (total // count, count)).transpose(0, 1)

        def compute(rows: Tensor) -> Tensor:
            found = forward(*self._cut(args, rows, total), **self._cut(named, rows, total))[0]
            found = found if isinstance(found, Tensor) else torch.stack(list(found))
            return found.unflatten(0, (total // count, len(rows))).transpose(0, 1)

        answer = self.run.predict(zeros, compute).transpose(0, 1).flatten(0, 1)
        return list(answer) if as_list else answer

    def _cut(self, value: Any, rows: Tensor, total: int) -> Any:
        """Those rows of everything that has rows for the items: as many as the race, or as the model sees."""
        if isinstance(value, dict):
            return {n: v if n in PLACES else self._cut(v, rows, total) for n, v in value.items()}
        count = len(self.run.running)
        if isinstance(value, Tensor) and value.ndim and len(value) in (count, total):
            return value.unflatten(0, (-1, count))[:, rows.to(value.device)].flatten(0, 1)
        if isinstance(value, list) and len(value) in (count, total):
            return [value[part + row] for part in range(0, len(value), count) for row in rows.tolist()]
        if isinstance(value, tuple):
            return tuple(self._cut(each, rows, total) for each in value)
        return value
