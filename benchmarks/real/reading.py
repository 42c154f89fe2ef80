"""Read one picture file of any kind as RGB, or say by a short reason why not."""

from __future__ import annotations

import importlib
import io
import warnings
from pathlib import Path

from PIL import Image, UnidentifiedImageError

from lclip.data.pictures import in_eight_bits

SMALLEST, LARGEST = 32, 150_000_000  # pixels on the short side; pixels in all
VECTOR_SIDE = 512  # pixels on the long side of a rendered SVG
Colour = tuple[int, int, int]
WHITE: Colour = (255, 255, 255)


class PictureError(Exception):
    """A picture that is left out. reason: "broken", "tiny", "huge" or "vector", to count by."""

    def __init__(self, reason: str, path: Path, detail: str):
        super().__init__(f"{path}: {detail}")
        self.reason = reason


def read_picture(path: Path, ground: Colour = WHITE) -> Image.Image:
    """A picture as RGB: its first frame, transparency laid on `ground`. Raises PictureError."""
    picture = read_cutout(path)
    if picture.mode == "RGB":
        return picture
    laid = Image.new("RGB", picture.size, ground)
    laid.paste(picture, mask=picture.getchannel("A"))
    return laid


def read_cutout(path: Path) -> Image.Image:
    """A picture as RGB, or as RGBA where any of it is transparent. Raises PictureError."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return _opaque_or_not(_open(path))
    except PictureError:
        raise
    except (OSError, SyntaxError, ValueError, EOFError, UnidentifiedImageError, MemoryError) as error:
        raise PictureError("broken", path, str(error)) from error
    except Image.DecompressionBombError as error:
        raise PictureError("huge", path, str(error)) from error


def _open(path: Path) -> Image.Image:
    with Image.open(io.BytesIO(_svg(path)) if path.suffix.lower() == ".svg" else path) as picture:
        width, height = picture.size
        if min(width, height) < SMALLEST:
            raise PictureError("tiny", path, f"{width}x{height} pixels; at least {SMALLEST} each way")
        if width * height > LARGEST:
            raise PictureError("huge", path, f"{width}x{height} pixels; at most {LARGEST} in all")
        picture.seek(0)
        picture.load()
        return picture.copy()


def _opaque_or_not(picture: Image.Image) -> Image.Image:
    picture = in_eight_bits(picture)
    if not picture.has_transparency_data:
        return picture.convert("RGB")
    cutout = picture.convert("RGBA")
    alpha = cutout.getchannel("A").getextrema()
    return cutout.convert("RGB") if alpha[0] == 255 else cutout


def _svg(path: Path) -> bytes:
    """A PNG of an SVG, by cairosvg."""
    try:
        cairosvg = importlib.import_module("cairosvg")  # an extra that few have
    except (ImportError, OSError) as error:
        raise PictureError(
            "vector", path, "cairosvg is not installed; the extra 'pictures' brings it"
        ) from error
    try:
        rendered = cairosvg.svg2png(url=str(path), output_width=VECTOR_SIDE)
    except Exception as error:  # a parser of strangers' files raises anything
        raise PictureError("broken", path, f"not rendered: {error}") from error
    return rendered or b""
