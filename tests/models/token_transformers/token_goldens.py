"""The models in the folders of VQ-Diffusion's goldens and of those who share its code."""

from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.goldens import found, golden


@dataclass(frozen=True)
class GoldenModel:
    """One checkpoint of a golden's folder; its arrays are `<system>/<stem>_transformer.npz` and the like."""

    system: str
    folder: str
    checkpoint: str
    stem: str

    @property
    def config_file(self) -> Path:
        return golden(f"{self.system}/{self.folder}/configs/config.yaml")

    @property
    def checkpoint_file(self) -> Path:
        return golden(f"{self.system}/{self.folder}/{self.checkpoint}")

    def arrays(self, kind: str) -> str:
        """The name of a golden of arrays; one checkpoint's text encoder and codec are also its sibling's."""
        return f"{self.system}/{self.stem}_{kind}.npz"


def models(*systems: str) -> list:
    """Every checkpoint with arrays, as parameters of a test; without the goldens one parameter that skips."""
    listed = [
        pytest.param(each, id=f"{each.system}-{each.stem}")
        for system in systems
        for each in checkpoints(system)
        if each.stem
    ]
    return listed or [pytest.param(None, marks=pytest.mark.skip("the goldens of discrete diffusion are not here"))]


def checkpoints(system: str) -> list[GoldenModel]:
    """Every checkpoint of a system's folders."""
    root = found(system)
    if root is None:
        return []
    stems = sorted(path.name.removesuffix("_transformer.npz") for path in root.glob("*_transformer.npz"))
    made = []
    for config in sorted(root.glob("*/configs/config.yaml")):
        folder = config.parents[1]
        files = sorted(folder.glob("OUTPUT/pretrained_model/*.pth"))
        for file in files:
            stem = _stem(folder.name, file.stem.rpartition("_")[2], stems, alone=len(files) == 1)
            made.append(GoldenModel(system, folder.name, file.relative_to(folder).as_posix(), stem))
    return made


def _stem(folder: str, label: str, stems: list[str], alone: bool) -> str:
    """A second checkpoint of a folder has the folder's kind and its own label in the name of its arrays; "" for one
    without any."""
    kind = folder.partition("_")[0]
    own = next((stem for stem in stems if stem.startswith(f"{kind}_") and label in stem), "")
    return own or (folder if alone and folder in stems else "")
