"""What one ReNO iteration costs at SDXL-Turbo's shapes, with the reward on latents and on decoded pixels."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from lclip import LatentCLIP

from . import shapes
from .harness import Run, clock, duration, ratio, table

TINY_UNET = {"width": 64, "depths": (0, 1, 2), "context": 2048, "vector": 2816}


def reno_cost(run: Run) -> str:
    """Parts of one iteration, timed within the same iteration for every reward.

    UNet forward, then decode and rewards forward and backward to the latents, then UNet backward from there:
    by the chain rule the sum of the parts is one iteration, and the UNet's share is the same for all. On a
    GPU with UNet and decoder in fp32, and in fp16 as artists run them; the CLIPs always compute in fp32, as
    in the pack.
    """
    on_cpu = torch.device(run.device).type == "cpu"
    clips = list(shapes.named_clips(run.device, run.choose(12, 1)))
    rounds = run.choose(2 if on_cpu else 20, 1)
    texts = []
    for precision in (torch.float32,) if on_cpu else (torch.float32, torch.float16):
        run.say("building the UNet")
        unet = shapes.build(shapes.SDXLUNet, run.device, **(TINY_UNET if run.tiny else {})).to(precision)
        decoder = shapes.build(
            shapes.SDXLDecoder, run.device, **({"widths": (64, 64, 32, 32)} if run.tiny else {})
        ).to(precision)
        context = torch.randn(1, 77, 2048, device=run.device, dtype=precision)
        vector = torch.randn(1, 2816, device=run.device, dtype=precision)
        generate = partial(_in_precision, partial(unet, context=context, vector=vector), precision)
        seconds: dict[str, list[float]] = {}
        for turn in range(rounds + 1):
            run.say(f"iteration {turn} of {rounds}" + (" (warm-up)" if turn == 0 else ""))
            taken = _one_iteration(run, generate, partial(_in_precision, decoder, precision), clips)
            for name, value in taken.items() if turn else ():
                seconds.setdefault(name, []).append(value)
        texts.append(_write(run, seconds, shapes.parameters(unet), precision))
    return "\n\n".join(texts)


def _in_precision(model: Callable[[Tensor], Tensor], precision: torch.dtype, x: Tensor) -> Tensor:
    return model(x.to(precision)).float()


def _one_iteration(
    run: Run,
    generate: Callable[[Tensor], Tensor],
    decoder: Callable[[Tensor], Tensor],
    clips: list[tuple[str, str, LatentCLIP]],
) -> dict[str, float]:
    """Seconds of the UNet (forward; both passes) and of every reward (both passes, decode included)."""
    noise = torch.randn(1, 4, 64, 64, device=run.device).requires_grad_()
    kept: dict[str, Tensor] = {}

    def unet_forward() -> None:
        kept["out"] = noise - generate(noise)

    def unet_backward() -> None:
        kept["noise"] = torch.autograd.grad(kept["out"], noise, kept["latents"])[0]

    taken = {"UNet forward": clock(unet_forward, run.device)}
    latents = (kept["out"] / kept["out"].detach().std() * 6).detach()

    def decode_forward() -> None:
        kept["leaf"] = latents.clone().requires_grad_()
        kept["picture"] = decoder(kept["leaf"])

    def decode_backward() -> None:
        kept["unused"] = torch.autograd.grad(kept.pop("picture"), kept.pop("leaf"), kept["pixels"])[0]

    decode = clock(decode_forward, run.device)
    inputs = {"latent": latents, "pixel": kept["picture"].detach()}
    for kind, name, model in clips:

        def score(kind: str = kind, model: LatentCLIP = model) -> None:
            leaf = inputs[kind].clone().requires_grad_()
            images = model.encode_latents(leaf) if kind == "latent" else shapes.pixel_embedding(model, leaf)
            kept["latents" if kind == "latent" else "pixels"] = torch.autograd.grad(
                images[0, ::7].sum(), leaf
            )[0]

        taken[name] = clock(score, run.device)
    decode += clock(decode_backward, run.device)
    for kind, name, _ in clips:
        taken[name] += decode if kind == "pixel" else 0.0
    taken["UNet"] = taken["UNet forward"] + clock(unet_backward, run.device)
    return taken


def _write(
    run: Run, seconds: dict[str, list[float]], unet_parameters: int, precision: torch.dtype
) -> str:
    bare = seconds["UNet"]
    whole = {
        name: [a + b for a, b in zip(bare, times, strict=True)]
        for name, times in seconds.items()
        if not name.startswith("UNet")
    }
    rows = [("bare UNet, no reward", duration(bare), "", "")]
    for name, times in whole.items():
        kind = "latent" if name in shapes.LATENT_CLIPS else "VAE decode + pixel"
        over = f"{100 * (ratio(times, bare).value - 1):+.1f} %"
        rows.append((f"{kind} {name}", duration(times), duration(seconds[name]), over))
    pairs = [(latent, pixel) for latent in shapes.LATENT_CLIPS for pixel in shapes.PIXEL_CLIPS]
    saved = [(*pair, f"{100 * (1 - ratio(whole[pair[0]], whole[pair[1]]).value):.1f} %") for pair in pairs]
    guided = [
        (name, f"{100 * ratio(seconds[name], seconds['UNet forward']).value:.1f} %")
        for name in shapes.LATENT_CLIPS
    ]
    kind, half = torch.device(run.device).type, precision == torch.float16
    return "\n\n".join(
        (
            f"One iteration on the {'CPU' if kind == 'cpu' else 'GPU'}, "
            f"{'UNet and decoder in fp16' if half else 'fp32'}, batch 1, 64x64 latents, n = {len(bare)}; "
            f"UNet of SDXL's shape ({unet_parameters:,} parameters). It is UNet forward, reward forward and "
            "backward, "
            "UNet backward; all rewards, and the decode that the pixel rewards share, are timed inside "
            "the same iteration.",
            table(("reward", "one iteration", "the reward's part", "over the bare UNet"), rows),
            table(("latent reward", "pixel reward", "time saved by the latent one"), saved),
            "Guidance adds the reward's part to a UNet step without gradient (no classifier-free "
            "guidance; with it, "
            f"the UNet's step costs twice as much): UNet forward {duration(seconds['UNet forward'])}.",
            table(("latent reward", "added to one guided step"), guided),
        )
    )
