"""Bad checkpoints, configurations and calibration files for `export`, `from-optimum` and `lower`."""

import gzip
import io
import json
import pickle
import struct
import zipfile
from collections.abc import Callable, Iterator
from functools import cache, partial
from pathlib import Path
from typing import Any
from unittest import mock

from tests.bundles import tiny
from tests.made_once import made_once

from .case import Case
from .held import Command, refused_or_drawn
from .manifests import places, wrongs
from .media import Make, cut, flipped
from .room import Room

READ = "every file was read"


def diffusers_folder() -> Path:
    """A tiny Stable Diffusion in diffusers' layout, from random weights."""
    return made_once("hostile-diffusers", _write_folder)


def optimum_folder() -> Path:
    """The same as Optimum exports it."""
    from tests.export.test_optimum_folder import export_folder, write_sd

    def make(out: Path) -> None:
        write_sd(tiny("gluegen-text"), out.with_name("bundle"))
        export_folder(out.with_name("bundle"), out)

    return made_once("hostile-optimum", make)


def _write_folder(out: Path) -> None:
    from x2i.models.random.weights import random_stable_diffusion

    base = random_stable_diffusion("tiny")
    base.unet.save_pretrained(out / "unet")
    base.vae.save_pretrained(out / "vae")
    assert base.text_encoder is not None and base.tokenizer is not None
    base.text_encoder.save_pretrained(out / "text_encoder")
    settings_of = {"scheduler/scheduler_config.json": SCHEDULER, "tokenizer/tokenizer_config.json": TOKENS}
    for name, settings in settings_of.items():
        (out / name).parent.mkdir(exist_ok=True)
        (out / name).write_text(json.dumps(settings), "utf-8")
    (out / "tokenizer" / "tokenizer.json").write_text(base.tokenizer.json, "utf-8")
    (out / "model_index.json").write_text(json.dumps({"_class_name": "StableDiffusionPipeline"}), "utf-8")


SCHEDULER = {
    "_class_name": "PNDMScheduler",
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "num_train_timesteps": 1000,
    "skip_prk_steps": True,
    "set_alpha_to_one": False,
    "steps_offset": 1,
    "trained_betas": None,
    "prediction_type": "epsilon",
    "timestep_spacing": "leading",
    "clip_sample": False,
}
TOKENS = {"pad_token": "<|endoftext|>", "model_max_length": 77, "bos_token": {"content": "<|startoftext|>"}}


def checkpoint_cases() -> Iterator[Case]:
    """Configurations, weights, calibration files."""
    yield from _config_cases()
    yield from _weight_cases()
    yield from _compvis_cases()
    yield from _optimum_cases()
    yield from _calibration_cases()


def _exported(name: str, files: dict[str, Make]) -> Case:
    """`x2i export` of the folder with some files of another content; it ends where tracing would begin."""

    def attempt(room: Room) -> str | None:
        folder = room.bundle("diffusers")
        with room.replaced(folder, {file: make() for file, make in files.items()}), without_tracing():
            words = ["export", "sd", str(room.work / "made"), "--base", str(folder)]
            return refused_or_drawn(room, Command(words, must_refuse=True))

    return Case("checkpoint", name, attempt)


def without_tracing() -> Any:
    from x2i.export.errors import PlanError

    return mock.patch("x2i.export.exporter.to_onnx", side_effect=PlanError(READ))


CONFIGS = (
    "unet/config.json",
    "vae/config.json",
    "text_encoder/config.json",
    "scheduler/scheduler_config.json",
    "tokenizer/tokenizer_config.json",
    "model_index.json",
)
EVERY = 4
"""Of the wrongs of a checkpoint's configuration so many make one case: most cost the building of a model."""


def _config_cases() -> Iterator[Case]:
    for file in CONFIGS:
        data = json.loads((diffusers_folder() / file).read_text("utf-8"))
        for number, path in enumerate(places(data, {}).values()):
            for how, text in list(wrongs(data, path, number))[number % EVERY :: EVERY]:
                content = text.encode("utf-8", "surrogatepass")
                yield _exported(f"{file} {'.'.join(map(str, path))}: {how}", {file: partial(bytes, content)})
        text = json.dumps(data).encode()
        for how, make in (cut(text, 4) | flipped(text, 6)).items():
            yield _exported(f"{file} {how}", {file: make})
        for how, make in ODD_TEXTS.items():
            yield _exported(f"{file} {how}", {file: make})


ODD_TEXTS: dict[str, Make] = {
    "empty": lambda: b"",
    "bytes": lambda: bytes(range(256)),
    "UTF-16": lambda: "{}".encode("utf-16"),
    "a mark before it": lambda: b"\xef\xbb\xbf{}",
    "NUL": lambda: b"\0" * 1000,
    "80 MB of spaces": lambda: b" " * 80_000_000,
    "a list": lambda: b"[1, 2]",
    "a number": lambda: b"1e999",
}


class _Runs:
    """What a pickle may ask for: a call while it is read."""

    def __init__(self, call: Callable[..., Any], *arguments: Any):
        self._call = call, arguments

    def __reduce__(self) -> Any:
        return self._call


def _pickled(content: Any, protocol: int = 2) -> bytes:
    return pickle.dumps(content, protocol)


def _saved(content: Any) -> bytes:
    import torch

    stream = io.BytesIO()
    torch.save(content, stream)
    return stream.getvalue()


def _zipped(content: bytes, name: str = "archive/data.pkl", packed: int = zipfile.ZIP_DEFLATED) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", packed) as archive:
        archive.writestr(name, content)
        archive.writestr("archive/version", b"3")
    return stream.getvalue()


def _safetensors(header: Any, data: bytes = bytes(64), length: int | None = None) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + data


def _tensor(**changes: Any) -> dict[str, Any]:
    return {"conv_in.bias": {"dtype": "F32", "shape": [16], "data_offsets": [0, 64]} | changes}


def _state(change: Callable[[dict[str, Any]], Any]) -> bytes:
    import torch

    return _saved(change({"conv_in.bias": torch.zeros(32)}))


@cache
def _weights() -> bytes:
    return (diffusers_folder() / "unet/diffusion_pytorch_model.safetensors").read_bytes()


_ENTRY = b'"a":{"dtype":"F32","shape":[16],"data_offsets":[0,64]}'
SAFETENSORS: dict[str, Make] = {
    "empty": lambda: b"",
    "eight bytes": lambda: bytes(8),
    "a length past the file": lambda: _safetensors({}, length=2**62),
    "a negative length": lambda: b"\xff" * 8 + b"{}",
    "a length too short": lambda: _safetensors(_tensor(), length=5),
    "a head of 100 MB": lambda: _safetensors(b"{" + b" " * 100_000_000 + b"}"),
    "a nested head": lambda: _safetensors(b'{"a":' * 100_000),
    "a nested entry": lambda: _safetensors(b'{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}"),
    "a list": lambda: _safetensors([1]),
    "no text": lambda: _safetensors(b"\xff\xfe{}"),
    "an unknown type": lambda: _safetensors(_tensor(dtype="F99")),
    "a type that is no text": lambda: _safetensors(_tensor(dtype=[1])),
    "a negative size": lambda: _safetensors(_tensor(shape=[-16])),
    "a huge size": lambda: _safetensors(_tensor(shape=[2**62, 2**62])),
    "no size": lambda: _safetensors(_tensor(shape=[])),
    "many axes": lambda: _safetensors(_tensor(shape=[1] * 1000)),
    "offsets past the end": lambda: _safetensors(_tensor(data_offsets=[0, 2**40])),
    "offsets turned round": lambda: _safetensors(_tensor(data_offsets=[64, 0])),
    "offsets that are texts": lambda: _safetensors(_tensor(data_offsets=["0", "64"])),
    "offsets before the start": lambda: _safetensors(_tensor(data_offsets=[-64, 0])),
    "offsets within another's": lambda: _safetensors(_tensor() | {"other": _tensor()["conv_in.bias"]}),
    "a hole": lambda: _safetensors(_tensor(shape=[8], data_offsets=[32, 64])),
    "a name twice": lambda: _safetensors(b"{%b,%b}" % (_ENTRY, _ENTRY)),
    "odd names": lambda: _safetensors({"\x1b[31m\n" + "n" * 5000: _tensor()["conv_in.bias"]}),
    "metadata that is no text": lambda: _safetensors({"__metadata__": {"a": [1]}} | _tensor()),
    "metadata of a megabyte": lambda: _safetensors({"__metadata__": {"\x1b": "a" * 1_000_000}} | _tensor()),
    "ten thousand tensors": lambda: _safetensors(
        {f"t{i}": {"dtype": "U8", "shape": [0], "data_offsets": [0, 0]} for i in range(10_000)}, b""
    ),
    "a pickle": lambda: _pickled({}),
    "an array": lambda: b"\x93NUMPY\x01\x00",
    "NaN": lambda: _safetensors(_tensor(), struct.pack("<f", float("nan")) * 16),
}
PICKLES: dict[str, Make] = {
    "code": lambda: _pickled(_Runs(open, "ran", "w")),
    "code within": lambda: _saved({"state_dict": {"conv_in.bias": _Runs(open, "ran", "w")}}),
    "eval": lambda: _pickled(_Runs(eval, "open('ran', 'w')")),
    "code of protocol 0": lambda: b"cos\nsystem\n(S'touch ran'\ntR.",
    "code of protocol 4": lambda: _pickled(_Runs(exec, "open('ran', 'w')"), 4),
    "code in an archive": lambda: _zipped(_pickled(_Runs(open, "ran", "w"))),
    "a code's argument": lambda: _pickled({"a": _Runs(getattr, "a", "upper")}),
    "an archive that unpacks to a gigabyte": lambda: _zipped(b"\x80\x02" + b"N0" * (1 << 29)),
    "an archive with a way out": lambda: _zipped(_pickled({}), "../../ran"),
    "an archive of nothing": lambda: _zipped(b""),
    "a list": lambda: _saved([1, 2]),
    "a number": lambda: _saved(3),
    "numbers for tensors": lambda: _state(lambda state: state | {"conv_out.bias": 3}),
    "texts for tensors": lambda: _state(lambda state: state | {"conv_out.bias": "1.0"}),
    "numbers for names": lambda: _state(lambda state: state | {3: state["conv_in.bias"]}),
    "odd names": lambda: _state(lambda state: {"\x1b[31m\n" + "n" * 5000: state["conv_in.bias"]}),
    "surrogates for names": lambda: _state(lambda state: {"\ud800": state["conv_in.bias"]}),
    "whole numbers": lambda: _state(lambda state: {"conv_in.bias": state["conv_in.bias"].int()}),
    "complex numbers": lambda: _state(lambda state: {"conv_in.bias": state["conv_in.bias"].to(complex_type())}),
    "a view of terabytes": lambda: _state(lambda state: {"conv_in.bias": state["conv_in.bias"][:1].expand(2**40)}),
    "no tensors": lambda: _saved({}),
    "tensors within tensors": lambda: _state(lambda state: {"state_dict": {"state_dict": state}}),
    "a pickle that grows": lambda: b"\x80\x02]" + b"(2e" * 5000 + b".",
    "a pickle without end": lambda: b"\x80\x02" + b"(" * 100_000,
    "a pickle of long numbers": lambda: b"\x80\x02\x8b\xff\xff\xff\x7f.",
    "a pickle of 2 GB of text": lambda: b"\x80\x02X\xff\xff\xff\x7fabc.",
    "a list in itself": lambda: b"\x80\x02]q\0h\0a.",
    "memo that is not there": lambda: b"\x80\x02h\x05.",
    "a web page": lambda: b"<!DOCTYPE html><html>not found</html>",
    "a pointer of Git LFS": lambda: b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n",
}


def complex_type() -> Any:
    import torch

    return torch.complex64


def _weight_cases() -> Iterator[Case]:
    whole, pickled = "unet/diffusion_pytorch_model.safetensors", "unet/diffusion_pytorch_model.bin"
    gone: dict[str, Any] = {whole: lambda: None}
    for how, make in (SAFETENSORS | cut(_weights(), 6) | flipped(_weights(), 10)).items():
        yield _exported(f"safetensors {how}", {whole: make})
    good = partial(_state, lambda state: state)
    for how, make in (PICKLES | {f"damaged {n}": partial(_damaged, good, n) for n in range(40)}).items():
        yield _exported(f"pickle {how}", gone | {pickled: make})
    for how, make in SHARDS.items():
        yield _exported(f"shards {how}", gone | {f"{whole}.index.json": make})
    yield _exported("a bomb in gzip", gone | {f"{whole}.gz": lambda: gzip.compress(bytes(1 << 31), 1)})


def _damaged(make: Make, number: int) -> bytes:
    content = make()
    return [*(cut(content, 20) | flipped(content, 20)).values()][number]()


def _index(**names: Any) -> bytes:
    return json.dumps({"metadata": {"total_size": 10**30}, "weight_map": names}).encode()


SHARDS: dict[str, Make] = {
    "outside": lambda: _index(a="../../../../etc/passwd"),
    "by absolute names": lambda: _index(a="/etc/passwd"),
    "that are not there": lambda: _index(**{f"t{i}": f"{i}.safetensors" for i in range(5000)}),
    "of other things": lambda: _index(a="config.json"),
    "without names": lambda: _index(a=""),
    "in a folder": lambda: _index(a="."),
    "of numbers": lambda: _index(a=3),
    "of odd names": lambda: _index(a="\x1b[31m\n" + "n" * 3000),
    "with NUL": lambda: _index(a="a\0.safetensors"),
    "nested": lambda: b"[" * 100_000,
}


YAMLS: dict[str, Make] = {
    "a billion laughs": lambda: (
        "a: &a [x, x, x, x, x, x, x, x, x]\n"
        + "\n".join(f"{b}: &{b} [{', '.join([f'*{a}'] * 9)}]" for a, b in zip("abcdefghi", "bcdefghij", strict=True))
    ).encode(),
    "nested brackets": lambda: b"[" * 20_000,
    "nested keys": lambda: "\n".join(" " * i + "a:" for i in range(3000)).encode(),
    "an anchor in itself": lambda: b"model: &m\n  params: *m\n",
    "Python's objects": lambda: b"!!python/object/apply:os.system ['touch ran']",
    "Python's names": lambda: b"model: !!python/name:os.system",
    "an unknown tag": lambda: b"model: !unknown {a: 1}",
    "two documents": lambda: b"a: 1\n---\nb: 2\n",
    "tabs": lambda: b"model:\n\tparams: 1\n",
    "a list": lambda: b"- 1\n- 2\n",
    "a text": lambda: b"just words",
    "a date": lambda: b"model: 2001-99-99",
    "a date for a key": lambda: b"2001-01-01: 1\n? [1, 2]\n: 3\n",
    "a key that is a mapping": lambda: b"? {a: 1}\n: 2\n",
    "merged nothing": lambda: b"<<: 3\na: 1\n",
    "sexagesimal": lambda: b"model: 999999:59:59:59\n",
    "binary": lambda: b"model: !!binary '@@@'\n",
    "infinite": lambda: b"model: {params: {timesteps: .inf, linear_start: .nan}}\n",
    "a number of 5000 digits": lambda: b"model: " + b"9" * 5000,
    "NUL": lambda: b"model: \0",
    "surrogates": lambda: b'model: "\\ud800"',
    "bytes": lambda: bytes(range(256)),
    "UTF-16": lambda: "model: {params: 1}".encode("utf-16"),
}
"""Configurations of a CompVis checkpoint."""


def _compvis_cases() -> Iterator[Case]:
    from x2i.models.stable_diffusion.compvis_config import SD_V1

    texts: dict[str, Make] = {f"{how}.yaml": make for how, make in (YAMLS | ODD_TEXTS).items()}
    texts |= {f"{how}.json": make for how, make in ODD_TEXTS.items()}
    for number, path in enumerate(places(SD_V1, {}).values()):
        for how, text in list(wrongs(SD_V1, path, number))[number % EVERY :: EVERY]:
            content = text.encode("utf-8", "surrogatepass")
            texts[f"{'.'.join(map(str, path))}: {how}.json"] = partial(bytes, content)
    for how, make in texts.items():
        yield Case("checkpoint", f"CompVis {how}", partial(_compvis, make, Path(how).suffix))


def _compvis(make: Make, suffix: str, room: Room) -> str | None:
    base, config = room.work / "base.safetensors", room.work / f"config{suffix}"
    base.write_bytes(_safetensors(_tensor()))
    config.write_bytes(make())
    words = ["export", "sd", str(room.work / "made"), "--base", str(base), "--base-config", str(config)]
    return refused_or_drawn(room, Command(words, must_refuse=True))


OPTIMUM_CONFIGS = (
    "unet/config.json",
    "vae_decoder/config.json",
    "text_encoder/config.json",
    "scheduler/scheduler_config.json",
)


def _optimum_cases() -> Iterator[Case]:
    for file in OPTIMUM_CONFIGS:
        data = json.loads((optimum_folder() / file).read_text("utf-8"))
        for number, path in enumerate(places(data, {}).values()):
            for how, text in list(wrongs(data, path, number))[number % EVERY :: EVERY]:
                content = text.encode("utf-8", "surrogatepass")
                yield _imported(f"{file} {'.'.join(map(str, path))}: {how}", file, partial(bytes, content))
        for how, make in ODD_TEXTS.items():
            yield _imported(f"{file} {how}", file, make)
    for part in ("unet", "vae_decoder", "text_encoder"):
        content = (optimum_folder() / part / "model.onnx").read_bytes()
        for how, make in (cut(content, 5) | flipped(content, 10)).items():
            yield _imported(f"{part} {how}", f"{part}/model.onnx", make)


def _imported(name: str, file: str, make: Make) -> Case:
    def attempt(room: Room) -> str | None:
        folder = room.bundle("optimum")
        with room.replaced(folder, {file: make()}):
            words = ["from-optimum", str(folder), str(room.work / "made")]
            return refused_or_drawn(room, Command(words, may_write=[f"{room.work}/made*"]))

    return Case("checkpoint", f"Optimum {name}", attempt)


CALIBRATIONS: dict[str, bytes] = {
    "empty": b"",
    "no JSON": b"red apple",
    "a list": b"[1, 2]",
    "nested": b"[" * 100_000,
    "nested options": b'{"prompt": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    "NaN": b'{"prompt": "red", "guidance": NaN}',
    "huge": b'{"prompt": "red", "steps": 1e400, "seed": 9999999999999999999999}',
    "sizes": b'{"prompt": "red", "size": [1048576, 1048576]}',
    "sizes of texts": b'{"prompt": "red", "size": ["64", "64"]}',
    "sizes of three": b'{"prompt": "red", "size": [64, 64, 64]}',
    "count": b'{"prompt": "red", "count": 5}',
    "an option twice": b'{"prompt": "red", "prompt": "blue"}',
    "unknown": b'{"prompt": "red", "\\u001b[31m\\n": 1}',
    "surrogates": b'{"prompt": "\\ud800", "language": "French"}',
    "NUL": b'{"prompt": "red", "noise": "a\\u0000b"}',
    "files outside": b'{"prompt": "red", "noise": "/etc/passwd"}',
    "a device": b'{"prompt": "red", "noise": "/dev/zero"}',
    "numbers for words": b'{"prompt": 3, "language": 4, "negative": [1]}',
    "bytes": bytes(range(256)),
    "UTF-16": '{"prompt": "red"}'.encode("utf-16"),
    "a line of 50 MB": b'{"prompt": "' + b"x" * 50_000_000 + b'"}',
    "100,000 lines": b"{}\n" * 100_000,
}


def _calibration_cases() -> Iterator[Case]:
    for name, content in CALIBRATIONS.items():
        yield Case("checkpoint", f"calibration {name}", partial(_lowered, content))


def _lowered(content: bytes, room: Room) -> str | None:
    path = room.work / "runs.jsonl"
    # The last line keeps a file that is good from being calibrated on for a minute.
    path.write_bytes(content + b"\nno run\n")
    words = ["lower", str(room.bundle("gluegen-text")), str(room.work / "made"), "--precision", "int8"]
    return refused_or_drawn(room, Command([*words, "--calibration", str(path)], must_refuse=True))
