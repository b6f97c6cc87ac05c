"""A labelled grid of pictures."""

from PIL import Image, ImageDraw, ImageFont

CELL, GAP, LEFT, TOP = 128, 6, 110, 30


def contact_sheet(rows: dict[str, list[Image.Image]], columns: list[str]) -> Image.Image:
    """One row per label, one column per title; small pictures are enlarged without smoothing.

    Labels must be Latin: Pillow's own font, the only one sure to be present, has no other letters.
    """
    width = LEFT + len(columns) * (CELL + GAP)
    sheet = Image.new("RGB", (width, TOP + len(rows) * (CELL + GAP)), "white")
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(14)
    for x, title in enumerate(columns):
        draw.text((LEFT + x * (CELL + GAP) + CELL // 2, TOP // 2), title, "black", font, anchor="mm")
    for y, (label, images) in enumerate(rows.items()):
        top = TOP + y * (CELL + GAP)
        draw.text((8, top + CELL // 2), label, "black", font, anchor="lm")
        for x, image in enumerate(images):
            sheet.paste(image.resize((CELL, CELL), Image.Resampling.NEAREST), (LEFT + x * (CELL + GAP), top))
    return sheet
