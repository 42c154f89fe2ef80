"""A latent preference model as a reward: LRM-XL (Zhang et al. 2025, arXiv 2502.01051), as it is published.

The score is s cos(text, latents). The latents' side is a projection of SDXL's UNet: the mean over all cells
of what each of its down blocks ends with, before it shrinks, and of the middle block, the latter with
classifier-free guidance; the text's is the pooled output of the second text encoder.
"""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ..checkpoints.pickles import read_pickle
from ..latents.spaces import space_named
from ..rewards.rewards import PUBLISHED_CLIP_SCALE, LatentReward, shorten, usable_for_backward

PARTS = ("unet", "text_encoder", "text_encoder_2", "state_dict.pt")
GUIDANCE = 7.5
"""Of the published LRM-XL."""


class PreferenceReward(LatentReward):
    """How much people would prefer latents for a prompt: weight x 0.01 x s x cos, as for the text reward.

    folder: unet, text_encoder, text_encoder_2 and state_dict.pt, as the authors save them. base: an SDXL
    pipeline's folder, of which the tokenizers are read. timestep: what the model is told of the noise in
    its latents; clean ones have none. Deviation: no noise is added for it. dtype: of the UNet. Read with
    safetensors, and nothing is downloaded. Raises FileNotFoundError, ValueError.
    """

    def __init__(
        self,
        folder: str | Path,
        base: str | Path,
        prompt: str,
        weight: float = 1.0,
        name: str | None = None,
        timestep: int = 0,
        guidance: float = GUIDANCE,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
    ) -> None:
        super().__init__(weight, name or f"preference: {shorten(prompt)}", 4, "sdxl")
        folder = Path(folder)
        _check(folder, Path(base))
        self.timestep, self.guidance = timestep, guidance
        self.unet = _unet(folder / "unet", device, dtype)
        self.projection, self.scale = _head(folder / "state_dict.pt", self.unet, device)
        with torch.no_grad():
            self.hidden, self.pooled = _texts(folder, Path(base), prompt, device)  # of the prompt and of ""
        if self.pooled.shape[1] != len(self.projection):
            raise ValueError(
                f"{folder}: the projection has {len(self.projection)} rows, the text {self.pooled.shape[1]} "
                "numbers; expected the same of both"
            )

    def score(self, latents: Tensor) -> Tensor:
        seen = F.linear(self._features(latents), usable_for_backward(self.projection))
        cosine = F.cosine_similarity(seen, usable_for_backward(self.pooled[:1]).float())
        return PUBLISHED_CLIP_SCALE * self.scale * cosine

    def _features(self, latents: Tensor) -> Tensor:
        """[B, C, h, w] raw -> [B, sum of the blocks' channels]"""
        z = space_named("sdxl").to_sampler(latents).to(self.unet.device, self.unet.dtype)
        stages, middle = self._blocks(torch.cat([z, z]), len(z))
        text, empty = (part.float() for part in middle.mean((2, 3)).chunk(2))
        means = [stage.chunk(2)[0].mean((2, 3)).float() for stage in stages]
        return torch.cat([*means, empty + self.guidance * (text - empty)], dim=1)

    def _blocks(self, z: Tensor, number: int) -> tuple[list[Tensor], Tensor]:
        """What the down blocks and the middle end with; the way up is not computed."""
        stages: list[Tensor] = []
        side = self.unet.config.sample_size * 8
        texts, pooled = (usable_for_backward(each).to(z.dtype) for each in (self.hidden, self.pooled))
        sizes = torch.tensor([[side, side, 0, 0, side, side]], dtype=z.dtype, device=z.device)
        given = {
            "text_embeds": pooled.repeat_interleave(number, 0),
            "time_ids": sizes.expand(len(z), -1),
        }
        with ExitStack() as hooks:
            for block in self.unet.down_blocks:
                hooks.enter_context(
                    block.register_forward_hook(lambda m, i, out: stages.append(_last(m, out)))
                )
            hooks.enter_context(self.unet.mid_block.register_forward_hook(_stop))
            try:
                self.unet(
                    z,
                    self.timestep,
                    encoder_hidden_states=texts.repeat_interleave(number, 0),
                    added_cond_kwargs=given,
                )
            except _Enough as found:
                return stages, found.middle
        raise ValueError("the UNet has no middle block; expected SDXL's")


class _Enough(Exception):  # noqa: N818  # no error
    def __init__(self, middle: Tensor) -> None:
        super().__init__()
        self.middle = middle


def _stop(module: Any, given: Any, middle: Tensor) -> None:
    raise _Enough(middle)


def _last(block: Any, out: tuple[Tensor, tuple[Tensor, ...]]) -> Tensor:
    """A block's last state before it shrinks."""
    return out[1][len(block.resnets) - 1]


def _check(folder: Path, base: Path) -> None:
    missing = [str(folder / part) for part in PARTS if not (folder / part).exists()]
    missing += [str(base / part) for part in ("tokenizer", "tokenizer_2") if not (base / part).is_dir()]
    if missing:
        raise FileNotFoundError(
            f"a latent preference model needs {missing[0]}, which is not there; expected a folder with "
            f"{', '.join(PARTS)}, and an SDXL pipeline's folder with its tokenizers"
        )


def _unet(folder: Path, device: torch.device | str, dtype: torch.dtype) -> Any:
    from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel

    unet: Any = UNet2DConditionModel.from_pretrained(folder, use_safetensors=True, local_files_only=True)
    unet.to(device, dtype).eval()
    return unet.requires_grad_(False)


def _head(path: Path, unet: Any, device: torch.device | str) -> tuple[Tensor, float]:
    """The projection [D, channels] and s. Raises CheckpointError, ValueError."""
    held = read_pickle(path)
    try:
        weight, scale = held["visual_projection"]["weight"], held["logit_scale"]
        weight, scale = weight.float().to(device), float(scale.float().exp())
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{path} has no visual_projection and logit_scale; expected an LRM") from error
    widths = unet.config.block_out_channels
    if weight.ndim != 2 or weight.shape[1] != sum(widths) + widths[-1]:
        raise ValueError(
            f"{path}: the projection has shape {list(weight.shape)}; expected [D, {sum(widths) + widths[-1]}]"
            ", of all down blocks and the middle"
        )
    return weight, scale


def _texts(folder: Path, base: Path, prompt: str, device: torch.device | str) -> tuple[Tensor, Tensor]:
    """Of the prompt and of no text: what the UNet reads [2, L, D], and what pools it [2, d]."""
    import transformers  # pyright: ignore[reportMissingImports]

    hidden, pooled = [], torch.empty(0)
    kinds = (transformers.CLIPTextModel, transformers.CLIPTextModelWithProjection)
    for suffix, kind in zip(("", "_2"), kinds, strict=True):
        tokenizer = transformers.AutoTokenizer.from_pretrained(
            base / f"tokenizer{suffix}", local_files_only=True
        )
        encoder: Any = kind.from_pretrained(
            folder / f"text_encoder{suffix}", use_safetensors=True, local_files_only=True
        )
        length = {"padding": "max_length", "max_length": tokenizer.model_max_length, "truncation": True}
        ids = tokenizer([prompt, ""], return_tensors="pt", **length).input_ids
        told = encoder.to(device).eval()(ids.to(device), output_hidden_states=True)
        hidden.append(told.hidden_states[-2])
        pooled = told[0]
    return torch.cat(hidden, dim=-1), pooled
