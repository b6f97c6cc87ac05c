"""The systems `x2i export` knows, by name."""

from . import gluegen_text, stable_diffusion
from .system import SystemSpec

SYSTEMS: dict[str, SystemSpec] = {
    "sd": stable_diffusion.SYSTEM,
    "gluegen-text": gluegen_text.SYSTEM,
}
