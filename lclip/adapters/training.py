"""Training of a latent adapter: the same pictures through both VAEs, no captions.

The loss is the error of the mapped latents plus one minus the cosine of the embeddings that a Latent-CLIP
gives to mapped and to real latents: what the model does not see costs little. The error is that to what the
way through pixels gives, where that is known: a function of the source latents, so that a map can reach it.
The error to the real latents cannot fall to zero, and a map trained on it alone answers with the mean of
what could have been: grey, with too little spread. So the error of the spread itself is added, channel by
channel.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from ..checkpoints.fingerprint import fingerprint
from ..descent import WeightAverage, cosine_share
from ..latents.spaces import LatentSpace
from ..model.latent_clip import LatentCLIP
from .adapter import AdapterFigures, AdapterShape, LatentAdapter, adapted_config
from .encoding import EncodedPictures, check_encoded

RIDGE = 1e-3  # of the closed-form start, per cell
CELLS = 200_000  # cells of latents that the closed-form start reads at most
AVERAGE = 0.98  # of the weights, from step to step
SOME = 0.05  # spread that a batch is given, of the pictures': a plain one has none to be compared with
LAST_SHARE = 0.02  # of the learning rate, at the end of its cosine


@dataclass(frozen=True)
class AdapterSettings:
    """How an adapter is trained. ValueError for numbers that cannot be."""

    steps: int = 600
    batch: int = 32
    learning_rate: float = 2e-3
    width: int = 64
    depth: int = 2
    cosine_weight: float = 1.0  # of one minus the embeddings' cosine
    spread_weight: float = 3.0  # of the squared error of each channel's spread, as a share of it
    held_out: float = 0.1  # share of the pictures that is only measured on
    check_every: int = 50  # steps between two measurements
    seed: int = 0
    shrink: int = 1  # how many times smaller the target picture is, each way

    def __post_init__(self) -> None:
        for name in ("steps", "batch", "check_every"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; expected at least 1")
        if not 0 < self.held_out < 1:
            raise ValueError(f"held_out is {self.held_out}; expected a share between 0 and 1")


@dataclass(frozen=True)
class AdapterStep:
    """One step of a training; latent_error and cosine are of the held-out pictures, as last measured."""

    step: int  # from 1
    loss: float
    latent_error: float
    cosine: float


class AdapterTraining:
    """A training that is run by iterating over it; `result` gives the best adapter so far, at any time.

    model: the Latent-CLIP whose space the adapter leads to; it is not changed. source: the other space.
    pictures: encoded with both VAEs. device: where the adapter is trained, the model's own. The same
    arguments give the same adapter on one machine.
    ValueError for pictures that nothing can be learnt from.
    """

    def __init__(
        self,
        model: LatentCLIP,
        source: LatentSpace,
        pictures: EncodedPictures,
        settings: AdapterSettings | None = None,
        device: torch.device | str = "cpu",
    ) -> None:
        self.model, self.settings = model, settings or AdapterSettings()
        target = _space_of(model)
        shape = AdapterShape(source, target, self.settings.width, self.settings.depth, self.settings.shrink)
        adapted_config(model.config, shape)  # refused now rather than when it is applied
        pictures = pictures.finite()
        check_encoded(pictures, shape)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.settings.seed)
            self.adapter = LatentAdapter(shape)
        self._split(pictures)
        self.seconds, self.step = 0.0, 0
        self._begin(device)

    def _split(self, pictures: EncodedPictures) -> None:
        """Choose the pictures that are only measured on; their mirror images are left out."""
        number = pictures.number
        self.number, self.held_out = number, max(2, round(self.settings.held_out * number))
        order = torch.randperm(number, generator=torch.Generator().manual_seed(self.settings.seed))
        test = pictures.firsts()[order[: self.held_out]]
        rest = ~torch.isin(pictures.picture, order[: self.held_out])
        self.source, self.target = pictures.source[rest], pictures.target[rest]
        self.goal = self.target if pictures.through is None else pictures.through[rest]
        self.test_source, self.test_target = pictures.source[test], pictures.target[test]

    def _begin(self, device: torch.device | str) -> None:
        adapter, settings = self.adapter, self.settings
        with torch.no_grad():
            standardise(adapter, self.source, self.target)
            solve_linear(adapter, self.source, self.goal, settings.seed)
            adapter.to(device)
            self.embeddings = self._embed(self.target)
            self.test_embeddings = self._embed(self.test_target)
        trained = [parameter for parameter in adapter.parameters() if parameter.requires_grad]
        self.optimizer = torch.optim.AdamW(trained, settings.learning_rate, weight_decay=0.01)
        self.average = WeightAverage(adapter, AVERAGE)
        self.best = copy.deepcopy(self.average.module)
        self.latent_error, self.cosine = self._measure(self.best)

    def _embed(self, z: Tensor) -> Tensor:
        return torch.cat([self.model.encode_latents(part) for part in z.split(4 * self.settings.batch)])

    def __iter__(self) -> Iterator[AdapterStep]:
        settings = self.settings
        draws = torch.Generator().manual_seed(settings.seed + 1)
        while self.step < settings.steps:
            start = time.perf_counter()
            for group in self.optimizer.param_groups:
                share = cosine_share(self.step, settings.steps, min(50, settings.steps // 10 + 1), LAST_SHARE)
                group["lr"] = settings.learning_rate * share
            chosen = torch.randint(len(self.source), (settings.batch,), generator=draws)
            loss = self._loss(chosen)
            self.optimizer.zero_grad(set_to_none=True)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(self.adapter.parameters(), 1.0)
            self.optimizer.step()
            self.average.update(self.adapter, self.step)
            self.step += 1
            if self.step % settings.check_every == 0 or self.step == settings.steps:
                self._keep_if_better()
            self.seconds += time.perf_counter() - start
            yield AdapterStep(self.step, float(loss.detach()), self.latent_error, self.cosine)

    def _loss(self, chosen: Tensor) -> Tensor:
        device = self.adapter.source_mean.device
        source, goal = self.source[chosen].to(device), self.goal[chosen].to(device)
        mapped = self.adapter(source)
        error = self.adapter.standard_target(mapped) - self.adapter.standard_target(goal)
        wanted = self.embeddings[chosen.to(self.embeddings.device)]
        cosine = (self.model.encode_latents(mapped) * wanted).sum(-1)
        spread = _spread(self.adapter, mapped) / _spread(self.adapter, goal) - 1
        settings = self.settings
        return (
            error.square().mean()
            + settings.spread_weight * spread.square().mean()
            + settings.cosine_weight * (1 - cosine).mean()
        )

    @torch.no_grad()
    def _keep_if_better(self) -> None:
        latent_error, cosine = self._measure(self.average.module)
        weight = self.settings.cosine_weight
        if latent_error - weight * cosine < self.latent_error - weight * self.cosine:
            self.best.load_state_dict(self.average.module.state_dict())
            self.latent_error, self.cosine = latent_error, cosine

    @torch.no_grad()
    def _measure(self, adapter: LatentAdapter) -> tuple[float, float]:
        """Latent error and cosine on the held-out pictures."""
        errors, spreads, cosines = [], [], []
        for part in torch.arange(len(self.test_source)).split(self.settings.batch):
            device = adapter.source_mean.device
            mapped = adapter(self.test_source[part].to(device))
            wanted = adapter.standard_target(self.test_target[part].to(device))
            errors.append((adapter.standard_target(mapped) - wanted).square().mean((1, 2, 3)))
            spreads.append(wanted.square().mean((1, 2, 3)))
            embeddings = self.test_embeddings[part.to(self.test_embeddings.device)]
            cosines.append((self.model.encode_latents(mapped) * embeddings).sum(-1))
        return float(torch.cat(errors).mean() / torch.cat(spreads).mean()), float(torch.cat(cosines).mean())

    def result(self) -> LatentAdapter:
        """The best adapter so far by the held-out pictures, with its figures: frozen, on the CPU, a copy."""
        adapter = copy.deepcopy(self.best).cpu().eval().requires_grad_(False)
        adapter.trained_with = fingerprint(self.model)
        adapter.figures = AdapterFigures(
            self.number, self.held_out, self.latent_error, self.cosine, self.step, round(self.seconds, 1)
        )
        return adapter


def train_adapter(
    model: LatentCLIP,
    source: LatentSpace,
    pictures: EncodedPictures,
    settings: AdapterSettings | None = None,
    device: torch.device | str = "cpu",
) -> LatentAdapter:
    """Train an adapter to its end; see `AdapterTraining`."""
    training = AdapterTraining(model, source, pictures, settings, device)
    for _ in training:
        pass
    return training.result()


def _spread(adapter: LatentAdapter, z: Tensor) -> Tensor:
    """Of each channel, over a batch: [c], with something where all is one colour."""
    return adapter.standard_target(z).std((0, 2, 3)) + SOME


def _space_of(model: LatentCLIP) -> LatentSpace:
    if (space := model.config.space) is None:
        raise ValueError(
            f"this Latent-CLIP reads {model.config.latent_space!r} latents, which are not among the known "
            "latent spaces; no adapter can lead there"
        )
    return space


def standardise(adapter: LatentAdapter, source: Tensor, target: Tensor) -> None:
    """Measure mean and standard deviation per channel, of the pictures that are trained on."""
    for standard, z, mean, std in (
        (adapter.standard_source, source, adapter.source_mean, adapter.source_std),
        (adapter.standard_target, target, adapter.target_mean, adapter.target_std),
    ):
        values = standard(z).movedim(1, 0).flatten(1)  # on the adapter's grid; still mean 0, std 1 inside
        mean.copy_(values.mean(1))
        std.copy_(values.std(1).clamp_min(1e-4 * float(values.std())))


def solve_linear(adapter: LatentAdapter, source: Tensor, target: Tensor, seed: int) -> None:
    """Start from the best linear map of 3x3 cells, by ridge regression on the pictures."""
    cells = source.shape[-1] * source.shape[-2] // adapter.shape.merge**2
    order = torch.randperm(len(source), generator=torch.Generator().manual_seed(seed))
    chosen = order[: max(1, CELLS // cells)]
    x = F.unfold(adapter.standard_source(source[chosen]), 3, padding=1)  # [N, inputs * 9, cells]
    x = x.movedim(1, 0).flatten(1).cpu().double()
    y = adapter.standard_target(target[chosen]).flatten(2).movedim(1, 0).flatten(1).cpu().double()
    x = torch.cat([x, torch.ones_like(x[:1])])
    gram = x @ x.T / x.shape[1] + RIDGE * torch.eye(len(x), dtype=x.dtype)
    solution = torch.linalg.solve(gram, x @ y.T / x.shape[1]).T.float()  # [outputs, inputs * 9 + 1]
    adapter.linear.weight.copy_(solution[:, :-1].reshape(adapter.linear.weight.shape))
    adapter.linear.bias.copy_(solution[:, -1])  # pyright: ignore[reportOptionalMemberAccess]
