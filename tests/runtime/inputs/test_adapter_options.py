"""Pictures, words and strengths from the command line and from Python: drawn right, or refused with nothing written."""

import importlib
import json
import re
import struct
import zlib
from contextlib import nullcontext as nothing
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image
from x2i.runtime.cli import main
from x2i.runtime.errors import InputError
from x2i.runtime.inputs.pictures.subject import NO_MASK

from tests.numerics import assert_close
from tests.runtime.sessions.recorded import Recorded
from tests.runtime.toy import toy_pipeline

RANDOM = np.random.default_rng(29)
COLOUR = Image.fromarray(RANDOM.integers(0, 256, (31, 26, 3), dtype=np.uint8))
DEEP = RANDOM.integers(0, 65536, (31, 26), dtype=np.uint16)
ALPHA = Image.fromarray(RANDOM.integers(0, 255, (31, 26), dtype=np.uint8))
MASK = Image.new("L", COLOUR.size)
MASK.paste(255, (4, 3, 20, 27))
PROMPT = "a red S"


@pytest.fixture(scope="module")
def pipelines(elite_bundle, ip_adapter_bundle):
    return {"elite": Recorded(elite_bundle), "ip-adapter": Recorded(ip_adapter_bundle)}


@pytest.fixture
def here(tmp_path, monkeypatch) -> Path:
    """The folder of the pictures, good and bad, and the current one."""
    COLOUR.save(tmp_path / "a.png")
    MASK.save(tmp_path / "mask.png")
    Image.new("L", COLOUR.size).save(tmp_path / "black.png")
    MASK.resize((8, 9)).save(tmp_path / "small.png")
    whole = (tmp_path / "a.png").read_bytes()
    (tmp_path / "half.png").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "text.png").write_text("a picture of a dog", "utf-8")
    (tmp_path / "bomb.png").write_bytes(bomb(100_000, 100_000))
    Image.new("F", (5, 4)).save(tmp_path / "floats.tiff")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def bomb(width: int, height: int) -> bytes:
    header = struct.pack(">4sIIBBBBB", b"IHDR", width, height, 8, 2, 0, 0, 0)
    signed = struct.pack(">I", 13) + header + struct.pack(">I", zlib.crc32(header))
    return b"\x89PNG\r\n\x1a\n" + signed + struct.pack(">I4s", 1000, b"IDAT")


@pytest.fixture
def x2i(pipelines, here, monkeypatch):
    """`x2i run` in that folder, on a pipeline that stays open."""
    command = importlib.import_module("x2i.runtime.commands.run")
    monkeypatch.setattr(command, "open_bundle", lambda folder, **_: pipelines[str(folder)].bundle)
    monkeypatch.setattr(command, "load", lambda folder, *_, **__: pipelines[str(folder)])

    def run(system, *options, prompt=PROMPT):
        quick = ["--steps", 1, "--size", "16x24", "--out", "out.png", "--save-latents", "out.npy"]
        return CliRunner().invoke(main, [str(word) for word in ("run", system, prompt, *quick, *options)])

    return run


REFUSED = {
    "no subject": ("elite", "", "subject: expected a picture, which this bundle draws from, got none; give subject"),
    "mask alone": ("elite", "--mask mask.png", "subject: expected a picture"),
    "no such file": ("elite", "--subject b.png", "subject b.png: expected a picture file, got nothing of that name"),
    "truncated": ("elite", "--subject half.png", "subject half.png: expected a whole picture, got a damaged one"),
    "no picture": ("elite", "--subject text.png", "subject text.png: expected a picture (PNG,"),
    "bomb": ("elite", "--subject bomb.png", "subject bomb.png: expected at most 100 million pixels"),
    "floats": ("elite", "--subject floats.tiff", "expected 8 or 16 bits a channel, grey or RGB, got Pillow's mode F"),
    "folder": ("elite", "--subject .", "subject .: expected a picture file, got a folder"),
    "truncated mask": ("elite", "--subject a.png --mask half.png", "mask half.png: expected a whole picture"),
    "black mask": ("elite", "--subject a.png --mask black.png", "mask: expected white where the subject is"),
    "small mask": (
        "elite",
        "--subject a.png --mask small.png",
        "mask: expected 26x31 pixels like the subject, got 8x9",
    ),
    "own mask": ("elite", "--subject a.png --mask a.png", "mask: expected white on black, got the subject's own"),
    "no word": ("elite", "--subject a.png --word T", "prompt: expected the word 'T' once, where the subject goes, got"),
    "split word": ("elite", "--subject a.png --word red", "word: expected a word of one token, 'red' is split into 3"),
    "two words": ("elite", "--subject a.png --word", "word: expected one word without spaces, got ''"),
    "strength": ("elite", "--subject a.png --strength nan", "strength: expected a finite number such as 0.8, got nan"),
    "no strength": (
        "elite",
        "--subject a.png --strength -inf",
        "strength: expected a finite number such as 0.8, got -",
    ),
    "1e39": ("elite", "--subject a.png --strength 1e39", "strength: expected a finite number such as 0.8, got 1e+39"),
    "words": (
        "elite",
        "--subject a.png --words 2",
        "words: expected 1 beside the subject's patches, got 2; add global",
    ),
    "no words": ("elite", "--subject a.png --words 0", "words: expected a whole number from 1 to 5, got 0"),
    "many words": ("elite", "--subject a.png --words 6 --global-only", "words: expected a whole number from 1 to 5"),
    "both": ("elite", "--subject a.png --strength 1 --global-only", "strength: scales the subject's patches, which"),
    "image": ("elite", "--subject a.png --image a.png", "image: this bundle takes none; leave it out"),
    "no image": ("ip-adapter", "", "image: expected a picture, which this bundle draws from, got none; give image"),
    "image damaged": ("ip-adapter", "--image a.png --image half.png", "image half.png: expected a whole picture"),
    "image strength": ("ip-adapter", "--image a.png --strength inf", "strength: expected a finite number such as 0.6"),
    "subject": ("ip-adapter", "--image a.png --subject a.png", "subject: this bundle takes none; leave it out"),
    "mask": ("ip-adapter", "--image a.png --mask mask.png", "mask: this bundle takes none; leave it out"),
    "soft mask": ("ip-adapter", "--image a.png --soft-mask", "soft_mask: this bundle takes none; leave it out"),
    "word": ("ip-adapter", "--image a.png --word S", "word: this bundle takes none; leave it out"),
    "placement": ("ip-adapter", "--image a.png --placement authors", "placement: this bundle takes none"),
    "number": ("ip-adapter", "--image a.png --words 2", "words: this bundle takes none; leave it out"),
    "global only": ("ip-adapter", "--image a.png --global-only", "global_only: this bundle takes none; leave it out"),
}


@pytest.mark.parametrize(("system", "options", "message"), REFUSED.values(), ids=REFUSED)
def test_refused_in_one_line_with_nothing_written(x2i, here, system, options, message):
    before = sorted(here.iterdir())
    words = [*options.split(), ""] if options.endswith("--word") else options.split()
    result = x2i(system, *words)
    assert result.exit_code == 2, result.output
    (line,) = result.stderr.splitlines()
    assert line.startswith("x2i: error: ") and message in line and not result.stdout
    assert sorted(here.iterdir()) == before


PROMPTS = {
    "none": ("a red ball", "prompt: expected the word 'S' once, where the subject goes, got 'a red ball'; write 'S'"),
    "empty": ("", "got ''; write 'S' there, or name the word that stands for the subject"),
    "two": ("a S beside a S", "got it 2 times in 'a S beside a S'; keep one of them"),
    "small": ("a red s", "got it in other letters in 'a red s'; write 'S'"),
    "far": ("very " * 40 + "S", "prompt: expected 'S' within the first 75 tokens, got it at 161 of the encoder's 77"),
}


@pytest.mark.parametrize("prompt", PROMPTS)
def test_prompts_without_one_place_for_the_subject(x2i, here, prompt):
    text, message = PROMPTS[prompt]
    result = x2i("elite", "--subject", "a.png", prompt=text)
    (line,) = result.stderr.splitlines()
    assert result.exit_code == 2 and message in line and not (here / "out.png").exists()


def test_all_problems_are_told_at_once(x2i):
    options = "--subject half.png --mask text.png --strength nan --words 9 --steps 0 --language French --image a.png"
    result = x2i("elite", *options.split(), prompt="a red ball")
    assert result.exit_code == 2
    lines = result.stderr.splitlines()
    starts = ("language", "image", "subject half.png", "mask text.png", "words", "prompt", "strength", "steps")
    assert [re.match(r"x2i: error: ([^:]*): ", line)[1] for line in lines] == list(starts)


def test_every_bad_image_is_told(x2i):
    result = x2i("ip-adapter", "--image", "half.png", "--image", "a.png", "--image", "text.png")
    assert [line.split(":")[2] for line in result.stderr.splitlines()] == [" image half.png", " image text.png"]


KINDS = {
    "16 bits": ("deep.png", Image.fromarray(DEEP), {}, np.repeat((DEEP >> 8).astype(np.uint8)[..., None], 3, 2)),
    "CMYK": ("ink.tiff", COLOUR.convert("CMYK"), {}, np.asarray(COLOUR.convert("CMYK").convert("RGB"))),
    "palette": ("few.png", COLOUR.quantize(7), {}, np.asarray(COLOUR.quantize(7).convert("RGB"))),
    "grey": ("grey.png", COLOUR.convert("L"), {}, np.asarray(COLOUR.convert("L").convert("RGB"))),
    "transparent": ("cut.png", Image.merge("RGBA", [*COLOUR.split(), ALPHA]), {}, np.asarray(COLOUR)),
    "turned": ("side.png", COLOUR, {"orientation": 6}, np.rot90(np.asarray(COLOUR), -1)),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("system", ["elite", "ip-adapter"])
def test_every_kind_of_picture_is_drawn_as_it_looks(x2i, pipelines, here, system, kind):
    name, image, options, shown = KINDS[kind]
    exif = Image.Exif()
    exif[0x0112] = options.get("orientation", 1)
    image.save(here / name, exif=exif)
    option = "subject" if system == "elite" else "image"
    result = x2i(system, f"--{option}", name)
    assert result.exit_code == 0, result.output
    quick = {"steps": 1, "size": (16, 24)}
    with pytest.warns(UserWarning) if system == "elite" else nothing():
        expected = pipelines[system](PROMPT, **quick, **{option: np.ascontiguousarray(shown)})
    assert_close(np.load(here / "out.npy"), expected.latents, "exact")
    told = [line for line in result.stderr.splitlines() if name in line]
    assert len(told) == (kind == "transparent") and all("not opaque" in line for line in told)


def test_a_missing_mask_is_told_once_a_run(x2i):
    for _ in range(2):
        result = x2i("elite", "--subject", "a.png", "--count", 2, "--json")
        assert result.exit_code == 0, result.output
        assert result.stderr.splitlines() == [f"x2i: warning: {NO_MASK}"]
        assert json.loads(result.stdout)["warnings"] == [NO_MASK]
    masked = x2i("elite", "--subject", "a.png", "--mask", "mask.png", "--json")
    assert masked.exit_code == 0 and not masked.stderr and json.loads(masked.stdout)["warnings"] == []


def test_the_command_line_equals_the_python_surface(x2i, pipelines, here):
    options = "--subject a.png --mask mask.png --soft-mask --word T --placement authors --strength 1.3 --guidance 2"
    result = x2i("elite", *options.split(), prompt="red T")
    assert result.exit_code == 0, result.output
    given = {"subject": COLOUR, "mask": here / "mask.png", "soft_mask": True, "word": "T", "placement": "authors"}
    quick = {"strength": 1.3, "guidance": 2, "steps": 1, "size": (16, 24)}
    with pytest.warns(UserWarning, match="counting words as the authors do puts the subject at token 2"):
        output = pipelines["elite"]("red T", **given, **quick)
    assert_close(np.load(here / "out.npy"), output.latents, "exact")
    assert_close(np.asarray(Image.open("out.png")), np.asarray(output.images[0]), "exact")
    words = x2i("elite", "--subject", "a.png", "--mask", "mask.png", "--words", 5, "--global-only")
    assert words.exit_code == 0, words.output


BAD = {
    "prompt": ("elite", {"prompt": 3}, "prompt: expected text in Unicode, got 3"),
    "soft mask": ("elite", {"mask": None, "soft_mask": True}, "soft_mask: expected a mask, whose greys are"),
    "no flag": ("elite", {"global_only": "no"}, "global_only: expected True or False, got 'no'"),
    "word": ("elite", {"word": 3}, "word: expected text, got 3; choose a word such as 'S'"),
    "words": ("elite", {"words": "two"}, "words: expected a whole number from 1 to 5, got 'two'"),
    "placement": ("elite", {"placement": "left"}, "placement: expected token or authors, got 'left'"),
    "strength": ("elite", {"strength": "strong"}, "strength: expected a finite number such as 0.8, got 'strong'"),
    "no float": ("elite", {"strength": 10**400}, "strength: expected a finite number such as 0.8, got 1000"),
    "subject": ("elite", {"subject": 3}, "subject: expected a file name, a PIL image or a uint8 array, got int"),
    "array": ("elite", {"mask": np.ones((31, 26))}, "mask: expected uint8 [height, width, 3]"),
    "image": ("ip-adapter", {"image": 3}, "image: expected a file name, a PIL image or a uint8 array, got int"),
    "bytes": ("ip-adapter", {"image": b"a.png"}, "image: expected a file name, a PIL image or a uint8 array, got byt"),
    "no images": ("ip-adapter", {"image": []}, "image: expected a picture, which this bundle draws from, got none"),
    "sliver": ("ip-adapter", {"image": Image.new("RGB", (1, 99999))}, "image: expected sides of like length"),
}


@pytest.mark.parametrize(("system", "options", "message"), BAD.values(), ids=BAD)
def test_python_is_refused_before_any_work(pipelines, system, options, message):
    pipeline = pipelines[system]
    pipeline.calls.clear()
    given = {"subject": COLOUR, "mask": MASK} if system == "elite" else {"image": COLOUR}
    given |= {"prompt": PROMPT, "steps": 1} | options
    for call in (pipeline, pipeline.steps):
        with pytest.raises(InputError) as raised:
            call(**given)
        (line,) = raised.value.problems
        assert line.startswith(message) and len(line) < 300
    assert pipeline.calls == []


def test_a_bundle_of_text_takes_no_pictures(tmp_path):
    pipeline, sessions = toy_pipeline(tmp_path / "toy")
    given = {"subject": COLOUR, "mask": MASK, "image": "a.png", "word": "S", "strength": 0.5}
    with pytest.raises(InputError) as raised:
        pipeline("pomme", language="French", **given)
    assert raised.value.problems == tuple(f"{name}: this bundle takes none; leave it out" for name in sorted_as(given))
    assert sessions.calls == []
    defaults = {"placement": "".join(["to", "ken"]), "words": np.int64(1), "global_only": False, "subject": None}
    assert len(pipeline("pomme", language="French", steps=1, **defaults).images) == 1


def sorted_as(given: dict) -> list[str]:
    """In the order of the options' own record."""
    return [name for name in ("subject", "mask", "image", "word", "strength") if name in given]
