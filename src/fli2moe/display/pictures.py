"""Pictures as the page carries them: upright, small, re-encoded without any metadata."""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from fli2moe.encoders.images import open_picture

LONGEST_SIDE = 640
SMALL = 200  # a picture with no longer side is enlarged with hard pixel edges
THUMBNAIL = 88


@dataclass(frozen=True)
class Thumbnail:
    """A picture ready to embed.

    Attributes:
        source: a `data:` address.
        icon: the same, small enough for a list.
        size: (width, height) of the upright raw picture in pixels.
    """

    source: str
    icon: str
    size: tuple[int, int]


def thumbnail(path: str | Path, longest: int = LONGEST_SIDE) -> Thumbnail:
    """Reads a picture file and returns it re-encoded, EXIF rotation applied and stripped.

    Raises:
        InputError: when the file is missing, not a picture, too large or damaged.
    """
    picture = open_picture(path)
    size, photo = picture.size, max(picture.size) > SMALL
    picture.thumbnail((longest, longest), Image.Resampling.LANCZOS)
    icon = picture.copy()
    icon.thumbnail((THUMBNAIL, THUMBNAIL), Image.Resampling.LANCZOS)
    return Thumbnail(_data_address(picture, photo), _data_address(icon, photo), size)


def _data_address(picture: Image.Image, photo: bool) -> str:
    # Flat drawings stay exact and small as PNG; photographs are several times smaller as JPEG.
    png, jpeg = io.BytesIO(), io.BytesIO()
    picture.save(png, "PNG", optimize=True)
    if photo:
        picture.save(jpeg, "JPEG", quality=85, optimize=True)
    use_jpeg = 0 < jpeg.tell() < png.tell()
    kind, payload = ("jpeg", jpeg) if use_jpeg else ("png", png)
    return f"data:image/{kind};base64,{base64.b64encode(payload.getvalue()).decode()}"
