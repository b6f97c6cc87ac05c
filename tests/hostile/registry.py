"""The kinds of bad inputs, and what makes those of each."""

from collections.abc import Callable, Iterable, Sequence
from itertools import chain
from pathlib import Path

from .calls import call_cases
from .case import Case
from .checkpoints import checkpoint_cases, diffusers_folder, optimum_folder
from .draws import draw_cases
from .environments import environment_cases
from .graphs import engine_cases, graph_cases, tokenizer_cases
from .kills import kill_cases
from .manifests import manifest_cases
from .media import noise_cases, picture_cases, sound_cases
from .options import option_cases
from .own_checkpoints import own_checkpoint_cases
from .profiles import profile_cases

KINDS: dict[str, Callable[[Sequence[str]], Iterable[Case]]] = {
    "manifest": manifest_cases,
    "graph": lambda systems: graph_cases(),
    "engine": lambda systems: engine_cases(),
    "tokenizer": lambda systems: tokenizer_cases(),
    "option": option_cases,
    "noise": lambda systems: chain(noise_cases(), draw_cases(systems)),
    "picture": picture_cases,
    "sound": sound_cases,
    "call": call_cases,
    "checkpoint": lambda systems: chain(checkpoint_cases(), own_checkpoint_cases(systems)),
    "profile": lambda systems: profile_cases(),
    "environment": lambda systems: environment_cases(),
    "kill": lambda systems: kill_cases(),
}
"""What makes the inputs of each kind, for bundles of these systems."""
FOLDERS: dict[str, Callable[[], Path]] = {"diffusers": diffusers_folder, "optimum": optimum_folder}
"""Beside the systems' bundles the folders of which every worker gets copies when it first needs them."""
