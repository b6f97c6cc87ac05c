"""Pictures of the wide world: every emoji of the colour font, on any background (training only; needs the font)."""

from functools import cache
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

CANVAS = 64
PICTURE = 52
FONT = Path("/usr/share/fonts/truetype/noto/NotoColorEmoji.ttf")
GLYPH_SIZE = 109
BLOCKS = ((0x2190, 0x2BFF), (0x1F300, 0x1F64F), (0x1F680, 0x1F6FF), (0x1F7E0, 0x1F7EB), (0x1F900, 0x1FAFF))


@cache
def _font() -> ImageFont.FreeTypeFont:
    if not FONT.exists():
        raise FileNotFoundError(f"the wide emoji set needs {FONT}; install the Debian package fonts-noto-color-emoji")
    return ImageFont.truetype(str(FONT), GLYPH_SIZE)


def glyph(character: str) -> Image.Image | None:
    """The picture of one code point, cropped to its ink (RGBA), or None where the font has no real picture."""
    canvas = Image.new("RGBA", (136, 128))
    ImageDraw.Draw(canvas).text((0, 0), character, font=_font(), embedded_color=True)
    box = canvas.getbbox()
    if box is None:
        return None
    colours = canvas.getcolors(maxcolors=20)
    return canvas.crop(box) if colours is None else None


def fitted(picture: Image.Image, size: int) -> np.ndarray:
    """`picture` scaled so that its longer side is `size`, centred on a transparent square: uint8 [size, size, 4]."""
    scale = size / max(picture.size)
    width, height = (max(1, round(side * scale)) for side in picture.size)
    square = Image.new("RGBA", (size, size))
    square.paste(picture.resize((width, height), Image.Resampling.LANCZOS), ((size - width) // 2, (size - height) // 2))
    return np.asarray(square)


@cache
def wide_pictures() -> dict[str, Image.Image]:
    """Every single-code-point emoji with a real picture, about 1,300 of them, by its character."""
    characters = (chr(code) for first, last in BLOCKS for code in range(first, last + 1))
    return {character: picture for character in characters if (picture := glyph(character)) is not None}


@cache
def wide_set() -> tuple[Image.Image, ...]:
    """The pictures of `wide_pictures` alone."""
    return tuple(wide_pictures().values())


def composite(picture: np.ndarray, colour: np.ndarray, left: int, top: int) -> np.ndarray:
    """`picture` (uint8 RGBA) over a canvas of one `colour`: uint8 [64, 64, 3]."""
    canvas = np.broadcast_to(np.asarray(colour, np.float32), (CANVAS, CANVAS, 3)).copy()
    size = picture.shape[0]
    alpha = picture[..., 3:].astype(np.float32) / 255
    window = canvas[top : top + size, left : left + size]
    window += alpha * (picture[..., :3] - window)
    return np.round(canvas).astype(np.uint8)
