"""The safety half of `host`: policies on a wire, and a model patch that judges while the host samples."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from comfy.patcher_extension import WrappersMP
from torch import Tensor

from ... import lclip
from ...lclip.latents.items import per_item
from ...lclip.latents.neutral import neutral_latents
from ...lclip.safety.policy import PolicyData
from ...lclip.safety.repair import HEADROOM
from . import memory, models
from . import spaces as host_spaces
from .guidance import guide_model
from .ksampler import Stage, search_noise
from .sampling import NoiseSearch

logger = logging.getLogger("latent-clip")

PATCH = "latent_clip_safety_guard"


@dataclass(frozen=True)
class WiredPolicy:
    """What a LATENT_SAFETY_POLICY wire carries: a policy, and the Latent-CLIPs that it asks."""

    policy: PolicyData
    models: tuple[models.LoadedLatentCLIP, ...]

    def judge(self, latents: Tensor | None = None, **options: Any) -> lclip.SafetyJudge:
        """The judge, with its models on their compute device and room for this batch."""
        models.load_together(self.models, latents)
        with memory.ordinary_tensors():
            return lclip.SafetyJudge(self.policy, [loaded.model for loaded in self.models], **options)

    def reward(self, weight: float, **options: Any) -> models.WiredReward:
        """The policy as a reward; see `lclip.SafetyReward`."""
        models.load_together(self.models)
        with memory.ordinary_tensors():
            reward = lclip.SafetyReward(self.policy, [m.model for m in self.models], weight, **options)
        return models.wire_reward(reward, self.models)

    def changed(self, **changes: Any) -> WiredPolicy:
        """The same models with a changed policy."""
        return replace(self, policy=self.policy.changed(**changes))

    @property
    def config(self) -> lclip.LatentCLIPConfig:
        return self.models[0].config


def neutral_like(samples: Tensor, space: str, vae: Any = None) -> Tensor:
    """Mid-grey latents shaped like these: encoded by a VAE where one is wired, else known for the space."""
    if vae is None:
        return neutral_latents(space, samples.shape, samples)
    factor = known.factor if (known := lclip.LATENT_SPACES.get(space)) else 8
    height, width = (side * factor for side in samples.shape[-2:])
    grey = vae.encode(torch.full((1, height, width, 3), 0.5))
    if grey.shape[1:] != samples.shape[1:]:
        raise ValueError(
            f"The VAE encodes a grey picture to latents of shape {list(grey.shape)}; expected "
            f"{list(samples.shape[1:])} per item, as on the LATENT. Wire the VAE of these latents."
        )
    return grey.to(samples).repeat(samples.shape[0], 1, 1, 1)


def search_away(
    wired: WiredPolicy, stage: Stage, sampler_name: str, iterations: int, latent: dict[str, Any]
) -> Tensor:
    """Render the items of a LATENT again, from the noise of the stage's seed, and search away from harm."""
    host_spaces.check_same_space(stage.model, wired.config)
    reward = wired.reward(1.0, headroom=HEADROOM)
    (part,) = reward.reward.rewards.values()
    settings = lclip.ReNOSettings(iterations=iterations, target=part.target)
    # From nothing but noise: a finished picture must not shine through, nor an inpainting mask keep parts of
    # it.
    empty = {key: value for key, value in latent.items() if key != "noise_mask"}
    empty["samples"] = torch.zeros_like(latent["samples"])
    return search_noise(NoiseSearch(reward, sampler_name, settings), stage, empty).best["samples"]


def guard_model(
    model: Any,
    wired: WiredPolicy,
    on_unsafe: str,
    strength: float,
    start: float,
    end: float,
    tell: Callable[[str], None] | None = None,
) -> Any:
    """A clone of a MODEL that is judged while it samples.

    on_unsafe: "steer" moves the predicted x0 of items above a threshold along the policy's gradient; "stop"
    turns unsafe items grey, and ends the sampling when nothing else is left. tell: is told in words what
    "stop" finds.
    """
    if start > end:
        raise ValueError(
            f"The guard checks from {start} to {end}; expected a start that is not after the end."
        )
    reward = wired.reward(1.0, only_unsafe=True)
    if on_unsafe == "steer":
        return guide_model(model, reward, strength, start, end)
    # A strength of 0 moves nothing: it brings the judge's models onto the device together with the model.
    guarded = guide_model(model, reward, 0.0, start, end)
    neutral_latents(
        wired.config.latent_space, (1, wired.config.channels, 8, 8)
    )  # refused now rather than later
    sampling = model.get_model_object("model_sampling")
    first, last = (float(sampling.percent_to_sigma(share)) for share in (start, end))
    judge = wired.judge(check_scale=False)
    guarded.add_wrapper_with_key(WrappersMP.SAMPLER_SAMPLE, PATCH, _StopUnsafe(judge, first, last, tell))
    return guarded


class _AllUnsafeError(Exception):
    """Ends a sampler from within, when no item is left that may go on."""


@dataclass(frozen=True)
class _StopUnsafe:
    """Wraps a sampler's run: each run has a state of its own, as the patched model serves many."""

    judge: lclip.SafetyJudge
    first_sigma: float
    last_sigma: float
    tell: Callable[[str], None] | None = None

    def __call__(
        self,
        executor: Callable[..., Tensor],
        guider: Any,
        sigmas: Tensor,
        extra_args: dict[str, Any],
        callback: Any,
        noise: Tensor,
        *rest: Any,
        **named: Any,
    ) -> Tensor:
        watch = _Watch(self, guider.inner_model, sigmas, noise)
        options = dict(extra_args["model_options"])
        options["sampler_post_cfg_function"] = [*options.get("sampler_post_cfg_function", ()), watch]
        arguments = {**extra_args, "model_options": options}
        try:
            samples = executor(guider, sigmas, arguments, callback, noise, *rest, **named)
        except _AllUnsafeError:
            logger.warning("Safety guard: every item is unsafe; the sampling ends here, with grey latents.")
            samples = noise
        else:
            watch.check_result(samples)
        watch.report()
        return watch.neutralised(samples)


class _Watch:
    """One run of a sampler: which items were found unsafe so far."""

    def __init__(self, guard: _StopUnsafe, model: Any, sigmas: Tensor, noise: Tensor) -> None:
        self.guard, self.model = guard, model
        self.complete = float(sigmas[-1]) == 0
        # The last step is checked whatever the range says: its x0 is the picture.
        self.final_sigma = float(sigmas[-2]) if self.complete and len(sigmas) > 1 else -1.0
        self.unsafe = torch.zeros(noise.shape[0], dtype=torch.bool)
        self.reasons: dict[int, str] = {}

    def __call__(self, args: dict[str, Any]) -> Tensor:
        """Called by the host after each prediction of x0; leaves it as it is."""
        sigma = float(args["sigma"].max())
        within = self.guard.last_sigma <= sigma <= self.guard.first_sigma
        if within or sigma <= self.final_sigma:
            self._judge(args["denoised"])
            if bool(self.unsafe.all()):
                raise _AllUnsafeError
        return args["denoised"]

    def check_result(self, samples: Tensor) -> None:
        """Judge what a sampler made; half-finished latents of a split schedule cannot be judged."""
        if self.complete:
            self._judge(samples)

    def _judge(self, x0: Tensor) -> None:
        verdicts = self.guard.judge(self.model.process_latent_out(x0.detach().float()))
        found = torch.tensor([not verdict.safe for verdict in verdicts])
        for verdict in verdicts:
            if found[verdict.index] and not self.unsafe[verdict.index]:
                logger.warning("Safety guard: item %d is unsafe: %s", verdict.index, verdict.reason)
                self.reasons[verdict.index] = f"item {verdict.index}: {verdict.concept}"
        if (found & ~self.unsafe).any():
            self.unsafe = self.unsafe | found
            self.report()

    def report(self) -> None:
        """Tell how many items are unsafe so far, and why."""
        if self.guard.tell is not None:
            reasons = "".join(f"\n{self.reasons[index]}" for index in sorted(self.reasons)[:8])
            self.guard.tell(f"last run: {len(self.reasons)} of {len(self.unsafe)} unsafe{reasons}")

    def neutralised(self, samples: Tensor) -> Tensor:
        """The samples, in the sampler's scale, with grey in the place of unsafe items."""
        if not bool(self.unsafe.any()):
            return samples
        grey = neutral_latents(self.guard.judge.config.latent_space, samples.shape, samples)
        grey = self.model.process_latent_in(grey).to(samples)
        return torch.where(per_item(self.unsafe.to(samples.device), samples), grey, samples)
