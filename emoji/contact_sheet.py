"""A labelled grid of pictures."""

from PIL import Image, ImageDraw, ImageFont

CELL, GAP, LEFT, TOP = 128, 6, 110, 30
LETTERS, SMALLEST_LETTERS = 14, 7


def contact_sheet(
    rows: dict[str, list[Image.Image]], columns: list[str], titles: dict[str, list[str]] | None = None
) -> Image.Image:
    """One row per label, one column per title; small pictures are enlarged without smoothing.

    `titles` holds, by a row's label, what stands over that row instead. Labels must be Latin: Pillow's own font, the
    only one sure to be present, has no other letters.
    """
    titles = {} if titles is None else titles
    width = LEFT + max([len(columns), *map(len, rows.values())]) * (CELL + GAP)
    height = TOP * (1 + len(titles)) + len(rows) * (CELL + GAP)
    sheet = Image.new("RGB", (width, height), "white")
    draw = ImageDraw.Draw(sheet)
    top = 0
    for label, images in rows.items():
        if not top or label in titles:
            for x, title in enumerate(titles.get(label, columns)):
                place = (LEFT + x * (CELL + GAP) + CELL // 2, top + TOP // 2)
                draw.text(place, title, "black", _font(title, CELL), anchor="mm")
            top += TOP
        draw.text((GAP, top + CELL // 2), label, "black", _font(label, LEFT - 2 * GAP), anchor="lm")
        for x, image in enumerate(images):
            sheet.paste(image.resize((CELL, CELL), Image.Resampling.NEAREST), (LEFT + x * (CELL + GAP), top))
        top += CELL + GAP
    return sheet


def _font(text: str, width: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """The largest font, up to LETTERS pixels, in which a text is no wider than `width`."""
    sizes = range(LETTERS, SMALLEST_LETTERS, -1)
    fonts = (ImageFont.load_default(size) for size in sizes)
    return next((font for font in fonts if font.getlength(text) <= width), ImageFont.load_default(SMALLEST_LETTERS))
