"""A world of five drawn pictures, so that the stages of training can be tested without a font."""

from PIL import Image, ImageDraw

EMOJI = "🍎🐸🚌🔑🌹"


def five_pictures() -> dict[str, Image.Image]:
    """What `scenes.wide_pictures` is for the font: pictures by their characters, all of the vocabulary."""
    pictures = {}
    for number, character in enumerate(EMOJI):
        picture = Image.new("RGBA", (90, 100))
        ImageDraw.Draw(picture).ellipse((5, 9 * number, 80, 99), fill=(50 * number, 200, 255 - 50 * number, 255))
        pictures[character] = picture
    return pictures
