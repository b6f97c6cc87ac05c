"""Names of the projected keys and values: the same on the projection's outputs and the denoiser's inputs."""

from collections.abc import Iterable

KEYS, VALUES = "key", "value"
LOCAL_KEYS, LOCAL_VALUES = "local_key", "local_value"
TOKEN_INDEX, STRENGTH = "token_index", "strength"


def layer_names(kind: str, layers: Iterable[str]) -> list[str]:
    """`key.down_blocks.0.attentions.0.transformer_blocks.0` and the like, from the layers' module paths."""
    return [f"{kind}.{path.removesuffix('.attn2')}" for path in layers]


def pattern(kind: str) -> str:
    """All layers' tensors of a kind, as a plan writes it."""
    return f"{kind}.*"
