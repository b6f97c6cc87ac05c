"""The systems that `x2i export` knows, by name. A system's file, and with it torch, is imported on demand."""

from importlib import import_module
from typing import TYPE_CHECKING

from ..errors import PlanError

if TYPE_CHECKING:
    from ..system import SystemSpec

SYSTEMS = {
    "sd": "stable_diffusion",
    "gluegen-text": "gluegen_text",
    "gluegen-sound": "gluegen_sound",
    "elite": "elite",
    "ip-adapter": "ip_adapter",
    "fastcomposer": "fastcomposer",
    "unclip": ".cascades.unclip",
    "ediff-i": ".cascades.ediff_i",
    "frido": ".cascades.frido",
    "m-vader": ".cascades.m_vader",
    "vq-diffusion": ".token_systems.vq_diffusion",
    "cdcd": ".token_systems.cdcd",
    "ddcap": ".token_systems.ddcap",
    "muse": ".token_systems.muse",
    "cdcd-music": ".token_systems.cdcd_music",
    "diffsound": ".token_systems.diffsound",
    "unid3": ".token_systems.unid3",
    "vq-ddm": ".token_systems.vq_ddm",
}
"""The module behind each name, in this folder, or in one beside it for those without a Stable Diffusion base; its
SYSTEM is a SystemSpec."""


def system_spec(name: str) -> "SystemSpec":
    """The system of that name; raises PlanError for any other."""
    if name not in SYSTEMS:
        raise PlanError(f"system: expected one of {', '.join(SYSTEMS)}, got {name!r}")
    spec: SystemSpec = import_module(f".{SYSTEMS[name]}", __package__).SYSTEM
    return spec
