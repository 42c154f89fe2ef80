"""What a score costs: on latents, against VAE decode and a pixel CLIP, and over a bare transformer."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn

from lclip import LatentCLIP

from . import shapes
from .harness import Run, duration, ratio, table, time_in_turns

# latent against pixel CLIP of the same width: the one with fewer, and the one with more tokens
RIVALS = {"B/8": "B/32", "B/4-plus": "B/16"}


def cost(run: Run) -> str:
    """Forward, and forward with the input's gradient, of one 512 px picture; all parts by themselves."""
    shape = {"widths": (64, 64, 32, 32)} if run.tiny else {}
    decoder = shapes.build(shapes.SDXLDecoder, run.device, **shape)
    latents = torch.randn(1, 4, 64, 64, device=run.device) * 6
    pixels = torch.rand(1, 3, 512, 512, device=run.device)
    rows = []
    for mode, wrap in (("forward", _forward), ("forward + backward", _forward_and_backward)):
        run.say(mode)
        jobs = {"decode": wrap(decoder, latents)}
        for kind, name, model in shapes.named_clips(run.device, run.choose(12, 1)):
            jobs[name] = wrap(shapes.embedder(kind, model), latents if kind == "latent" else pixels)
        seconds = time_in_turns(jobs, rounds=run.choose(4, 2), device=run.device)
        for latent, pixel in RIVALS.items():
            whole = [a + b for a, b in zip(seconds["decode"], seconds[pixel], strict=True)]
            times = (duration(seconds[latent]), duration(seconds["decode"]), duration(seconds[pixel]))
            factor = ratio(whole, seconds[latent]).text(digits=0, unit=" x")
            rows.append((mode, f"{latent} / {pixel}", *times, factor))
    header = (
        "pass",
        "latent / pixel CLIP",
        "latent CLIP",
        "VAE decode",
        "pixel CLIP",
        "(decode + pixel) / latent",
    )
    return (
        f"{table(header, rows)}\n\nBatch 1, fp32, n = {run.choose(4, 2)} rounds. The decoder has SDXL's "
        "shape "
        f"({shapes.parameters(decoder):,} parameters), the pixel CLIPs are ViT-B at 224 px; shrinking "
        "the picture to "
        "224 px is counted. With backward: the gradient of the latents, or of the picture and of the "
        "latents."
    )


def _forward(scorer: Callable[[Tensor], Tensor], latents: Tensor) -> Callable[[], object]:
    def job() -> Tensor:
        with torch.no_grad():
            return scorer(latents)

    return job


def _forward_and_backward(scorer: Callable[[Tensor], Tensor], latents: Tensor) -> Callable[[], object]:
    return partial(shapes.input_gradient, scorer, latents)


def overhead(run: Run) -> str:
    """Ours over torch's own encoder layers on ready tokens; an item of a large batch over one alone."""
    rows, batch_rows = [], []
    batch = run.choose(64, 4)
    for name, config in shapes.LATENT_CLIPS.items():
        model = shapes.clip(shapes.with_layers(config, run.choose(12, 1)), run.device)
        bare = _bare_transformer(model).to(run.device)
        latents = torch.randn(1, 4, 64, 64, device=run.device) * 6
        tokens = torch.randn(1, 1 + config.grid**2, config.vision_width, device=run.device)
        for mode, wrap in (("forward", _forward), ("forward + backward", _forward_and_backward)):
            run.say(f"{name} {mode}")
            jobs = {
                "ours": wrap(model.encode_latents, latents),
                "bare": wrap(lambda x, bare=bare: bare(x)[:, 0], tokens),
            }
            seconds = time_in_turns(jobs, rounds=run.choose(15, 2), device=run.device)
            over = ratio(seconds["ours"], seconds["bare"])
            rows.append(
                (name, mode, duration(seconds["ours"]), duration(seconds["bare"]), over.text(digits=3))
            )
        jobs = {
            "one": _forward(model.encode_latents, latents),
            "many": _forward(model.encode_latents, latents.expand(batch, -1, -1, -1).contiguous()),
        }
        seconds = time_in_turns(jobs, rounds=run.choose(3, 2), device=run.device)
        per_item = [value / batch for value in seconds["many"]]
        batch_rows.append(
            (
                name,
                duration(seconds["one"]),
                duration(per_item),
                ratio(per_item, seconds["one"]).text(digits=2),
            )
        )
    first = table(("model", "pass", "ours", "bare transformer", "ours / bare"), rows)
    second = table(("model", "batch 1", f"batch {batch}, per item", "per item / alone"), batch_rows)
    return (
        "`encode_latents` on latents, with patching, size rule, checks, projection and normalising, "
        "against torch's own "
        "`TransformerEncoderLayer` stack of the same width, depth and heads on ready-made tokens. Ours "
        "is below 1 "
        "where it is, because the last block computes the class token only. Batch 1, "
        f"fp32.\n\n{first}\n\n{second}"
    )


def _bare_transformer(model: LatentCLIP) -> nn.Module:
    config = model.config
    layer = nn.TransformerEncoderLayer(
        config.vision_width,
        config.vision_heads,
        4 * config.vision_width,
        dropout=0.0,
        activation="gelu",
        batch_first=True,
        norm_first=True,
    )
    stack = nn.TransformerEncoder(layer, config.vision_layers, enable_nested_tensor=False)
    return stack.eval().requires_grad_(False)
