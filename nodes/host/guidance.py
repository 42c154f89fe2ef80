"""A MODEL patch that lets a reward guide every step of any of the host's samplers."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from comfy.patcher_extension import WrappersMP
from torch import Tensor

from ... import lclip
from ...lclip.latents.frames import why_no_pictures
from ...lclip.rewards.per_item import looks_across
from . import models
from . import spaces as host_spaces
from .gradient_room import in_room, with_room
from .gradients import make_differentiable, plain_copy
from .rows import reward_of_call

PATCH = "latent_clip_guidance"


def guide_model(model: Any, wired: models.WiredReward, strength: float, start: float, end: float) -> Any:
    """A clone of a MODEL whose predicted x0 moves along the reward's gradient, from start to end of the
    schedule."""
    for loaded in wired.models:
        host_spaces.check_same_space(model, loaded.config)
    if not start <= end:
        raise ValueError(
            f"Guidance starts at {start} and ends at {end}; expected a start that is not after the end."
        )
    sampling = model.get_model_object("model_sampling")
    first, last = sampling.percent_to_sigma(start), sampling.percent_to_sigma(end)
    guide = _Guide(wired, strength, float(first), float(last))
    return with_companions(model, wired.models, guide, gradient=strength != 0)


def with_companions(
    model: Any, towers: Iterable[models.LoadedLatentCLIP], hook: Callable[..., Tensor], gradient: bool = True
) -> Any:
    """A clone of a MODEL that calls a hook after each prediction of x0, with the models that it asks.

    gradient: whether it asks for gradients, which take memory of their own.
    """
    towers = tuple(dict.fromkeys(towers))
    guided = model.clone()
    # As companions of the model they are loaded with it, in one go: nothing evicts anything in mid-sampling.
    own = list(dict.fromkeys(each for loaded in towers for each in loaded.patchers))
    # The clone of a guided model brings clones of its companions: one patcher for each is enough.
    others = guided.get_additional_models_with_key(PATCH)
    others = [other for other in others if not any(other.is_clone(patcher) for patcher in own)]
    guided.set_additional_models(PATCH, [*others, *own])
    guided.set_model_sampler_post_cfg_function(hook)
    if gradient:
        guided.add_wrapper_with_key(WrappersMP.PREPARE_SAMPLING, PATCH, partial(with_room, towers))
    return guided


def looks_across_items(model: Any) -> bool:
    """Whether a guide of this MODEL moves the items of a batch by which others there are."""
    hooks = model.model_options.get("sampler_post_cfg_function", ())
    return any(isinstance(hook, _Guide) and looks_across(hook.wired.reward) for hook in hooks)


class Hook:
    """What a MODEL calls and never changes. Old hosts copy a MODEL's options, and all that hangs on them,
    with each clone: a Latent-CLIP is not copied along."""

    def __deepcopy__(self, memo: Any) -> Any:
        return self


@dataclass(frozen=True)
class _Guide(Hook):
    """Called by the host after each prediction of x0, in inference mode or within a noise search."""

    wired: models.WiredReward
    strength: float
    first_sigma: float
    last_sigma: float

    def __call__(self, args: dict[str, Any]) -> Tensor:
        x0: Tensor = args["denoised"]
        sigma = float(args["sigma"].max())
        if self.strength == 0 or not self.last_sigma <= sigma <= self.first_sigma:
            return x0
        if (why := why_no_pictures(x0)) is not None:
            raise ValueError(f"Latent-CLIP Guidance steers pictures; the model's {why}")
        with torch.inference_mode(False):
            for loaded in self.wired.models:
                make_differentiable(loaded.model)
            clean = plain_copy(x0.detach())
            reward = reward_of_call(self.wired.reward, args["model_options"])
            to_raw = args["model"].process_latent_out
            moved = in_room(self.wired.models, lambda: lclip.guided_x0(clean, reward, self.strength, to_raw))
        # The move is a constant to a noise search around this model: it passes the gradient through x0 alone.
        return x0 + (moved - clean)
