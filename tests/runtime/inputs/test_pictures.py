"""Pictures as they come: drawn as what they show, or refused in one line."""

import io
import os
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from x2i.runtime.errors import InputError
from x2i.runtime.media import pictures
from x2i.runtime.media.pictures import open_picture

from tests.numerics import assert_close

pytestmark = pytest.mark.filterwarnings("error")
RNG = np.random.default_rng(3)
COLOUR = Image.fromarray(RNG.integers(0, 256, (23, 17, 3), dtype=np.uint8))
ALPHA = Image.fromarray(RNG.integers(0, 255, (23, 17, 4), dtype=np.uint8))
DEEP = RNG.integers(0, 65536, (23, 17), dtype=np.uint16)


def refusal(source) -> str:
    with pytest.raises(InputError) as raised:
        open_picture(source, "subject")
    (line,) = raised.value.problems
    assert line.startswith("subject") and "\n" not in line and ";" in line
    return line


def saved(folder: Path, image: Image.Image, form: str, **options) -> Path:
    path = folder / f"picture.{form.lower()}"
    image.save(path, form, **options)
    return path


def pixels(source) -> np.ndarray:
    picture = open_picture(source, "subject")
    assert picture.image.mode == "RGB"
    return np.asarray(picture.image)


@pytest.mark.parametrize("mode", ["RGB", "L", "1", "P", "CMYK", "YCbCr", "HSV", "RGBX"])
def test_a_mode_is_drawn_as_pillow_draws_it(mode: str) -> None:
    image = COLOUR.convert(mode)
    assert_close(pixels(image), np.asarray(image.convert("RGB")), "exact")
    assert not open_picture(image, "subject").notes
    assert image.mode == mode


@pytest.mark.parametrize("mode", ["RGB", "L", "1", "P", "CMYK", "YCbCr", "HSV", "RGBA", "LA", "RGBa", "La", "PA"])
def test_a_mode_is_kept_for_who_scales_it_first(mode: str, tmp_path: Path) -> None:
    """Save for those that Pillow does not scale as they are; what was opened is not changed."""
    transparent = mode.lower() in ("rgba", "la", "pa")
    image = ALPHA.convert("LA" if mode == "La" else "RGBA").convert(mode) if transparent else COLOUR.convert(mode)
    before = image.tobytes()
    kept = open_picture(image, "image", as_stored=True)
    assert kept.image.mode == {"La": "RGBA", "RGBa": "RGBA", "PA": "RGBA"}.get(mode, mode)
    assert image.tobytes() == before and kept.image is not image
    assert ["may turn black" in note for note in kept.notes] == [True] * transparent
    if mode in ("RGB", "L", "1", "P", "RGBA", "LA"):
        opened = open_picture(saved(tmp_path, image, "PNG"), "image", as_stored=True).image
        assert opened.mode == mode and opened.resize((5, 5)).tobytes() == kept.image.resize((5, 5)).tobytes()


def test_a_palette_with_transparency_is_kept_without_a_warning(tmp_path: Path) -> None:
    palette = COLOUR.convert("P")
    path = saved(tmp_path, palette, "PNG", transparency=bytes(range(256)))
    kept = open_picture(path, "image", as_stored=True)
    assert kept.image.mode == "P" and len(kept.notes) == 1
    kept.image.convert("RGB")


@pytest.mark.parametrize("mode", ["RGBA", "LA", "RGBa", "La"])
def test_transparency_is_dropped_and_told(mode: str) -> None:
    image = ALPHA.convert("LA" if mode == "La" else "RGBA").convert(mode)
    straight = {"La": "LA", "RGBa": "RGBA"}.get(mode, mode)
    assert_close(pixels(image), np.asarray(image.convert(straight).convert("RGB")), "exact")
    (note,) = open_picture(image, "subject").notes
    assert "100% of it is not opaque" in note and "mask" in note
    opaque = COLOUR.convert("RGBA")
    assert not open_picture(opaque, "subject").notes


@pytest.mark.parametrize("transparency", [3, bytes([0, 128, 255, 0])])
def test_a_palette_with_transparency(tmp_path: Path, transparency) -> None:
    """Pillow's own conversion would warn, and give the same colours."""
    palette = COLOUR.quantize(8)
    path = saved(tmp_path, palette, "PNG", transparency=transparency)
    assert_close(pixels(path), np.asarray(palette.convert("RGB")), "exact")
    (note,) = open_picture(path, "subject").notes
    assert note.startswith(f"subject {path}: ") and "not opaque" in note


def test_a_palette_beside_an_alpha_channel() -> None:
    palette = COLOUR.quantize(8)
    image = palette.copy()
    image.putalpha(7)
    assert image.mode == "PA"
    assert_close(pixels(image), np.asarray(palette.convert("RGB")), "exact")
    assert "100%" in open_picture(image, "subject").notes[0]


def test_a_colour_key(tmp_path: Path) -> None:
    path = saved(tmp_path, COLOUR, "PNG", transparency=COLOUR.getpixel((2, 3)))
    assert_close(pixels(path), np.asarray(COLOUR), "exact")
    assert "1% of it" in open_picture(path, "subject").notes[0]


def test_a_wholly_transparent_picture_is_told() -> None:
    assert "100%" in open_picture(Image.new("RGBA", (5, 4)), "subject").notes[0]


@pytest.mark.parametrize("form", ["PNG", "TIFF", "PPM"])
def test_sixteen_bits_are_cut_to_eight(tmp_path: Path, form: str) -> None:
    deep = DEEP.astype(np.int32) if form == "PPM" else DEEP
    grey = pixels(saved(tmp_path, Image.fromarray(deep), form))
    assert_close(grey, np.repeat((DEEP >> 8)[..., None], 3, 2), "exact")


def test_sixteen_bits_a_colour(tmp_path: Path) -> None:
    rows = RNG.integers(0, 65536, (4, 5, 3), dtype=np.uint16)
    raw = b"".join(b"\0" + row.astype(">u2").tobytes() for row in rows)
    parts = [(b"IHDR", struct.pack(">IIBBBBB", 5, 4, 16, 2, 0, 0, 0)), (b"IDAT", zlib.compress(raw)), (b"IEND", b"")]
    chunks = [struct.pack(">I", len(d)) + k + d + struct.pack(">I", zlib.crc32(k + d)) for k, d in parts]
    (tmp_path / "deep.png").write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(chunks))
    assert_close(pixels(tmp_path / "deep.png"), (rows >> 8).astype(np.uint8), "exact")


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("form", ["PNG", "TIFF", "WEBP"])
def test_turned_upright(tmp_path: Path, orientation: int, form: str) -> None:
    exif = Image.Exif()
    exif[pictures.ORIENTATION] = orientation
    options = {"lossless": True} if form == "WEBP" else {}
    path = saved(tmp_path, COLOUR, form, exif=exif, **options)
    stored = np.asarray(COLOUR)
    turned = stored.transpose(1, 0, 2) if orientation > 4 else stored
    upright = {
        1: turned,
        2: turned[:, ::-1],
        3: turned[::-1, ::-1],
        4: turned[::-1],
        5: turned,
        6: turned[:, ::-1],
        7: turned[::-1, ::-1],
        8: turned[::-1],
    }
    assert_close(pixels(path), upright[orientation], "exact")
    with Image.open(path) as image:
        assert_close(pixels(image), upright[orientation], "exact")


@pytest.mark.parametrize("form", ["GIF", "WEBP", "PNG", "TIFF"])
def test_the_first_frame_of_several(tmp_path: Path, form: str) -> None:
    first = COLOUR.quantize(16).convert("RGB")
    options = {"lossless": True} if form == "WEBP" else {}
    path = saved(tmp_path, first, form, save_all=True, append_images=[COLOUR.rotate(180)] * 2, **options)
    assert_close(pixels(path), np.asarray(first), "exact")


def test_arrays() -> None:
    colour, grey = np.asarray(COLOUR), np.asarray(COLOUR)[..., 1]
    for array in (colour, colour[::-1, ::-1], np.asfortranarray(colour)):
        assert_close(pixels(array), array, "exact")
    three = np.repeat(grey[..., None], 3, 2)
    for array in (grey, grey[..., None]):
        assert_close(pixels(array), three, "exact")
    assert_close(pixels(grey > 99), (three > 99) * np.uint8(255), "exact")
    assert_close(pixels(np.asarray(ALPHA)), np.asarray(ALPHA)[..., :3], "exact")
    assert_close(pixels(str(Path(__file__).parents[3] / "docs/contact-sheet.png"))[:1, :1].shape, (1, 1, 3), "exact")


@pytest.mark.parametrize(
    ("array", "got"),
    [
        (np.zeros((0, 5, 3), np.uint8), "uint8 [0, 5, 3]"),
        (np.zeros((5, 0), np.uint8), "uint8 [5, 0]"),
        (np.zeros((5, 4, 2), np.uint8), "uint8 [5, 4, 2]"),
        (np.zeros((3, 5, 4), np.uint8)[None], "uint8 [1, 3, 5, 4]"),
        (np.zeros(5, np.uint8), "uint8 [5]"),
        (np.zeros((5, 4, 3), np.float32), "float32 [5, 4, 3]"),
        (np.zeros((5, 4), np.uint16), "uint16 [5, 4]"),
        (np.zeros((5, 4, 3), bool), "bool [5, 4, 3]"),
        (np.zeros((5, 4), object), "object [5, 4]"),
    ],
)
def test_arrays_refused(array: np.ndarray, got: str) -> None:
    assert f"got {got};" in refusal(array)


@pytest.mark.parametrize("source", [None, 3, b"a.png", io.BytesIO(), [[1, 2]]])
def test_other_things_refused(source) -> None:
    with pytest.raises(InputError, match="expected a file name, a PIL image or a uint8 array, got"):
        open_picture(source, "subject")


@pytest.mark.parametrize("mode", ["I", "F", "LAB"])
def test_modes_without_a_known_range_are_refused(mode: str) -> None:
    assert f"mode {mode}" in refusal(Image.new(mode, (5, 4)))


def test_pillow_pictures_without_pixels() -> None:
    assert "got 0x5" in refusal(Image.new("RGB", (0, 5)))
    image = Image.open(Path(__file__).parents[3] / "docs/contact-sheet.png")
    image.close()
    assert "damaged" in refusal(image)


def test_names_that_lead_nowhere(tmp_path: Path) -> None:
    assert "got nothing of that name" in refusal(tmp_path / "absent.png")
    assert "got a folder or a device" in refusal(tmp_path)
    assert "got a folder or a device" in refusal("")
    assert "got a folder or a device" in refusal("/dev/zero")
    refusal("a\0b.png")
    refusal("a" * 5000)
    os.mkfifo(tmp_path / "pipe")
    assert "got a folder or a device" in refusal(tmp_path / "pipe")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_that_may_not_be_read(tmp_path: Path) -> None:
    path = saved(tmp_path, COLOUR, "PNG")
    path.chmod(0)
    assert "Permission denied" in refusal(path)


def test_a_file_that_fails_to_open(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def denied(*_, **__):
        raise PermissionError(13, "Permission denied")

    path = saved(tmp_path, COLOUR, "PNG")
    monkeypatch.setattr(os, "open", denied)
    assert "Permission denied; check its permissions" in refusal(path)


@pytest.mark.parametrize(
    "content", [b"", b"GIF89a", b"not a picture at all", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n"]
)
def test_no_picture(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "picture.png").write_bytes(content)
    assert "got none of these" in refusal(tmp_path / "picture.png")


def bomb(width: int, height: int) -> bytes:
    header = struct.pack(">4sIIBBBBB", b"IHDR", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + header + struct.pack(">I", zlib.crc32(header))


@pytest.mark.parametrize("size", [(10_001, 10_000), (100_000, 100_000), (2**31 - 1, 2**31 - 1)])
def test_a_decompression_bomb_is_refused_by_its_header(tmp_path: Path, size: tuple[int, int]) -> None:
    data = bomb(*size) + struct.pack(">I4s", 1000, b"IDAT")
    (tmp_path / "bomb.png").write_bytes(data)
    assert "expected at most 100 million pixels" in refusal(tmp_path / "bomb.png")


def test_just_below_the_limit_pillow_keeps_quiet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = saved(tmp_path, COLOUR, "PNG")
    monkeypatch.setattr(pictures, "MAX_PIXELS", 23 * 17)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 300)
    assert_close(pixels(path), np.asarray(COLOUR), "exact")
    monkeypatch.setattr(pictures, "MAX_PIXELS", 23 * 17 - 1)
    assert "got 17x23" in refusal(path)
    assert "got 17x23" in refusal(COLOUR)


Image.init()
FORMS = [form for form in pictures.FORMATS if form in Image.SAVE]


@pytest.mark.parametrize("form", FORMS)
def test_truncated_anywhere(tmp_path: Path, form: str) -> None:
    """A cut file is refused, unless only what follows the pixels is missing."""
    path = saved(tmp_path, COLOUR, form)
    whole, expected = path.read_bytes(), pixels(path)
    refused = 0
    for length in range(0, len(whole), max(1, len(whole) // 60)):
        path.write_bytes(whole[:length])
        try:
            assert_close(pixels(path), expected, "exact")
        except InputError as error:
            assert len(error.problems) == 1 and "\n" not in error.problems[0]
            refused += 1
    assert refused > 30


@pytest.mark.parametrize("form", FORMS)
def test_damaged_anywhere(tmp_path: Path, form: str) -> None:
    path = saved(tmp_path, COLOUR, form)
    whole = np.frombuffer(path.read_bytes(), np.uint8)
    rng = np.random.default_rng(7)
    for _ in range(400):
        changed = whole.copy()
        places = rng.integers(0, min(len(whole), rng.choice([64, 100_000])), rng.choice([1, 3, 20]))
        changed[places] = rng.integers(0, 256, len(places))
        path.write_bytes(changed.tobytes())
        try:
            assert open_picture(path, "subject").image.mode == "RGB"
        except InputError as error:
            assert len(error.problems) == 1 and "\n" not in error.problems[0]
