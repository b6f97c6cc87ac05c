"""The picture codecs of the goldens: each system's published files, and what its authors made with them."""

from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from x2i.models.codecs.token_codec import TokenCodec, read_token_codec
from x2i.models.readers.given_files import given_json, given_yaml
from x2i.models.readers.tensors import read_tensors

from tests.goldens import FULL, golden, golden_arrays


@dataclass(frozen=True)
class CodecGolden:
    """One codec: its arrays' file and the folder of its model, both below the goldens."""

    arrays: str
    folder: str

    def file(self, pattern: str) -> Path | None:
        """The first file of the model of this kind."""
        return next(iter(sorted(golden(self.folder).rglob(pattern))), None)

    @property
    def codec(self) -> Path:
        """The codec's own file."""
        found = self.file("taming_dvae/*.pth")
        assert found is not None
        return found

    @property
    def code_map(self) -> Path | None:
        """The map of its codes, where it has one."""
        return self.file("statistics/*.pt")

    @property
    def classes(self) -> int:
        """How many classes the transformer has, by its own configuration."""
        config = self.file("configs/config.yaml")
        if config is not None:
            model = given_yaml(config)["model"]["params"]["diffusion_config"]["params"]
            return model["content_emb_config"]["params"]["num_embed"]
        return given_json(golden(self.folder) / "args.json")["img_emb"]

    def inside(self) -> dict[str, torch.Tensor]:
        """The tensors of the transformer's checkpoint."""
        file = self.file("*pretrained_model*/*.pth")
        assert file is not None
        return read_tensors(file, sections=("model",)) if self.folder.startswith("unid3") else training_state(file)

    def pixels(self) -> torch.Tensor:
        """The picture that its authors encoded, float32 [B, channels, H, W] in -1..1."""
        arrays = self.values()
        levels = arrays["image_u8"] if "image_u8" in arrays else arrays["image_u8_nhwc"].transpose(0, 3, 1, 2)
        return torch.from_numpy(levels.astype(np.float32) / 255 * 2 - 1)

    def exponential(self) -> torch.Tensor | None:
        """The noise of a Gumbel codebook, [B, h * w, codes]."""
        noise = self.values().get("encode_exp_noise")
        return None if noise is None else torch.from_numpy(noise).flatten(2).mT

    def values(self) -> dict[str, np.ndarray]:
        """What the authors' code made."""
        return golden_arrays(self.arrays)

    @property
    def to_uint8(self) -> str:
        """How its authors make bytes of a picture."""
        return "truncate" if "decoded_float" in self.values() else "round"

    def grid(self, codec: TokenCodec) -> tuple[int, int]:
        """(height, width) of the tokens."""
        height, width = self.pixels().shape[2:]
        return height // codec.vqgan.settings.factor, width // codec.vqgan.settings.factor


def picture(values: dict[str, np.ndarray]) -> np.ndarray:
    """The picture that a golden's tokens stand for, float32 [B, channels, H, W] in -1..1."""
    if "decoded_float" in values:
        return values["decoded_float"] / np.float32(127.5) - 1
    return values["decoded_float01"] * 2 - 1


def training_state(file: Path) -> dict[str, Any]:
    """The tensors of a training checkpoint's model."""
    return torch.load(file, map_location="cpu", weights_only=True)["model"]


def codec_goldens() -> list[CodecGolden]:
    """Every codec of the full set; empty where that is not here."""
    found = [
        CodecGolden(path.relative_to(FULL).as_posix(), path.relative_to(FULL).as_posix().removesuffix("_codec.npz"))
        for system in ("vq_diffusion", "cdcd")
        for path in sorted((FULL / system).glob("*_codec.npz"))
    ]
    return found + ([CodecGolden("unid3/codec.npz", "unid3/checkpoint")] if (FULL / "unid3").exists() else [])


@cache
def read_codec(case: CodecGolden) -> TokenCodec:
    """The codec of a golden, read once."""
    return read_token_codec(case.codec, case.code_map, case.classes)


ALL = pytest.mark.parametrize("case", codec_goldens(), ids=lambda case: case.arrays.removesuffix(".npz"))
MAPPED = [case for case in codec_goldens() if list((FULL / case.folder).rglob("statistics/*.pt"))]
