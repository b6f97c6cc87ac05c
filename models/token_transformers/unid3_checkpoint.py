"""UniD3's files: the options of a training run, and its checkpoint (arXiv 2211.14842)."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from ..errors import CheckpointError
from ..readers.config_reader import MOST_COUNT, ConfigReader
from ..readers.given_files import given_json
from ..readers.loading import Load, build_module, load_all_strictly
from ..readers.tensors import read_tensors
from .unid3 import UniD3Settings, UniD3Transformer

PREFIX, NETWORK, CODEC = "model.", "_denoise_fn.", "image_tokenizer."
"""What every key of a checkpoint begins with, then the network's, then the codec's."""
BYTE_PIECES = 256
"""What the option `txt_emb` leaves out of the caption's classes."""
SCHEDULE = {
    **dict.fromkeys(("log_at", "log_bt_img", "log_bt_txt", "log_ct", "log_1_min_ct"), 0),
    **dict.fromkeys(
        ("log_cumprod_at", "log_cumprod_bt_img", "log_cumprod_bt_txt", "log_cumprod_ct", "log_1_min_cumprod_ct"), 1
    ),
}
"""The schedule's buffers, and how many numbers each has beside one for each timestep."""
# Statistics of the losses; causal masks that nothing reads; a head of the embedding that is never applied.
EXTRAS = (
    "Lt_history",
    "Lt_count",
    f"{NETWORK}transformer.blocks.*_attn.mask",
    f"{NETWORK}transformer.embedding.to_logits.*",
    f"{CODEC}*",
)


@dataclass(frozen=True, slots=True)
class UniD3:
    """`transformer` in eval mode and float32, its norms still as published; `schedule` the float32 buffers by the names
    in SCHEDULE; `codec` the picture codec's tensors, empty where the checkpoint has none."""

    transformer: UniD3Transformer
    schedule: dict[str, Tensor]
    codec: dict[str, Tensor]


def read_unid3_settings(path: Path) -> UniD3Settings:
    """The sizes in a JSON file of the training script's options.

    Options of training and of files are many, and change nothing here; the others are checked. Raises CheckpointError
    with all that are absent, odd or another model's.
    """
    options = ConfigReader(given_json(path), str(path), model="UniD3")
    options.only("attention_type", "selfcross", absent="selfcross")
    options.only("diffusion_parametrization", "x0", absent="x0")
    options.only("VQ_Type", "TamingGumbelVQVAE", absent="TamingGumbelVQVAE")
    options.only("tokenizer", "SimpleTokenizer", absent="SimpleTokenizer")
    text_classes = options.raw("txt_emb")
    if type(text_classes) is not int or not 0 < text_classes + BYTE_PIECES <= MOST_COUNT:
        options.note(f"txt_emb as the caption's classes without {BYTE_PIECES}", text_classes)
        text_classes = 1
    settings = UniD3Settings(
        width=options.count("transformer_dim"),
        heads=options.count("transformer_heads"),
        depth=options.count("transformer_depth"),
        timesteps=options.count("diffusion_steps"),
        image_classes=options.count("img_emb"),
        text_classes=text_classes + BYTE_PIECES,
        side=options.count("spatial_size"),
        text_length=options.count("length_size"),
    )
    if settings.width % settings.heads:
        options.note(f"a transformer_dim that {settings.heads} heads divide", settings.width)
    if options.problems:
        raise CheckpointError(*options.problems)
    return settings


def read_unid3(path: Path, settings: UniD3Settings) -> UniD3:
    """The checkpoint of a training run: keys that begin with `model.`, under which the network, the schedule and, where
    it was saved with them, the codec stand.

    Raises CheckpointError with every key that is missing, unknown or of another shape.
    """
    tensors = read_tensors(path)
    transformer = build_module(lambda: UniD3Transformer(settings), str(path))
    head = f"{PREFIX}{NETWORK}"
    names = {key: f"{head}{'rezero' if key == 'alpha' else 'transformer'}.{key}" for key in transformer.state_dict()}
    known = [PREFIX + name for name in (*EXTRAS, *SCHEDULE)]
    load_all_strictly([Load(transformer, tensors, str(path), known, names)], _problems(tensors, settings, str(path)))
    return UniD3(
        transformer,
        {name: tensors[PREFIX + name].float() for name in SCHEDULE},
        {key.removeprefix(PREFIX + CODEC): value for key, value in tensors.items() if key.startswith(PREFIX + CODEC)},
    )


def _problems(tensors: Mapping[str, Tensor], settings: UniD3Settings, source: str) -> list[str]:
    """What is wrong with the schedule's buffers."""
    expected = {PREFIX + name: [settings.timesteps + more] for name, more in SCHEDULE.items()}
    return [
        f"{source}: expected {name} {shape}, got {list(tensors[name].shape) if name in tensors else 'none'}; "
        "fix: give the checkpoint, or the options, that belong to it"
        for name, shape in expected.items()
        if name not in tensors or list(tensors[name].shape) != shape
    ]
