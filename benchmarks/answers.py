"""The library's answers on the mini world and on tiny random models, to the last bit.

    python -m benchmarks.answers record FILE      write today's answers
    python -m benchmarks.answers compare FILE     say which differ from the recorded ones; exit 1 if any do

A change of structure must give the same bits; one of behaviour lists here what it changes. Bits depend on the
machine and on torch's version, so the file is made anew on each machine and is not kept in the tree.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

import lclip
from lclip.mini import World, load_twin, load_world
from lclip.safety.policy import AUGMENTATIONS

ROOT = Path(__file__).resolve().parents[1]
REFERENCE = ROOT / "tests" / "lib" / "golden" / "tiny_reference.safetensors"
PROMPTS = ("a red star", "a blue ring left of a green circle", "a yellow skull", "a green triangle")
SEARCHES = {
    "gradient": lclip.ReNOSettings(iterations=6),
    "screened": lclip.ReNOSettings(iterations=4, candidates=3, keep=2, optimizer="adam"),
    "zero_order": lclip.ReNOSettings(iterations=6, method="zero_order", patience=3),
}

Answer = tuple[str, Any]


def answers() -> Iterator[Answer]:
    """Every answer by name: tensors, and texts that must be equal."""
    world = load_world()
    noise = torch.randn(len(PROMPTS), 4, 8, 8, generator=torch.Generator().manual_seed(7))
    with torch.no_grad():
        z = world.generate(PROMPTS, noise)
    yield "latents", z
    yield from _scores(world.latent_clip, z, "mini")
    yield from _reference()
    yield from _searches(world, noise)
    yield from _safety(world, z)
    yield from _guided(world, noise)
    yield from _taste(world, z)
    yield from _adapter()
    yield from _i2p()


def _scores(model: lclip.LatentCLIP, z: Tensor, name: str) -> Iterator[Answer]:
    wide = torch.cat([z, z.flip(3)], dim=3)
    with torch.no_grad():
        yield f"{name} similarity", lclip.similarity(model, z, PROMPTS)
        for rule in ("resize", "crops", "tiles", "interpolate"):
            yield f"{name} wide, {rule}", model.encode_latents(wide, size_rule=rule)
        yield f"{name} classes", lclip.classify(model, z, ("star", "ring", "skull"), ("a red {}", "a {}"))
        yield f"{name} heatmap", lclip.heatmap(model, z, PROMPTS[0])


def _reference() -> Iterator[Answer]:
    with safe_open(REFERENCE, framework="pt") as file:
        for name in sorted(file.keys()):  # noqa: SIM118
            yield f"reference file {name}", file.get_tensor(name)


def _searches(world: World, noise: Tensor) -> Iterator[Answer]:
    wanted = lclip.TextReward(world.latent_clip, PROMPTS[1])
    reward = lclip.RewardSum([wanted, lclip.TextReward(world.latent_clip, PROMPTS[2], weight=-0.5)])
    for name, settings in SEARCHES.items():
        result = lclip.reno(world.generator(PROMPTS), noise, reward, settings)
        yield f"reno {name} noise", result.best_noise
        yield f"reno {name} reward", result.best_reward
        yield f"reno {name} trace", torch.stack([record.reward for record in result.history])


def _safety(world: World, z: Tensor) -> Iterator[Answer]:
    policy = lclip.SafetyPolicy.preset("mini")
    both = policy.changed(augmentations=AUGMENTATIONS, strictness="high")
    for name, asked in (("mini", policy), ("mini, all views", both)):
        judge = lclip.SafetyJudge(asked, world.latent_clip)
        yield f"verdicts {name}", json.dumps([asdict(verdict) for verdict in judge(z)])
        yield f"hash {name}", judge.policy.digest()
    yield "safety reward", lclip.SafetyReward(policy, world.latent_clip)(z)


def _guided(world: World, noise: Tensor) -> Iterator[Answer]:
    reward = lclip.TextReward(world.latent_clip, PROMPTS[0])

    def guide(x0: Tensor) -> Tensor:
        return lclip.guided_x0(x0, reward, 0.1, world.latent_format.to_raw)

    with torch.no_grad():
        yield "guided", world.generate(PROMPTS, noise, steps=4, change=guide)


def _taste(world: World, z: Tensor) -> Iterator[Answer]:
    source = torch.Generator().manual_seed(3)
    near = [z + 0.5 * torch.randn(z.shape, generator=source) for _ in range(3)]
    liked = torch.cat([part[:2] for part in near])
    taste = lclip.train_taste(world.latent_clip, liked, torch.cat([part[2:] for part in near]))
    yield "taste direction", taste.direction
    yield "taste reward", lclip.TasteReward(world.latent_clip, taste)(z)


def _adapter() -> Iterator[Answer]:
    twin = load_twin()
    native = load_world()
    source = torch.Generator().manual_seed(5)
    pictures = torch.rand(24, 3, 64, 64, generator=source)
    encoded = lclip.encode_pictures([pictures], twin.encode, native.encode)
    source_space = lclip.space_named("mini-16")
    settings = lclip.AdapterSettings(steps=8, batch=8, width=8, check_every=4)
    adapter = lclip.train_adapter(native.latent_clip, source_space, encoded, settings)
    read = lclip.apply_adapter(native.latent_clip, adapter)
    with torch.no_grad():
        yield "adapter", adapter(encoded.source[:2])
        yield "adapted embedding", read.encode_latents(encoded.source[:2])


def _i2p() -> Iterator[Answer]:
    """The shipped policy on random weights: words of its own texts, SDXL's latents."""
    policy = lclip.SafetyPolicy.preset("i2p")
    texts = [text for concept in policy.concepts for text in (*concept.unsafe, *concept.safe)]
    words = sorted({word for text in texts for word in text.lower().replace(",", " ").split()})
    config = lclip.LatentCLIPConfig(
        embed_dim=16, channels=4, patch_size=8, grid=8, vision_width=16, vision_layers=2, vision_heads=2,
        text_width=16, text_layers=2, text_heads=2, context_length=24, vocab_size=len(words) + 4,
        latent_space="sdxl", tokenizer="words",
    )  # fmt: skip
    torch.manual_seed(11)
    model = lclip.LatentCLIP(config, tokenizer=lclip.WordTokenizer(words, config.context_length))
    model.requires_grad_(False).eval()
    z = torch.nn.functional.avg_pool2d(torch.randn(3, 4, 68, 68), 5, 1) * 30
    judge = lclip.SafetyJudge(policy, model)
    yield "i2p probabilities", judge.probabilities(z)
    yield "i2p verdicts", json.dumps([asdict(verdict) for verdict in judge(z)])
    yield "i2p hash", judge.policy.digest()


def record(path: Path) -> int:
    """Write all answers to one file."""
    found = dict(answers())
    tensors = {
        name: value.detach().clone().contiguous()
        for name, value in found.items()
        if isinstance(value, Tensor)
    }
    save_file(tensors, path, {name: value for name, value in found.items() if isinstance(value, str)})
    print(f"{len(found)} answers in {path}")
    return 0


def compare(path: Path) -> int:
    """Say which answers are not the recorded ones."""
    with safe_open(path, framework="pt") as file:
        before = {**(file.metadata() or {}), **{name: file.get_tensor(name) for name in file.keys()}}  # noqa: SIM118
    now = dict(answers())
    differing = sorted(before.keys() ^ now.keys()) + [
        name for name in sorted(before.keys() & now.keys()) if not _same(before[name], now[name])
    ]
    for name in differing:
        print(f"differs: {name}")
    print(f"{len(now)} answers, {len(differing)} differ from {path}")
    return 1 if differing else 0


def _same(before: Any, now: Any) -> bool:
    if isinstance(before, Tensor) and isinstance(now, Tensor):
        return before.dtype == now.dtype and torch.equal(before, now.detach())
    return type(before) is type(now) and before == now


def main(arguments: list[str]) -> int:
    """See the module."""
    actions = {"record": record, "compare": compare}
    if len(arguments) != 2 or arguments[0] not in actions:
        print(__doc__)
        return 2
    torch.set_num_threads(1)
    return actions[arguments[0]](Path(arguments[1]))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
