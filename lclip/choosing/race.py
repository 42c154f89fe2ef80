"""A race: many candidates start, and those that fall behind are dropped before they are paid for.

The reward of the predicted x0 tells early which candidates end well. So after a part of the steps all are
judged, the best go on, and later again. The sampler never notices: it holds the whole field from the first
step to the last, and only the model is spared those that are out. So every sampler can be raced, with its
history and its steps between, and a candidate ends as the picture that it would have been alone.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor

from ..latents.items import item_seed
from ..reno.maths import item_noise_source
from ..reno.render import check_noise
from ..rewards.per_item import looks_across, of_batch, rows_of
from ..rewards.rewards import Reward, check_reward, described
from ..scoring import as_ranked
from .types import RaceCheck, RaceResult, RaceSettings, resampled

logger = logging.getLogger("latent-clip")

Denoise = Callable[[Tensor, Tensor, Tensor], Tensor]
"""(x [R, ...], sigma, which batch item each row belongs to [R]) -> predicted x0 [R, ...]"""
Watch = Callable[[int, int, Tensor], Tensor | None]
"""(step from 0, steps, predicted x0) -> None, or which rows the sampler goes on with"""
Sampler = Callable[[Callable[[Tensor, Tensor], Tensor], Tensor, Tensor, Watch], Tensor]
"""(model, x, sigmas, watch) -> clean latents"""

NO_X0 = (
    "The sampler showed no predicted x0 on the way, so there was nothing to judge. Take a sampler that "
    "reports every step, such as euler."
)


def euler(model: Callable[[Tensor, Tensor], Tensor], x: Tensor, sigmas: Tensor, watch: Watch) -> Tensor:
    """Euler steps from x at sigmas[0], x = x0 + s' / s (x - x0): the same for flows and for diffusion."""
    steps = len(sigmas) - 1
    for step in range(steps):
        x0 = model(x, sigmas[step])
        rows = watch(step, steps, x0)
        if rows is not None:
            x, x0 = x[rows], x0[rows]
        x = x0 + sigmas[step + 1] / sigmas[step] * (x - x0)
    return x


def race(
    denoise: Denoise,
    noise: Tensor,
    reward: Reward,
    sigmas: Tensor,
    settings: RaceSettings | None = None,
    sampler: Sampler = euler,
) -> RaceResult:
    """Start many candidates for every batch item, drop the losers on the way, give the best that finish.

    denoise: x at a noise level -> predicted clean latents, row by row; it is told which batch item each row
    belongs to. noise: [B, ...] the first candidates' own N(0, I) noise. reward: predicted or clean latents
    [R, C, H, W], in the scale that denoise gives -> [R]. sigmas: [steps + 1] noise levels, falling to 0; the
    field starts at noise x sigmas[0]. sampler: any loop that calls the model and, once a step, `watch`.

    ValueError for noise, noise levels or rewards that cannot be raced, and for a sampler that shows no x0.
    """
    _check_levels(sigmas)
    run = RaceRun(noise, reward, settings)

    def model(x: Tensor, sigma: Tensor) -> Tensor:
        return run.predict(x, lambda rows: denoise(x[rows], sigma, run.items[rows]))

    def sampled(levels: Tensor) -> Tensor:
        return sampler(model, run.noise * levels[0], levels, run.watch)

    with torch.no_grad():
        if run.settings.method == "draft":
            run.draft(len(sigmas) - 1, lambda: sampled(run.settings.draft_levels(sigmas)))
        return run.result(sampled(sigmas))


def _check_levels(sigmas: Tensor) -> None:
    """ValueError for noise levels that no sampler can walk down to a clean picture."""
    if not isinstance(sigmas, Tensor):
        raise ValueError(f"The race's sigmas are {described(sigmas)}; expected a tensor of noise levels.")
    enough = sigmas.ndim == 1 and len(sigmas) > 1
    falling = enough and bool((sigmas[:-1] >= sigmas[1:]).all() and (sigmas[:-1] > 0).all())
    if not (falling and bool(sigmas.isfinite().all()) and float(sigmas[-1]) == 0):
        shown = [round(float(level), 4) for level in sigmas.flatten()[:8]]
        raise ValueError(
            f"The race's sigmas are {shown} (shape {list(sigmas.shape)}); expected two noise levels or more, "
            "none above the one before, only the last 0: a race ends with finished latents."
        )


class RaceRun:
    """The field of a race, for a sampler that somebody else drives.

    Hand the sampler `noise` [candidates x B, ...]: row = candidate x B + item. Let `predict` ask the model,
    call `watch` once a step, and `result` with what the sampler made; by the method "draft", `draft` before.

    draw: seed -> noise [B, ...] of the candidate with that seed; None draws it item by item on the CPU.
    """

    def __init__(
        self,
        noise: Tensor,
        reward: Reward,
        settings: RaceSettings | None = None,
        draw: Callable[[int], Tensor] | None = None,
        tell: Callable[[RaceCheck], None] | None = None,
    ) -> None:
        self.settings = settings or RaceSettings()
        own = check_noise(noise, self.settings.places, "The race's")
        self.tell, self.batch = tell, len(own)
        if looks_across(reward):
            raise ValueError(
                "This reward compares the items of a batch with one another, and a race drops items on the "
                "way: leave the Variety Reward out of what judges the race, and use it in Guidance or ReNO."
            )
        self.reward = of_batch(reward, self.batch, self.settings.places)
        others = self.settings.seeds[1:]
        drawn = map(draw or partial(_drawn, own, self.settings.places), others)
        self.noise = torch.cat([own, *(each.to(own) for each in drawn)])
        rows = torch.arange(len(self.noise))
        self.items, self.origin = rows % self.batch, rows.clone()
        self.running = torch.ones(len(rows), dtype=torch.bool)
        self.before = torch.zeros(len(rows), dtype=torch.float64)
        self.checks: list[RaceCheck] = []
        self.passes = self.passes_all = 0
        self.drafting = False
        self.steps = 0

    def predict(self, x: Tensor, denoise: Callable[[Tensor], Tensor]) -> Tensor:
        """The model's answer for the whole field, of which it sees only those still in, some at a time.

        denoise: row numbers [R] -> their predicted x0. Who is out stays where it is: its answer is x itself.
        """
        rows = self.running.nonzero().flatten()
        answer = x.clone()
        for part in rows.split(self.settings.at_once or len(rows)):
            place, found = part.to(x.device), denoise(part)
            wanted = (len(part), *x.shape[1:])
            if not isinstance(found, Tensor) or found.shape != wanted:
                got = tuple(found.shape) if isinstance(found, Tensor) else type(found).__name__
                raise ValueError(
                    f"The race's model answered with {got}; expected its predicted clean latents, {wanted}."
                )
            answer[place] = found.to(answer.dtype)
        self.passes += len(rows)
        self.passes_all += 0 if self.drafting else len(self.running)
        return answer

    def draft(self, steps: int, sample: Callable[[], Tensor]) -> None:
        """Leave in only whose draft is good. steps: of the schedule; sample: makes all the drafts."""
        self.settings.check_draft(steps)
        self.drafting = True
        try:
            rewards = self._judge(sample())
        finally:
            self.drafting = False
        kept = self._best(rewards, self.settings.left_of(self.settings.candidates))
        self._note(0, steps, rewards, kept)
        self.running = kept

    def watch(self, step: int, steps: int, x0: Tensor) -> Tensor | None:
        """Judge the field where a check is due. -> which rows to go on with where it is resampled, or None.

        step: which of the steps this is, from 0; x0: [candidates x B, ...] what is predicted in it.
        """
        if self.drafting:
            return None
        self.steps = steps
        if step + 1 not in self.settings.steps_judged(steps):
            return None
        rewards = self._judge(x0)
        if self.settings.method == "resample":
            return self._resample(step + 1, steps, rewards)
        kept = self._best(rewards, self.settings.left_of(int(self.running.sum()) // self.batch))
        self._note(step + 1, steps, rewards, kept)
        self.running = kept
        return None

    def leaders(self) -> Tensor:
        """Per batch item the row that was best at the last check; at first the caller's own. [B]"""
        if not self.checks:
            return torch.arange(self.batch)
        best = _by_rank(self.checks[-1].rewards.T).argmax(0)
        return best * self.batch + torch.arange(self.batch)

    def result(self, latents: Tensor) -> RaceResult:
        """Who won: latents [candidates x B, ...] as the sampler ended. ValueError without any `watch`."""
        if not self.steps:
            raise ValueError(NO_X0)
        rewards = self._judge(latents)
        winners = self._ranking(rewards)[: self.settings.finish].flatten()  # [finish x B], by rank
        kept = torch.zeros_like(self.running)
        kept[winners] = True
        self._note(self.steps, self.steps, rewards, kept)
        places = (self.origin[winners] // self.batch).tolist()
        return RaceResult(
            latents=latents[winners.to(latents.device)],
            noise=self.noise[self.origin[winners].to(self.noise.device)],
            rewards=rewards[winners],
            places=places,
            seeds=[self.settings.seeds[place] for place in places],
            checks=list(self.checks),
            passes=self.passes,
            passes_all=self.passes_all,
        )

    def _judge(self, latents: Tensor) -> Tensor:
        """Rewards of those still in, NaN for the others: -> [candidates x B] on the CPU."""
        rows = self.running.nonzero().flatten()
        shown = latents[rows.to(latents.device)]
        with torch.no_grad():
            reward = rows_of(self.reward, self.items[rows].tolist())
            found = check_reward("of the race", reward(shown), shown).detach().float().cpu()
        rewards = torch.full((len(self.running),), torch.nan)
        rewards[rows] = torch.where(torch.isfinite(found), found, torch.nan)
        return rewards

    def _ranking(self, rewards: Tensor) -> Tensor:
        """Row numbers by rank, best first: [candidates, B]. NaN comes after numbers, who is out last; ties,
        also those that only rounding breaks, keep their order."""
        out = ~self.running.view(-1, self.batch)
        order = _by_rank(rewards.view(-1, self.batch)).argsort(dim=0, descending=True, stable=True)
        order = order.gather(0, out.gather(0, order).int().argsort(dim=0, stable=True))
        return order * self.batch + torch.arange(self.batch)

    def _best(self, rewards: Tensor, number: int) -> Tensor:
        kept = torch.zeros_like(self.running)
        kept[self._ranking(rewards)[:number].flatten()] = True
        return kept

    def _resample(self, step: int, steps: int, rewards: Tensor) -> Tensor:
        """Copies of the better in the place of the worse: which row each slot goes on with.

        The weights are the potentials of arXiv 2501.06848 by the difference of rewards, exp(s (r_t - r_t-1)).
        Deviation: rewards count in standard deviations of the item's field, so that one strength suits all.
        """
        rows = torch.arange(len(rewards))
        places = self.settings.places or range(self.batch)
        for item in range(self.batch):
            field = torch.arange(item, len(rewards), self.batch)
            values = rewards[field].cpu().double()
            generator = torch.Generator().manual_seed(
                item_seed(self.settings.seed, places[item], stream=step)
            )
            offset = float(torch.rand((), generator=generator))
            rows[field] = field[resampled(self._weights(values, self.before[field]), offset)]
        kept = torch.zeros_like(self.running)
        kept[rows] = True
        self._note(step, steps, rewards, kept)
        self.origin, self.before = self.origin[rows], rewards[rows].cpu().double().nan_to_num()
        return rows

    def _weights(self, values: Tensor, before: Tensor) -> Tensor:
        known = torch.isfinite(values)
        spread = float(values[known].std()) if int(known.sum()) > 1 else 0.0
        if not spread:
            return known.cpu().double() if bool(known.any()) else torch.ones_like(values)
        gain = (values - before) / spread * self.settings.strength
        return torch.where(known, (gain - gain[known].max()).exp(), 0.0)

    def _note(self, step: int, steps: int, rewards: Tensor, kept: Tensor) -> None:
        """Keep what a check found, by item: [B, candidates]."""
        table = rewards.view(-1, self.batch).T, kept.view(-1, self.batch).T
        self.checks.append(RaceCheck(step, steps, *(each.clone() for each in table)))
        for text in self.checks[-1].doubts:
            logger.warning("Race: %s", text)
        if self.tell is not None:
            self.tell(RaceCheck(step, steps, *(each.clone() for each in table)))


def _drawn(noise: Tensor, places: Sequence[int] | None, seed: int) -> Tensor:
    """Fresh N(0, I) noise like that, every item by seed and place."""
    return item_noise_source(noise, seed, places)()


def _by_rank(rewards: Tensor) -> Tensor:
    """Rewards [candidates, B] as each item's ranks see them; NaN is below all."""
    return torch.stack([as_ranked(own) for own in rewards.T], dim=1).nan_to_num(nan=-torch.inf)
