"""VAEs for pictures that are evaluated, from this machine: diffusers folders, single files, TAESD."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..checkpoints.checkpoint import read_weights
from ..checkpoints.convert import file_sha256
from ..checkpoints.folders import read_json
from ..latents.encoders import Encoder
from ..latents.spaces import LatentSpace, space_scaled_by
from ..latents.worlds import ENCODERS

TINY_STEMS = {"taesdxl": "sdxl", "taesd": "sd1.5", "taesd3": "sd3", "taef1": "flux"}
"""Of the published files of TAESD, such as taesdxl_encoder.safetensors."""
EXPECTED = (
    "expected a diffusers folder (config.json and safetensors), a pipeline's folder with vae/ in it, one "
    "file of a VAE, or TAESD's encoder file or folder"
)
LARGEST_HASHED = 1 << 30  # bytes: of a whole model in one file, its size is told
READING = {} if find_spec("accelerate") else {"low_cpu_mem_usage": False}
"""Without that package diffusers would read so all the same, and advise it in three lines."""
HASHED = (".json", ".safetensors", ".pt", ".pth", ".ckpt", ".bin")


def open_vae(name: str, space: LatentSpace, device: torch.device | str = "cpu") -> Encoder:
    """The VAE of that name or path, checked to make latents of that space. Nothing is downloaded.

    Where a file does not say whose latents it makes, they are taken as those of `space` if the channels are
    the same. A picture's latents are a sample of the posterior, as the released models were trained on.
    Raises FileNotFoundError, CheckpointError, and ValueError for a VAE of another space.
    """
    vae = _opened(name, space, device)
    vae.check(space, "this Latent-CLIP")
    return vae


def _opened(name: str, space: LatentSpace, device: torch.device | str) -> Encoder:
    if name in ENCODERS:
        return ENCODERS[name](device)
    path = Path(name)
    if not path.exists():
        known = ", ".join(sorted(ENCODERS))
        raise FileNotFoundError(f"there is no VAE {name!r}; {EXPECTED}, or one that is registered: {known}")
    if path.is_file():
        return _from_file(path, space, device)
    if (path / "vae" / "config.json").is_file():
        path = path / "vae"
    if (path / "config.json").is_file():
        return _from_folder(path, space, device)
    if tiny := sorted(path.glob(f"{_stem_of(space)}_encoder.*")):
        return _tiny_file(tiny[0], space, device)
    raise ValueError(f"the folder {path} holds no VAE of {space.title}; {EXPECTED}")


def vae_hash(name: str) -> str | None:
    """SHA-256 over the files of a VAE, so that another one in their place is told; None for a registered one.

    Raises OSError.
    """
    path = Path(name)
    if name in ENCODERS or not path.exists():
        return None
    root, found = path / "vae" if (path / "vae" / "config.json").is_file() else path, hashlib.sha256()
    files = [path] if path.is_file() else sorted(each for each in root.iterdir() if each.is_file())
    for file in (each for each in files if each.suffix.lower() in HASHED or each == path):
        size = file.stat().st_size
        found.update(f"{file.name} {size if size > LARGEST_HASHED else file_sha256(file)}\n".encode())
    return found.hexdigest()[:16]


def _stem_of(space: LatentSpace) -> str:
    return next((stem for stem, name in TINY_STEMS.items() if name == space.name), "no_tiny")


def _diffusers() -> Any:
    try:
        import diffusers
    except ImportError as error:
        raise ValueError("a VAE from a file needs the package diffusers: pip install diffusers") from error
    return diffusers


def _from_folder(path: Path, space: LatentSpace, device: torch.device | str) -> Encoder:
    diffusers, kinds = _diffusers(), ("AutoencoderKL", "AutoencoderTiny")
    kind = read_json(path / "config.json").get("_class_name")
    if kind not in kinds:
        raise ValueError(f"{path / 'config.json'} is of a {kind!r}; expected {' or '.join(kinds)}")
    if not any(path.glob("*.safetensors")):
        raise FileNotFoundError(
            f"the VAE {path} has no weights; expected safetensors beside its config.json: copy it again"
        )
    vae = getattr(diffusers, kind).from_pretrained(
        path, use_safetensors=True, local_files_only=True, **READING
    )
    return (_tiny if kind == "AutoencoderTiny" else _usual)(path.name, vae, space, device)


def _from_file(path: Path, space: LatentSpace, device: torch.device | str) -> Encoder:
    if path.stem.endswith("_encoder") and path.stem.removesuffix("_encoder") in TINY_STEMS:
        return _tiny_file(path, space, device)
    weights = _named_as_diffusers(read_weights(path)[0], path)
    vae = _diffusers().AutoencoderKL(**_shape_of(weights, path))
    _fill(vae, weights, path)
    return _usual(path.name, vae, space, device)


def _fill(vae: Any, weights: Mapping[str, Tensor], path: Path) -> None:
    try:
        vae.load_state_dict({name: tensor.float() for name, tensor in weights.items()})
    except RuntimeError as error:
        lines = str(error).splitlines()
        raise ValueError(
            f"{path} is a VAE of another architecture: {' '.join(lines[1:2]).strip():.200}"
        ) from error


def _usual(name: str, vae: Any, space: LatentSpace, device: torch.device | str) -> Encoder:
    config, vae = vae.config, _frozen(vae, device)
    scale, known = config.scaling_factor, None
    if scale != UNSAID:
        known = space_scaled_by(config.latent_channels, scale, config.shift_factor)
        known = known or LatentSpace(
            f"scale {scale:g}", f"latents of scale {scale:g}", config.latent_channels, 8, scale, None
        )

    def encode(pixels: Tensor) -> Tensor:
        return vae.encode(pixels * 2.0 - 1.0).latent_dist.sample()

    def decode(z: Tensor) -> Tensor:
        return ((vae.decode(z).sample + 1.0) / 2.0).clamp(0.0, 1.0)

    factor = 2 ** (len(config.block_out_channels) - 1)
    return Encoder(name, config.latent_channels, factor, encode, known and known.name, decode)


def _tiny(
    name: str, vae: Any, space: LatentSpace, device: torch.device | str, made: str | None = None
) -> Encoder:
    """TAESD works on latents as samplers have them; the space's scale and shift make them raw."""
    vae = _frozen(vae, device)
    scale = vae.config.scaling_factor

    def encode(pixels: Tensor) -> Tensor:
        return space.to_raw(vae.encode(pixels * 2.0 - 1.0).latents * scale)

    def decode(z: Tensor) -> Tensor:
        return ((vae.decode(space.to_sampler(z) / scale).sample + 1.0) / 2.0).clamp(0.0, 1.0)

    factor = 2 ** (len(vae.config.encoder_block_out_channels) - 1)
    return Encoder(name, vae.config.latent_channels, factor, encode, made, decode)


def _tiny_file(path: Path, space: LatentSpace, device: torch.device | str) -> Encoder:
    """The published pair of files, whose parts are numbered."""
    made = TINY_STEMS[path.stem.removesuffix("_encoder")]
    other = path.with_name(path.name.replace("_encoder", "_decoder"))
    weights = {**_numbered(path, "encoder", 0), **_numbered(other, "decoder", 1)}
    channels = weights["decoder.layers.0.weight"].shape[1]
    vae = _diffusers().AutoencoderTiny(latent_channels=channels)
    _fill(vae, weights, path)
    return _tiny(path.name, vae, space, device, made)


def _numbered(path: Path, part: str, first: int) -> dict[str, Tensor]:
    """diffusers leaves out what has no weights at the decoder's beginning, and so counts from one less."""
    weights = {}
    for name, tensor in read_weights(path)[0].items():
        number, dot, rest = name.partition(".")
        if not number.isdecimal():
            raise ValueError(f"{path} holds {name!r:.60}; expected TAESD's {part}, whose parts are numbered")
        weights[f"{part}.layers.{int(number) - first}{dot}{rest}"] = tensor
    return weights


UNSAID = -1.0
"""The scale of a VAE from a file that does not say it."""


def _named_as_diffusers(raw: Mapping[str, Tensor], path: Path) -> dict[str, Tensor]:
    weights = {name.removeprefix("first_stage_model."): tensor for name, tensor in raw.items()}
    weights = {
        n: t
        for n, t in weights.items()
        if n.startswith(("encoder.", "decoder.", "quant_conv.", "post_quant"))
    }
    if "encoder.conv_in.weight" not in weights:
        raise ValueError(f"{path} holds no VAE; {EXPECTED}")
    if not any(".down." in name for name in weights):
        return weights
    _diffusers()
    from diffusers.loaders.single_file_utils import convert_ldm_vae_checkpoint  # pyright: ignore

    levels = 1 + max(int(n.split(".")[2]) for n in weights if n.startswith("encoder.down."))
    blocks = [""] * levels  # only their number is looked at
    return convert_ldm_vae_checkpoint(weights, {"down_block_types": blocks, "up_block_types": blocks})


def _shape_of(weights: Mapping[str, Tensor], path: Path) -> dict[str, Any]:
    """An AutoencoderKL's settings, read off its weights."""
    found = [
        re.match(r"encoder\.down_blocks\.(\d+)\.resnets\.(\d+)\.conv1\.weight", name) for name in weights
    ]
    places = [(int(match[1]), int(match[2]), match[0]) for match in found if match]
    if not places or "decoder.conv_in.weight" not in weights:
        raise ValueError(f"{path} is no VAE that is known; {EXPECTED}")
    widths = {level: weights[name].shape[0] for level, number, name in places if number == 0}
    levels = len(widths)
    return {
        "block_out_channels": [widths[level] for level in range(levels)],
        "layers_per_block": 1 + max(number for _, number, _ in places),
        "down_block_types": ["DownEncoderBlock2D"] * levels,
        "up_block_types": ["UpDecoderBlock2D"] * levels,
        "latent_channels": weights["decoder.conv_in.weight"].shape[1],
        "norm_num_groups": 32 if min(widths.values()) >= 32 else min(widths.values()),
        "use_quant_conv": "quant_conv.weight" in weights,
        "use_post_quant_conv": "post_quant_conv.weight" in weights,
        "mid_block_add_attention": any("mid_block.attentions" in name for name in weights),
        "scaling_factor": UNSAID,
    }


def _frozen(vae: Any, device: torch.device | str) -> Any:
    vae.to(device).eval()
    vae.requires_grad_(False)
    return vae
