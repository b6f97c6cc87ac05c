"""Bad start noise, pictures and sounds."""

import io
import struct
import wave
from collections.abc import Callable, Iterator, Sequence
from functools import cache, partial

import numpy as np
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from PIL import Image

from .case import Case
from .held import refused_or_drawn
from .room import Room
from .systems import drawing
from .values import drawn

Make = Callable[[], bytes]
TOKENS_EVERY = 3
"""Of the files for a system that walks tokens so many make one case."""
TOKEN_PICTURES = (
    ("--image", "unid3"),
    ("--mask", "unid3"),
    ("--image", "muse"),
    ("--image", "vq-ddm"),
    ("--image", "ddcap"),
)


def cut(content: bytes, number: int) -> dict[str, Make]:
    """A file cut at several places."""
    places = sorted({round(len(content) * part / number) for part in range(number)})
    return {f"cut at {place}": partial(_head, content, place) for place in places}


def flipped(content: bytes, number: int, seed: int = 0) -> dict[str, Make]:
    """A file with a few bits turned over: each time others, half of them near its beginning."""
    flips = drawn(st.lists(st.tuples(st.integers(0, 10**9), st.integers(0, 7)), min_size=1, max_size=6), number, seed)
    ends = [len(content) if turn % 2 else min(len(content), 600) for turn in range(number)]
    return {f"bits {turn}": partial(_turned_over, content, ends[turn], flips[turn]) for turn in range(len(flips))}


def _head(content: bytes, end: int) -> bytes:
    return content[:end]


def _turned_over(content: bytes, within: int, places: list[tuple[int, int]]) -> bytes:
    changed = bytearray(content)
    for place, bit in places:
        changed[place % within] ^= 1 << bit
    return bytes(changed)


def given(
    kind: str,
    name: str,
    option: str,
    system: str,
    suffix: str,
    make: Callable[[], bytes],
    *more: str,
    quick: bool = True,
    without: str = "",
) -> Case:
    """A run whose `option` names a file of this content."""

    def attempt(room: Room) -> str | None:
        path = room.work / f"given{suffix}"
        path.write_bytes(make())
        return refused_or_drawn(room, drawing(room, system, *more, option, str(path), quick=quick, without=without))

    return Case(kind, f"{option} {name}", attempt)


def noise_cases() -> Iterator[Case]:
    """`.npy` files for `--noise`."""
    good = np.random.default_rng(0).standard_normal((1, 4, 8, 8)).astype(np.float32)
    for name, content in (cut(npy_bytes(good), 12) | flipped(npy_bytes(good), 30)).items():
        yield given("noise", name, "--noise", "gluegen-text", ".npy", content, "--steps", "2", quick=False)
    kinds = st.one_of(npst.scalar_dtypes(), npst.array_dtypes())
    shapes = st.one_of(npst.array_shapes(min_dims=0, max_dims=5, min_side=0, max_side=9), st.just((1, 4, 8, 8)))
    for number, array in enumerate(drawn(npst.arrays(kinds, shapes), 60)):
        name = f"{number} of {str(array.dtype)[:20]} {array.shape}"
        yield given(
            "noise", name, "--noise", "gluegen-text", ".npy", partial(npy_bytes, array), "--steps", "2", quick=False
        )
    for name, content in ODD_NOISE.items():
        yield given("noise", name, "--noise", "gluegen-text", ".npy", content, "--steps", "2", quick=False)


def npy_bytes(array: np.ndarray) -> bytes:
    """The content of a `.npy` file."""
    stream = io.BytesIO()
    np.save(stream, array)
    return stream.getvalue()


def _header(text: str, version: tuple[int, int] = (1, 0)) -> bytes:
    packed = text.encode("latin-1") + b"\n"
    size = struct.pack("<H" if version == (1, 0) else "<I", len(packed))
    return b"\x93NUMPY" + bytes(version) + size + packed


def _numbers(value: float, shape: tuple[int, ...] = (1, 4, 8, 8)) -> bytes:
    return npy_bytes(np.full(shape, value, np.float32))


def archive(**arrays: np.ndarray) -> bytes:
    """The content of an `.npz` file."""
    stream = io.BytesIO()
    np.savez_compressed(stream, **arrays)
    return stream.getvalue()


ODD_NOISE: dict[str, Callable[[], bytes]] = {
    "NaN": partial(_numbers, np.nan),
    "infinite": partial(_numbers, np.inf),
    "the largest numbers": partial(_numbers, 3e38),
    "denormal": partial(_numbers, 1e-45),
    "numbers too large for float32": lambda: npy_bytes(np.full((1, 4, 8, 8), 1e200)),
    "Fortran's order": lambda: npy_bytes(np.asfortranarray(np.ones((1, 4, 8, 8), np.float32))),
    "objects": lambda: npy_bytes(np.array([{"a": 1}, None], object)),
    "texts": lambda: npy_bytes(np.full((1, 4, 8, 8), "1.0")),
    "dates": lambda: npy_bytes(np.zeros((1, 4, 8, 8), "datetime64[s]")),
    "records": lambda: npy_bytes(np.zeros((1, 4, 8, 8), [("a", "f4"), ("b", "i4")])),
    "other byte order": lambda: npy_bytes(np.ones((1, 4, 8, 8), ">f4")),
    "half precision": lambda: npy_bytes(np.ones((1, 4, 8, 8), np.float16)),
    "no pictures": partial(_numbers, 1.0, (0, 4, 8, 8)),
    "no height": partial(_numbers, 1.0, (1, 4, 0, 8)),
    "wide": partial(_numbers, 1.0, (1, 4, 1, 20_000)),
    "an archive": lambda: archive(a=np.ones((1, 4, 8, 8), np.float32)),
    "an archive that unpacks to a gigabyte": lambda: archive(a=np.zeros((1, 4, 8192, 8192), np.float32)),
    "a header that promises terabytes": lambda: _header(
        "{'descr': '<f4', 'fortran_order': False, 'shape': (1, 4, 1048576, 1048576), }"
    ),
    "a header of a negative shape": lambda: _header(
        "{'descr': '<f4', 'fortran_order': False, 'shape': (-1, 4, 8, 8), }"
    ),
    "a header with code": lambda: _header("{'descr': __import__('os').system('touch ran'), 'shape': (1,), }"),
    "a header of brackets": lambda: _header("(" * 9000),
    "a header without end": lambda: b"\x93NUMPY\x02\x00" + struct.pack("<I", 2**31) + b" " * 100,
    "a header of version 9": lambda: b"\x93NUMPY\x09\x00" + b" " * 100,
}


def picture_cases(systems: Sequence[str]) -> Iterator[Case]:
    """Pictures for every option that takes one."""
    places = (("--subject", "elite"), ("--mask", "elite"), ("--image", "ip-adapter"), ("--subject", "fastcomposer"))
    for number, (option, system) in enumerate(places):
        subject = ("--object-resolution", "64") if system == "fastcomposer" else ()
        for name, (suffix, content) in odd_pictures(number).items():
            yield given("picture", f"{system} {name}", option, system, suffix, content, *subject)
    for number, (option, system) in enumerate(TOKEN_PICTURES):
        if system in systems:
            pictures = list(odd_pictures(number).items())[number % TOKENS_EVERY :: TOKENS_EVERY]
            for name, (suffix, content) in pictures:
                without = option.removeprefix("--")
                yield given("picture", f"{system} {name}", option, system, suffix, content, without=without)


@cache
def odd_pictures(seed: int) -> dict[str, tuple[str, Callable[[], bytes]]]:
    """Files that are pictures, nearly or not at all: suffix and content by what they are."""
    found: dict[str, tuple[str, Callable[[], bytes]]] = {}
    for form in ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF"):
        content = _saved(Image.fromarray(_pixels(48, 40)), form)
        broken = cut(content, 4) | flipped(content, 6, seed)
        found |= {f"{form} {name}": (f".{form.lower()}", make) for name, make in broken.items()}
    modes = ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "CMYK", "YCbCr", "LAB", "HSV", "I", "F", "I;16")
    for mode in modes:
        for form in ("PNG", "TIFF", "JPEG"):
            try:
                content = _saved(_in_mode(mode), form)
            except (OSError, ValueError, KeyError):
                continue
            found[f"{mode} as {form}"] = f".{form.lower()}", partial(bytes, content)
    for turn in (0, 1, 5, 8, 9, 65535):
        found[f"turned by EXIF {turn}"] = ".jpg", partial(_turned, turn)
    sizes = ((1, 1), (1, 20_000), (20_000, 1), (16_000, 16_000), (65_535, 1))
    found |= {f"{height}x{width}": (".png", partial(_plain, height, width)) for height, width in sizes}
    found |= {name: (".png", make) for name, make in ODD_PICTURES.items()}
    return found


def _pixels(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)


def _saved(image: Image.Image, form: str, **options: object) -> bytes:
    stream = io.BytesIO()
    image.save(stream, form, **options)
    return stream.getvalue()


def _in_mode(mode: str) -> Image.Image:
    if mode == "I;16":
        return Image.fromarray(_pixels(48, 40)[..., 0].astype(np.uint16) * 257)
    if mode == "F":
        return Image.fromarray(np.full((48, 40), np.nan, np.float32))
    return Image.fromarray(_pixels(48, 40)).convert(mode) if mode != "PA" else Image.new("PA", (40, 48))


def _turned(turn: int) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = turn
    return _saved(Image.fromarray(_pixels(48, 40)), "JPEG", exif=exif)


def _plain(height: int, width: int) -> bytes:
    return _saved(Image.new("1", (width, height)), "PNG")


def _png_of(width: int, height: int) -> bytes:
    """A PNG whose head promises another size than it holds."""
    import zlib

    content = bytearray(_saved(Image.new("L", (8, 8)), "PNG"))
    content[16:24] = struct.pack(">II", width, height)
    content[29:33] = struct.pack(">I", zlib.crc32(content[12:29]))
    return bytes(content)


def _animated() -> bytes:
    frames = [Image.new("RGB", (8, 8), (i, i, i)) for i in range(200)]
    return _saved(frames[0], "GIF", save_all=True, append_images=frames[1:])


def _text_chunk() -> bytes:
    from PIL.PngImagePlugin import PngInfo

    info = PngInfo()
    info.add_text("a", "b" * 10_000_000, zip=True)
    return _saved(Image.new("RGB", (8, 8)), "PNG", pnginfo=info)


ODD_PICTURES: dict[str, Callable[[], bytes]] = {
    "empty": lambda: b"",
    "text": lambda: b"not a picture",
    "a web page": lambda: b"<html><svg width='9' height='9'/></html>",
    "a drawing in PostScript": lambda: b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n{} loop\n",
    "zeros": lambda: bytes(100_000),
    "a promise of 4 gigapixels": lambda: _png_of(65_535, 65_535),
    "a promise of 2^62 pixels": lambda: _png_of(2**31 - 1, 2**31 - 1),
    "no width": lambda: _png_of(0, 8),
    "animated": _animated,
    "a text of 10 MB within": _text_chunk,
    "an archive": lambda: archive(a=np.ones(3)),
    "an array": lambda: npy_bytes(np.ones((8, 8, 3))),
    "transparent all over": lambda: _saved(Image.new("RGBA", (8, 8), (0, 0, 0, 0)), "PNG"),
    "gamma and colours": lambda: _saved(Image.new("RGB", (8, 8)), "PNG", icc_profile=b"\0" * 5000),
}


def sound_cases(systems: Sequence[str]) -> Iterator[Case]:
    """Sound files for `--sound`."""
    good = _wave()
    rest = {
        f"FLAC {name}": content for name, content in (cut(_encoded("FLAC"), 8) | flipped(_encoded("FLAC"), 20)).items()
    }
    rest |= {
        f"OGG {name}": content for name, content in (cut(_encoded("OGG"), 6) | flipped(_encoded("OGG"), 20, 1)).items()
    }
    sounds = cut(good, 16) | flipped(good, 40) | rest | odd_sounds()
    for name, content in sounds.items():
        yield given("sound", name, "--sound", "gluegen-sound", ".wav", content)
    for name, content in list(sounds.items())[::TOKENS_EVERY] if "cdcd-music" in systems else ():
        yield given("sound", f"begun with {name}", "--sound", "cdcd-music", ".wav", content, "--strength", "0.5")


def _wave(
    rate: int = 8000, channels: int = 1, width: int = 2, frames: int = 6000, content: bytes | None = None
) -> bytes:
    stream = io.BytesIO()
    with wave.open(stream, "wb") as file:
        file.setnchannels(channels)
        file.setsampwidth(width)
        file.setframerate(rate)
        noise = np.random.default_rng(0).bytes(frames * channels * width)
        file.writeframes(noise if content is None else content)
    return stream.getvalue()


def _encoded(form: str) -> bytes:
    import soundfile

    stream = io.BytesIO()
    soundfile.write(stream, np.random.default_rng(0).uniform(-0.5, 0.5, 6000).astype(np.float32), 8000, format=form)
    return stream.getvalue()


def _floats(value: float) -> bytes:
    import soundfile

    stream = io.BytesIO()
    soundfile.write(stream, np.full(6000, value), 8000, format="WAV", subtype="DOUBLE")
    return stream.getvalue()


def _with_field(place: int, form: str, value: int) -> bytes:
    content = bytearray(_wave())
    content[place : place + struct.calcsize(form)] = struct.pack(form, value)
    return bytes(content)


def odd_sounds() -> dict[str, Make]:
    """Heads that lie, and sounds that nobody hears."""
    fields = {
        "format": (20, "<H"),
        "channels": (22, "<H"),
        "rate": (24, "<I"),
        "bytes": (28, "<I"),
        "block": (32, "<H"),
    }
    fields |= {"bits": (34, "<H"), "data": (40, "<I"), "riff": (4, "<I"), "chunk": (16, "<I")}
    found: dict[str, Make] = {
        f"{name} of {value}": partial(_with_field, place, form, value)
        for name, (place, form) in fields.items()
        for value in (0, 1, 7, 65534, 65535, *((2**31, 2**32 - 1) if form == "<I" else ()))
    }
    return found | {
        "empty": lambda: b"",
        "text": lambda: b"not a sound",
        "no frames": partial(_wave, frames=0),
        "one frame": partial(_wave, frames=1),
        "silence": partial(_wave, content=bytes(12_000)),
        "of 1 Hz": partial(_wave, rate=1),
        "of 200 channels": partial(_wave, channels=200, frames=600),
        "of 10 minutes": lambda: _wave(content=bytes(8000 * 2 * 600)),
        "NaN": partial(_floats, np.nan),
        "infinite": partial(_floats, np.inf),
        "of the largest numbers": partial(_floats, 1e308),
        "an array": lambda: npy_bytes(np.ones(6000, np.float32)),
        "a picture": lambda: _saved(Image.new("RGB", (8, 8)), "PNG"),
    }
