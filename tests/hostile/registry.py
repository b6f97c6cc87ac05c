"""The kinds of bad inputs, and what makes those of each."""

from collections.abc import Callable, Iterator
from pathlib import Path

from .calls import call_cases
from .case import Case
from .checkpoints import checkpoint_cases, diffusers_folder, optimum_folder
from .environments import environment_cases
from .graphs import engine_cases, graph_cases, tokenizer_cases
from .kills import kill_cases
from .manifests import manifest_cases
from .media import noise_cases, picture_cases, sound_cases
from .options import option_cases
from .systems import SYSTEMS

KINDS: dict[str, Callable[[], Iterator[Case]]] = {
    "manifest": manifest_cases,
    "graph": graph_cases,
    "engine": engine_cases,
    "tokenizer": tokenizer_cases,
    "option": option_cases,
    "noise": noise_cases,
    "picture": picture_cases,
    "sound": sound_cases,
    "call": call_cases,
    "checkpoint": checkpoint_cases,
    "environment": environment_cases,
    "kill": kill_cases,
}
SOURCES: dict[str, Callable[[], Path]] = {
    **{name: system.source for name, system in SYSTEMS.items()},
    "diffusers": diffusers_folder,
    "optimum": optimum_folder,
}
"""The folders of which every worker gets copies when it first needs them."""
