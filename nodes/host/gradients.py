"""What lets a gradient pass through the host's samplers and models, and what refuses where none can pass."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any

import comfy.k_diffusion.sampling as k_diffusion
import comfy.model_management as management
import comfy.model_sampling
import comfy.samplers
from comfy.ldm.modules.attention import SpatialTransformer
from comfy.ldm.modules.diffusionmodules.openaimodel import ResBlock
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from .attention import differentiable_attention, without_derivative
from .choices import SAMPLERS

DIFFERENTIABLE = frozenset(
    [
        "euler",
        "euler_ancestral",
        "euler_ancestral_cfg_pp",
        "heun",
        "heunpp2",
        "dpm_2",
        "dpm_2_ancestral",
        "lms",
        "dpmpp_2s_ancestral",
        "dpmpp_2s_ancestral_cfg_pp",
        "dpmpp_sde",
        "dpmpp_2m",
        "dpmpp_2m_cfg_pp",
        "dpmpp_2m_sde",
        "dpmpp_3m_sde",
        "ddpm",
        "lcm",
        "ipndm",
        "ipndm_v",
        "gradient_estimation",
        "er_sde",
        "seeds_2",
        "seeds_3",
        "sa_solver",
        "ddim",
    ]
)
"""Samplers whose gradient agrees with finite differences to 1e-3. In the others an inner no_grad cuts it,
uni_pc divides in place what the backward pass needs, and in deis it was seen to be several percent off.
"""

_START_WITHOUT = "start ComfyUI with --disable-dynamic-vram"
GRADIENT_FREE = "Set method to zero_order or best_of_n, which need no gradient and work with every sampler"


class NoGradientError(ValueError):
    """A sampler or model that no gradient is known to pass; a search without gradients takes it."""

    def __init__(self, why: str) -> None:
        super().__init__(f"{why} {GRADIENT_FREE}.")
        self.why = why


def stock_sampler(name: str, undecorated: bool) -> Any:
    """The host's own sampler; undecorated: without the no_grad around its loop, otherwise the same code."""
    stock = comfy.samplers.sampler_object(name)
    if not undecorated:
        return stock
    function = getattr(stock.sampler_function, "__wrapped__", stock.sampler_function)
    return comfy.samplers.KSAMPLER(function, stock.extra_options, stock.inpaint_options)


def differentiable_samplers(patcher: Any) -> list[str]:
    """The samplers that a gradient passes with this model; some hand flow models to a code of their own."""
    flow = isinstance(patcher.get_model_object("model_sampling"), comfy.model_sampling.CONST)
    apart = {name for name in DIFFERENTIABLE if hasattr(k_diffusion, f"sample_{name}_RF")} if flow else set()
    return [name for name in SAMPLERS if name in DIFFERENTIABLE - apart]


def refuse_undifferentiable(patcher: Any, sampler_name: str) -> None:
    """ValueError for samplers and models that no gradient is known to pass."""
    known = differentiable_samplers(patcher)
    if sampler_name not in known:
        raise NoGradientError(
            f"ReNO cannot differentiate the sampler {sampler_name!r} with this model. Use one of "
            f"{', '.join(known)}."
        )
    if patcher.model_options.get("multigpu_clones") or patcher.get_additional_models_with_key("multigpu"):
        raise NoGradientError(
            "The model is spread over several GPUs (multi-GPU clones), and no gradient is known to pass from "
            "one to another. Take the multi-GPU node out."
        )
    if (kind := _quantisation(patcher.model)) is not None:
        raise NoGradientError(
            f"The model's weights are quantised ({kind}), and no gradient is known to pass through that. "
            f"Use the fp16, bf16 or fp32 model."
        )


@contextmanager
def whole_model(guider: Any) -> Iterator[Any]:
    """The guider's model, with weights that stay where a backward pass finds them, for as long as needed.

    Under dynamic VRAM the host brings weights in layer by layer and may take their memory back after each.
    From such a model the host can make a whole twin, read from the same file and with the same patches; it
    keeps one for each MODEL. The guider works on that one meanwhile, and afterwards it leaves the card. Call
    in inference mode; load what is yielded.
    """
    patcher, inner_model = guider.model_patcher, guider.inner_model
    _refuse_dynamic_companions(guider)
    if not is_dynamic(patcher):
        yield patcher
        return
    whole = _whole_twin(patcher)
    try:
        guider.model_patcher, guider.inner_model = whole, whole.model
        whole.pre_run()
        yield whole
    finally:
        guider.model_patcher, guider.inner_model = patcher, inner_model
        whole.cleanup()
        _unload(whole)


def is_dynamic(patcher: Any) -> bool:
    """Whether the host brings a model's weights in layer by layer (dynamic VRAM)."""
    return getattr(patcher, "is_dynamic", lambda: False)()


def _refuse_dynamic_companions(guider: Any) -> None:
    patcher = guider.model_patcher
    companions = [*guider.loaded_models, *patcher.model_patches_models()]
    # A ControlNet of low rank borrows the weights of the dynamic model without being loaded itself.
    borrowing = is_dynamic(patcher) and _any_cond_has("control", guider.conds)
    if borrowing or any(map(is_dynamic, companions)):
        raise NoGradientError(
            "A ControlNet, or another model beside the MODEL, is loaded on demand (dynamic VRAM), and no "
            f"gradient is known to pass through that. Take it out, or {_START_WITHOUT}."
        )


def _any_cond_has(entry: str, conds: Mapping[str, Any]) -> bool:
    return any(cond.get(entry) is not None for group in conds.values() for cond in group or ())


def _whole_twin(patcher: Any) -> Any:
    make = getattr(patcher, "get_non_dynamic_delegate", None)
    if make is None or getattr(patcher, "cached_patcher_init", None) is None:
        raise NoGradientError(
            "The model's weights are loaded on demand (dynamic VRAM), no gradient is known to pass through "
            "that, and the node that loaded it does not tell from where they can be loaded as a whole. Load "
            f"the model with ComfyUI's own nodes, or {_START_WITHOUT}."
        )
    whole = make()
    whole.is_injected = False  # copied from a model that may be in use; nothing was injected into this one
    return whole


def _unload(patcher: Any) -> None:
    # The host forgets which entry is the twin's as soon as its patcher is gone, and could not evict it.
    loaded = management.current_loaded_models
    for number in reversed(range(len(loaded))):
        if loaded[number].model is patcher and loaded[number].model_unload():
            loaded.pop(number)
    management.soft_empty_cache()


def is_partly_loaded(patcher: Any) -> bool:
    """Whether a model did not fit into memory as a whole."""
    return getattr(patcher.model, "model_lowvram", False)


def refuse_partly_loaded(patcher: Any) -> None:
    """ValueError for a model that did not fit into memory as a whole."""
    if is_partly_loaded(patcher):
        raise NoGradientError(
            "The model fits into memory only partly, and no gradient is known to pass through that. Free "
            "memory, or use a smaller model."
        )


def refuse_hooks(conds: Mapping[str, Any]) -> None:
    """ValueError for conditioning that exchanges weights while sampling, which would break them out here."""
    if _any_cond_has("hooks", conds):
        raise NoGradientError(
            "The conditioning carries hooks that exchange the model's weights while it samples (a scheduled "
            "LoRA), and no gradient is known to pass through that. Load the LoRA on the model instead. "
        )


def refuse_control_attention(conds: Mapping[str, Any]) -> None:
    """ValueError for a ControlNet whose attention has no derivative: it takes no options of a render, so that
    its attention cannot be overridden, and what it adds would lose its gradient without a word."""
    if _any_cond_has("control", conds) and (name := without_derivative()) is not None:
        raise NoGradientError(
            f"The conditioning carries a ControlNet, and this ComfyUI computes attention by {name}, through "
            "which no gradient is known to pass. Start ComfyUI with --use-pytorch-cross-attention, take out "
            "what replaces its attention, or take the ControlNet out."
        )


def _quantisation(model: nn.Module) -> str | None:
    for parameter in model.parameters():
        if type(parameter) not in (nn.Parameter, Tensor):
            return type(parameter).__name__
        if type(parameter.data) is not Tensor:
            return type(parameter.data).__name__
    for module in model.modules():
        if getattr(module, "scale_weight", None) is not None:
            return "scaled fp8"
    return None


def make_differentiable(model: nn.Module) -> None:
    """Replace weights that were made in inference mode by equal ones that a backward pass may save.

    Call outside of inference mode, after loading. The host patches and moves weights in inference mode, so
    this is needed after every load. Out of place: whoever holds the old tensors keeps them.
    """
    for module in model.modules():
        for name, tensor in module._parameters.items():
            if tensor is not None and (tensor.requires_grad or not is_ordinary(tensor)):
                frozen = tensor.detach() if is_ordinary(tensor) else tensor.detach().clone()
                module._parameters[name] = nn.Parameter(frozen, requires_grad=False)
        for name, tensor in module._buffers.items():
            if tensor is not None and not is_ordinary(tensor):
                module._buffers[name] = tensor.clone()


def is_ordinary(tensor: Tensor) -> bool:
    """Whether a tensor can take part in a gradient: not made in inference mode, nor moved outside it
    afterwards.

    The latter kind says that it is no inference tensor, but has no version counter: touching that tells.
    """
    if tensor.is_inference():
        return False
    try:
        return tensor._version >= 0
    except RuntimeError:
        return False


def plain_copy(value: Any, item: int | None = None, batch: int = 0) -> Any:
    """A deep copy of tensors in dicts, lists and the host's conditioning objects; everything else is shared.

    item: keep only this item of tensors that have one entry per batch item.
    """
    again = partial(plain_copy, item=item, batch=batch)
    if isinstance(value, Tensor):
        per_item = item is not None and batch > 1 and value.ndim > 0 and value.shape[0] == batch
        return (value[item : item + 1] if per_item and item is not None else value).clone()
    if type(value) is dict:
        return {key: again(entry) for key, entry in value.items()}
    if type(value) in (list, tuple):
        return type(value)(again(entry) for entry in value)
    if hasattr(value, "_copy_with") and hasattr(value, "cond"):
        return value._copy_with(again(value.cond))
    return value


def render_options(
    model_options: Mapping[str, Any],
    sigmas: Tensor,
    conds: Mapping[str, Any],
    differentiable: bool,
) -> dict[str, Any]:
    """Model options for one render, as a copy: its patches see no tensor of inference mode.

    differentiable: attention runs in a kernel that has a derivative; others leave the residual path its
    gradient, so that nothing else would show it.
    """
    options = dict(model_options)
    transformer = dict(options.get("transformer_options", {}))
    transformer["sample_sigmas"] = sigmas
    if _any_cond_has("control", conds):
        patches = dict(transformer.get("patches", {}))
        # A ControlNet adds to the skip connection in place; the main path must not share that tensor.
        after_skip = [*patches.get("input_block_patch_after_skip", ()), lambda h, _: h.clone()]
        transformer["patches"] = {**patches, "input_block_patch_after_skip": after_skip}
    if differentiable:
        transformer["optimized_attention_override"] = differentiable_attention
    options["transformer_options"] = transformer
    return options


@contextmanager
def checkpointed(model: Any | None) -> Iterator[None]:
    """Recompute the activations of residual and transformer blocks in the backward pass instead of keeping
    them.

    None changes nothing. The blocks' own forward is wrapped on the instances, and is as before afterwards.
    """
    blocks = (
        [] if model is None else [m for m in model.modules() if isinstance(m, (ResBlock, SpatialTransformer))]
    )
    before = [block.__dict__.get("forward") for block in blocks]
    for block in blocks:
        block.forward = partial(_recomputed, block.forward)
    try:
        yield
    finally:
        for block, forward in zip(blocks, before, strict=True):
            if forward is None:
                del block.forward
            else:
                block.forward = forward


def _recomputed(forward: Callable[..., Tensor], *args: Any, **named: Any) -> Tensor:
    # The options tell a block its place and change while the model runs; the second pass must see the same.
    args = tuple(dict(arg) if type(arg) is dict else arg for arg in args)
    named = {name: dict(arg) if type(arg) is dict else arg for name, arg in named.items()}
    return checkpoint(forward, *args, use_reentrant=False, preserve_rng_state=False, **named)
