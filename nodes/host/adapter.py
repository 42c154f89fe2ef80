"""The adapter half of `host`: adapters on a wire and in a folder, pictures through two VAEs, training.

Training needs gradients, and nodes run in inference mode: as in a noise search, everything is loaded first,
then the mode is left for the training alone.
"""

from __future__ import annotations

import logging
import math
import os
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import comfy.model_management as management
import comfy.utils
import folder_paths
import torch
from PIL import Image
from torch import Tensor

from ... import lclip
from .. import draw
from . import memory, models
from .choices import SHIPPED
from .folders import ADAPTERS, saved
from .gradients import make_differentiable
from .patcher import WholePatcher
from .spaces import preview

if TYPE_CHECKING:
    from ...lclip.adapters.adapter import Adapter
    from ...lclip.adapters.encoding import Decode, Encode
    from ...lclip.latents.spaces import LatentSpace

logger = logging.getLogger("latent-clip")

CHUNK = 8  # pictures that are encoded at once
SHOWN = 4  # held-out pictures in the preview


RECIPE = 2  # of the training: raised when the same inputs come to give another adapter


def trained_before(name: str, inputs: str) -> Path | None:
    """The file among those of that name that was trained from exactly these inputs to the end, or None."""
    for path in ADAPTERS.saved_as(name, ".safetensors"):
        try:
            if lclip.load_adapter(path).trained_from == inputs:
                return path
        except lclip.CheckpointError:
            continue
    return None


@dataclass(frozen=True)
class WiredAdapter:
    """What a LATENT_ADAPTER wire carries."""

    adapter: Adapter
    name: str


@dataclass(frozen=True)
class Trained:
    """What a training gives. comparison: held-out latents, real above mapped, as a rough picture; None where
    an earlier training from the same inputs is taken.
    """

    wired: WiredAdapter
    path: Path
    comparison: Image.Image | None


def load_adapter(path: str | Path, name: str) -> WiredAdapter:
    with memory.ordinary_tensors():
        return WiredAdapter(lclip.load_adapter(path), name)


def shipped(title: str) -> WiredAdapter:
    """The adapter of that title which comes with the pack."""
    with memory.ordinary_tensors():
        return WiredAdapter(lclip.shipped_adapter(SHIPPED[title]), title)


class AdaptedLatentCLIP(models.LoadedLatentCLIP):
    """A Latent-CLIP behind an adapter, on a wire. The towers stay the first one's to load and offload."""

    def __init__(self, base: models.LoadedLatentCLIP, wired: WiredAdapter) -> None:
        with memory.ordinary_tensors():
            self.model = lclip.apply_adapter(base.model, wired.adapter)
        self.name = f"{base.name} behind {wired.name}"
        self.base = base
        self.patcher = WholePatcher(
            wired.adapter, management.get_torch_device(), management.text_encoder_offload_device()
        )

    @property
    def patchers(self) -> tuple[Any, ...]:
        return (self.patcher, *self.base.patchers)


def encoder(vae: Any) -> Encode:
    """A VAE as a function from pixels [B, 3, H, W] in 0..1 to raw latents [B, C, h, w]."""

    def encode(pixels: Tensor) -> Tensor:
        pictures = pixels.movedim(1, -1)
        if getattr(vae, "latent_dim", 2) != 3:
            return vae.encode(pictures)
        # A video model's VAE takes a batch for frames.
        return torch.cat([vae.encode(picture[None])[:, :, 0] for picture in pictures])

    return encode


def decoder(vae: Any) -> Decode:
    """A VAE as a function from raw latents [B, C, h, w] to pixels [B, 3, H, W] in 0..1."""

    def decode(z: Tensor) -> Tensor:
        pictures = vae.decode(z if getattr(vae, "latent_dim", 2) != 3 else z[:, :, None])
        return pictures.reshape(-1, *pictures.shape[-3:])[..., :3].movedim(-1, 1)

    return decode


@dataclass(frozen=True)
class PictureSource:
    """The pictures to learn from: an IMAGE batch [N, H, W, 3], or a folder in the host's input folder."""

    images: Tensor | None
    folder: str
    side: int  # of the squares that a folder's pictures are cut to

    def batches(self, multiple: int) -> Iterator[Tensor]:
        """[B, 3, H, W] in 0..1, with sides that are multiples. ValueError, FileNotFoundError."""
        from ...lclip.data.pictures import each_picture, in_batches, whole_cells

        if self.images is not None:
            yield from whole_cells(self.images[..., :3].movedim(-1, 1), multiple).split(CHUNK)
            return
        side = math.ceil(self.side / multiple) * multiple
        yield from in_batches(each_picture(self.files(), side, smallest=multiple), CHUNK)

    def files(self) -> list[Path]:
        """The folder's pictures. ValueError, FileNotFoundError."""
        return lclip.find_pictures(input_folder(self.folder))

    def check(self) -> None:
        """ValueError unless there is exactly one kind of pictures."""
        if (self.images is None) == (not self.folder.strip()):
            raise ValueError(
                "There are no pictures to learn from, or two kinds; expected images on the wire, or the name "
                "of a folder in ComfyUI's input folder."
            )

    def digest(self) -> str:
        """A hash of the pictures as they are, whatever their files are called."""
        from ...lclip.checkpoints.inputs import inputs_digest

        if self.images is not None:
            return inputs_digest(self.images)
        found = []
        for path in self.files():
            management.throw_exception_if_processing_interrupted()
            found.append(inputs_digest(path))
        return inputs_digest(self.side, found)


def input_folder(name: str) -> Path:
    """A folder inside the host's input folder, perhaps by a link there; ValueError for any other."""
    root = Path(os.path.abspath(folder_paths.get_input_directory()))
    folder = Path(os.path.abspath(root / name.strip()))
    if root != folder and root not in folder.parents:
        raise ValueError(f"The folder {name!r} is not in {root}; expected one in ComfyUI's input folder.")
    return folder


def train(
    loaded: models.LoadedLatentCLIP,
    source: LatentSpace,
    vaes: tuple[Any, Any],
    pictures: PictureSource,
    settings: lclip.AdapterSettings,
    name: str,
    tell: Callable[[str], None],
) -> Trained:
    """Encode the pictures with both VAEs, train, and save: the best so far also when it is interrupted.

    An adapter of that name that was trained from the same inputs is taken as it is. tell: is told in words
    how far it is.
    """
    target = lclip.space_named(loaded.config.latent_space)
    pictures.check()
    inputs = _inputs(loaded, source, vaes, pictures, settings)
    if (known := trained_before(name, inputs)) is not None:
        tell(draw.words.said("taken from {file}: trained from the same inputs before", file=known.name))
        return Trained(load_adapter(known, known.name), known, None)
    path = ADAPTERS.new_place(name, ".safetensors")
    batches = _reported(pictures.batches(math.lcm(source.factor, target.factor)), tell)
    encoded = lclip.encode_pictures(
        batches, encoder(vaes[0]), encoder(vaes[1]), decode_source=decoder(vaes[0])
    )
    models.load_together([loaded], encoded.target[: settings.batch])
    device = loaded.patcher.load_device
    with torch.inference_mode(False):
        make_differentiable(loaded.model)
        latents = (encoded.source, encoded.target, encoded.picture, encoded.through)
        own = lclip.EncodedPictures(*(z.clone() for z in latents if z is not None))
        training = lclip.AdapterTraining(loaded.model, source, own, settings, device)
        try:
            _run(training, tell)
        finally:
            adapter = training.result()
            if training.step == settings.steps:  # a cancelled one is no answer to the same question
                adapter.trained_from = inputs
            if training.step:
                path = saved(partial(lclip.save_adapter, adapter), path)
                logger.info("The adapter is saved as %s, after %d steps.", path, training.step)
        comparison = _comparison(training)
    return Trained(WiredAdapter(adapter, path.name), path, comparison)


def _inputs(
    loaded: models.LoadedLatentCLIP,
    source: LatentSpace,
    vaes: tuple[Any, Any],
    pictures: PictureSource,
    settings: lclip.AdapterSettings,
) -> str:
    """A hash of all that a training starts from."""
    from ...lclip.checkpoints.fingerprint import fingerprint
    from ...lclip.checkpoints.inputs import inputs_digest

    weights = [{k: v for k, v in vae.get_sd().items() if isinstance(v, Tensor)} for vae in vaes]
    spaces = [source.name, loaded.config.latent_space]
    about = [fingerprint(loaded.model), *spaces, asdict(settings), pictures.digest()]
    return inputs_digest("adapter", RECIPE, *about, *weights)


def _reported(batches: Iterator[Tensor], tell: Callable[[str], None]) -> Iterator[Tensor]:
    count = 0
    for batch in batches:
        management.throw_exception_if_processing_interrupted()
        yield batch
        count += len(batch)
        tell(draw.words.said("encoded {count} pictures with both VAEs", count=count))


def _run(training: lclip.AdapterTraining, tell: Callable[[str], None]) -> None:
    steps = training.settings.steps
    bar = comfy.utils.ProgressBar(steps)
    for step in training:
        management.throw_exception_if_processing_interrupted()
        picture = None
        if step.step % training.settings.check_every == 0:
            at = {"step": step.step, "steps": steps, "cosine": f"{step.cosine:.4f}"}
            tell(draw.words.said("step {step} of {steps}: cosine {cosine} on held-out pictures", **at))
            picture = ("JPEG", _comparison(training), 512)
        bar.update_absolute(step.step, steps, picture)


def _comparison(training: lclip.AdapterTraining) -> Image.Image:
    """Rough pictures of held-out latents: above as the checkpoint's VAE makes them, below as mapped."""
    target = training.adapter.target.name
    with torch.no_grad():
        real = training.test_target[:SHOWN]
        mapped = training.best(training.test_source[:SHOWN]).cpu()
        rows = [torch.cat(list(preview(z, target)), dim=1) for z in (real, mapped)]  # [h, SHOWN * w, 3]
    picture = Image.fromarray((torch.cat(rows) * 255).round().to(torch.uint8).numpy())
    scale = max(1, 512 // picture.width)
    return picture.resize((picture.width * scale, picture.height * scale), Image.Resampling.NEAREST)
