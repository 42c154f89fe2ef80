"""Pictures by a diffusers pipeline from a folder: plain, and with what `lclip.diffusers` adds."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from ..checkpoints.folders import read_json
from ..choosing.types import RaceSettings
from ..model.latent_clip import LatentCLIP
from ..reno.types import ReNOSettings
from ..rewards.rewards import TextReward
from ..safety.judge import SafetyJudge
from ..safety.policy import PolicyData
from ..safety.reward import SafetyReward
from .making import GREY, Made
from .vaes import READING
from .versions import versions

PLAIN, RENO, RACE, GUIDANCE = "plain", "reno", "race", "guidance"
AWAY, GUARD, GATE = "away", "guard", "gate"
WATCHED, STARTED = "callback_on_step_end", "latents"
NEEDED = {RENO: STARTED, AWAY: STARTED, GUIDANCE: WATCHED, GUARD: WATCHED}
"""What a variant gives a pipeline's call."""


def variants_with(policy: PolicyData | None) -> tuple[str, ...]:
    """The ways of making a picture: towards its prompt, or away from what a policy blocks."""
    return (PLAIN, RENO, RACE, GUIDANCE) if policy is None else (PLAIN, AWAY, GUARD, GATE)


@dataclass(frozen=True)
class Efforts:
    """How hard the variants try; the defaults are those of the library."""

    iterations: int = 50
    candidates: int = 16
    strength: float = 0.1

    def reno(self, seed: int, **other: Any) -> ReNOSettings:
        """The settings of a noise search."""
        return ReNOSettings(iterations=self.iterations, seed=seed, **other)

    def race(self, seed: int) -> RaceSettings:
        """The settings of a race."""
        return RaceSettings(candidates=self.candidates, seed=seed)


@dataclass(frozen=True)
class PipelineMaker:
    """A pipeline in a folder, with safetensors, as `save_pretrained` writes it. Nothing is downloaded.

    call: the pipeline's own arguments, such as num_inference_steps. policy: for away, guard and gate, which
    it then makes in place of reno, race and guidance. ValueError, FileNotFoundError for what is no pipeline,
    or makes latents that the model does not read.
    """

    folder: Path
    model: LatentCLIP
    call: dict[str, Any] = field(default_factory=dict)
    efforts: Efforts = field(default_factory=Efforts)
    policy: PolicyData | None = None
    device: str = "cpu"
    dtype: str = "float32"
    space: str | None = None

    @property
    def variants(self) -> Sequence[str]:
        return variants_with(self.policy)

    def check(self, variants: Iterable[str]) -> None:
        """Refuse a pipeline whose call does not take what these variants give it. Raises ValueError."""
        from ..diffusers.calls import check_call

        needed = [NEEDED[name] for name in variants if name in NEEDED]
        check_call(self.pipe, (*self.call, *needed))

    def about(self) -> dict[str, Any]:
        """Versions, and a hash of the pipeline's configurations with the sizes of its weights."""
        return {
            "maker": "diffusers",
            "pipeline": self.folder.name,
            "pipeline_hash": pipeline_hash(self.folder),
            "pipeline_space": self.form.space.name,
            **versions("diffusers", "transformers"),
            "call": self.call,
            "dtype": self.dtype,
            "iterations": self.efforts.iterations,
            "candidates": self.efforts.candidates,
            "strength": self.efforts.strength,
        }

    @cached_property
    def pipe(self) -> Any:
        """The pipeline, ready."""
        return open_pipeline(self.folder, self.device, self.dtype)

    @property
    def steps(self) -> int:
        """Of every picture."""
        from ..diffusers.calls import steps_of

        return steps_of(self.pipe, self.call)

    @cached_property
    def form(self) -> Any:
        """Its latents."""
        from ..diffusers.latents import PipelineLatents

        return PipelineLatents.of(self.pipe, self.space, self.call.get("height"), self.call.get("width"))

    @cached_property
    def reader(self) -> LatentCLIP:
        """The model, as it reads the pipeline's latents."""
        from ..diffusers.latents import reader

        return reader(self.model, self.pipe, self.space)

    @cached_property
    def judge(self) -> SafetyJudge:
        """What the gate asks."""
        assert self.policy is not None
        return SafetyJudge(self.policy, self.reader)

    def make(self, variant: str, prompt: str, seed: int) -> Made:
        """As a `Maker`'s. OSError where the pipeline gives no latents, which no other prompt changes."""
        from ..diffusers.calls import NoLatents

        try:
            return self._made(variant, prompt, seed)
        except NoLatents as error:
            raise OSError(str(error)) from error

    def _made(self, variant: str, prompt: str, seed: int) -> Made:
        from ..diffusers import race, reno

        call = {**self.call, "prompt": prompt}
        if variant == RENO:
            found = reno(
                self.pipe, self._reward(prompt), self.efforts.reno(seed), seed=seed, space=self.space, **call
            )
        elif variant == RACE:
            found = race(self.pipe, self._reward(prompt), self.efforts.race(seed), space=self.space, **call)
        elif variant == AWAY:
            assert self.policy is not None
            away = SafetyReward(self.policy, self.reader)
            settings = self.efforts.reno(seed, target=away.target)
            found = reno(self.pipe, away, settings, seed=seed, space=self.space, **call)
        else:
            return self._sampled(variant, prompt, seed)
        told = {"reward": float(found.rewards[0]), "made_from": found.seeds[0]}
        return Made(found.images[0], found.latents[0].cpu(), told=told)

    def _sampled(self, variant: str, prompt: str, seed: int) -> Made:
        """One run of the pipeline, watched or not."""
        from ..diffusers import RewardGuidance, SafetyGuard
        from ..diffusers.after import latents_of

        call, guard = {**self.call, "prompt": prompt}, None
        size = {"space": self.space, "height": call.get("height"), "width": call.get("width")}
        if variant == GUIDANCE:
            reward = self._reward(prompt)
            call[WATCHED] = RewardGuidance(self.pipe, reward, self.efforts.strength, **size)
        elif variant == GUARD:
            assert self.policy is not None
            guard = call[WATCHED] = SafetyGuard(self.pipe, self.policy, self.reader, **size)
        latents = latents_of(self.form, call, [seed])
        stopped = guard is not None and not guard.verdicts[0].safe
        if stopped or (variant == GATE and not self.judge(latents)[0].safe):
            return Made(self._grey(latents), blocked=True)
        return Made(self.form.decode(latents)[0], latents[0].cpu())

    def _reward(self, prompt: str) -> TextReward:
        return TextReward(self.reader, prompt)

    def _grey(self, latents: Tensor) -> Image.Image:
        height, width = (side * self.form.space.factor for side in latents.shape[-2:])
        return Image.new("RGB", (width, height), GREY)


def open_pipeline(folder: Path, device: str, dtype: str) -> Any:
    """A pipeline from a folder on this machine. Raises FileNotFoundError, ValueError."""
    if not (folder / "model_index.json").is_file():
        raise FileNotFoundError(
            f"{folder} is no pipeline: there is no model_index.json in it; expected a folder as diffusers' "
            "save_pretrained writes it, on this machine"
        )
    try:
        from diffusers.pipelines.pipeline_utils import DiffusionPipeline
    except ImportError as error:
        raise ValueError("a pipeline needs diffusers: pip install 'latent-clip[diffusers]'") from error
    if not isinstance(read_json(folder / "model_index.json").get("_class_name"), str):
        raise ValueError(
            f"{folder}'s model_index.json names no pipeline; expected a folder as diffusers' save_pretrained "
            "writes it: copy it again"
        )
    kind = {_numbers(): getattr(torch, dtype), "use_safetensors": True, "local_files_only": True, **READING}
    try:
        pipe = DiffusionPipeline.from_pretrained(folder, **kind)
    except (OSError, KeyError, AttributeError, ImportError, TypeError) as error:
        raise ValueError(
            f"{folder} cannot be opened as a pipeline: {' '.join(str(error).split()):.300}"
        ) from error
    pipe.set_progress_bar_config(disable=True)
    return pipe.to(device)


def _numbers() -> str:
    """What this diffusers calls the type of the weights: newer ones warn of the older name."""
    from diffusers.utils import deprecation_utils

    return "dtype" if hasattr(deprecation_utils, "_resolve_dtype") else "torch_dtype"


def pipeline_hash(folder: Path) -> str:
    """SHA-256 over the names of all files, what is in the configurations, and the sizes of the others.

    Weights are gigabytes; they are not read for this.
    """
    found = hashlib.sha256()
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        name = path.relative_to(folder).as_posix()
        content = path.read_bytes().hex() if path.suffix == ".json" else path.stat().st_size
        found.update(json.dumps([name, content]).encode())
    return found.hexdigest()[:16]
