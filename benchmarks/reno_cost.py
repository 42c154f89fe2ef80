"""What one ReNO iteration costs at SDXL-Turbo's shapes, with the reward on latents and on decoded pixels."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from lclip import LatentCLIP, graphed

from . import shapes
from .harness import Run, clock, duration, ratio, table

TINY_UNET = {"width": 64, "depths": (0, 1, 2), "context": 2048, "vector": 2816}
ON_CPU = ((torch.float32, 1),)
ON_GPU = ((torch.float32, 1), (torch.float16, 1), (torch.float16, 4))
WITHOUT = ", without CUDA graphs"


@dataclass(frozen=True)
class Scorer:
    """A CLIP that gives the reward. main: run as the pack runs it."""

    kind: str  # "latent" or "pixel"
    name: str
    model: LatentCLIP
    main: bool = True


def reno_cost(run: Run) -> str:
    """Parts of one iteration, timed within the same iteration for every reward.

    UNet forward, then decode and rewards forward and backward to the latents, then UNet backward from there:
    by the chain rule the sum of the parts is one iteration, and the UNet's share is the same for all. On a
    GPU with UNet and decoder in fp32, and in fp16 as artists run them, there also for four pictures at once;
    the CLIPs always compute in fp32, as in the pack, and there as CUDA graphs, the pixel CLIPs too.
    """
    on_cpu = torch.device(run.device).type == "cpu"
    scorers = list(_scorers(run, on_cpu))
    rounds = run.choose(2 if on_cpu else 20, 1)
    warm_up = 1 if on_cpu else 3  # the second pass captures
    texts = []
    for precision, batch in ON_CPU if on_cpu else ON_GPU:
        run.say("building the UNet")
        unet = shapes.build(shapes.SDXLUNet, run.device, **(TINY_UNET if run.tiny else {})).to(precision)
        decoder = shapes.build(
            shapes.SDXLDecoder, run.device, **({"widths": (64, 64, 32, 32)} if run.tiny else {})
        ).to(precision)
        context = torch.randn(batch, 77, 2048, device=run.device, dtype=precision)
        vector = torch.randn(batch, 2816, device=run.device, dtype=precision)
        generate = partial(_in_precision, partial(unet, context=context, vector=vector), precision)
        decode = partial(_in_precision, decoder, precision)
        noise = torch.randn(batch, 4, 64, 64, device=run.device).requires_grad_()
        seconds: dict[str, list[float]] = {}
        with graphed(*(scorer.model for scorer in scorers if scorer.main)):
            for turn in range(-warm_up, rounds):
                run.say(f"iteration {turn + 1} of {rounds}" if turn >= 0 else "warm-up")
                taken = _one_iteration(run, generate, decode, noise, scorers)
                for name, value in taken.items() if turn >= 0 else ():
                    seconds.setdefault(name, []).append(value)
        texts.append(_write(run, seconds, shapes.parameters(unet), precision, batch, scorers))
    return "\n\n".join(texts)


def _scorers(run: Run, on_cpu: bool) -> Iterator[Scorer]:
    layers = run.choose(12, 1)
    for kind, name, model in shapes.named_clips(run.device, layers):
        yield Scorer(kind, name, model)
    for kind, name, model in () if on_cpu else shapes.named_clips(run.device, layers):
        yield Scorer(kind, name + WITHOUT, model, main=False)


def _in_precision(model: Callable[[Tensor], Tensor], precision: torch.dtype, x: Tensor) -> Tensor:
    return model(x.to(precision)).float()


def _one_iteration(
    run: Run,
    generate: Callable[[Tensor], Tensor],
    decoder: Callable[[Tensor], Tensor],
    noise: Tensor,
    scorers: list[Scorer],
) -> dict[str, float]:
    """Seconds of the UNet (forward; both passes) and of every reward (both passes, decode included)."""
    kept: dict[str, Tensor] = {}

    def unet_forward() -> None:
        kept["out"] = noise - generate(noise)

    def unet_backward() -> None:
        kept["noise"] = torch.autograd.grad(kept["out"], noise, kept["latent"])[0]

    taken = {"UNet forward": clock(unet_forward, run.device)}
    latents = (kept["out"] / kept["out"].detach().std() * 6).detach()

    def decode_forward() -> None:
        kept["leaf"] = latents.clone().requires_grad_()
        kept["picture"] = decoder(kept["leaf"])

    def decode_backward() -> None:
        kept["unused"] = torch.autograd.grad(kept.pop("picture"), kept.pop("leaf"), kept["pixel"])[0]

    decode = clock(decode_forward, run.device)
    inputs = {"latent": latents, "pixel": kept["picture"].detach()}
    for scorer in scorers:

        def score(scorer: Scorer = scorer) -> None:
            embed = shapes.embedder(scorer.kind, scorer.model)
            kept[scorer.kind] = shapes.input_gradient(embed, inputs[scorer.kind])

        taken[scorer.name] = clock(score, run.device)
    decode += clock(decode_backward, run.device)
    for scorer in scorers:
        taken[scorer.name] += decode if scorer.kind == "pixel" else 0.0
    taken["UNet"] = taken["UNet forward"] + clock(unet_backward, run.device)
    return taken


def _write(
    run: Run,
    seconds: dict[str, list[float]],
    unet_parameters: int,
    precision: torch.dtype,
    batch: int,
    scorers: list[Scorer],
) -> str:
    bare = seconds["UNet"]
    whole = {
        scorer.name: [a + b for a, b in zip(bare, seconds[scorer.name], strict=True)] for scorer in scorers
    }
    rows = [("bare UNet, no reward", duration(bare), "", "")]
    for scorer in scorers:
        name, times = scorer.name, whole[scorer.name]
        what = "latent" if scorer.kind == "latent" else "VAE decode + pixel"
        over = f"{100 * (ratio(times, bare).value - 1):+.1f} %"
        rows.append((f"{what} {name}", duration(times), duration(seconds[name]), over))
    pairs = [(latent, pixel) for latent in shapes.LATENT_CLIPS for pixel in shapes.PIXEL_CLIPS]
    saved = [(*pair, f"{100 * (1 - ratio(whole[pair[0]], whole[pair[1]]).value):.1f} %") for pair in pairs]
    guided = [
        (scorer.name, f"{100 * ratio(seconds[scorer.name], seconds['UNet forward']).value:.1f} %")
        for scorer in scorers
        if scorer.kind == "latent"
    ]
    kind, half = torch.device(run.device).type, precision == torch.float16
    return "\n\n".join(
        (
            f"One iteration on the {'CPU' if kind == 'cpu' else 'GPU'}, "
            f"{'UNet and decoder in fp16' if half else 'fp32'}, batch {batch}, 64x64 latents, "
            f"n = {len(bare)}; UNet of SDXL's shape ({unet_parameters:,} parameters). It is UNet forward, "
            "reward forward and backward, UNet backward; all rewards, and the decode that the pixel rewards "
            "share, are timed inside the same iteration.",
            table(("reward", "one iteration", "the reward's part", "over the bare UNet"), rows),
            table(("latent reward", "pixel reward", "time saved by the latent one"), saved),
            "Guidance adds the reward's part to a UNet step without gradient (no classifier-free "
            "guidance; with it, the UNet's step costs twice as much): UNet forward "
            f"{duration(seconds['UNet forward'])}.",
            table(("latent reward", "added to one guided step"), guided),
        )
    )
