"""The guard's "stop": whatever leaves a guarded sampler is judged, and grey where it is unsafe.

A picture leaves a sampler as its result, and as the predicted x0 of every step: that one goes into previews,
and into the second output of the custom sampler nodes. Both are judged as they leave, after all that other
nodes did to them. In the part of the schedule that is checked, and in the last step, predictions are judged
inside too: what is unsafe there stays so, goes on as grey, and ends the sampling once nothing else is left.

A sampler that renders many times (a noise search) is not watched inside: what one render shows, the next may
mend. Its results and previews are judged like any other's.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch
from comfy.patcher_extension import WrappersMP
from torch import Tensor

from ...lclip.latents.items import per_item
from ...lclip.latents.neutral import neutral_latents
from .. import draw

if TYPE_CHECKING:
    from ... import lclip
    from .policy import WiredPolicy

logger = logging.getLogger("latent-clip")

PATCH = "latent_clip_safety_guard"

TOLD = 8  # items that are named on the node

Callback = Callable[[int, Tensor, Tensor, int], None]
Tell = Callable[[str], None]


def stop_unsafe(
    model: Any, policy: WiredPolicy, first_sigma: float, last_sigma: float, tell: Tell | None
) -> None:
    """Let nothing unsafe leave the samplers of this MODEL, which is changed; see above."""
    model.add_wrapper_with_key(
        WrappersMP.SAMPLER_SAMPLE,
        PATCH,
        _Stop(policy, policy.judge(check_scale=False), first_sigma, last_sigma, tell),
    )
    # Outermost, so that it sees what the wrappers of other nodes have made of the result.
    wrappers = model.wrappers[WrappersMP.SAMPLER_SAMPLE]
    model.wrappers[WrappersMP.SAMPLER_SAMPLE] = {PATCH: wrappers.pop(PATCH), **wrappers}


def unguarded(model: Any) -> Any:
    """The MODEL, or a clone of it that stops nothing: for those who judge its results themselves."""
    if not _guards_of(model):
        return model
    free = model.clone()
    free.remove_wrappers_with_key(WrappersMP.SAMPLER_SAMPLE, PATCH)
    return free


def unsafe_to_leave(model: Any, latents: Tensor) -> Tensor:
    """Which raw latents the guards of a MODEL would not let out of a sampler: [B, C, H, W] -> bool [B]."""
    unsafe = torch.zeros(len(latents), dtype=torch.bool)
    for guard in _guards_of(model):
        unsafe |= _unsafe(guard.policy.judge(latents, check_scale=False)(latents))
    return unsafe


def cleared_noise(model: Any, latents: Tensor, noise: Tensor) -> Tensor:
    """Noise [B, ...] on the CPU of raw latents [B, C, H, W], zero where they may not leave a sampler."""
    return noise.masked_fill(per_item(unsafe_to_leave(model, latents), noise), 0.0)


def held_back(model: Any, latents: Tensor) -> Tensor:
    """Which raw latents that left a sampler of this MODEL are its guards' grey: bool [B]."""
    if not (guards := _guards_of(model)):
        return torch.zeros(len(latents), dtype=torch.bool)
    grey = _grey(guards[0].space, latents)
    off = (latents - grey).abs().flatten(1).amax(1)
    return (off < 1e-3 * grey.abs().max().clamp_min(1.0)).cpu()


def cleared(model: Any, latents: Tensor) -> Tensor:
    """The same raw latents with grey in the place of those that a guard of the MODEL would not let out."""
    unsafe = unsafe_to_leave(model, latents)
    if not bool(unsafe.any()):
        return latents
    return _replaced(latents, unsafe, _grey(_guards_of(model)[0].space, latents))


def _guards_of(model: Any) -> list[_Stop]:
    return model.get_wrappers(WrappersMP.SAMPLER_SAMPLE, PATCH)


class _AllUnsafeError(Exception):
    """Ends a sampler from within, when no item is left that may go on."""

    def __init__(self, run: _Run) -> None:
        super().__init__("every item is unsafe")
        self.run = run


@dataclass(frozen=True)
class _Stop:
    """Wraps a sampler's run: each run has a state of its own, as the patched model serves many."""

    policy: WiredPolicy
    judge: lclip.SafetyJudge
    first_sigma: float
    last_sigma: float
    tell: Tell | None = None

    @property
    def space(self) -> str:
        return self.judge.config.latent_space

    def __call__(
        self,
        executor: Any,
        guider: Any,
        sigmas: Tensor,
        extra_args: dict[str, Any],
        callback: Callback | None,
        noise: Tensor,
        *rest: Any,
        **named: Any,
    ) -> Tensor:
        run = _Run(self, guider.inner_model, sigmas, noise, callback)
        if not getattr(executor.class_obj, "renders_many", False):
            options = dict(extra_args["model_options"])
            options["sampler_post_cfg_function"] = [*options.get("sampler_post_cfg_function", ()), run.watch]
            extra_args = {**extra_args, "model_options": options}
        shows = None if callback is None else run.show
        try:
            samples = executor(guider, sigmas, extra_args, shows, noise, *rest, **named)
        except _AllUnsafeError as ended:
            if ended.run is not run:
                raise
            logger.warning("Safety guard: every item is unsafe; the sampling ends here, with grey latents.")
            return run.leave(noise)
        run.judge_end(samples)
        return run.leave(samples)


class _Run:
    """One run of a sampler: which items were found unsafe so far. Tensors are in the sampler's scale."""

    def __init__(
        self, guard: _Stop, model: Any, sigmas: Tensor, noise: Tensor, callback: Callback | None
    ) -> None:
        self.guard, self.model, self.callback = guard, model, callback
        self.complete = float(sigmas[-1]) == 0
        # The last step is checked whatever the range says: its x0 is the picture, or nearly so.
        self.final_sigma = float(sigmas[-2]) if len(sigmas) > 1 else -1.0
        self.unsafe = torch.zeros(noise.shape[0], dtype=torch.bool)
        self.concepts: dict[int, str] = {}
        self.known: _Judged | None = None
        self.shown: _Shown | None = None

    def watch(self, args: dict[str, Any]) -> Tensor:
        """Called by the host after each prediction of x0: unsafe items go on as grey."""
        x0, sigma = args["denoised"], float(args["sigma"].max())
        if len(x0) != len(self.unsafe):
            return x0  # a part of the batch by itself: nobody says which; it is judged when it leaves
        within = self.guard.last_sigma <= sigma <= self.guard.first_sigma
        if within or sigma <= self.final_sigma:
            self._find(self._judge(x0))
            if bool(self.unsafe.all()):
                raise _AllUnsafeError(self)
        passed = self._with_grey(x0, self.unsafe)
        if self.known is not None and passed is not x0:
            self.known = replace(self.known, x0=passed.clone())  # grey is as good as judged
        return passed

    def show(self, step: int, x0: Tensor, x: Tensor, total: int) -> None:
        """Called by the sampler: what goes into previews, and into the second output of a node."""
        judged = self._judge(x0)
        whole = len(x0) == len(self.unsafe)
        hidden = judged.unsafe | self.unsafe if whole else judged.unsafe
        self._show(_Shown(step, x0.clone(), x.clone(), total, hidden, judged))

    def judge_end(self, samples: Tensor) -> None:
        """Judge what a sampler made. Latents with noise left are as unsafe as what they were to become."""
        if len(samples) != len(self.unsafe):  # a race gives as many as are to finish
            self.unsafe = torch.zeros(len(samples), dtype=torch.bool)
        predicted = [] if self.complete else [self.known, self.shown and self.shown.judged]
        last = [each for each in predicted if each and len(each.verdicts) == len(self.unsafe)]
        for judged in last or [self._judge(samples)]:
            self._find(judged)

    def leave(self, samples: Tensor) -> Tensor:
        """The result, with grey in the place of unsafe items; a preview that showed one is taken back."""
        shown = self.shown
        if shown is not None and len(shown.hidden) == len(self.unsafe) and self._uncovered(shown):
            self._show(replace(shown, hidden=shown.hidden | self.unsafe))
        self._report()
        return self._with_grey(samples, self.unsafe)

    def _uncovered(self, shown: _Shown) -> bool:
        """Whether a preview shows an item that was found unsafe since."""
        return bool((self.unsafe & ~shown.hidden).any())

    def _show(self, shown: _Shown) -> None:
        assert self.callback is not None
        self.shown = shown
        x0, x = (self._with_grey(each, shown.hidden) for each in (shown.x0, shown.x))
        self.callback(shown.step, x0, x, shown.total)

    def _judge(self, x0: Tensor) -> _Judged:
        """Verdicts on predictions of x0; the same one is not asked twice."""
        if self.known is None or not _equal(self.known.x0, x0):
            raw = self.model.process_latent_out(x0.detach().float())
            self.known = _Judged(x0.clone(), tuple(self.guard.judge(raw)))
        return self.known

    def _find(self, judged: _Judged) -> None:
        """From now on these items are unsafe."""
        fresh = judged.unsafe & ~self.unsafe
        for verdict in judged.verdicts:
            if bool(fresh[verdict.index]):
                logger.warning("Safety guard: item %d is unsafe: %s", verdict.index, verdict.reason)
                self.concepts[verdict.index] = verdict.concept
        if bool(fresh.any()):
            self.unsafe = self.unsafe | fresh
            self._report()

    def _report(self) -> None:
        """Tell how many items are unsafe so far, and why."""
        if self.guard.tell is not None:
            said, count = draw.words.said, {"unsafe": len(self.concepts), "count": len(self.unsafe)}
            head = said("last run: {unsafe} of {count} unsafe, left as grey", **count)
            items = [said("item {item}: {text}", item=i, text=c) for i, c in sorted(self.concepts.items())]
            more = ["..."] if len(items) > TOLD else []
            told = [head, *items[:TOLD], *more] if items else [said("last run: nothing unsafe")]
            self.guard.tell("\n".join(told))

    def _with_grey(self, x: Tensor, unsafe: Tensor) -> Tensor:
        if not bool(unsafe.any()):
            return x
        grey = _grey(self.guard.space, x)
        return _replaced(x, unsafe, self.model.process_latent_in(grey).to(x))


@dataclass(frozen=True)
class _Judged:
    """Predictions of x0 with their verdicts."""

    x0: Tensor
    verdicts: tuple[lclip.Verdict, ...]

    @property
    def unsafe(self) -> Tensor:
        return _unsafe(self.verdicts)


@dataclass(frozen=True)
class _Shown:
    """What a callback was given, as it was before the hidden items became grey."""

    step: int
    x0: Tensor
    x: Tensor
    total: int
    hidden: Tensor
    judged: _Judged


def _unsafe(verdicts: Iterable[lclip.Verdict]) -> Tensor:
    return torch.tensor([not verdict.safe for verdict in verdicts])


def _equal(a: Tensor, b: Tensor) -> bool:
    return a.shape == b.shape and a.dtype == b.dtype and torch.equal(a, b.to(a.device))


def _grey(space: str, like: Tensor) -> Tensor:
    """Raw latents of a grey picture, in the form of these."""
    return neutral_latents(space, like.shape, like)


def _replaced(latents: Tensor, which: Tensor, by: Tensor) -> Tensor:
    return torch.where(per_item(which.to(latents.device), latents), by, latents)
