"""What a picture was drawn with: read back from every format, by x2i and by AUTOMATIC1111's rules, or refused."""

import json
import re
import struct
import zlib
from dataclasses import replace
from io import BytesIO

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from x2i.runtime.errors import InputError
from x2i.runtime.media import picture_files
from x2i.runtime.media.parameters import BundleMark, GivenFile, Parameters, RunValues, Walked
from x2i.runtime.media.picture_files import MOST_CHARACTERS, read_parameters, read_texts, save_picture

DIGEST = "0123456789abcdef" * 4
PROMPTS = {
    "Chinese": "一个红苹果，放在木桌上",
    "Arabic": "تفاحة حمراء على طاولة",
    "lines": "a red apple\non a table\n\nat night",
    "signs": 'a "red", \\green\\ apple: (shiny:1.2), <lora:x:1>',
    "emoji": "🍎👩🏽‍🚀 apple",
    "line of parameters": "a red apple\nSteps: 3, Sampler: Euler, Seed: 4, Size: 1x2",
    "none": "",
}
# AUTOMATIC1111's modules/infotext_utils.py, as its clients copy it.
re_param = re.compile(r'\s*(\w[\w \-/]+):\s*("(?:\\.|[^\\"])+"|[^,]*)(?:,|$)')


def parse_generation_parameters(text):
    """The way in which AUTOMATIC1111 reads: (prompt, negative prompt, the line's values)."""
    *lines, last = text.strip().split("\n")
    if len(re_param.findall(last)) < 3:
        lines, last = [*lines, last], ""
    parts, at = {"prompt": [], "negative": []}, "prompt"
    for line in map(str.strip, lines):
        if line.startswith("Negative prompt:"):
            at, line = "negative", line[16:].strip()
        parts[at].append(line)
    values = {key: json.loads(value) if value[:1] == '"' else value for key, value in re_param.findall(last)}
    return "\n".join(parts["prompt"]), "\n".join(parts["negative"]), values


def parameters(prompt="a red apple", **changes):
    options = {"language": "French", "negative": "blurry, dark", "seed": 2**63 - 1, "crop": (4, 5), "guidance": 1 / 3}
    return Parameters(
        x2i="0.1.0",
        bundle=BundleMark("bundle", "gluegen-text", DIGEST),
        backend="cpu",
        walked=Walked("ddim", 7, (64, 96)),
        prompt=prompt,
        options=RunValues(options),
        defaults=RunValues({"sampler": "dpmpp_2m_karras", "steps": 7, "size": (64, 96)}),
        files={"image": (GivenFile(DIGEST, "苹果.png"), GivenFile(DIGEST)), "noise": (GivenFile(DIGEST, share=1),)},
        text_bundle=BundleMark("text, bundle", "sd", None),
        missing=("seed: it is not known",),
        **changes,
    )


def saved(record, suffix=".png", size=(9, 7)):
    stream = BytesIO()
    save_picture(Image.new("RGB", size, (250, 3, 5)), suffix, stream, record)
    stream.seek(0)
    return stream


def png(**texts):
    """A picture with other texts."""
    chunks, stream = PngInfo(), BytesIO()
    for key, text in texts.items():
        chunks.add_itxt(key, text)
    Image.new("RGB", (9, 7)).save(stream, "PNG", pnginfo=chunks)
    stream.seek(0)
    return stream


def suffixes():
    Image.init()
    named = {".png": "PNG", ".jpg": "JPEG", ".webp": "WEBP", ".avif": "AVIF", ".tif": "TIFF"}
    return [suffix for suffix, form in named.items() if form in Image.SAVE]


@pytest.mark.parametrize("suffix", suffixes())
@pytest.mark.parametrize("prompt", PROMPTS.values(), ids=PROMPTS)
def test_every_format_gives_back_what_was_written(suffix, prompt):
    record = parameters(prompt)
    assert read_parameters(saved(record, suffix)) == record
    assert read_texts(saved(record, suffix)).text == record.text()
    assert (np.asarray(Image.open(saved(record, suffix))) == np.asarray(Image.open(saved(None, suffix)))).all()


@pytest.mark.parametrize("prompt", PROMPTS.values(), ids=PROMPTS)
def test_automatic1111_reads_the_text(prompt):
    record = replace(parameters(prompt), bundle=BundleMark('a, "bundle": 苹果', "sd", DIGEST))
    read, negative, values = parse_generation_parameters(record.text())
    assert read == prompt and negative == "blurry, dark"
    assert values == {
        "Steps": "7",
        "Sampler": "DPM++ 2M",
        "Schedule type": "Karras",
        "CFG scale": "0.333333",
        "Seed": str(2**63 - 1),
        "Size": "96x64",
        "Model hash": "0123456789",
        "Model": 'a, "bundle": 苹果',
        "Language": "French",
        "Crop": "[4, 5]",
        "Version": "x2i 0.1.0",
    }


def test_a_strength_is_of_denoising_where_a_picture_is_begun_with():
    given_size = replace(parameters(), options=RunValues({"strength": 0.5}))
    begun = replace(given_size, defaults=RunValues({"guidance": 4.0}))
    assert "Strength: 0.5" in given_size.text() and "Denoising strength: 0.5" in begun.text()


@settings(max_examples=40, deadline=None)
@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=40))
@example("\0\x1b[2J\r\u2028")
def test_any_text_is_kept(prompt):
    for suffix in (".png", ".jpg"):
        assert read_parameters(saved(parameters(prompt), suffix)).prompt == prompt


def test_what_a_png_holds_is_international_text():
    chunks = re.findall(rb"(tEXt|zTXt|iTXt)(\w+)\0", saved(parameters()).getvalue())
    assert chunks == [(b"iTXt", b"parameters"), (b"iTXt", b"x2i")]


def test_formats_without_a_place_say_so(tmp_path):
    for suffix in (".bmp", ".gif"):
        with pytest.warns(UserWarning, match="parameters: left out of the picture: expected a format that holds them"):
            stream = saved(parameters(), suffix)
        with pytest.raises(InputError, match="got a picture without any"):
            read_parameters(stream)


def test_what_is_too_long_for_a_format_is_told_and_left_out():
    with pytest.warns(UserWarning, match="in a JPEG"):
        stream = saved(parameters("a" * 40_000), ".jpg")
    assert read_texts(stream).json is None
    assert len(read_parameters(saved(parameters("a" * 40_000))).prompt) == 40_000
    with pytest.warns(UserWarning, match=f"at most {MOST_CHARACTERS} characters"):
        assert read_texts(saved(parameters("a" * MOST_CHARACTERS))).text is None


def test_texts_of_other_programs_are_read_and_not_drawn(tmp_path):
    text = "apple, café\nNegative prompt: blue\nSteps: 20, Sampler: Euler a, CFG scale: 7, Seed: 1, Size: 512x512"
    chunks, file = PngInfo(), tmp_path / "a.png"
    # It is written without the zero byte of any other chunk: latin-1.
    chunks.add_text("parameters", text)
    Image.new("RGB", (8, 8)).save(file, pnginfo=chunks)
    assert read_texts(file).text == text
    with pytest.raises(InputError, match=r"a\.png: expected the parameters that x2i writes .* another program's text"):
        read_parameters(file)
    for order in ("be", "le"):
        exif = Image.Exif()
        exif.get_ifd(0x8769)[0x9286] = b"UNICODE\0" + text.encode(f"utf-16-{order}")
        Image.new("RGB", (8, 8)).save(tmp_path / "a.jpg", exif=exif.tobytes())
        assert read_texts(tmp_path / "a.jpg").text == text


def test_a_text_behind_the_pixels_is_found():
    chunks = chunks_of(saved(parameters()).getvalue())
    moved = [chunk for chunk in chunks if chunk[0] == b"iTXt" and chunk[1].startswith(b"x2i")]
    kept = [chunk for chunk in chunks if chunk[0] not in (b"iTXt", b"IEND")]
    assert read_parameters(BytesIO(png_of([*kept, *moved, (b"IEND", b"")]))) == parameters()


def chunks_of(data):
    """(kind, body) of each chunk of a PNG."""
    found, at = [], 8
    while at < len(data):
        (length,) = struct.unpack(">I", data[at : at + 4])
        found.append((data[at + 4 : at + 8], data[at + 8 : at + 8 + length]))
        at += length + 12
    return found


def png_of(chunks):
    parts = (
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body)) for kind, body in chunks
    )
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


WRONG = {
    "no JSON": ("{", "expected JSON"),
    "NaN": ('{"version": NaN}', "expected JSON"),
    "no object": ("[1]", "expected an object"),
    "deep": ("[" * 5000 + "]" * 5000, "levels"),
    "twice": ('{"version": 1, "version": 1}', "twice"),
    "newer": ('{"version": 2}', "reads up to 1; upgrade x2i-edge"),
    "no text": (json.dumps(parameters().as_json() | {"prompt": 3}), "prompt: expected str"),
    "a key": (json.dumps(parameters().as_json() | {"exec": "rm"}), "unknown key 'exec'"),
    "an option": (json.dumps(parameters().as_json() | {"options": {"nothing": 1}}), "unknown key 'nothing'"),
    "a path": (json.dumps(parameters().as_json() | {"options": {"image": "/etc/passwd"}}), "unknown key 'image'"),
    "a file of none": (json.dumps(parameters().as_json() | {"files": {"seed": []}}), "unknown key 'seed'"),
    "a number": (json.dumps(parameters().as_json() | {"options": {"steps": "7"}}), "steps: expected int"),
    "a digest": (json.dumps(parameters().as_json() | {"files": {"image": [{"sha256": "x"}]}}), "sha256"),
    "no files": (json.dumps(parameters().as_json() | {"files": {"image": []}}), "expected a file at least"),
}


@pytest.mark.parametrize(("data", "told"), WRONG.values(), ids=WRONG)
def test_other_records_are_refused(data, told):
    with pytest.raises(InputError, match=told):
        read_parameters(png(x2i=data))


def test_hostile_pictures_are_refused_in_a_line(tmp_path):
    header, *rest = chunks_of(png(x2i="{}").getvalue())
    packed = b"x2i\0\1\0\0\0" + zlib.compress(b" " * 50_000_000)
    cases = {
        "a bomb": png_of([header, (b"iTXt", packed), *rest]),
        "long": png(x2i=" " * (MOST_CHARACTERS + 1)).getvalue(),
        "cut short": png_of([header])[:30],
        "huge": png_of([(b"IHDR", struct.pack(">II", 60_000, 60_000) + header[1][8:]), *rest]),
        "text": b"x2i",
        "nothing": b"",
    }
    for name, data in cases.items():
        (tmp_path / "a.png").write_bytes(data)
        with pytest.raises(InputError) as raised:
            read_parameters(tmp_path / "a.png")
        assert len(raised.value.problems) == 1 and "a.png: expected" in raised.value.problems[0], name
    with pytest.raises(InputError, match="got a folder"):
        read_parameters(tmp_path)
    with pytest.raises(InputError, match="got nothing of that name"):
        read_parameters(tmp_path / "b.png")


@settings(max_examples=150, deadline=None)
@given(st.sampled_from(suffixes()), st.lists(st.tuples(st.floats(0, 1), st.integers(1, 255)), min_size=1, max_size=5))
def test_damage_is_refused_or_harmless(suffix, places):
    data = bytearray(saved(parameters(), suffix).getvalue())
    for place, bits in places:
        data[int(place * (len(data) - 1))] ^= bits
    try:
        read_parameters(BytesIO(bytes(data)))
    except InputError as error:
        assert all(problem.isprintable() for problem in error.problems)


def test_tags_of_other_kinds_are_no_texts():
    for comment in (b"", b"UNICODE\0", b"\0" * 8 + b"text", b"UNICODE\0\xd8", b"x2i"):
        exif, stream = Image.Exif(), BytesIO()
        exif.get_ifd(picture_files.EXIF).update({picture_files.USER_COMMENT: comment, picture_files.MAKER_NOTE: b"x2i"})
        Image.new("RGB", (8, 8)).save(stream, "JPEG", exif=exif.tobytes())
        stream.seek(0)
        texts = read_texts(stream)
        assert texts.json is None and texts.text in (None, "\ufffd")
