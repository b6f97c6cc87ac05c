"""Bad files of the systems without a Stable Diffusion base, for `export`: damaged, another's, and such as do not fit.

Good ones are the recorded models of the authors' code; where the full set of goldens is not here, none is tried.
"""

import gzip
import io
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from tests.goldens import found

from .case import Case
from .checkpoints import ODD_TEXTS, PICKLES, YAMLS, without_tracing
from .held import Command, refused_or_drawn
from .manifests import places, wrongs
from .media import Make, cut, flipped
from .room import Room

EVERY = 8
"""Of the wrongs of a configuration so many make one case: most cost the building of a model."""
MERGES = "vq_diffusion/bpe_tiny.txt.gz"


@dataclass(frozen=True, slots=True)
class Given:
    """What a system is exported from: goldens by the names of parts, patterns among them; `base` is a folder's."""

    system: str
    parts: Mapping[str, str]
    base: str | None = None

    def files(self) -> dict[str, Path]:
        """Each part's place, and the base's; empty where the goldens are not here."""
        named = {**self.parts, **({"base": self.base} if self.base else {})}
        places = {part: _only(pattern) for part, pattern in named.items()}
        return {} if None in places.values() else {part: path for part, path in places.items() if path is not None}


def _only(pattern: str) -> Path | None:
    top, _, rest = pattern.partition("/")
    root = found(top)
    return None if root is None else next(iter(sorted(root.glob(rest))), None)


def _vq(folder: str, *more: str, system: str = "vq-diffusion") -> Given:
    known = {
        "checkpoint": f"{folder}/OUTPUT/pretrained_model/*.pth",
        "config": f"{folder}/configs/config.yaml",
        "codec": f"{folder}/OUTPUT/pretrained_model/taming_dvae/*.pth",
        "codes": f"{folder}/help_folder/statistics/*.pt",
        "tokenizer": MERGES,
    }
    return Given(system, {part: known[part] for part in ("checkpoint", "config", "codec", *more)})


UNID3 = "unid3/checkpoint"
FRIDO = {"checkpoint": "t2i/checkpoints/*.ckpt", "config": "t2i/*.yaml", "tokenizer": "bert_tokenizer/vocab.txt"}
GIVEN = {
    "vq-diffusion": _vq("vq_diffusion/text_mapped", "codes", "tokenizer"),
    "vq-diffusion-class": _vq("vq_diffusion/class_pretrained", "codes"),
    "cdcd": _vq("cdcd/text", "codes", "tokenizer", system="cdcd"),
    "cdcd-nothing": _vq("vq_diffusion/unconditional", system="cdcd"),
    "unid3": Given(
        "unid3",
        {
            "checkpoint": f"{UNID3}/pretrained_models/*.pth",
            "config": f"{UNID3}/args.json",
            "codec": f"{UNID3}/misc/taming_dvae/*.pth",
            "codes": f"{UNID3}/misc/statistics/*.pt",
            "tokenizer": MERGES,
        },
    ),
    "vq-ddm": Given("vq-ddm", {"checkpoint": "unid3/multinomial/model.pth", "config": "unid3/multinomial/config.json"}),
    "diffsound": Given(
        "diffsound",
        {
            "checkpoint": "diffsound/model/OUTPUT/pretrained_model/*.pth",
            "config": "diffsound/model/configs/config.yaml",
            "codec": "diffsound/model/codebook/checkpoints/*.ckpt",
            "vocoder": "diffsound/model/vocoder/logs/*/best_netG.pt",
            "tokenizer": "diffsound/bpe*.gz",
        },
    ),
    "cdcd-music": Given(
        "cdcd-music",
        {
            "checkpoint": "cdcd/music/checkpoint/*.pth",
            "config": "cdcd/music/configs/*.yaml",
            "codec": "cdcd/music/synthesis/**/vqvae.pt",
        },
    ),
    "ddcap": Given("ddcap", {"checkpoint": "ddcap/t20/*.pt", "tokenizer": "ddcap/gpt2"}),
    "muse": Given("muse", {}, base="muse_amused/pipe_a"),
    "unclip": Given("unclip", {}, base="unclip/model"),
    "m-vader": Given("m-vader", {}, base="mvader/model"),
    "frido": Given("frido", {part: f"frido/{name}" for part, name in FRIDO.items()}),
}
Change = Callable[[Path], object]
"""What is done to the copy of a part: a file or a folder."""


def own_checkpoint_cases(systems: Sequence[str]) -> Iterator[Case]:
    """Every part left out, damaged, another's, and wrong inside."""
    for system in (system for system in systems if system in GIVEN):
        files = GIVEN[system].files()
        for part, path in files.items():
            yield _case(system, f"no {part}", {part: None})
            yield from (_case(system, f"{part} {how}", {part: change}) for how, change in _changes(part, path))
            for other, replaced in _others(system, part):
                yield _case(system, f"{part} is {other}", {part: partial(_copied, replaced)})


def _others(system: str, part: str) -> Iterator[tuple[str, Path]]:
    """The other parts of the same system, and the same part of other systems."""
    for other, given in GIVEN.items():
        for name, path in given.files().items():
            if (other == system) != (name == part):
                yield f"{other}'s {name}", path


def _case(system: str, name: str, changes: Mapping[str, Change | None]) -> Case:
    def attempt(room: Room) -> str | None:
        given = GIVEN[system]
        words = ["export", given.system, str(room.work / "made")]
        for part, path in given.files().items():
            change = changes.get(part, _unchanged)
            if change is None:
                continue
            copy = room.work / part / path.name
            _copied(path, copy)
            change(copy)
            words += ["--base", str(copy)] if part == "base" else ["--part", f"{part}={copy}"]
        with without_tracing():
            return refused_or_drawn(room, Command(words, must_refuse=True))

    return Case("checkpoint", f"{system} {name}", attempt)


def _unchanged(path: Path) -> None:
    pass


def _copied(source: Path, path: Path) -> None:
    """With the settings beside it, as they are published."""
    if path.is_dir():
        shutil.rmtree(path)
    path.parent.mkdir(exist_ok=True)
    if source.is_dir():
        path.unlink(missing_ok=True)
        shutil.copytree(source, path)
        return
    shutil.copyfile(source, path)
    for beside in source.parent.iterdir():
        if beside.suffix in (".yaml", ".yml", ".json") and beside != source:
            shutil.copyfile(beside, path.parent / beside.name)


def _changes(part: str, path: Path) -> Iterator[tuple[str, Change]]:
    if path.is_dir():
        for file in sorted(path.rglob("*.json")):
            name = file.relative_to(path).as_posix()
            yield from ((f"{name} {how}", partial(_inside, name, change)) for how, change in _settings(file))
        for file in sorted((*path.rglob("*.safetensors"), *path.rglob("merges.txt"))):
            name = file.relative_to(path).as_posix()
            yield from ((f"{name} {how}", partial(_inside, name, change)) for how, change in _bytes_of(file))
        return
    yield from _bytes_of(path)
    if path.suffix in (".yaml", ".json"):
        yield from _settings(path)
    elif path.suffix == ".txt":
        yield from ((how, partial(_written, make)) for how, make in ODD_TEXTS.items())
    elif path.suffix == ".gz":
        yield from ((f"packed: {how}", partial(_written, partial(_packed, make))) for how, make in ODD_TEXTS.items())
    else:
        quick = {how: make for how, make in PICKLES.items() if "gigabyte" not in how}
        yield from ((how, partial(_written, make)) for how, make in quick.items())
        yield from ((how, partial(_resaved, change)) for how, change in TENSORS.items())
        for beside in (*path.parent.glob("*.yaml"), *path.parent.glob("*.yml")):
            yield from (
                (f"{beside.name} {how}", partial(_beside, beside.name, change)) for how, change in _settings(beside)
            )


def _packed(make: Make) -> bytes:
    return gzip.compress(make(), 1)


def _written(make: Make, path: Path) -> None:
    path.write_bytes(make())


def _inside(name: str, change: Change, path: Path) -> None:
    change(path / name)


def _beside(name: str, change: Change, path: Path) -> None:
    change(path.with_name(name))


def _bytes_of(path: Path) -> Iterator[tuple[str, Change]]:
    content = path.read_bytes()
    for how, make in (cut(content, 3) | flipped(content, 5, len(content))).items():
        yield how, partial(_written, make)
    yield "is a folder", _folder
    yield "is not there", Path.unlink


def _folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def _settings(path: Path) -> Iterator[tuple[str, Change]]:
    """Wrongs of every field of a configuration, and texts that are none. JSON is YAML, too."""
    from x2i.models.readers.given_files import given_yaml

    texts = ODD_TEXTS if path.suffix == ".json" else YAMLS | ODD_TEXTS
    yield from ((how, partial(_written, make)) for how, make in list(texts.items())[::3])
    data = given_yaml(path, objects=True)
    for number, place in enumerate(places(data, {"vocab": 1}).values()):
        if number > MOST_FIELDS:
            break
        for how, text in list(wrongs(data, place, number))[number % EVERY :: EVERY]:
            content = text.encode("utf-8", "surrogatepass")
            yield f"{'.'.join(map(str, place))}: {how}", partial(_written, partial(bytes, content))


MOST_FIELDS = 80
"""Of one file: a vocabulary has as many as words."""


def _resaved(change: Callable[[Any], Any], path: Path) -> None:
    import torch

    content = change(torch.load(path, weights_only=True))
    stream = io.BytesIO()
    torch.save(content, stream)
    path.write_bytes(stream.getvalue())


def _tensors(content: Any) -> list[tuple[dict[str, Any], str]]:
    """Every tensor with the dict that it is in."""
    import torch

    if not isinstance(content, dict):
        return []
    own = [(content, key) for key, value in content.items() if isinstance(value, torch.Tensor)]
    return own + [each for value in content.values() for each in _tensors(value)]


def _each(change: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Every tensor changed; a file of one tensor is changed itself."""

    def changed(content: Any) -> Any:
        for holder, key in _tensors(content):
            holder[key] = change(holder[key])
        return content if isinstance(content, dict) else change(content)

    return changed


def _one(number: int, change: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """One tensor changed, or left out where nothing comes of it."""

    def changed(content: Any) -> Any:
        if found := _tensors(content):
            holder, key = found[number % len(found)]
            new = change(holder.pop(key))
            holder |= {} if new is None else {key: new}
            return content
        return change(content)

    return changed


def _without(*keys: str) -> Callable[[Any], Any]:
    return lambda content: {k: v for k, v in content.items() if k not in keys} if isinstance(content, dict) else keys[0]


def _renamed(prefix: str) -> Callable[[Any], Any]:
    """Every name in every section begins otherwise."""

    def renamed(content: Any) -> Any:
        if not isinstance(content, dict):
            return content
        return {key if isinstance(value, dict) else f"{prefix}{key}": renamed(value) for key, value in content.items()}

    return renamed


def _largest(tensor: Any) -> Any:
    if tensor.is_floating_point():
        return tensor * 1e38
    import torch

    # Masks are of whole bytes or truths, which do not hold more.
    return tensor.clone().fill_(min(2**31, torch.iinfo(tensor.dtype).max if tensor.dtype != torch.bool else 1))


TENSORS: dict[str, Callable[[Any], Any]] = {
    "without its averaged weights": _without("ema"),
    "without its plain weights": _without("model", "state_dict"),
    "whose averaged weights are none": lambda content: {**content, "ema": {}} if isinstance(content, dict) else {},
    "whose averaged weights are a list": lambda c: {**c, "ema": [1]} if isinstance(c, dict) else [1],
    "whose plain weights are averaged": lambda c: {"ema": c.get("model", c)} if isinstance(c, dict) else {"ema": c},
    "whose names have another beginning": _renamed("module."),
    "whose names are odd": _renamed("\x1b[31m\n"),
    "of NaN": _each(lambda tensor: tensor * float("nan") if tensor.is_floating_point() else tensor),
    "of huge numbers": _each(_largest),
    "of halves": _each(lambda tensor: tensor.half()),
    "of doubles": _each(lambda tensor: tensor.double()),
    "of whole numbers": _each(lambda tensor: tensor.int()),
    "of complex numbers": _each(lambda tensor: tensor.cfloat()),
    "of truths": _each(lambda tensor: tensor.bool()),
    "negative": _each(lambda tensor: -tensor if tensor.dtype.is_signed else tensor),
    "turned round": _each(lambda tensor: tensor.permute(tuple(reversed(range(tensor.ndim))))),
    "flat": _each(lambda tensor: tensor.reshape(-1)),
    "without axes": _each(lambda tensor: tensor.reshape(-1)[:1].reshape(())),
    "of nothing": _each(lambda tensor: tensor[:0] if tensor.ndim else tensor),
    "twice as long": _each(lambda tensor: tensor.repeat(2, *[1] * (tensor.ndim - 1)) if tensor.ndim else tensor),
    **{f"without its tensor {n}": _one(n, lambda tensor: None) for n in (0, 1, 5, -1, -2, -7)},
    **{f"with less in its tensor {n}": _one(n, lambda tensor: tensor[:-1]) for n in (0, 2, 7, -1, -3)},
    **{f"with a text for its tensor {n}": _one(n, lambda tensor: "a") for n in (0, -1)},
    "with another axis in a tensor": _one(3, lambda tensor: tensor[None]),
    "with a view of terabytes": _one(0, lambda tensor: tensor.reshape(-1)[:1].expand(2**40)),
}
