"""The systems `x2i export` knows, by name."""

from . import elite, gluegen_text, ip_adapter, stable_diffusion
from .system import SystemSpec

SYSTEMS: dict[str, SystemSpec] = {
    "sd": stable_diffusion.SYSTEM,
    "gluegen-text": gluegen_text.SYSTEM,
    "elite": elite.SYSTEM,
    "ip-adapter": ip_adapter.SYSTEM,
}
