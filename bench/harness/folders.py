"""The folders that peers read, each made once from the same weights by the environment that can."""

import sys
from dataclasses import dataclass
from pathlib import Path

from x2i.runtime.bundle.reader import open_bundle

from harness.environments import ROOT, Environments, run_program

X2I = "-c", "from x2i.runtime.cli import main; main()"
TRIALS = ("--trial-steps", "2", "--trial-size", "256x256", "--accept")
"""Random weights draw nothing that could be judged: few and small runs, and the gate's figures are kept as they are."""
THINNED = ("--steps", "20", "--runs", "1", "--way", "thinning")
JUDGED = ("--steps", "50", "--judge", "emoji")
UNJUDGED = ("--steps", "20", "--runs", "1", "--size", "256x256", "--accept")
EXPORTED = ("-c", "import sys; from pathlib import Path; from full_size.full import exported; "
            "exported('sd', Path(sys.argv[1]), 'sd15')")  # fmt: skip
TINY_VAE = ("-c", "import sys; from diffusers import AutoencoderTiny as Tiny; from x2i.models.random import weights; "
            "weights.draw_weights(Tiny(), 0).save_pretrained(sys.argv[1])")  # fmt: skip
EMBEDDED = ("-c", "import sys; from pathlib import Path; from x2i.emoji.embedded import embedded, embedded_sd; "
            "embedded(embedded_sd, Path(sys.argv[1]), print)")  # fmt: skip


@dataclass(frozen=True, slots=True)
class Folders:
    """The folder of a model and a kind, made now where it is not there yet.

    Kinds are `bundle`, `bundle-int8,decoder=bf16` (lowered to these precisions), `few-steps`, `few-steps-elite` and
    both with `-int8` behind (drawn in few steps, decoded by `tiny-vae`), `diffusers`, `optimum`, `openvino-fp32` and
    `openvino-int8`; a bundle without the `preset` is tuned for it.

    Bundles of the full-size model are those that `make full` and `make precisions` leave in `full`. Raises SetupError
    where a folder cannot be made.
    """

    home: Path
    full: Path
    environments: Environments

    def __call__(self, model: str, kind: str, preset: str | None = None) -> Path:
        folder = self._place(model, kind)
        if not folder.exists():
            folder.parent.mkdir(parents=True, exist_ok=True)
            self._make(model, kind, folder)
        if preset is not None and preset not in open_bundle(folder, check_files=False).manifest.plan.presets:
            self._ours(
                *X2I, "tune", folder, "--name", preset, "--backend", "openvino", *self._tuning(model, kind, preset)
            )
        return folder

    def _tuning(self, model: str, kind: str, preset: str) -> tuple[str, ...]:
        """How a preset is found: what is more than thinning by the embedded model's judge, as random weights have
        none."""
        if preset == "thin":
            return THINNED
        return JUDGED if model == "emoji" else ("--like", f"{self('emoji', kind, preset)}:{preset}", *UNJUDGED)

    def _place(self, model: str, kind: str) -> Path:
        if model == "sd15" and kind.startswith("bundle"):
            return self.full / f"sd-sd15{kind.removeprefix('bundle')}"
        return self.home / model / kind

    def _make(self, model: str, kind: str, folder: Path) -> None:
        name, _, precision = kind.partition("-")
        if kind == "bundle":
            self._ours(*(EXPORTED if model == "sd15" else EMBEDDED), self.full if model == "sd15" else folder)
        elif kind == "tiny-vae":
            self._ours(*TINY_VAE, folder)
        elif name == "few" and kind.endswith("-int8"):
            whole = self(model, kind.removesuffix("-int8"))
            self._ours(*X2I, "lower", whole, folder, "--precision", "int8", *TRIALS)
        elif name == "few":
            system, tiny = "elite" if kind.endswith("-elite") else "sd", self(model, "tiny-vae")
            drawn = ("--few-step", "lcm", "--decoder", tiny)
            self._ours(*X2I, "export", system, folder, "--random-weights", model, *drawn)
        elif name == "bundle":
            trials = TRIALS if model == "sd15" else ("--accept",)
            precisions = [word for one in precision.split(",") for word in ("--precision", one)]
            self._ours(*X2I, "lower", self(model, "bundle"), folder, *precisions, *trials)
        elif name == "diffusers":
            self._ours(self._maker("diffusers_folder"), model, folder, self(model, "bundle"))
        elif name == "optimum":
            self._by("optimum", "optimum_folders", "onnx", self(model, "diffusers"), folder)
        elif kind == "openvino-int8":
            self._by("openvino-export", "optimum_folders", precision, self(model, "openvino-fp32"), folder)
        else:
            self._by("openvino-export", "optimum_folders", precision, self(model, "diffusers"), folder)

    def _ours(self, *words: str | Path) -> None:
        run_program([sys.executable, *map(str, words)])

    def _by(self, environment: str, maker: str, *words: str | Path) -> None:
        run_program([str(self.environments.python(environment)), str(self._maker(maker)), *map(str, words)])

    def _maker(self, name: str) -> Path:
        return ROOT / "bench" / "makers" / f"{name}.py"
