"""LoRAs folded into a base before its graphs are traced: what the graphs are then proven against is folded, too."""

import re
from dataclasses import replace

import numpy as np
import torch
from torch import nn
from x2i.models.errors import CheckpointError
from x2i.models.readers.tensors import PICKLED, read_tensors
from x2i.models.stable_diffusion.base import StableDiffusion
from x2i.runtime.errors import InputError
from x2i.runtime.files.safetensors import read_safetensors
from x2i.runtime.lora.alphas import stated_settings
from x2i.runtime.lora.choice import LoraChoice
from x2i.runtime.lora.lora import Lora, read_lora
from x2i.runtime.lora.names import TEXT, UNET, Shape

from ..errors import PlanError
from ..lora.target import changed_layers
from ..plan import ExportPlan


def fold_loras(base: StableDiffusion, plan: ExportPlan) -> StableDiffusion:
    """The base with the plan's LoRAs in the weights of its UNet and its text encoder, and a note for what they lack.

    A system that changes the base does so before: its own weights are what the LoRAs change then. Each weight is
    rounded to float32 once, whatever the number of LoRAs. Raises PlanError with the problems of all files.
    """
    if not plan.loras:
        return base
    parts: dict[str, nn.Module] = {UNET: base.unet}
    if base.text_encoder is not None:
        parts[TEXT] = base.text_encoder
    layers = {part: changed_layers(module) for part, module in parts.items()}
    shapes = {part: {path: _shape(layer) for path, layer in named.items()} for part, named in layers.items()}
    loras = _read_all(plan, shapes)
    notes = _notes(plan, loras, shapes)
    for part, path in dict.fromkeys(place for lora in loras for place in lora.changes):
        shape = shapes[part][path]
        total = np.zeros(shape)
        for choice, lora in zip(plan.loras, loras, strict=True):
            if (change := lora.changes.get((part, path))) is not None:
                total += choice.weight * change.matrix(shape)
        _add(layers[part][path], total)
    return replace(base, notes=(*base.notes, *notes))


def read_lora_file(choice: LoraChoice, shapes: dict[str, dict[str, Shape]]) -> Lora:
    """The LoRA of one file for a base of these layers. Raises InputError or CheckpointError with its problems."""
    file = choice.file()
    if file.suffix in PICKLED:
        tensors = {key: value.float().numpy() for key, value in read_tensors(file).items()}
        return read_lora(str(file), tensors, stated_settings({}, file), shapes)
    content = read_safetensors(file, str(file), "a LoRA's file")
    return read_lora(str(file), content.tensors, stated_settings(content.metadata, file), shapes)


def _read_all(plan: ExportPlan, shapes: dict[str, dict[str, Shape]]) -> list[Lora]:
    loras: list[Lora] = []
    problems: list[str] = []
    for choice in plan.loras:
        try:
            lora = read_lora_file(choice, shapes)
        except (CheckpointError, InputError) as error:
            problems += error.problems
            continue
        loras.append(lora)
        problems += _idle_problems(choice, lora, shapes, plan.clip_skip or 0)
    if problems:
        raise PlanError(*problems)
    return loras


def _idle_problems(choice: LoraChoice, lora: Lora, shapes: dict[str, dict[str, Shape]], skipped: int) -> list[str]:
    """One line for a LoRA that changes nothing which a prompt passes through."""
    if not lora.changes:
        return [
            f"{choice.path}: expected changes of the UNet, got {lora.left_out[TEXT]} layers of CLIP's text encoder "
            "alone, which this system lacks; leave it out"
        ]
    if len(_skipped(lora, shapes, skipped)) == len(lora.changes):
        return [
            f"{choice.path}: expected changes of layers that prompts pass through, got those alone that --clip-skip "
            f"{skipped} leaves out; leave it out, or skip fewer layers"
        ]
    return []


def _notes(plan: ExportPlan, loras: list[Lora], shapes: dict[str, dict[str, Shape]]) -> list[str]:
    notes = []
    for choice, lora in zip(plan.loras, loras, strict=True):
        if count := lora.left_out.get(TEXT, 0):
            notes.append(
                f"{choice.path.name}: its {count} layers of CLIP's text encoder are left out, which this system lacks"
            )
        if count := len(_skipped(lora, shapes, plan.clip_skip or 0)):
            notes.append(
                f"{choice.path.name}: --clip-skip {plan.clip_skip} leaves {count} of its layers out of the prompt; the "
                "negative prompt passes them"
            )
    return notes


def _skipped(lora: Lora, shapes: dict[str, dict[str, Shape]], skipped: int) -> list[str]:
    """The paths of its changes in the last layers of the text encoder."""
    numbers = {path: _number(path) for path in shapes.get(TEXT, {})}
    first = max(numbers.values(), default=0) + 1 - skipped
    return [path for part, path in lora.changes if part == TEXT and numbers[path] >= first]


def _number(path: str) -> int:
    """The layer of the encoder that a module belongs to, -1 where it belongs to none."""
    found = re.search(r"\blayers\.(\d+)\.", path)
    return int(found[1]) if found else -1


@torch.no_grad()
def _add(layer: nn.Linear | nn.Conv2d, change: np.ndarray) -> None:
    """Replaces the layer's weight, whose memory may be a mapped file, by its sum with the change."""
    total = (layer.weight.double() + torch.from_numpy(change)).float()
    layer.weight = nn.Parameter(total, requires_grad=False)


def _shape(layer: nn.Linear | nn.Conv2d) -> Shape:
    return tuple(layer.weight.shape)
