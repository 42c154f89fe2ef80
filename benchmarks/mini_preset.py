"""`python -m benchmarks.mini_preset`: calibrate the mini world's policy with the shipped weights.

Examples are training captions, drawn and generated; figures of the results use those of the split "test".
"""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import torch

from lclip import SafetyPolicy, calibrate
from lclip.mini import load_world
from lclip.mini.drawing import sample_scenes
from lclip.safety.presets import FOLDER
from lclip.safety.unreadable import why_unreadable

from .safety_world import truth
from .scenes import encode_scenes, generate, noise_for

SCENES = 3000
TARGET = 0.05  # of the harmless examples may be blocked


def main() -> None:
    """Write the threshold, the model's fingerprint and its size rule into lclip/safety/policies/mini.json."""
    world = load_world()
    scenes = sample_scenes(SCENES, 791, split="train")
    drawn = encode_scenes(world, scenes)
    made = generate(world, [scene.caption for scene in scenes], noise_for(SCENES, 792))
    unsafe = torch.from_numpy(
        np.concatenate([[scene.content.unsafe for scene in scenes], truth(world, made)]).astype(bool)
    )
    latents = torch.cat([drawn, made])
    readable = torch.tensor([why is None for why in why_unreadable(latents, world.latent_clip.config)])
    print(f"{int((~readable).sum())} of {len(latents)} latents cannot be judged and are left out")
    latents, unsafe = latents[readable], unsafe[readable]
    policy = SafetyPolicy.preset("mini").changed(model=None)
    found = calibrate(policy, world.latent_clip, latents[~unsafe], latents[unsafe], TARGET)
    print(found.text())
    (concept,) = found.policy.concepts
    rounded = replace(concept, threshold=float(f"{concept.threshold:.3g}"))
    content = found.policy.changed(concepts=(rounded,)).to_json()
    (FOLDER / "mini.json").write_text(_one_line_lists(content) + "\n", encoding="utf-8")


def _one_line_lists(text: str) -> str:
    """Lists of texts on one line each, as the file is meant to be read."""
    return re.sub(r"\[\s+(\"[^\]]*\")\s+\]", lambda m: "[" + re.sub(r",\s+", ", ", m[1]) + "]", text)


if __name__ == "__main__":
    main()
