"""A whole training, put together from the data, the towers, the loss and the loop."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from time import perf_counter
from typing import cast

import torch

from ..checkpoints.checkpoint import save_checkpoint
from ..data.shards import Shard
from ..data.tally import Tally
from ..latents.items import item_seed
from ..model.latent_clip import LatentCLIP
from .data import Decode, StreamBatches, StreamSettings
from .loop import FitSettings, Moment, fit
from .metrics import Metrics
from .objectives import Contrastive, Distillation, LatentSource
from .pixel_clips import PixelCLIP
from .ranks import Ranks, gather_objects
from .towers import MADE_ANEW, set_trainable
from .zero_shot import Evaluation

logger = logging.getLogger("latent-clip")


@dataclass(frozen=True)
class Stage:
    """A part of a training with a schedule of its own. trainable: what parameters' names begin with."""

    trainable: tuple[str, ...]
    settings: FitSettings


@dataclass(frozen=True)
class Training:
    """All that a run needs. Its folder holds a checkpoint per stage, the figures, and in the end the model.

    teacher: given, its embeddings are learnt, and the text tower and the logit scale stay as they are; None
    learns from captions. evaluate_every: steps between two evaluations; None
    evaluates at the end of each stage. ValueError for less than 1.
    """

    model: LatentCLIP
    stages: Sequence[Stage]
    shards: Sequence[Shard]
    decode: Decode
    stream: StreamSettings
    latents: LatentSource
    folder: Path
    ranks: Ranks
    teacher: PixelCLIP | None = None
    evaluation: Evaluation | None = None
    log_every: int = 50
    evaluate_every: int | None = None

    def __post_init__(self) -> None:
        if self.evaluate_every is not None and self.evaluate_every < 1:
            raise ValueError(f"evaluate_every is {self.evaluate_every}; expected None, or at least 1 step")

    def run(self) -> LatentCLIP:
        """Train from the beginning or from where it was; writes model.safetensors in half precision."""
        self.folder.mkdir(parents=True, exist_ok=True)
        metrics = Metrics(self.folder) if self.ranks.first else None
        for number, stage in enumerate(self.stages, 1):
            self._run_stage(number, stage, metrics)
        self.model.requires_grad_(False).eval()
        if self.ranks.first:
            save_checkpoint(self.model, self.folder / "model.safetensors", torch.float16, "lclip train")
        return self.model

    def _run_stage(self, number: int, stage: Stage, metrics: Metrics | None) -> None:
        set_trainable(self.model, stage.trainable)
        again = number > 1  # another order for each stage, and none that a neighbouring seed begins with
        seed = item_seed(self.stream.seed, number) if again else self.stream.seed
        stream = replace(self.stream, seed=seed)
        batches = StreamBatches(self.shards, self.decode, stream, self.ranks.rank, self.ranks.world)
        loss = Contrastive(self.model, self.latents)
        if self.teacher is not None:
            loss = Distillation(self.model, self.latents, self.teacher)
        watch = None if metrics is None else _Watch(self, number, metrics, batches)
        path = self.folder / f"stage_{number}.pt"
        kept = fit(self.model, loss, stage.settings, path, batches=batches, watch=watch)
        self.model.load_state_dict(kept.state_dict())
        skipped = sum(gather_objects(batches.skipped), Counter[str]())  # of all ranks
        if self.ranks.first and skipped:
            logger.info("stage %d left out: %s", number, Tally(counts=skipped).text())


class _Watch:
    """Writes figures down while a stage runs."""

    def __init__(self, training: Training, stage: int, metrics: Metrics, batches: StreamBatches) -> None:
        self.training, self.stage, self.metrics, self.batches = training, stage, metrics, batches
        self.since, self.steps = perf_counter(), 0

    def __call__(self, moment: Moment) -> None:
        training, last = self.training, moment.step == moment.steps
        self.steps += 1
        if moment.step % training.log_every == 0 or last:
            self.metrics.write(self.stage, moment.step, self._figures(moment))
            self.since, self.steps = perf_counter(), 0
        every = training.evaluate_every
        often = every is not None and moment.step % every == 0
        if training.evaluation is not None and (often or last):
            figures = training.evaluation(cast(LatentCLIP, moment.model))
            logger.info("step %d: %s", moment.step, ", ".join(f"{k} {v:.4g}" for k, v in figures.items()))
            self.metrics.write(self.stage, moment.step, figures)
            self.since, self.steps = perf_counter(), 0

    def _figures(self, moment: Moment) -> dict[str, float]:
        training = self.training
        samples = self.steps * training.stream.batch_size * training.ranks.world
        return {
            "loss": moment.loss.item(),
            "learning_rate": moment.learning_rate,
            "logit_scale": training.model.logit_scale,
            "samples_per_second": samples / max(perf_counter() - self.since, 1e-9),
            "skipped": sum(self.batches.skipped.values()),  # by this rank
        }


def stages_of(settings: FitSettings, distilled: bool, first: FitSettings | None = None) -> list[Stage]:
    """With `first`, a stage that trains only what was made anew; then one that trains all.

    A distillation says nothing about the text tower and the logit scale.
    """
    stages = [Stage(("visual.",) if distilled else ("",), settings)]
    return stages if first is None else [Stage(MADE_ANEW, first), *stages]
