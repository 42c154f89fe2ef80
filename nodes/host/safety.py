"""The safety half of `host`: grey pictures, a search away from harm, and models that are guarded."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ... import lclip
from ...lclip.latents.frames import in_form_of
from ...lclip.latents.neutral import neutral_latents
from . import exits
from . import spaces as host_spaces
from .gradients import NoGradientError
from .guidance import guide_model
from .ksampler import Stage, search_noise
from .sampling import NoiseSearch

if TYPE_CHECKING:
    from .policy import WiredPolicy

logger = logging.getLogger("latent-clip")


def neutral_like(samples: Tensor, space: str, vae: Any = None) -> Tensor:
    """Mid-grey latents shaped like these: encoded by a VAE where one is wired, else known for the space."""
    if vae is None:
        return neutral_latents(space, samples.shape, samples)
    factor = known.factor if (known := lclip.LATENT_SPACES.get(space)) else 8
    height, width = (side * factor for side in samples.shape[-2:])
    grey = vae.encode(torch.full((1, height, width, 3), 0.5))
    grey = in_form_of(grey, samples)
    if grey.shape[1:] != samples.shape[1:]:
        raise ValueError(
            f"The VAE encodes a grey picture to latents of shape {list(grey.shape)}; expected "
            f"{list(samples.shape[1:])} per item, as on the LATENT. Wire the VAE of these latents."
        )
    return grey.to(samples).repeat(samples.shape[0], *[1] * (samples.ndim - 1))


def search_away(
    wired: WiredPolicy, stage: Stage, sampler_name: str, iterations: int, latent: dict[str, Any]
) -> tuple[Tensor, str | None]:
    """Render the items of a LATENT again, from the noise of the stage's seed, and search away from harm.

    -> latents, and why it was searched without gradients, if it was: that finds less, and takes everything.
    Without previews, which would show what is blocked; and without a guard, as the results are judged.
    """
    from ...lclip.safety.repair import HEADROOM

    host_spaces.check_same_space(stage.model, wired.config)
    stage = replace(stage, model=exits.unguarded(stage.model))
    reward = wired.reward(1.0, headroom=HEADROOM)
    (part,) = reward.reward.rewards.values()
    settings = lclip.ReNOSettings(iterations=iterations, target=part.target)
    # From nothing but noise: a finished picture must not shine through, nor an inpainting mask keep parts of
    # it.
    empty = {key: value for key, value in latent.items() if key != "noise_mask"}
    empty["samples"] = torch.zeros_like(latent["samples"])

    def found(method: str) -> Tensor:
        search = NoiseSearch(reward, sampler_name, replace(settings, method=method))
        return search_noise(search, stage, empty, preview=False).best["samples"]

    try:
        return found("gradient"), None
    except NoGradientError as error:
        logger.warning("Repair searches without gradients. %s", error.why)
        return found("zero_order"), error.why


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
    lets nothing unsafe leave the sampler (see `exits`). tell: is told in words what "stop" finds.
    """
    if not start <= end:
        raise ValueError(
            f"The guard checks from {start} to {end}; expected a start that is not after the end."
        )
    if strength < 0:
        raise ValueError(f"The guard's strength is {strength}; expected 0 or more: below, it seeks harm.")
    reward = wired.reward(1.0, only_unsafe=True)
    if on_unsafe == "steer":
        return guide_model(model, reward, strength, start, end)
    # A strength of 0 moves nothing: it brings the judge's models onto the device together with the model.
    guarded = guide_model(model, reward, 0.0, start, end)
    # A space without a known grey is refused now rather than later.
    neutral_latents(wired.config.latent_space, (1, wired.config.channels, 8, 8))
    sampling = model.get_model_object("model_sampling")
    first, last = (float(sampling.percent_to_sigma(share)) for share in (start, end))
    exits.stop_unsafe(guarded, wired, first, last, tell)
    return guarded
