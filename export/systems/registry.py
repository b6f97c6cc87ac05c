"""The systems `x2i export` knows, by name."""

from ..plan import SystemSpec
from . import elite, fastcomposer, gluegen_sound, gluegen_text, ip_adapter, stable_diffusion

SYSTEMS: dict[str, SystemSpec] = {
    "sd": stable_diffusion.SYSTEM,
    "gluegen-text": gluegen_text.SYSTEM,
    "gluegen-sound": gluegen_sound.SYSTEM,
    "elite": elite.SYSTEM,
    "ip-adapter": ip_adapter.SYSTEM,
    "fastcomposer": fastcomposer.SYSTEM,
}
