"""Pictures out of a run's folder, made harmless before a page shows them."""

from __future__ import annotations

import base64
import io
import struct
import warnings

from engine.analysis import MOST_PICTURE, SIDE

_BEGINNING = b"\x89PNG\r\n\x1a\n\x00\x00\x00\x0dIHDR"


def thumbnail(content: bytes) -> bytes:
    """A PNG of its pixels alone; nothing where it is no PNG, or larger than engine.analysis says.

    Its size is read before it is decoded. What is shown is written anew: no chunk of the file's own comes along.
    """
    if len(content) > MOST_PICTURE or not content.startswith(_BEGINNING) or len(content) < 24:
        return b""
    width, height = struct.unpack(">II", content[16:24])
    if not (0 < width <= SIDE and 0 < height <= SIDE):
        return b""
    from PIL import Image

    file = io.BytesIO()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(io.BytesIO(content), formats=["PNG"]) as picture:
                if picture.size != (width, height):
                    return b""
                pixels = picture.convert("L" if picture.mode in ("1", "L") else "RGB")
        Image.frombytes(pixels.mode, pixels.size, pixels.tobytes()).save(file, "PNG", optimize=True)
    except Exception:  # Pillow raises whatever a damaged file makes its decoders stumble over
        return b""
    return file.getvalue()


def data_uri(png: bytes) -> str:
    """For an image's `src`; the empty text for no picture."""
    return f"data:image/png;base64,{base64.b64encode(png).decode()}" if png else ""
