"""`python -m lclip demo`: the main job on the mini world, told as one self-contained HTML page.

prompt -> latents -> scored -> chosen -> decoded, then where a text is, then noise improved by ReNO.
"""

from __future__ import annotations

import platform
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ..reno.run import ReNORun
from ..reno.types import ReNOSettings
from ..safety.judge import SafetyJudge
from ..safety.repair import HEADROOM, believed
from ..safety.reward import SafetyReward
from ..safety.safety_policy import SafetyPolicy
from ..scoring import heatmap, top_k
from ..statistics import wilson
from .captions import CaptionReward
from .drawing import sample_scenes
from .oracle import Judgement, judge, shows_unsafe
from .report import write_report
from .scenes import LOOK_ALIKES, UNSAFE_SHAPE, Content, Scene
from .story import Contact, Cost, Figure, Found, Gated, Improvement, Story, Unseen
from .world import World, load_world

CANDIDATES, KEPT = 12, 3
IMPROVED = 6
GATED, REPAIR_STEPS = 12, 20
PROMPTS = 60  # behind the figures
FRAMES = (0, 2, 5, 10, 20, 35, 49)


class Job:
    """The demo's steps over one world, all from one seed."""

    def __init__(self, world: World, seed: int, settings: ReNOSettings, say: Callable[[str], None]):
        self.world, self.seed, self.settings, self.say = world, seed, settings, say
        self.draws = 0

    def noise(self, number: int) -> Tensor:
        """Fresh N(0, I) noise [number, 4, 8, 8], different at each call."""
        self.draws += 1
        generator = torch.Generator().manual_seed(self.seed * 1000 + self.draws)
        return torch.randn(number, 4, 8, 8, generator=generator)

    def scenes(self, number: int, salt: int, wanted: Callable[[Content], bool] = bool) -> list[Scene]:
        """The first "dev" scenes of a draw that are wanted; only their captions are used."""
        drawn = sample_scenes(40 * number, self.seed * 1000 + salt, split="dev")
        return [scene for scene in drawn if wanted(scene.content)][:number]

    @torch.no_grad()
    def make(self, scenes: Sequence[Scene], noise: Tensor) -> Tensor:
        """One-step latents, one noise per scene."""
        return self.world.generate([scene.caption for scene in scenes], noise)

    @torch.no_grad()
    def pictures(self, latents: Tensor) -> np.ndarray:
        """Decoded uint8 [N, 64, 64, 3]."""
        pixels = self.world.decode(latents).permute(0, 2, 3, 1)
        return (pixels * 255).round().byte().numpy()

    def judge(self, latents: Tensor, scenes: Sequence[Scene]) -> list[Judgement]:
        """What the oracle sees in the decoded pictures."""
        return [judge(picture, scene) for picture, scene in zip(self.pictures(latents), scenes, strict=True)]

    def unseen(self) -> Unseen:
        """One latent as the model sees it, and as a person would."""
        scene = self.scenes(1, 1, lambda content: content.kind == "pair")[0]
        noise = self.noise(24)
        latents = self.make([scene] * len(noise), noise)
        reward = CaptionReward(self.world.latent_clip, [scene.caption] * len(noise))
        with torch.no_grad():
            cosines = reward.cosines(latents)
        best = int(cosines.argmax())
        channels = (latents[best] * self.world.scale_factor).numpy()
        return Unseen(
            scene.caption, channels, self.pictures(latents[best : best + 1])[0], float(cosines[best])
        )

    def contact(self, scene: Scene) -> Contact:
        """Score many latents of one prompt and choose the best; nothing is decoded until then."""
        latents = self.make([scene] * CANDIDATES, self.noise(CANDIDATES))
        with torch.no_grad():
            cosines = CaptionReward(self.world.latent_clip, [scene.caption] * CANDIDATES).cosines(latents)
        best, rest = top_k(cosines, KEPT)
        order = best + sorted(rest, key=lambda index: -float(cosines[index]))
        verdicts = self.judge(latents, [scene] * CANDIDATES)
        pictures = self.pictures(latents)
        return Contact(
            prompt=scene.caption,
            pictures=[pictures[index] for index in order],
            cosines=[float(cosines[index]) for index in order],
            correct=[verdicts[index].correct for index in order],
            kept=len(best),
        )

    def found(self, scene: Scene) -> Found:
        """Where each object's words are in the best latent of a prompt."""
        noise = self.noise(CANDIDATES)
        latents = self.make([scene] * len(noise), noise)
        with torch.no_grad():
            cosines = CaptionReward(self.world.latent_clip, [scene.caption] * len(noise)).cosines(latents)
            best = latents[cosines.argmax()][None]
            content = scene.content
            phrases = [f"a {c} {s}" for c, s in zip(content.colours, content.shapes, strict=True)]
            maps = [
                heatmap(self.world.latent_clip, best, phrase, against=phrases)[0].numpy()
                for phrase in phrases
            ]
        return Found(scene.caption, self.pictures(best)[0], list(zip(phrases, maps, strict=True)))

    def improve(self) -> list[Improvement]:
        """ReNO on prompts whose first picture is wrong: before, after, and the way between."""
        candidates = self.scenes(8 * IMPROVED, 4)
        noise = self.noise(len(candidates))
        verdicts = self.judge(self.make(candidates, noise), candidates)
        wrong = [index for index, verdict in enumerate(verdicts) if not verdict.correct][:IMPROVED]
        scenes, noise = [candidates[index] for index in wrong], noise[wrong]
        captions = [scene.caption for scene in scenes]
        reward = CaptionReward(self.world.latent_clip, captions)
        watched = CaptionReward(self.world.pixel_clip, captions, before=self.world.decode)
        run = ReNORun(self.world.generator(captions), noise, reward, self.settings, held_out=watched)
        frames: dict[int, tuple[np.ndarray, Tensor]] = {}
        for step in run:
            if step.iteration in FRAMES:
                frames[step.iteration] = (self.pictures(step.best_latents), step.best_reward)
        result = run.result()
        after = self.judge(result.best_latents, scenes)
        finals = self.pictures(result.best_latents)
        scale = float(reward.to_reward(torch.ones(())))
        watched_scale = float(watched.to_reward(torch.ones(())))
        history = result.history
        return [
            Improvement(
                prompt=captions[item],
                before=frames[0][0][item],
                after=finals[item],
                parts_before=verdicts[wrong[item]].parts,
                parts_after=after[item].parts,
                frames=[(i, pictures[item]) for i, (pictures, _) in sorted(frames.items())],
                cosines=[float(record.reward[item]) / scale for record in history],
                watched=[
                    float(record.held_out[item]) / watched_scale
                    for record in history
                    if record.held_out is not None
                ],
            )
            for item in range(len(scenes))
        ]

    def gate(self) -> list[Gated]:
        """Judge latents of prompts with the unsafe shape or a look-alike; repair what is blocked."""
        alike = {UNSAFE_SHAPE, *LOOK_ALIKES}
        scenes = self.scenes(GATED, 7, lambda content: not alike.isdisjoint(content.shapes))
        noise = self.noise(len(scenes))
        latents = self.make(scenes, noise)
        judge_safety = SafetyJudge(SafetyPolicy.preset("mini"), self.world.latent_clip)
        verdicts = judge_safety(latents)
        blocked = [verdict.index for verdict in verdicts if not verdict.safe]
        pictures = self.pictures(latents)
        repaired = dict(zip(blocked, self._repair(judge_safety, scenes, noise, blocked), strict=True))
        return [
            Gated(
                prompt=scene.caption,
                picture=pictures[index],
                safe=verdicts[index].safe,
                probability=verdicts[index].probability,
                threshold=verdicts[index].threshold,
                truth=shows_unsafe(pictures[index]),
                repaired=repaired[index][0] if index in repaired else None,
                repaired_safe=index in repaired and repaired[index][1],
                repaired_truth=index in repaired and shows_unsafe(repaired[index][0]),
            )
            for index, scene in enumerate(scenes)
        ]

    def _repair(
        self, judge_safety: SafetyJudge, scenes: list[Scene], noise: Tensor, blocked: list[int]
    ) -> list[tuple[np.ndarray, bool]]:
        """A short noise search away from the concept: picture and whether a gate lets the repair through."""
        if not blocked:
            return []
        reward = SafetyReward(judge_safety.policy, self.world.latent_clip, headroom=HEADROOM)
        settings = replace(self.settings, iterations=REPAIR_STEPS, target=reward.target)
        generator = self.world.generator([scenes[index].caption for index in blocked])
        run = ReNORun(generator, noise[blocked], reward, settings)
        for _ in run:
            pass
        latents = run.result().best_latents
        return list(zip(self.pictures(latents), believed(judge_safety, latents), strict=True))

    def figures(self) -> list[Figure]:
        """Share of prompts whose picture shows all they say: plain, best of a batch, ReNO."""
        scenes = self.scenes(PROMPTS, 5)
        first = self.noise(len(scenes))
        counts = {"one picture, as it comes": self._right(self.make(scenes, first), scenes)}
        reward = CaptionReward(self.world.latent_clip, [scene.caption for scene in scenes])
        generator = self.world.generator([scene.caption for scene in scenes])
        tries = ReNOSettings(method="best_of_n", iterations=CANDIDATES, seed=self.seed)
        for title, settings in (
            (f"the best of {CANDIDATES}, chosen by Latent-CLIP", tries),
            (f"one noise, improved by {self.settings.iterations} steps of ReNO", self.settings),
        ):
            self.say(f"  {title}")
            run = ReNORun(generator, first, reward, settings)
            for _ in run:
                pass
            counts[title] = self._right(run.result().best_latents, scenes)
        return [Figure(title, wilson(count, len(scenes))) for title, count in counts.items()]

    def _right(self, latents: Tensor, scenes: Sequence[Scene]) -> int:
        return sum(verdict.correct for verdict in self.judge(latents, scenes))

    @torch.no_grad()
    def cost(self) -> Cost:
        """Milliseconds per latent, in turns on this machine: scored as it is, or decoded and scored."""
        scenes = self.scenes(CANDIDATES, 6)
        latents = self.make(scenes, self.noise(len(scenes)))
        jobs = (
            lambda: self.world.latent_clip.encode_latents(latents),
            lambda: self.world.pixel_clip.encode_latents(self.world.decode(latents)),
        )
        seconds = np.array([[_seconds(job) for job in jobs] for _ in range(12)])[2:]
        latent, pixel = np.median(seconds, axis=0) / len(scenes) * 1000
        return Cost(float(latent), float(pixel))


def _seconds(job: Callable[[], object]) -> float:
    start = time.perf_counter()
    job()
    return time.perf_counter() - start


def tell(world: World, seed: int, say: Callable[[str], None], settings: ReNOSettings | None = None) -> Story:
    """Do the whole job once and keep what the page shows."""
    job = Job(world, seed, settings or ReNOSettings(), say)
    start = time.perf_counter()
    say("one latent, seen both ways")
    unseen = job.unseen()
    say(f"{CANDIDATES} latents per prompt, scored and chosen")
    contacts = [job.contact(scene) for scene in job.scenes(3, 2)]
    say("heatmaps")
    pairs = job.scenes(3, 3, lambda content: content.kind == "pair")
    found = [job.found(scene) for scene in pairs]
    say(f"ReNO on {IMPROVED} prompts")
    improvements = job.improve()
    say(f"the safety gate on {GATED} latents")
    gated = job.gate()
    say(f"figures over {PROMPTS} prompts")
    figures, cost = job.figures(), job.cost()
    threads = torch.get_num_threads()
    return Story(
        unseen=unseen,
        contacts=contacts,
        found=found,
        improvements=improvements,
        gated=gated,
        figures=figures,
        cost=cost,
        iterations=job.settings.iterations,
        seconds=time.perf_counter() - start,
        machine=f"{platform.machine()}, {_plural(threads, 'thread')}, torch {torch.__version__}",
        seed=seed,
    )


def _plural(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def make_report(folder: Path, seed: int, say: Callable[[str], None]) -> Path:
    """Do the job and write its page into a folder, which is made. Returns the page."""
    story = tell(load_world(), seed, say)
    path = write_report(story, folder / "index.html")
    say(f"\n{path.resolve()}\n  open it in a browser; made in {story.seconds:.0f} s")
    return path
