"""TAESD, tiny autoencoders of five real latent spaces (madebyollin/taesd, MIT). They imitate the real VAEs.

Every figure taken with them says: through TAESD, not the real VAE.
"""

from __future__ import annotations

import hashlib
import os
import pickle
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

import lclip

if TYPE_CHECKING:
    from diffusers.models.autoencoders.autoencoder_tiny import AutoencoderTiny

CAVEAT = "through TAESD, not the real VAE"
DEFAULT_FOLDER = Path(__file__).parents[3] / "shared" / "data" / "taesd"
MIDDLE = {"encoder": (11, 12, 13), "decoder": (2, 3, 4)}  # FLUX.2's blocks at 1/8 of the picture's side


@dataclass(frozen=True)
class TinyFiles:
    """The pair of files of a space. channels: of TAESD's own latents at 1/8 of the picture's side."""

    stem: str
    suffix: str
    channels: int
    digests: tuple[str, str]

    def path(self, part: str, folder: Path) -> Path:
        """Where the encoder's or decoder's file would be."""
        return folder / f"{self.stem}_{part}{self.suffix}"


# digests: the start of each published file's SHA-256, encoder and decoder. A file that is known to be another
# space's is refused, which shapes alone cannot do: SD1.5's and SDXL's are alike.
FILES = {
    "sdxl": TinyFiles("taesdxl", ".safetensors", 4, ("3d78013286676a1a", "ae5256b046b01d57")),
    "sd1.5": TinyFiles("taesd", ".safetensors", 4, ("a6b8c0fda4aad507", "d903e7cc3ae58f21")),
    "sd3": TinyFiles("taesd3", ".safetensors", 16, ("e5c96f3476bd26fe", "e940e227e2a41919")),
    "flux": TinyFiles("taef1", ".safetensors", 16, ("19f5a854ce575fd0", "bb41500b646d5b8b")),
    "flux2": TinyFiles("taef2", ".pth", 32, ("10a4e1021e89d755", "0a44a31e1ae59eb9")),
}


class TinyMissing(Exception):
    """TAESD cannot be used here, and why: a section is skipped, not failed."""


class MiddleBlock(nn.Module):
    """One of FLUX.2's middle blocks: adds what is normalised over the whole picture before it convolves.

    [B, 64, h, w] to the same. Names of weights as in the published files.
    """

    def __init__(self, width: int = 64):
        super().__init__()
        inner = 4 * width
        self.conv = nn.Sequential(
            nn.Conv2d(width, width, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(width, width, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(width, width, 3, padding=1),
        )
        self.pool = nn.Sequential(
            nn.Conv2d(width, inner, 1, bias=False),
            nn.GroupNorm(4, inner),
            nn.ReLU(),
            nn.Conv2d(inner, width, 1, bias=False),
        )

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.pool(x)
        return torch.relu(self.conv(x) + x)


class Taesd(nn.Module):
    """A space's tiny autoencoder: pictures [B, 3, H, W] in 0..1 to raw latents and back, fp32.

    H and W must be multiples of `factor`. Raw latents are on the VAE's own scale, as they are on a wire:
    raw = latents / scale + shift, as `lclip.LATENT_SPACES` states scale and shift. FLUX.2's raw latents are
    the host's 128 channels at 1/16, which the real VAE has normalised by its batch norm and TAESD was taught
    with; `to_cells` gives the 32 channels at 1/8 that they are made of.
    """

    def __init__(self, space: str, model: AutoencoderTiny):
        super().__init__()
        self.space, self.model = lclip.space_named(space), model
        self.patched = self.space.factor == 16

    def quick(self, precision: torch.dtype) -> Taesd:
        """The same in a precision, its weights laid as convolutions on a CPU like them."""
        self.to(precision)
        self.model.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
        return self

    def encode(self, pictures: Tensor) -> Tensor:
        """Raw latents [B, C, H/factor, W/factor]. ValueError for a size that is no multiple of the factor."""
        factor = self.space.factor
        if pictures.shape[-1] % factor or pictures.shape[-2] % factor:
            raise ValueError(
                f"{tuple(pictures.shape[-2:])} pixels; {self.space.title} need multiples of {factor}"
            )
        latents = self.model.encoder(pictures * 2 - 1)
        latents = to_patches(latents) if self.patched else latents
        return self.space.to_raw(latents)

    def seen(self, raw: Tensor) -> Tensor:
        """What the decoder makes of latents before it enlarges them, with gradients: [B, 64, h, w].

        In place of the decoded picture where that would take too long: what is not seen here is not in it.
        """
        layers = list(self.model.decoder.layers)
        enlarges = next(index for index, layer in enumerate(layers) if isinstance(layer, nn.Upsample))
        x = 3 * torch.tanh(self._cells(raw) / 3)
        for layer in layers[:enlarges]:
            x = layer(x)
        return x

    def decode(self, raw: Tensor) -> Tensor:
        """Pictures [B, 3, H, W], clipped to 0..1."""
        return self.decode_unclipped(raw).clamp(0, 1)

    def decode_unclipped(self, raw: Tensor) -> Tensor:
        """As `decode`, with gradients everywhere."""
        return (self.model.decoder(self._cells(raw)) + 1) / 2

    def _cells(self, raw: Tensor) -> Tensor:
        latents = self.space.to_sampler(raw)
        return to_cells(latents) if self.patched else latents


def to_patches(cells: Tensor) -> Tensor:
    """[B, C, h, w] -> [B, 4C, h/2, w/2], FLUX.2's order: channel, then row and column within the patch."""
    return nn.functional.pixel_unshuffle(cells, 2)


def to_cells(patches: Tensor) -> Tensor:
    """[B, 4C, h, w] -> [B, C, 2h, 2w]: undoes `to_patches`."""
    return nn.functional.pixel_shuffle(patches, 2)


def taesd_folder() -> Path:
    """Where TAESD's files are looked for: TAESD_PATH, or beside the checkout."""
    return Path(os.environ.get("TAESD_PATH") or DEFAULT_FOLDER)


def load_taesd(space: str, folder: Path | None = None) -> Taesd:
    """The tiny autoencoder of "sdxl", "sd1.5", "sd3", "flux" or "flux2", evaluating, weights frozen.

    Raises TinyMissing without files or diffusers; ValueError for a file that is cut short or another space's.
    """
    if space not in FILES:
        raise ValueError(f"there is no TAESD for {space!r}; expected one of {', '.join(FILES)}")
    folder = taesd_folder() if folder is None else folder
    for part in ("encoder", "decoder"):
        path = FILES[space].path(part, folder)
        if not path.is_file():
            raise TinyMissing(f"no {path.name} in {folder}; set TAESD_PATH to the folder of TAESD's files")
    model = tiny_model(space)
    for part in ("encoder", "decoder"):
        _fill(getattr(model, part), part, space, FILES[space].path(part, folder))
    return Taesd(space, model).eval().requires_grad_(False)


def tiny_model(space: str) -> AutoencoderTiny:
    """`diffusers.AutoencoderTiny` of a space's shape with random weights. Raises TinyMissing."""
    try:
        from diffusers.models.autoencoders.autoencoder_tiny import AutoencoderTiny
    except ImportError as error:
        raise TinyMissing("diffusers is not installed; the extra 'pictures' brings it") from error
    model = AutoencoderTiny(latent_channels=FILES[space].channels)
    if space == "flux2":
        for part, indices in MIDDLE.items():
            for index in indices:
                getattr(model, part).layers[index] = MiddleBlock()
    return model


def published_name(name: str, part: str) -> str:
    """A weight's name in the published files, which count the decoder's clamp as layer 0."""
    index, rest = name.removeprefix("layers.").split(".", 1)
    return f"{int(index) + (part == 'decoder')}.{rest}"


def _fill(module: nn.Module, part: str, space: str, path: Path) -> None:
    weights = _read(path)
    _refuse_another(path, part, space)
    expected = {published_name(name, part): tensor for name, tensor in module.state_dict().items()}
    wrong = sorted(expected.keys() ^ weights.keys())
    wrong += [n for n, w in expected.items() if n in weights and w.shape != weights[n].shape]
    if wrong:
        raise ValueError(
            f"{path.name} is not the TAESD {part} of {lclip.space_title(space)}: {len(wrong)} weights differ "
            f"in name or shape, the first is {wrong[0]}. Take the file of that name from madebyollin/taesd."
        )
    names = {published_name(name, part): name for name in module.state_dict()}
    module.load_state_dict({names[name]: tensor.float() for name, tensor in weights.items()})


def _read(path: Path) -> dict[str, Tensor]:
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        weights = torch.load(path, map_location="cpu", weights_only=True)
    except (SafetensorError, OSError, RuntimeError, EOFError, pickle.UnpicklingError) as error:
        raise ValueError(f"{path} cannot be read, it may be cut short: {error}") from error
    if not isinstance(weights, dict) or not all(isinstance(w, Tensor) for w in weights.values()):
        raise ValueError(f"{path} holds no weights by name")
    return weights


def _refuse_another(path: Path, part: str, space: str) -> None:
    digest = hashlib.sha256(path.read_bytes()).hexdigest()[:16]
    for other, files in FILES.items():
        if other != space and digest == files.digests[part == "decoder"]:
            raise ValueError(
                f"{path.name} holds the TAESD {part} of {lclip.space_title(other)}, "
                f"not of {lclip.space_title(space)}"
            )
