"""Which UNets are experts that are drawn here, and whether experts, encoders and projections fit one another."""

from collections.abc import Mapping
from typing import Any

from ..stable_diffusion.drawable import text_problems, unet_problems
from .ensemble import Ensemble

Settings = Mapping[str, Any]
SHARED = {
    "in_channels": 4,
    "out_channels": 4,
    "sample_size": None,
    "cross_attention_dim": 1280,
    "class_embed_type": None,
    "projection_class_embeddings_input_dim": None,
    "time_cond_proj_dim": None,
}
"""Settings that experts of one picture have alike, with their defaults; all others may differ."""
_ONE = "fix: give experts that were trained for one picture"


def expert_problems(settings: Mapping[str, Settings], sources: Mapping[str, str]) -> list[str]:
    """Settings of experts that are not drawn here, or in which they differ though they draw one picture."""
    problems = []
    for name, own in settings.items():
        kind = own.get("class_embed_type")
        if kind == "projection":
            # A vector that is added to the time's embedding; all else is as in Stable Diffusion.
            own = {**own, "class_embed_type": None}
        problems += unet_problems(own, sources[name])
    first, *others = settings
    for name in others:
        for key, usual in SHARED.items():
            expected, got = (settings[one].get(key, usual) for one in (first, name))
            if expected != got:
                problems.append(
                    f"{sources[name]}: expected {key} {expected!r}, as the expert {first} has it, got {got!r}; {_ONE}"
                )
    return problems


def ensemble_problems(ensemble: Ensemble, source: str) -> list[str]:
    """Widths of encoders, projections and experts that do not fit, each told with its fix."""
    config, widths, projections = ensemble.config, ensemble.widths, ensemble.projections
    width = config.cross_attention_dim
    problems = []
    for name, own in widths.items():
        layer = projections.get(name)
        if layer is None and (projections or own != width or name != "clip-text"):
            problems.append(
                f"{source}: expected a projection of {name}, {own} to {width}, in context_projections.safetensors, got "
                "none; fix: add --part projections=FILE, or leave the encoder out"
            )
        elif layer is not None and (layer.in_features, layer.out_features) != (own, width):
            problems.append(
                f"{source}: expected a projection of {name} from {own} (its encoder) to {width} (the experts' "
                f"context), got {layer.in_features} to {layer.out_features}; fix: give the parts of one ensemble"
            )
    needed = widths["clip-text"] + widths.get("clip-image", 0)
    if ensemble.vector is not None and ensemble.vector < needed:
        problems.append(
            f"{source}: expected experts with a vector of {needed} numbers or more (CLIP's embeddings of text and "
            f"picture), got {ensemble.vector}; fix: give the parts of one ensemble"
        )
    channels = 3 if ensemble.vae is None else ensemble.vae.config.latent_channels
    if (config.in_channels, config.out_channels) != (channels, channels):
        what = "pixels, as there is no vae/" if ensemble.vae is None else "the VAE's latents"
        problems.append(
            f"{source}: expected experts of {channels} channels ({what}), got {config.in_channels} in and "
            f"{config.out_channels} out; fix: give the VAE that belongs to the experts, or none"
        )
    # Whether the text fits the context is said above, where a projection may stand between.
    text = ensemble.text.config
    sizes = {"hidden_size": width, "vocab_size": text.vocab_size}
    sizes["max_position_embeddings"] = text.max_position_embeddings
    return problems + text_problems(config, sizes, ensemble.tokenizer, source)
