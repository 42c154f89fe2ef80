"""LRM-XL as a reward, its UNet run by diffusers: see `lclip.rewards.preference`."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..rewards.preference import GUIDANCE, HEAD, Head, Texts, UNetPreference, check_parts


class PreferenceReward(UNetPreference):
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
        folder, base = Path(folder), Path(base)
        missing = [base / part for part in ("tokenizer", "tokenizer_2") if not (base / part).is_dir()]
        check_parts(folder, missing, ", and an SDXL pipeline's folder with its tokenizers")
        self.timestep = timestep
        self.unet = _unet(folder / "unet", device, dtype)
        head = Head.read(folder / HEAD, self.unet.config.block_out_channels)
        texts = _texts(folder, _ids(base, prompt), device)
        head = replace(head, projection=head.projection.to(device))
        super().__init__(head, texts, prompt, weight, name, guidance)

    def blocks(self, z: Tensor, texts: Texts) -> tuple[list[Tensor], Tensor]:
        """The way up is not computed."""
        z = z.to(self.unet.device, self.unet.dtype)
        stages: list[Tensor] = []
        side = self.unet.config.sample_size * 8
        sizes = torch.tensor([[side, side, 0, 0, side, side]], dtype=z.dtype, device=z.device)
        given = {"text_embeds": texts.pooled.to(z), "time_ids": sizes.expand(len(z), -1)}
        with ExitStack() as hooks:
            for block in self.unet.down_blocks:
                hooks.enter_context(
                    block.register_forward_hook(lambda m, i, out: stages.append(_last(m, out)))
                )
            hooks.enter_context(self.unet.mid_block.register_forward_hook(_stop))
            try:
                self.unet(z, self.timestep, encoder_hidden_states=texts.hidden.to(z), added_cond_kwargs=given)
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


def _unet(folder: Path, device: torch.device | str, dtype: torch.dtype) -> Any:
    from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel

    unet: Any = UNet2DConditionModel.from_pretrained(folder, use_safetensors=True, local_files_only=True)
    unet.to(device, dtype).eval()
    return unet.requires_grad_(False)


def _ids(base: Path, prompt: str) -> list[Tensor]:
    """Of the prompt and of no text, for each encoder."""
    import transformers  # pyright: ignore[reportMissingImports]

    ids = []
    for part in ("tokenizer", "tokenizer_2"):
        tokenizer = transformers.AutoTokenizer.from_pretrained(base / part, local_files_only=True)
        length = {"padding": "max_length", "max_length": tokenizer.model_max_length, "truncation": True}
        ids.append(tokenizer([prompt, ""], return_tensors="pt", **length).input_ids)
    return ids


@torch.no_grad()
def _texts(folder: Path, ids: list[Tensor], device: torch.device | str) -> Texts:
    import transformers  # pyright: ignore[reportMissingImports]

    hidden, pooled = [], torch.empty(0)
    kinds = (transformers.CLIPTextModel, transformers.CLIPTextModelWithProjection)
    for suffix, kind, own in zip(("", "_2"), kinds, ids, strict=True):
        encoder: Any = kind.from_pretrained(
            folder / f"text_encoder{suffix}", use_safetensors=True, local_files_only=True
        )
        told = encoder.to(device).eval()(own.to(device), output_hidden_states=True)
        hidden.append(told.hidden_states[-2])
        pooled = told[0]
    return Texts(torch.cat(hidden, dim=-1), pooled)
