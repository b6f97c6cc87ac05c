"""A picture codec as a token transformer sees it: the VQGAN, and which of its codes the transformer knows."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from ..errors import CheckpointError, read_all
from ..readers.config_reader import MOST_COUNT
from ..readers.tensors import read_tensor
from .vqgan import Vqgan
from .vqgan_checkpoint import find_codec_config, holds_vqgan, load_vqgan, read_vqgan


@dataclass(frozen=True, slots=True)
class TokenCodec:
    """A VQGAN and `reduced`, int64 [codes], the class of each of its codes; without it every code is a class."""

    vqgan: Vqgan
    reduced: Tensor | None = None

    @property
    def classes(self) -> int:
        """How many classes the transformer draws from."""
        return self.vqgan.settings.codes if self.reduced is None else int(self.reduced.max()) + 1

    @property
    def codes(self) -> Tensor:
        """The code that stands for each class when it is decoded, int64 [classes]: the first that maps to it."""
        all_codes = torch.arange(self.vqgan.settings.codes)
        if self.reduced is None:
            return all_codes
        return torch.zeros(self.classes, dtype=torch.int64).scatter_reduce(
            0, self.reduced, all_codes, "amin", include_self=False
        )


def read_token_codec(
    codec: Path, code_map: Path | None, classes: int, config: str = "", inside: Mapping[str, Tensor] | None = None
) -> TokenCodec:
    """The codec of a transformer of so many `classes`, from its file, the YAML beside it, which `config` may name, and
    the map of its codes, where there is one.

    Where `inside`, the tensors of the transformer's checkpoint, has a codec as well, it is taken instead of the file's,
    as its authors load it. Raises CheckpointError with all that is wrong: with each file, and with one that belongs to
    another.
    """
    vqgan, reduced = read_all(
        lambda: read_vqgan(codec, find_codec_config(codec, config)),
        lambda: None if code_map is None else read_code_map(code_map),
    )
    codes = vqgan.settings.codes
    if reduced is not None and len(reduced) != codes:
        raise CheckpointError(
            f"{code_map}: expected the map of a codec of {codes} codes ({codec}), got one of {len(reduced)}; "
            "fix: give codec and map that belong together"
        )
    found = TokenCodec(vqgan, reduced)
    if found.classes != classes:
        source = codec if code_map is None else code_map
        missing = "" if code_map is not None or classes > codes else ", or the map of its codes beside it"
        raise CheckpointError(
            f"{source}: expected the {classes} classes of the transformer, got {found.classes}; "
            f"fix: give the one that it was trained with{missing}"
        )
    if inside is None or not holds_vqgan(inside):
        return found
    return TokenCodec(load_vqgan(vqgan.settings, inside, "the codec inside the checkpoint"), reduced)


def read_code_map(path: Path) -> Tensor:
    """The class of each code of a codec, int64 [codes], from a file of this one tensor; every class has a code.

    Raises CheckpointError for anything else.
    """
    reduced = read_tensor(path)
    whole = reduced.dtype == torch.int64 and reduced.ndim == 1 and 0 < reduced.numel() <= MOST_COUNT
    if not whole or not torch.equal(reduced.unique(), torch.arange(len(reduced.unique()))):
        got = f"{str(reduced.dtype).removeprefix('torch.')} {list(reduced.shape)}"
        what = "numbers with gaps" if whole else got
        raise CheckpointError(
            f"{path}: expected the class of each code, int64 [codes], from 0 on without gaps, got {what}; "
            "fix: give the map as it was published"
        )
    return reduced.clone()
