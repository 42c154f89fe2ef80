"""After the pipeline, before the VAE: only what passes a gate, or comes out best, is decoded."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from ..choosing.pick import pick
from ..latents.items import check_count, sample_seed
from ..model.latent_clip import LatentCLIP
from ..rewards.rewards import Reward, check_reward
from ..safety.judge import SafetyJudge, Verdict
from ..safety.policy import PolicyData
from .calls import check_call, latents_from
from .latents import PipelineLatents, check_reads, generators


@dataclass(frozen=True)
class Gated:
    """What a gate let through; everything in the order of the batch."""

    images: list[Image.Image | None]
    """None where an item is blocked: it was never decoded."""
    verdicts: list[Verdict]
    latents: Tensor
    """[B, C, h, w] raw latents, of blocked items too."""


@dataclass(frozen=True)
class Chosen:
    """Pictures that were chosen among more, and what they came from; best first."""

    images: list[Image.Image]
    latents: Tensor
    """[K, C, h, w] their raw latents."""
    rewards: Tensor
    """[K]; NaN where the reward was none."""
    seeds: list[int]
    """That a torch.Generator("cpu") was seeded with: the pipeline gives the same picture for it."""
    run: Any = None
    """Of a search or a race: its whole result."""


def gate(
    pipe: Any,
    latents: Tensor,
    policy: PolicyData,
    model: LatentCLIP | Sequence[LatentCLIP],
    space: str | None = None,
    height: int | None = None,
    width: int | None = None,
) -> Gated:
    """Judge what a pipeline gave with output_type="latent", and decode only what is safe.

    height, width: as the pipeline was called with; packed latents, of FLUX.1 and Qwen-Image, need both, as
    their number is that of other shapes too. ValueError for a policy or model of other latents.
    """
    form = PipelineLatents.of(pipe, space, height, width)
    judge = SafetyJudge(policy, model)
    check_reads(judge, form)
    if form.form.tokens and getattr(latents, "ndim", None) == 3 and not (height and width):
        raise ValueError(
            "the pipeline gave its latents as tokens, which do not say what shape the picture has; give the "
            "gate the height and width that the pipeline was called with"
        )
    raw = form.to_raw(latents)
    verdicts = judge(raw)
    safe = [verdict.index for verdict in verdicts if verdict.safe]
    pictures = dict(zip(safe, form.decode(raw[safe]), strict=True))
    return Gated([pictures.get(index) for index in range(len(raw))], verdicts, raw)


def best_of(
    pipe: Any,
    reward: Reward,
    n: int = 8,
    keep: int = 1,
    seed: int = 0,
    batch: int = 4,
    space: str | None = None,
    **call: Any,
) -> Chosen:
    """Make n pictures as latents, the first by the seed, the others by hashes of it; decode only the best.

    batch: pictures at once. call: the pipeline's own arguments; one prompt. ValueError for a reward of other
    latents, a list of prompts, or a pipeline that decodes by itself.
    """
    n, batch = check_count("n", n), check_count("batch", batch)
    keep = check_count("keep", keep, f"1 to n ({n})", most=n)
    form = PipelineLatents.of(pipe, space, call.get("height"), call.get("width"))
    check_reads(reward, form)
    check_call(pipe, call)
    seeds = [sample_seed(seed, number) for number in range(n)]
    raw = torch.cat([latents_of(form, call, seeds[first : first + batch]) for first in range(0, n, batch)])
    with torch.no_grad():
        scores = check_reward("of best_of", reward(raw.clone()), raw).float().cpu()
    kept = pick(scores, keep).kept
    return Chosen(form.decode(raw[kept]), raw[kept], scores[kept], [seeds[index] for index in kept])


def latents_of(form: PipelineLatents, call: dict[str, Any], seeds: Sequence[int]) -> Tensor:
    """Raw latents of one prompt, an item for each seed."""
    prompt = one_prompt(call)
    given = {**call, "prompt": [prompt] * len(seeds), "generator": generators(seeds)}
    return form.to_raw(latents_from(form.pipe, form.pipe, **given))


def one_prompt(call: dict[str, Any]) -> str:
    """The prompt of a call. ValueError for several, or what is the business of these functions."""
    taken = {"generator", "latents", "output_type", "num_images_per_prompt"} & set(call)
    if taken:
        raise ValueError(
            f"{', '.join(sorted(taken))} cannot be given here: seeds and form are chosen already"
        )
    prompt = call.get("prompt")
    if isinstance(prompt, list) and len(prompt) == 1:
        prompt = prompt[0]
    if not isinstance(prompt, str):
        raise ValueError(f'the prompt is {prompt!r:.80}; expected one text: prompt="a red fox"')
    return prompt
