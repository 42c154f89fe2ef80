"""How to mend latents that a model cannot read, in the words of who reads them: Python's, or a graph's."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Advice:
    """What is said after what is wrong."""

    unscaled: str
    """Of latents scaled for sampling; {back} is how a number undoes it, or empty."""
    folded: str
    channels_last: str
    batch: str
    chosen: str
    """Of latents of another space that can be chosen."""


IN_PYTHON = Advice(
    unscaled="Latent-CLIP reads raw VAE latents: {back}use the model's process_latent_out.",
    folded="take them as ComfyUI's VAE Encode gives them, or fold normalised ones yourself: "
    "pixel_unshuffle(z, 2).",
    channels_last="The last dimension fits: pass z.permute(0, 3, 1, 2).",
    batch="Add the batch dimension: z[None].",
    chosen="Choose whose they are under latents in Load Latent-CLIP (in Python: lclip.apply_adapter(model, "
    "lclip.shipped_adapter(...))), or use latents of the VAE that it was trained on.",
)
IN_A_GRAPH = Advice(
    unscaled="Latent-CLIP reads raw VAE latents: wire what a sampler node or VAE Encode gives, not what "
    "another node has scaled for a model.",
    folded="wire them as VAE Encode gives them.",
    channels_last="The channels stand last, where VAE Encode and samplers give them second. Wire one of "
    "these, or ask the author of the node that gives them.",
    batch="One picture came without its batch. Wire a node that gives a batch, such as VAE Encode or a "
    "sampler.",
    chosen="Choose whose they are under latents in Load Latent-CLIP, or wire latents of the VAE that it was "
    "trained on.",
)


class _Spoken:
    """To whom it is said; a host says so once."""

    advice = IN_PYTHON


def speak(advice: Advice) -> None:
    """From now on say it so."""
    _Spoken.advice = advice


def advice() -> Advice:
    return _Spoken.advice
