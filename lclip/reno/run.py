"""ReNO: reward-based noise optimisation (Eyring et al. 2024), with a reward that reads latents.

    noise x ~ N(0, I);   maximise  r(G(x)) - w (0.5 |x|^2 - (d - 1) ln |x|)   over x

G is a generator with its own noise held still, r a reward, and the second term keeps x a plausible Gaussian
sample. The published search is SGD with Nesterov momentum on the clipped gradient; what it returns is the
render with the best reward, not the last one.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Generator, Iterator

import torch
from torch import Tensor

from ..latents.items import finite_items, item_norm, per_item
from ..rewards.per_item import looks_across, of_batch
from ..rewards.rewards import Reward, RewardSum, sum_parts
from .maths import Adam, NesterovSGD, item_noise_source, loss_gradient, noise_regularizer
from .proposals import PROPOSALS
from .render import GradientRenderer, check_noise, render
from .stops import ItemStops
from .types import ReNORecord, ReNOResult, ReNOSettings, ReNOStep, hacked_since

logger = logging.getLogger("latent-clip")

Generate = Callable[[Tensor], Tensor]


LOST = 1e9
"""How much less than any reward what is no number is worth."""


def reno(
    generate: Generate,
    noise: Tensor,
    reward: Reward,
    settings: ReNOSettings | None = None,
    held_out: Reward | None = None,
) -> ReNOResult:
    """Improve the renders of a generator by searching better noise for them (Eyring et al. 2024).

    generate: noise [B, ...] -> clean raw latents [B, C, H, W]; the same noise must give the same latents.
    noise: the caller's own N(0, I) noise [B, ...]; it is always among the candidates. reward: clean raw
    latents -> [B], higher is better. held_out: a second reward that is watched, never optimised; the result
    says when it falls while the optimised one still rises.

    Returns the best render per item. ValueError for noise, rewards or generators that cannot be searched.
    """
    run = ReNORun(generate, noise, reward, settings, held_out)
    for _ in run:
        pass
    return run.result()


class ReNORun:
    """A search as an iterator of `ReNOStep`s, one per render, for any progress bar, preview or cancel button.

    To cancel, stop iterating: `result()` answers with the best so far at any time after the first step.
    Arguments as for `reno`.
    """

    def __init__(
        self,
        generate: Generate,
        noise: Tensor,
        reward: Reward,
        settings: ReNOSettings | None = None,
        held_out: Reward | None = None,
    ):
        self.settings = settings or ReNOSettings()
        self.generate = generate
        self.noise = check_noise(noise, self.settings.places)
        self.reward = RewardSum([self._of_batch(reward)])
        self.reward.require_parts()
        self.held_out = None if held_out is None else RewardSum({"held-out": self._of_batch(held_out)})
        if self.held_out is not None:
            self.held_out.require_parts()
        self.history: list[ReNORecord] = []
        self.first: ReNOStep | None = None
        self.best_reward = torch.full((self.noise.shape[0],), -torch.inf)
        self.best_noise = self.best_latents = self.noise
        self.stopped = ["cancelled"] * self.noise.shape[0]
        self._steps = self._search_all()

    def _of_batch(self, reward: Reward) -> Reward:
        """For the very items of the noise, where a reward treats each by itself."""
        return of_batch(reward, len(self.noise), self.settings.places)

    def __iter__(self) -> Iterator[ReNOStep]:
        return self

    def __next__(self) -> ReNOStep:
        return next(self._steps).copy()  # the search goes on with its own

    def result(self) -> ReNOResult:
        """The best so far. ValueError before the first step."""
        if self.first is None:
            raise ValueError(
                "The search has not rendered anything yet; take at least one step before its result."
            )
        return ReNOResult(
            best_noise=self.best_noise.clone(),
            best_latents=self.best_latents.clone(),
            best_reward=self.best_reward.masked_fill(~torch.isfinite(self.best_reward), torch.nan),
            initial_latents=self.first.latents.clone(),
            initial_reward=self.first.reward.clone(),
            history=list(self.history),
            stopped=list(self.stopped),
            hacked_since=hacked_since(self.history),
        )

    def _search_all(self) -> Iterator[ReNOStep]:
        settings = self.settings
        starts = [self.noise]
        if settings.candidates > 1:
            starts = yield from self._screen()
        elif settings.iterations == 0:
            yield self._evaluate("search", 0, 0, self.noise)
        search = self._search_by_gradient if settings.method == "gradient" else self._search_by_samples
        for run, start in enumerate(starts if settings.iterations else []):
            if settings.target is not None and bool((self.best_reward >= settings.target).all()):
                self.stopped = ["target"] * len(self.stopped)
                break
            self.stopped = ["cancelled"] * len(self.stopped)
            yield from search(run, start)
        self.stopped = ["iterations" if why == "cancelled" else why for why in self.stopped]

    def _screen(self) -> Generator[ReNOStep, None, list[Tensor]]:
        """Render every candidate noise once; return the `keep` best noises per item, best first."""
        draw = self._source(0)
        noises, rewards = [], []
        for candidate in range(self.settings.candidates):
            noise = self.noise if candidate == 0 else draw()
            step = self._evaluate("screen", 0, candidate, noise)
            noises.append(noise)
            rewards.append(step.reward.nan_to_num(nan=-torch.inf, posinf=-torch.inf))
            yield step
        worth = torch.stack(rewards)
        if looks_across(self.reward):
            worth = torch.stack([torch.full_like(own, _worth(own)) for own in rewards])
        ranking = worth.argsort(dim=0, descending=True, stable=True)
        pool, items = torch.stack(noises), torch.arange(self.noise.shape[0])
        return [
            pool[ranking[rank].to(pool.device), items.to(pool.device)] for rank in range(self.settings.keep)
        ]

    def _source(self, stream: int) -> Callable[[], Tensor]:
        """Fresh noise for the batch: the screening draws from stream 0, each search from one of its own."""
        return item_noise_source(self.noise, self.settings.seed, self.settings.places, stream)

    def _search_by_samples(self, run: int, start: Tensor) -> Iterator[ReNOStep]:
        """Searches without gradients: each tries what its proposal makes of the best and of fresh noise."""
        draw, propose = self._source(run + 1), PROPOSALS[self.settings.method]
        items = ItemStops(len(self.stopped), self.settings)
        noise = pivot = start
        for iteration in range(self.settings.iterations):
            if iteration:
                proposal = propose(pivot, draw(), self.settings.radius)
                noise = torch.where(per_item(items.active.to(noise.device), noise), proposal, noise)
            step = self._evaluate("search", run, iteration, noise, active=items.active)
            better = items.update(step, keep_trying=True)
            pivot = torch.where(per_item(better.to(noise.device), noise), noise, pivot)
            yield step
            if not items.active.any():
                break
        self._close_run(items)

    def _search_by_gradient(self, run: int, start: Tensor) -> Iterator[ReNOStep]:
        """The published search: ascend the reward's gradient with respect to the noise."""
        settings = self.settings
        renderer = GradientRenderer(self.generate, self.reward, self.noise.shape[0])
        sgd = settings.optimizer == "sgd"
        rate = settings.learning_rate
        optimizer = NesterovSGD(rate, settings.momentum, settings.nesterov) if sgd else Adam(rate)
        items = ItemStops(len(self.stopped), settings)
        noise = start
        for iteration in range(settings.iterations):
            if iteration == settings.iterations - 1:
                gradient = None
                step = self._evaluate("search", run, iteration, noise, active=items.active)
            else:
                latents, parts, gradient = renderer(noise, items.active)
                step = self._record("search", run, iteration, noise, latents, parts, items.active)
            items.update(step)
            if gradient is not None:
                broken = ~finite_items(gradient).cpu()
                items.stop(broken, f"a gradient that is not finite at iteration {iteration}")
            yield step
            if gradient is None or not items.active.any():
                break
            noise = self._descend(optimizer, noise, gradient, items.active)
        self._close_run(items)

    def _descend(
        self, optimizer: NesterovSGD | Adam, noise: Tensor, gradient: Tensor, active: Tensor
    ) -> Tensor:
        """One step down the total loss, weight x regularizer - reward, for the items still searched."""
        downhill = loss_gradient(noise, gradient, self.settings.regularization, self.settings.grad_clip)
        moving = per_item(active.to(noise.device), noise)
        moved = optimizer.step(noise, torch.where(moving, downhill, torch.zeros_like(downhill)))
        return torch.where(moving, moved, noise)

    def _evaluate(
        self, phase: str, run: int, iteration: int, noise: Tensor, active: Tensor | None = None
    ) -> ReNOStep:
        with torch.no_grad():
            latents = render(self.generate, noise)
            parts = self.reward.parts(latents)
        return self._record(phase, run, iteration, noise, latents, parts, active)

    def _record(
        self,
        phase: str,
        run: int,
        iteration: int,
        noise: Tensor,
        latents: Tensor,
        parts: dict[str, Tensor],
        active: Tensor | None,
    ) -> ReNOStep:
        with torch.no_grad():
            reward = sum_parts(parts).detach().cpu()
            held_out = None if self.held_out is None else self.held_out(latents).cpu()
            loss = self.settings.regularization * noise_regularizer(noise).cpu() - reward
        self._keep_best(noise, latents, reward)
        step = ReNOStep(
            phase=phase,
            run=run,
            iteration=iteration,
            reward=reward,
            parts={name: value.detach().cpu() for name, value in parts.items()},
            loss=loss,
            norm=item_norm(noise).cpu(),
            active=torch.ones(len(reward), dtype=torch.bool) if active is None else active.clone(),
            held_out=held_out,
            best_reward=self.best_reward,
            noise=noise,
            latents=latents,
            best_noise=self.best_noise,
            best_latents=self.best_latents,
        )
        self.first = self.first or step
        self.history.append(step.record())
        return step

    def _keep_best(self, noise: Tensor, latents: Tensor, reward: Tensor) -> None:
        if self.first is None:
            self.best_noise, self.best_latents = noise, latents
            self.best_reward = self.best_reward.to(reward.dtype)
        better = torch.isfinite(reward) & (reward > self.best_reward)
        if looks_across(self.reward):  # the best batch: items of different renders have no such rewards
            better = torch.full_like(better, _worth(reward) > _worth(self.best_reward))
        self.best_reward = torch.where(better, reward, self.best_reward)
        self.best_noise = torch.where(per_item(better.to(noise.device), noise), noise, self.best_noise)
        self.best_latents = torch.where(
            per_item(better.to(latents.device), latents), latents, self.best_latents
        )

    def _close_run(self, items: ItemStops) -> None:
        self.stopped = list(items.reasons)
        for item, text in items.complaints():
            logger.warning("ReNO: item %d %s; its last finite best is kept.", item, text)


def _worth(reward: Tensor) -> float:
    """Of a whole batch [B]: the mean, in which an item without a number weighs more than all others."""
    return float(reward.cpu().double().nan_to_num(nan=-LOST, posinf=-LOST, neginf=-LOST).mean())
