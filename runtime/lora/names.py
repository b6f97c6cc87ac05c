"""What a LoRA's keys say: the part and the layer that a tensor belongs to, and its role in the layer's change.

Key forms: diffusers (now and before 0.22), PEFT, kohya's sd-scripts, also with CompVis' names of layers, and LyCORIS.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

Shape = tuple[int, ...]
Layers = Mapping[str, Mapping[str, Shape]]
"""Of each part, the shapes of its layers' weights by module path: [out, in], or [out, in, height, width]."""
UNET, TEXT = "unet", "text_encoder"
_PEFT_PREFIX = "base_model.model."
_TEXT_MODEL = "text_model."
_FLAT_PREFIXES = {UNET: ("lora_unet_",), TEXT: ("lora_te_", "lora_te1_")}
_ROLES = re.compile(
    r"(?P<layer>.+?)(?:"
    r"[._]lora(?:_linear_layer)?[._](?P<half>down|up|mid)\.weight"
    r"|\.lora_(?P<letter>[AB])(?:\.\w+)?\.weight"
    r"|(?:[._]lora)?\.(?P<alpha>alpha)"
    r"|\.(?P<dora>dora_scale|lora_magnitude_vector)(?:\.\w+)*"
    r"|\.(?P<other>(?:hada_(?:w[12]_[ab]|t[12])|lokr_(?:w[12](?:_[ab])?|t2)))(?:\.\w+)?"
    r")"
)
_LETTERS = {"A": "down", "B": "up"}
_OLD_TEXT = {"to_q": "q_proj", "to_k": "k_proj", "to_v": "v_proj", "to_out": "out_proj"}
"""The layers of CLIP's attention as diffusers called them before 0.18."""


class LayerKey(NamedTuple):
    """A key of a LoRA's file: the layer in the file's own words, and the tensor's role, such as down, up or alpha."""

    layer: str
    role: str


def layer_key(key: str) -> LayerKey | None:
    """What a key says, None for one that is in none of the forms."""
    found = _ROLES.fullmatch(key)
    if found is None:
        return None
    letter = found["letter"]
    role = _LETTERS[letter] if letter else found["half"] or found["alpha"] or found["other"] or "dora"
    return LayerKey(_plain(found["layer"]), role)


def stated_part(layer: str) -> str | None:
    """The part that a layer's name begins with, None where it names none."""
    for part, prefixes in _FLAT_PREFIXES.items():
        if layer.startswith((f"{part}.", *prefixes)):
            return part
    return TEXT if layer.startswith(_TEXT_MODEL) else None


def layer_spellings(layers: Layers) -> dict[str, tuple[str, str]]:
    """The part and the module path behind every name that a file may have for a layer."""
    names: dict[str, tuple[str, str]] = {}
    for part, paths in layers.items():
        compvis = compvis_layers(paths) if part == UNET else {}
        for path in paths:
            for name in _spellings(part, path, compvis.get(path)):
                names.setdefault(name, (part, path))
    return names


def _plain(layer: str) -> str:
    """The name without what the libraries put between its parts."""
    layer = layer.replace(_PEFT_PREFIX, "").replace(".processor.", ".")
    above, _, last = layer.rpartition(".")
    if above.endswith("self_attn"):
        return f"{above}.{_OLD_TEXT.get(last, last)}"
    return f"{layer}.0" if last == "to_out" else layer


def _spellings(part: str, path: str, compvis: str | None) -> Iterator[str]:
    """With dots behind the part, or alone; with underscores behind kohya's prefixes."""
    own = [path]
    if part == TEXT:
        bare = path.removeprefix(_TEXT_MODEL)
        own = [_TEXT_MODEL + bare, bare]
    yield from (f"{part}.{name}" for name in own)
    yield from own
    flat = [name.replace(".", "_") for name in (*own, *((compvis,) if compvis else ()))]
    yield from (prefix + name for prefix in _FLAT_PREFIXES[part] for name in flat)


_COMPVIS_FIXED = {
    "conv_in": "input_blocks.0.0",
    "conv_out": "out.2",
    "time_embedding.linear_1": "time_embed.0",
    "time_embedding.linear_2": "time_embed.2",
}
_COMPVIS_MIDDLE = {"resnets.0": "middle_block.0", "attentions.0": "middle_block.1", "resnets.1": "middle_block.2"}
_COMPVIS_RESNET = {
    "conv1": "in_layers.2",
    "conv2": "out_layers.3",
    "time_emb_proj": "emb_layers.1",
    "conv_shortcut": "skip_connection",
}
_BLOCK = re.compile(r"(down|up)_blocks\.(\d+)\.(resnets|attentions|downsamplers|upsamplers)\.(\d+)\.(.+)")


def compvis_layers(paths: Iterable[str]) -> dict[str, str]:
    """CompVis' names of a UNet's layers, whose blocks are counted through where diffusers counts within a level."""
    paths = list(paths)
    found = [match for path in paths if (match := _BLOCK.fullmatch(path))]
    per_level = 1 + max((int(each[4]) for each in found if each[1] == "down" and each[3] == "resnets"), default=0)
    attending = {int(each[2]) for each in found if each[1] == "up" and each[3] == "attentions"}
    names = {path: name for path in paths if (name := _outside_blocks(path))}
    for match in found:
        way, level, kind, place, inner = match[1], int(match[2]), match[3], int(match[4]), match[5]
        inner = _COMPVIS_RESNET.get(inner, inner)
        number, column = (1 + level * (per_level + 1) + place, f"{int(kind == 'attentions')}.{inner}")
        if kind == "downsamplers":
            number, column = (level + 1) * (per_level + 1), "0.op"
        elif way == "up":
            number = level * (per_level + 1) + place
        if kind == "upsamplers":
            number, column = level * (per_level + 1) + per_level, f"{2 if level in attending else 1}.conv"
        names[match[0]] = f"{'input' if way == 'down' else 'output'}_blocks.{number}.{column}"
    return names


def _outside_blocks(path: str) -> str | None:
    """The name of a layer at the ends or in the middle."""
    if path in _COMPVIS_FIXED:
        return _COMPVIS_FIXED[path]
    found = re.fullmatch(r"mid_block\.((?:resnets|attentions)\.\d+)\.(.+)", path)
    if found is None or found[1] not in _COMPVIS_MIDDLE:
        return None
    return f"{_COMPVIS_MIDDLE[found[1]]}.{_COMPVIS_RESNET.get(found[2], found[2])}"
