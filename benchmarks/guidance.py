"""What guidance by a Latent-CLIP reward gains on the many-step schedule of the mini world's generator."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from lclip.mini.captions import CaptionReward
from lclip.reno.guidance import guided_x0
from lclip.statistics import bootstrap

from .harness import Run, ratio, table, time_in_turns
from .reno import Search, draw_search

STEPS = 20
STRENGTHS = (0.0, 0.02, 0.05, 0.1, 0.2)


def guidance(run: Run) -> str:
    """Oracle accuracy at several strengths, from the same noises, and the cost of a guided step."""
    search = draw_search(run, seeds=1 if run.tiny else 3, prompts=run.choose(200, 4))
    steps = run.choose(STEPS, 3)
    correct: dict[float, np.ndarray] = {}
    for strength in STRENGTHS:
        run.say(f"strength {strength}")
        found = [_correct(run, search, part, steps, strength) for part in search.parts()]
        correct[strength] = np.concatenate(found)
    rows = []
    for strength, values in correct.items():
        over = "" if strength == 0 else bootstrap(values - correct[0.0], search.prompt).text(100, 1)
        rows.append((strength or "0 (plain)", bootstrap(values, search.prompt).percent(), over))
    part = search.parts()[0]
    jobs = {
        "guided": lambda: _sample(search, part, 2, 0.1),
        "plain": lambda: _sample(search, part, 2, 0.0),
    }
    seconds = time_in_turns(jobs, rounds=run.choose(7, 2))
    extra = ratio(seconds["guided"], seconds["plain"])
    return (
        f"{steps} Euler steps, guided at every step, {len(search.scenes)} pictures of test captions, "
        "the same "
        "noises for all. Strength is the length of each move relative to the predicted picture.\n\n"
        + table(("strength", "all correct", "over plain, points"), rows)
        + f"\n\nA guided step of this small generator takes {extra.text()} times as long as a plain one: the "
        "Latent-CLIP is not small against it. For SDXL's shapes see the last section."
    )


def _correct(run: Run, search: Search, part: slice, steps: int, strength: float) -> np.ndarray:
    """Whether the oracle sees all of the caption: float [N]."""

    def job() -> dict[str, np.ndarray]:
        return {"correct": search.correct(_sample(search, part, steps, strength), part)}

    return run.part(f"{strength} {part.start}", job)["correct"]


def _sample(search: Search, part: slice, steps: int, strength: float) -> Tensor:
    """Clean raw latents by Euler steps whose predicted x0 is moved along the reward."""
    scenes = search.scenes[part]
    reward = CaptionReward(search.world.latent_clip, [scene.caption for scene in scenes])

    def move(x0: Tensor) -> Tensor:
        return guided_x0(x0, reward, strength, to_raw=lambda z: z / search.world.scale_factor)

    prompts = [scene.caption for scene in scenes]
    with torch.no_grad():
        return search.world.generate(prompts, search.noise[part], steps, move if strength else None)
