"""What a race gains for its passes on the many-step schedule of the mini world's generator."""

from __future__ import annotations

from collections.abc import Callable
from math import comb

import numpy as np
import torch
from torch import Tensor

from lclip import RaceResult, RaceSettings, ReNOSettings, TextReward, race, reno
from lclip.choosing.race import Watch, euler
from lclip.mini import World
from lclip.mini.drawing import sample_scenes
from lclip.mini.scenes import Scene
from lclip.statistics import bootstrap

from .harness import Run, table
from .scenes import judge_latents, noise_for, world_for_cpu

STEPS, CANDIDATES, FEW = 20, 16, 6
LOOKS = (1, 2, 4, 6, 8, 12, 16, 20)
AT_ONCE = 25  # prompts to a part of the section

FOUR_LOOKS = (0.2, 0.4, 0.6, 0.8)
RACES = {
    "race, 30 % and 60 %, keep 1/4 (default)": RaceSettings(CANDIDATES),
    "race, 20 %, 40 %, 60 % and 80 %, keep 1/2": RaceSettings(CANDIDATES, checks=FOUR_LOOKS, keep=0.5),
    "race, 20 % and 50 %, keep 0.3": RaceSettings(CANDIDATES, checks=(0.2, 0.5), keep=0.3),
    "race, 20 %, keep 1/4": RaceSettings(CANDIDATES, checks=(0.2,)),
    "race by drafts of 2 steps, keep 1/4": RaceSettings(CANDIDATES, method="draft", draft_steps=2),
    "race by drafts of 3 steps, keep 1/4": RaceSettings(CANDIDATES, method="draft"),
    "race, 20 %, 35 % and 70 %, keep 1/2": RaceSettings(CANDIDATES, checks=(0.2, 0.35, 0.7), keep=0.5),
}
STEERED = {
    f"stochastic, best of {FEW}": RaceSettings(FEW, checks=(0.5,), keep=1.0),
    f"stochastic, {FEW} resampled at 20, 40, 60, 80 %": RaceSettings(
        FEW, checks=FOUR_LOOKS, method="resample"
    ),
}
BACKWARD = 2  # passes that going back through one costs
SEARCHED = {f"ReNO, {iterations} iterations": ReNOSettings(iterations) for iterations in (3, 6)}


def race_section(run: Run) -> str:
    """Rank correlation by step, and reward and truth at equal passes."""
    world, scenes = world_for_cpu(), sample_scenes(run.choose(120, 6), 761, split="test")
    settings = {name: _seeded(each, run.seed) for name, each in (RACES | STEERED).items()}
    parts = [
        run.part(f"from {first}", lambda first=first: _part(run, world, scenes, first, settings))
        for first in range(0, len(scenes), AT_ONCE)
    ]
    found = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    return "\n\n".join((_correlations(found), _gains(found, [*settings, *SEARCHED]), _notes()))


def _seeded(settings: RaceSettings, seed: int) -> RaceSettings:
    fields = {**settings.__dict__, "seed": 762 + seed}
    return RaceSettings(**fields)


def _part(
    run: Run, world: World, scenes: list[Scene], first: int, settings: dict[str, RaceSettings]
) -> dict[str, np.ndarray]:
    """Every figure of some prompts: arrays with one row a prompt."""
    rows = []
    for number, scene in enumerate(scenes[first : first + AT_ONCE], start=first):
        rows.append(_prompt(world, scene, noise_for(1, 763 + number), settings, run.choose(STEPS, 5)))
    run.say(f"prompts {first} to {first + len(rows) - 1}")
    return {name: np.array([row[name] for row in rows]) for name in rows[0]}


def _prompt(
    world: World, scene: Scene, noise: Tensor, settings: dict[str, RaceSettings], steps: int
) -> dict[str, np.ndarray]:
    stage = _Stage(world, scene, steps)
    row: dict[str, np.ndarray] = {}
    rewards, latents = stage.watched(noise, settings[next(iter(RACES))])
    row["rewards"] = rewards  # [looks, candidates]
    right = stage.correct(latents)
    for number in (1, FEW, CANDIDATES):
        counts = number * steps, number if number > 1 else 0  # the best of one is asked of nobody
        row[_best_of(number)] = np.array([*_expected_best(rewards[-1], right, number), *counts])
    for name, each in settings.items():
        judged = _Counted(stage.reward)
        result = stage.race(noise, each, _stochastic(each.seed) if name in STEERED else euler, judged)
        right = stage.correct(result.latents)[0]
        row[name] = np.array([float(result.rewards[0]), right, result.passes, judged.items])
    for name, each in SEARCHED.items():
        judged = _Counted(stage.text)
        found = reno(world.generator([scene.caption], steps), noise, judged, each)
        passes = steps * (each.iterations + BACKWARD * (each.iterations - 1))
        right = stage.seen_right(found.best_latents)[0]
        row[name] = np.array([float(found.best_reward[0]), right, passes, judged.items])
    return row


class _Counted:
    """A reward that counts the predicted pictures which it is asked about."""

    def __init__(self, reward: Callable[[Tensor], Tensor]) -> None:
        self.reward, self.items = reward, 0

    def __call__(self, latents: Tensor) -> Tensor:
        self.items += len(latents)
        return self.reward(latents)


def _best_of(number: int) -> str:
    return "plain" if number == 1 else f"best of {number}"


def _expected_best(rewards: np.ndarray, right: np.ndarray, number: int) -> tuple[float, float]:
    """Reward and truth of the best of so many, the mean over all subsets of the candidates.

    The one of rank r from below is the best of C(r, n - 1) of the subsets.
    """
    order = rewards.argsort()
    ways = np.array([comb(rank, number - 1) for rank in range(len(rewards))], dtype=np.float64)
    weights = ways / ways.sum()
    return float(weights @ rewards[order]), float(weights @ right[order])


class _Stage:
    """One prompt: its reward, and the generator's predicted x0, in unit scale."""

    def __init__(self, world: World, scene: Scene, steps: int) -> None:
        self.world, self.scene = world, scene
        self.context = world.context([scene.caption], 1)
        self.text = TextReward(world.latent_clip, scene.caption)
        self.sigmas = torch.linspace(1, 0, steps + 1)

    def denoise(self, x: Tensor, sigma: Tensor, items: Tensor) -> Tensor:
        t = sigma.expand(len(x))
        return x - sigma * self.world.denoiser(x, t, self.context.expand(len(x), -1, -1))

    def reward(self, x0: Tensor) -> Tensor:
        return self.text(self.world.latent_format.to_raw(x0))

    def race(self, noise: Tensor, settings: RaceSettings, sampler=euler, reward=None) -> RaceResult:
        return race(self.denoise, noise, reward or self.reward, self.sigmas, settings, sampler)

    def correct(self, x0: Tensor) -> np.ndarray:
        """Whether the oracle sees all of the caption: float [N]."""
        return self.seen_right(self.world.latent_format.to_raw(x0))

    def seen_right(self, raw: Tensor) -> np.ndarray:
        """The same of raw latents."""
        seen = judge_latents(self.world, raw, [self.scene] * len(raw))
        return np.array([float(item.correct) for item in seen])

    def watched(self, noise: Tensor, settings: RaceSettings) -> tuple[np.ndarray, Tensor]:
        """Every candidate to the end, and its predicted reward on the way: [looks, candidates], latents."""
        seen: list[Tensor] = []

        def watching(model, x: Tensor, sigmas: Tensor, watch: Watch) -> Tensor:
            def look(step: int, steps: int, x0: Tensor) -> None:
                watch(step, steps, x0)
                if step + 1 in LOOKS:
                    seen.append(self.reward(x0))

            return euler(model, x, sigmas, look)

        whole = RaceSettings(CANDIDATES, keep=1.0, finish=CANDIDATES, seed=settings.seed)
        result = self.race(noise, whole, watching)
        back = torch.tensor(result.places).argsort()
        end = result.rewards[back]
        return torch.stack([*seen[:-1], end]).numpy(), result.latents[back]


def _stochastic(seed: int):
    """A flow's Euler steps with fresh noise in each (as the host's euler_ancestral for flows, eta 0.5)."""

    def sampler(model, x: Tensor, sigmas: Tensor, watch: Watch) -> Tensor:
        source = torch.Generator().manual_seed(seed)
        steps = len(sigmas) - 1
        for step in range(steps):
            x0 = model(x, sigmas[step])
            rows = watch(step, steps, x0)
            if rows is not None:
                x, x0 = x[rows], x0[rows]
            now, after = sigmas[step], sigmas[step + 1]
            down = after * (1 + (after / now - 1) * 0.5)
            x = x0 + down / now * (x - x0)
            if after > 0:
                scale = (1 - after) / (1 - down)
                fresh = torch.randn(x.shape, generator=source)
                x = scale * x + (after**2 - (scale * down) ** 2).clamp(min=0).sqrt() * fresh
        return x

    return sampler


def _correlations(found: dict[str, np.ndarray]) -> str:
    rewards = found["rewards"]  # [prompts, looks, candidates]
    rows = []
    for number, step in enumerate(LOOKS[: rewards.shape[1]]):
        values = [_spearman(prompt[number], prompt[-1]) for prompt in rewards]
        rows.append((step, bootstrap(values).text(digits=2)))
    return (
        f"{STEPS} Euler steps, {len(rewards)} test captions, {CANDIDATES} noises each. Spearman's rank "
        "correlation of the reward of the predicted x0 with the reward in the end, within a caption's "
        "noises, and its mean over captions.\n\n" + table(("after step", "rank correlation"), rows)
    )


def _spearman(first: np.ndarray, second: np.ndarray) -> float:
    ranks = [values.argsort().argsort() for values in (first, second)]
    return float(np.corrcoef(ranks[0], ranks[1])[0, 1])


def _gains(found: dict[str, np.ndarray], races: list[str]) -> str:
    best = f"best of {CANDIDATES}"
    rows = [_row(found, name, best) for name in ("plain", f"best of {FEW}", best, *races)]
    gain, minus = f"of best-of-{CANDIDATES}'s gain", f"minus {best}, points"
    return table(("method", "passes", "judged", "reward", gain, "all correct", minus), rows)


def _row(found: dict[str, np.ndarray], name: str, best: str) -> tuple[str, ...]:
    """One method's cost, reward and truth; each is an array [prompts, (reward, truth, passes, judged)]."""
    values, (passes, judged) = found[name], found[name][:, 2:].mean(0)
    gains = [(found[each][:, 0] - found["plain"][:, 0]).mean() for each in (name, best)]
    return (
        name,
        f"{passes:.0f} ({100 * passes / found[best][0, 2]:.0f} %)",
        f"{judged:.0f}",
        bootstrap(values[:, 0]).text(digits=3),
        "" if name == "plain" else f"{100 * gains[0] / gains[1]:.1f} %",
        bootstrap(values[:, 1]).percent(),
        "" if name == best else bootstrap(values[:, 1] - found[best][:, 1]).text(100, 1),
    )


def _notes() -> str:
    return (
        f"All methods start from the same noises; plain and best of {FEW} are means over all choices of so "
        f"many of the {CANDIDATES}. Passes: latents through the model, for one picture. Judged: predicted "
        "pictures that the reward was asked about, counted as it happened, in checks and in the end. "
        "The random search of ComfyUI-InferenceTimeScaling samples a seed for each of its search_rounds to "
        "the end, decodes it and asks its verifier once: its calls and results are those of best of n, with "
        f"the same verifier, {CANDIDATES} x {STEPS} passes and {CANDIDATES} calls for {CANDIDATES} rounds; "
        "beyond them it pays one VAE decode a call, where here latents are judged. So a race spends more "
        "calls of a judge that costs little, and fewer passes. Differences are paired. "
        "Drafts: all candidates in 2 or 3 Euler steps first, and the best 4 of them in all 20; how many was "
        "chosen on dev captions. The stochastic rows have noise in every step; resampling (Feynman-Kac "
        "steering) saves no passes. "
        f"ReNO takes its gradient through all {STEPS} steps, at the published settings; going back through a "
        f"pass is counted as {BACKWARD} more, which leaves out the memory that it takes."
    )
