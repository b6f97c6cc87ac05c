"""A labelled grid of pictures."""

from PIL import Image, ImageDraw, ImageFont

CELL, GAP, LEFT, TOP = 128, 6, 110, 30


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
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(14)
    top = 0
    for label, images in rows.items():
        if not top or label in titles:
            for x, title in enumerate(titles.get(label, columns)):
                draw.text((LEFT + x * (CELL + GAP) + CELL // 2, top + TOP // 2), title, "black", font, anchor="mm")
            top += TOP
        draw.text((8, top + CELL // 2), label, "black", font, anchor="lm")
        for x, image in enumerate(images):
            sheet.paste(image.resize((CELL, CELL), Image.Resampling.NEAREST), (LEFT + x * (CELL + GAP), top))
        top += CELL + GAP
    return sheet
