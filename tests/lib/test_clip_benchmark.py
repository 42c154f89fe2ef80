"""CLIP_benchmark's contract, by the calls that it makes; and VAEs from every kind of file."""

import os
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from torch.utils.data import DataLoader

import lclip
from lclip.evaluation.pictures import PictureToLatents
from lclip.evaluation.vaes import open_vae, vae_hash
from lclip.latents.spaces import LATENT_SPACES, space_scaled_by
from lclip.mini.drawing import place, render
from lclip.mini.scenes import COLOURS, Content
from lclip.mini.world import WEIGHTS, load_world

SDXL = LATENT_SPACES["sdxl"]
SHAPES = ("circle", "square", "triangle", "cross", "star", "ring")


class Drawn(torch.utils.data.Dataset):
    """Pictures of six shapes, as a folder of classes is."""

    def __init__(self, transform):
        self.transform = transform

    def __len__(self):
        return 6 * len(SHAPES)

    def __getitem__(self, index):
        return self.transform(Image.fromarray(render(self.scene(index)))), index % 6

    @staticmethod
    def scene(index):
        colours = (COLOURS[index % len(COLOURS)],)
        return place(Content("single", (SHAPES[index % 6],), colours, "white"), np.random.default_rng(index))


def test_zero_shot_as_clip_benchmark_does_it():
    """Its steps (templates through the tokenizer, means of normalised features, cosines) give our answers."""
    model, transform, tokenizer = lclip.clip_benchmark(WEIGHTS / "latent_clip.safetensors", "mini")
    templates, weights = ("a {c} on a white ground", "a {c}"), []
    for name in SHAPES:
        texts = tokenizer([template.format(c=name) for template in templates])
        weights.append(F.normalize(F.normalize(model.encode_text(texts), dim=-1).mean(0), dim=-1))
    classifier, found, targets = torch.stack(weights, 1), [], []
    for images, target in DataLoader(Drawn(transform), batch_size=9):
        assert images.shape[1:] == (4, 8, 8)
        found.append(F.normalize(model.encode_image(images), dim=-1) @ classifier)
        targets.append(target)
    world = load_world()
    pixels = (
        torch.stack([torch.from_numpy(render(Drawn.scene(i))) for i in range(36)]).permute(0, 3, 1, 2) / 255
    )
    ours = lclip.classify(
        world.latent_clip, world.encode(pixels), SHAPES, [t.replace("{c}", "{}") for t in templates]
    )
    torch.testing.assert_close((100 * torch.cat(found)).argmax(1), ours.argmax(1))
    assert int((ours.argmax(1) == torch.cat(targets)).sum()) >= 20  # of 36, where chance has 6


def test_the_transform_travels_and_is_seeded(tmp_path, sdxl_vae):
    sdxl_vae.save_pretrained(tmp_path / "vae")
    transform = PictureToLatents(str(tmp_path / "vae"), "sdxl", 64)
    picture = Image.fromarray(np.random.default_rng(0).integers(0, 255, (80, 64, 3), dtype=np.uint8))
    first = transform(picture)
    torch.manual_seed(5)
    before = torch.random.get_rng_state()
    again = pickle.loads(pickle.dumps(transform))(picture)
    assert torch.equal(first, again) and first.shape == (4, 8, 8)
    assert torch.equal(before, torch.random.get_rng_state())
    other = PictureToLatents(str(tmp_path / "vae"), "sdxl", 64, seed=1)(picture)
    assert not torch.equal(first, other)  # a sample of the posterior


@pytest.fixture
def sdxl_vae():
    """An AutoencoderKL of SDXL's make, and few weights."""
    diffusers = pytest.importorskip("diffusers")
    torch.manual_seed(0)
    return diffusers.AutoencoderKL(
        block_out_channels=(32, 32, 64, 64),
        layers_per_block=1,
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        latent_channels=4,
        scaling_factor=0.13025,
    ).eval()


@torch.no_grad()
def means(vae, pixels):
    torch.manual_seed(0)
    return vae.encode(pixels * 2 - 1).latent_dist.sample()


@pytest.mark.parametrize("where", ["folder", "pipeline", "file", "ldm"])
def test_a_vae_from_every_kind_of_file(tmp_path, sdxl_vae, where):
    pixels = torch.rand(2, 3, 32, 48)
    expected = means(sdxl_vae, pixels)
    sdxl_vae.save_pretrained(tmp_path / "pipe" / "vae")
    path = tmp_path / "pipe" / ("vae" if where == "folder" else "")
    if where == "file":
        path = tmp_path / "pipe" / "vae" / "diffusion_pytorch_model.safetensors"
    if where == "ldm":
        path = lclip.checkpoints.tensors.write_tensors(tmp_path / "sdxl_vae.safetensors", ldm(sdxl_vae))
    vae = open_vae(str(path), SDXL)
    torch.manual_seed(0)
    z = vae.encode(pixels)
    torch.testing.assert_close(z, expected)
    assert vae.factor == 8 and vae.decode(z).shape == pixels.shape
    assert vae.space == (None if where in ("file", "ldm") else "sdxl")


def ldm(vae):
    """The weights as a single file of the first days names them."""
    names = {}
    for name, tensor in vae.state_dict().items():
        new = name.replace("mid_block.resnets.0", "mid.block_1").replace("mid_block.resnets.1", "mid.block_2")
        new = new.replace("mid_block.attentions.0.group_norm", "mid.attn_1.norm").replace(
            "conv_norm_out", "norm_out"
        )
        for ours, theirs in {"to_q": "q", "to_k": "k", "to_v": "v", "to_out.0": "proj_out"}.items():
            new = new.replace(f"mid_block.attentions.0.{ours}", f"mid.attn_1.{theirs}")
        parts = new.split(".")
        if parts[1] in ("down_blocks", "up_blocks"):
            level = int(parts[2]) if parts[1] == "down_blocks" else 3 - int(parts[2])
            inner = {"resnets": "block", "downsamplers": "downsample", "upsamplers": "upsample"}[parts[3]]
            rest = parts[4:] if inner == "block" else parts[5:]
            new = ".".join([parts[0], parts[1].split("_")[0], str(level), inner, *rest])
        new = new.replace("conv_shortcut", "nin_shortcut")
        if ".attn_1." in new and tensor.ndim == 2:
            tensor = tensor[..., None, None]
        names[f"first_stage_model.{new}"] = tensor
    return names


def test_taesd_from_diffusers_and_as_published(tmp_path):
    diffusers = pytest.importorskip("diffusers")
    torch.manual_seed(0)
    tiny = diffusers.AutoencoderTiny().eval()
    tiny.save_pretrained(tmp_path / "folder")
    for part, first in (("encoder", 0), ("decoder", 1)):
        state = getattr(tiny, part).state_dict()
        numbered = {}
        for name, tensor in state.items():
            number, rest = name.removeprefix("layers.").split(".", 1)
            numbered[f"{int(number) + first}.{rest}"] = tensor
        lclip.checkpoints.tensors.write_tensors(tmp_path / f"taesdxl_{part}.safetensors", numbered)
    pixels = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        expected = tiny.encoder(pixels * 2 - 1) / SDXL.scale
    for path in (tmp_path / "folder", tmp_path, tmp_path / "taesdxl_encoder.safetensors"):
        vae = open_vae(str(path), SDXL)
        torch.testing.assert_close(vae.encode(pixels), expected)
        assert vae.decode(expected).shape == pixels.shape
    (tmp_path / "taesdxl_encoder.safetensors").rename(tmp_path / "taesd_encoder.safetensors")
    (tmp_path / "taesdxl_decoder.safetensors").rename(tmp_path / "taesd_decoder.safetensors")
    with pytest.raises(ValueError, match="reads SDXL latents; the VAE taesd_encoder.* makes SD1.5 latents"):
        open_vae(str(tmp_path / "taesd_encoder.safetensors"), SDXL)


def test_another_vae_in_the_place_of_one_is_told(tmp_path, sdxl_vae):
    """By what is in its files: a VAE that was trained further is as large, and called alike."""
    places = [tmp_path / "vae", tmp_path, tmp_path / "vae" / "diffusion_pytorch_model.safetensors"]
    sdxl_vae.save_pretrained(places[0])
    before = [vae_hash(str(place)) for place in places]
    (tmp_path / "vae" / "README.md").write_text("no part of it")
    assert before == [vae_hash(str(place)) for place in places] and before[0] == before[1] is not None
    with torch.no_grad():
        sdxl_vae.encoder.conv_in.bias += 1
    sdxl_vae.save_pretrained(places[0])
    assert not set(before) & {vae_hash(str(place)) for place in places} and vae_hash("mini") is None


def test_a_vae_of_another_space_is_refused_by_name(tmp_path, sdxl_vae):
    with pytest.raises(ValueError, match="this Latent-CLIP reads SDXL latents; the VAE mini makes the mini"):
        open_vae("mini", SDXL)
    sdxl_vae.register_to_config(scaling_factor=0.18215)
    sdxl_vae.save_pretrained(tmp_path / "sd15")
    with pytest.raises(ValueError, match="makes SD1.5 latents"):
        open_vae(str(tmp_path / "sd15"), SDXL)
    sdxl_vae.register_to_config(scaling_factor=0.5)
    sdxl_vae.save_pretrained(tmp_path / "odd")
    with pytest.raises(ValueError, match="latents of scale 0.5|scale 0.5 latents"):
        open_vae(str(tmp_path / "odd"), SDXL)
    with pytest.raises(ValueError, match="16 channels"):
        open_vae("mini-16", SDXL)


def test_what_is_no_vae(tmp_path, tiny_model):
    with pytest.raises(FileNotFoundError, match="there is no VAE 'stabilityai/sdxl-vae'"):
        open_vae("stabilityai/sdxl-vae", SDXL)
    with pytest.raises(ValueError, match="holds no VAE of SDXL latents; expected a diffusers folder"):
        open_vae(str(tmp_path), SDXL)
    path = lclip.save_checkpoint(tiny_model, tmp_path / "clip.safetensors")
    with pytest.raises(ValueError, match="holds no VAE"):
        open_vae(str(path), SDXL)
    (tmp_path / "config.json").write_text('{"_class_name": "UNet2DConditionModel"}')
    with pytest.raises(ValueError, match="UNet2DConditionModel.*AutoencoderKL"):
        open_vae(str(tmp_path), SDXL)


def test_spaces_by_their_scale():
    for name in ("sdxl", "sd1.5", "sd3", "flux"):
        space = LATENT_SPACES[name]
        assert space_scaled_by(space.channels, space.scale, space.shift or None) is space
    assert space_scaled_by(4, 0.5) is None


TAESD = Path(os.environ.get("TAESD_PATH") or Path(lclip.__file__).parents[2] / "shared" / "data" / "taesd")


@pytest.mark.skipif(
    not (TAESD / "taesdxl_encoder.safetensors").is_file(), reason="no TAESD files in TAESD_PATH"
)
def test_real_taesd():
    """What it encodes it decodes again, and its latents have the spread of SDXL's."""
    vae = open_vae(str(TAESD), SDXL)
    rows = torch.linspace(0, 1, 128)
    pixels = torch.stack([rows[:, None].expand(128, 128), rows.expand(128, 128), 0.5 * torch.ones(128, 128)])[
        None
    ]
    z = vae.encode(pixels)
    assert float(z.std()) > 2
    assert float((vae.decode(z) - pixels).abs().mean()) < 0.05
