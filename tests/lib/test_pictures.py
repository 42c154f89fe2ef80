"""Picture files of every kind, by all that read them: what is seen is read, what is broken costs itself."""

import io
import logging
import struct

import numpy as np
import pytest
import torch
from PIL import Image

from benchmarks.real import reading
from lclip.data.pictures import each_picture, find_pictures, load_picture
from lclip.data.samples import Sample
from lclip.training.samples import Decoder, Unusable

SIDE = 32
RAMP = np.linspace(0, 255, SIDE, dtype=np.uint8)[None].repeat(SIDE, 0)


def trained(path):
    kind = path.suffix.removeprefix(".")
    read = Decoder(pictures={"picture": SIDE})(Sample("key", {kind: path.read_bytes()}))["picture"]
    return read.permute(1, 2, 0).numpy()


def adapted(path):
    return (load_picture(path, SIDE) * 255).round().byte().permute(1, 2, 0).numpy()


def benched(path):
    return np.asarray(reading.read_picture(path))


READERS = pytest.mark.parametrize("read", [trained, adapted, benched])


def written(tmp_path, picture, suffix=".png", **options):
    path = tmp_path / f"picture{suffix}"
    picture.save(path, **options)
    return path


@READERS
@pytest.mark.parametrize("mode", ["L", "LA", "P", "RGB", "RGBA", "CMYK", "I;16"])
def test_a_ramp_is_a_ramp_in_every_mode(tmp_path, read, mode):
    grey = Image.fromarray(RAMP)
    picture = Image.fromarray(RAMP.astype(np.uint16) * 257) if mode == "I;16" else grey.convert(mode)
    path = written(tmp_path, picture, ".tif" if mode == "CMYK" else ".png")
    if mode == "CMYK" and read is trained:  # a training takes no tif
        path = written(tmp_path, picture, ".jpg", quality=100)
    np.testing.assert_allclose(read(path), RAMP[..., None].repeat(3, -1), atol=3)


@READERS
@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_what_is_transparent_is_white_whatever_colour_hides_there(tmp_path, read, mode):
    hidden = Image.new("RGBA", (SIDE, SIDE), (0, 0, 0, 0))
    hidden.paste((90, 90, 90, 255), (0, 0, SIDE // 2, SIDE))
    if mode == "P":
        hidden = Image.new("P", (SIDE, SIDE), 0)
        hidden.putpalette([0, 0, 0, 90, 90, 90])
        hidden.paste(1, (0, 0, SIDE // 2, SIDE))
    path = written(tmp_path, hidden.convert(mode), **({"transparency": 0} if mode == "P" else {}))
    seen = read(path)
    assert (seen[:, : SIDE // 2] == 90).all() and (seen[:, SIDE // 2 :] == 255).all()


@READERS
@pytest.mark.parametrize("suffix", [".webp", ".png"])
def test_of_an_animation_the_first_frame_is_read(tmp_path, read, suffix):
    frames = [Image.new("RGB", (SIDE, SIDE), colour) for colour in ("red", "blue")]
    path = written(tmp_path, frames[0], suffix, save_all=True, append_images=frames[1:], lossless=True)
    assert read(path)[0, 0].tolist() == [255, 0, 0]


def bad(kind):
    """The bytes of a file that is no picture to learn from."""
    whole = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)).save(whole, "png")
    if kind == "tiny":
        Image.new("RGB", (5, 400)).save(small := io.BytesIO(), "png")
        return small.getvalue()
    huge = bytearray(whole.getvalue())
    huge[16:24] = struct.pack(">2I", 60_000, 60_000)
    return {"cut": whole.getvalue()[:3000], "empty": b"", "text": b"no picture", "huge": bytes(huge)}[kind]


KINDS = ["cut", "empty", "text", "huge", "tiny"]


@pytest.mark.parametrize("kind", KINDS)
def test_a_training_refuses_each_bad_file_by_a_reason_to_count_by(kind):
    reason = "picture too small" if kind == "tiny" else "unreadable picture"
    with pytest.raises(Unusable, match=reason):
        Decoder(pictures={"picture": SIDE})(Sample("key", {"png": bad(kind)}))


def test_a_folder_of_good_and_bad_files_loses_only_the_bad_ones(tmp_path, caplog):
    for number in range(3):
        Image.fromarray(np.roll(RAMP, number)).save(tmp_path / f"{number}.png")
    for kind in KINDS:
        (tmp_path / f"x{kind}.png").write_bytes(bad(kind))
    with caplog.at_level(logging.WARNING, logger="latent-clip"):
        read = list(each_picture(find_pictures(tmp_path), SIDE, smallest=16))
    assert len(read) == 3 and all(torch.isfinite(picture).all() for picture in read)
    assert all(f"x{kind}.png" in caplog.text for kind in KINDS)
