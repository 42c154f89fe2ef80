"""The training loop: AdamW or Muon, warmup and cosine, averaged weights, many processes, resumable anywhere.

Every step seeds torch by (seed, step), and the batches know where they are, so that a resumed run is the
same run.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Protocol, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from ..checkpoints.atomic import atomic_file
from ..descent import WeightAverage, cosine_share
from .losses import MAX_LOGIT_SCALE
from .optimizers import OPTIMIZERS, make_optimizers
from .ranks import gather_objects, rank, world_size

logger = logging.getLogger("latent-clip")

M = TypeVar("M", bound=nn.Module)
LAST_SHARE = 0.01  # of the learning rate, at the end of its cosine
PRECISIONS = {"float32": None, "bfloat16": torch.bfloat16}


@dataclass(frozen=True)
class FitSettings:
    """How long and how fast to train one module.

    optimizer: "muon" leaves vectors, convolutions and embeddings to AdamW and takes all other matrices. That
        includes the projections to the shared space, which Jordan et al. would leave to AdamW, and the joint
        one to queries, keys and values, whole.
    """

    steps: int
    learning_rate: float
    warmup: int = 50
    weight_decay: float = 0.01
    ema_decay: float | None = 0.995  # of the weights that are kept in the end; None keeps the last ones
    clip_norm: float = 1.0
    save_every: int = 100
    seed: int = 0
    eps: float = 1e-8  # of AdamW
    optimizer: str = "adamw"
    precision: str = "float32"  # of the maths; weights and their averages are always float32

    def __post_init__(self) -> None:
        if self.steps < 1 or self.warmup < 0 or self.save_every < 1 or self.learning_rate <= 0:
            raise ValueError(
                f"steps {self.steps}, warmup {self.warmup}, save_every {self.save_every}, learning rate "
                f"{self.learning_rate}; expected at least 1, 0, 1, and more than 0"
            )
        if self.optimizer not in OPTIMIZERS:
            raise ValueError(f"optimizer is {self.optimizer!r}; expected {' or '.join(OPTIMIZERS)}")
        if self.precision not in PRECISIONS:
            raise ValueError(f"precision is {self.precision!r}; expected {' or '.join(PRECISIONS)}")

    def shortened(self, steps: int | None) -> FitSettings:
        """The same for fewer steps, to try the pipeline; None changes nothing."""
        return self if steps is None else replace(self, steps=steps)


class Batches(Protocol):
    """Where batches come from, and how to go on from the same place."""

    def batch(self, step: int) -> Any:
        """What the loss of this step is taken of; called with every step once, in order."""
        ...

    def state(self) -> Any:
        """Plain data: what `restore` needs to go on after the last batch that was given."""
        ...

    def restore(self, states: list[Any], step: int) -> None:
        """Go on with batch `step`. states: of all ranks, as they were saved."""
        ...


class SeededDraws:
    """A random generator for each step, for losses that draw their own batches."""

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def batch(self, step: int) -> np.random.Generator:
        return np.random.default_rng([self.seed, step])

    def state(self) -> None:
        return None

    def restore(self, states: list[Any], step: int) -> None: ...


@dataclass(frozen=True)
class Moment:
    """A run after a step, as a watcher sees it. loss: smoothed. model: averaged where that is kept."""

    step: int
    steps: int
    loss: Tensor
    learning_rate: float
    model: nn.Module


Watch = Callable[[Moment], None]


def fit(
    module: M,
    loss_of: Callable[[Any], Tensor],
    settings: FitSettings,
    checkpoint: Path,
    fast_parameters: tuple[str, ...] = (),
    batches: Batches | None = None,
    watch: Watch | None = None,
) -> M:
    """Train what is trainable in `module` on `loss_of(batch)`; goes on from `checkpoint` when it is there.

    loss_of: scalar of a batch, computed with `module`; under torchrun of this rank's share of the batch, the
        mean over the ranks being the whole's. fast_parameters: names that learn five times faster (a logit
        scale). batches: of this rank; None gives `loss_of` a generator seeded by (seed, step). watch: called
        on the first rank after each step.
    -> the averaged copy, or the module itself where no average is kept. Raises FloatingPointError where the
    loss or its gradient is no longer finite; ValueError for a checkpoint of other settings.
    """
    batches = batches or SeededDraws(settings.seed)
    _hold_temperatures(module)
    optimizers = make_optimizers(
        module,
        settings.optimizer,
        settings.learning_rate,
        settings.weight_decay,
        settings.eps,
        fast_parameters,
    )
    run = _Run(module, settings, checkpoint, batches, optimizers)
    first = run.resume()
    trained = _shared(module, loss_of)
    bar = _bar(first, settings.steps, checkpoint.stem)
    smooth: Tensor | None = None
    for step in bar:
        share = cosine_share(step, settings.steps, settings.warmup, LAST_SHARE)
        for optimizer in run.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = settings.learning_rate * share * group["speed"]
        # Ranks draw different noise; the first draws what a single process would.
        torch.manual_seed(settings.seed * 1_000_003 + step + rank() * 7_919_000_117)
        with _precision(module, settings):
            loss = trained(batches.batch(step))
        run.descend(loss, step)
        smooth = loss.detach() if smooth is None else 0.98 * smooth + 0.02 * loss.detach()
        if rank() == 0:
            if step % 20 == 0:  # reading the loss makes an accelerator wait
                bar.set_postfix(loss=f"{smooth.item():.4f}", refresh=False)
            if watch is not None:
                rate = settings.learning_rate * share
                watch(Moment(step + 1, settings.steps, smooth, rate, run.kept))
        if (step + 1) % settings.save_every == 0 or step + 1 == settings.steps:
            run.save(step + 1)
    return run.kept.eval()  # pyright: ignore[reportReturnType]


class _Run:
    """What a checkpoint holds: the module, its average, the optimizers and the place in the data."""

    def __init__(
        self,
        module: nn.Module,
        settings: FitSettings,
        path: Path,
        batches: Batches,
        optimizers: list[torch.optim.Optimizer],
    ) -> None:
        self.module, self.settings, self.path = module, settings, path
        self.batches, self.optimizers = batches, optimizers
        decay = settings.ema_decay
        self.average = None if decay is None else WeightAverage(module, decay)

    @property
    def kept(self) -> nn.Module:
        return self.module if self.average is None else self.average.module

    def descend(self, loss: Tensor, step: int) -> None:
        """One step down the gradient, clipped to the settings' norm."""
        self.module.zero_grad(set_to_none=True)
        loss.backward()
        norm = nn.utils.clip_grad_norm_(self.module.parameters(), self.settings.clip_norm)
        if not bool(norm.isfinite()):
            raise FloatingPointError(
                f"{self.path.stem}: the gradient of step {step} is not finite, the loss is "
                f"{loss.item():.4g}; expected numbers. The checkpoint is of before: lower the learning rate, "
                "or warm up for longer"
            )
        for optimizer in self.optimizers:
            optimizer.step()
        _hold_temperatures(self.module)
        if self.average is not None:
            self.average.update(self.module, step)

    def save(self, step: int) -> None:
        """Write all of it, whole or not at all; every rank takes part with its place in the data."""
        places = gather_objects(self.batches.state())
        if rank() != 0:
            return
        self.path.parent.mkdir(parents=True, exist_ok=True)
        state = {
            "step": step,
            "module": self.module.state_dict(),
            "average": None if self.average is None else self.average.module.state_dict(),
            "optimizers": [optimizer.state_dict() for optimizer in self.optimizers],
            "settings": asdict(self.settings),
            "places": places,
        }
        with atomic_file(self.path) as temporary:
            torch.save(state, temporary)

    def resume(self) -> int:
        """Load the checkpoint if there is one. -> the step to go on with."""
        if not self.path.exists():
            return 0
        state = torch.load(self.path, weights_only=True, map_location="cpu")
        self._check(state.get("settings"))
        try:
            self.module.load_state_dict(state["module"])
            if self.average is not None:
                self.average.module.load_state_dict(state["average"])
            for optimizer, saved in zip(self.optimizers, state["optimizers"], strict=True):
                optimizer.load_state_dict(saved)
        except (RuntimeError, ValueError, TypeError, AttributeError, KeyError) as error:
            raise ValueError(
                f"{self.path} was begun with another model or version; expected the same. Pass the same "
                "options, or begin elsewhere"
            ) from error
        self.batches.restore(state.get("places", []), state["step"])
        logger.info("going on with %s from step %d", self.path.stem, state["step"])
        return state["step"]

    def _check(self, saved: dict[str, Any] | None) -> None:
        now = asdict(self.settings)
        free = {"save_every"}  # says nothing about the result
        changed = [name for name in now if saved and name not in free and saved.get(name) != now[name]]
        if saved and changed:
            said = ", ".join(f"{name} {saved.get(name)} (now {now[name]})" for name in changed)
            raise ValueError(
                f"{self.path} was begun with {said}; expected the same. Pass the same, or begin elsewhere"
            )


class _Loss(nn.Module):
    """A loss as the forward pass of a module, which is what DistributedDataParallel wraps."""

    def __init__(self, module: nn.Module, loss_of: Callable[[Any], Tensor]) -> None:
        super().__init__()
        self.module, self.loss_of = module, loss_of

    def forward(self, batch: Any) -> Tensor:
        return self.loss_of(batch)


def _shared(module: nn.Module, loss_of: Callable[[Any], Tensor]) -> Callable[[Any], Tensor]:
    """The loss with gradients averaged over the ranks; as it is for one process."""
    if world_size() == 1:
        return loss_of
    return nn.parallel.DistributedDataParallel(_Loss(module, loss_of))


def _precision(module: nn.Module, settings: FitSettings) -> AbstractContextManager[Any]:
    dtype = PRECISIONS[settings.precision]
    device = next(module.parameters()).device.type
    return nullcontext() if dtype is None else torch.autocast(device, dtype)


def _bar(first: int, steps: int, name: str) -> Any:
    from tqdm import tqdm

    return tqdm(
        range(first, steps), initial=first, total=steps, desc=name, dynamic_ncols=True, mininterval=5.0,
        disable=rank() != 0,
    )  # fmt: skip


@torch.no_grad()
def _hold_temperatures(module: nn.Module) -> None:
    """Bring trainable logit scales to 1 to 100, as CLIP does after each step (arXiv 2103.00020, 2.5).

    Beyond, the loss's clamp leaves them no gradient to come back with, and the logarithm of 100 itself lies
    beyond when a checkpoint in float16 has rounded it.
    """
    for name, parameter in module.named_parameters():
        if name.rpartition(".")[2] == "log_logit_scale" and parameter.requires_grad:
            parameter.clamp_(0.0, math.log(MAX_LOGIT_SCALE))
