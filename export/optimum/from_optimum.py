"""A bundle from a folder of Stable Diffusion graphs as Optimum exports them; nothing is traced again."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from x2i.models.clip.published_tokenizer import PublishedTokenizer, read_clip_tokenizer
from x2i.models.readers.weights_folder import read_json
from x2i.models.stable_diffusion.drawable import channel_problems, latent_size, text_problems, vae_problems
from x2i.models.stable_diffusion.scheduler import read_scheduler
from x2i.runtime.bundle.calls import GraphCall
from x2i.runtime.bundle.manifest import Manifest, Source
from x2i.runtime.bundle.plan import Conditioner, Plan
from x2i.runtime.bundle.writer import file_records, new_bundle, write_manifest
from x2i.runtime.inputs.text.prompt import TextInput
from x2i.runtime.machine import package_versions
from x2i.runtime.processes.guidance import Guidance
from x2i.runtime.processes.latents import Decoder, LatentsProcess
from x2i.runtime.processes.segment import Segment

from ..errors import PlanError
from ..provenance import digest
from ..sampling.defaults import DIFFUSERS_SAMPLING
from ..sampling.schedulers import FolderSampling, read_sampling
from .configs import DECODER, DENOISER, GRAPH, TEXT_ENCODER
from .graphs import parts, write_adapted_graphs

TOKENIZER = "tokenizer.json"
MOST_SIZE = 100_000
"""Of anything that a folder's settings count."""
PRODUCERS = ("x2i-edge", "onnx", "onnxruntime")


@dataclass(frozen=True, slots=True)
class OptimumFolder:
    """A folder's configurations, checked: UNet's, VAE's and text encoder's, its tokenizer and its sampling."""

    path: Path
    unet: dict[str, Any]
    vae: dict[str, Any]
    text: dict[str, Any]
    tokenizer: PublishedTokenizer
    sampling: FolderSampling

    @property
    def factor(self) -> int:
        """Pixels of the picture per latent."""
        return 2 ** (len(self.vae["block_out_channels"]) - 1)

    @property
    def window(self) -> int:
        """Tokens of a prompt: the tokenizer's limit, or else the text encoder's positions."""
        return self.tokenizer.window or int(self.text["max_position_embeddings"])


def import_folder(
    folder: Path, out: Path, licences: tuple[str, ...] = (), report: Callable[[str], None] = lambda line: None
) -> None:
    """Writes the bundle `out` from Optimum's folder: its very graphs, under the names that our loop calls.

    Every graph is proven against the original, run by ONNX Runtime. Raises PlanError or CheckpointError for a folder of
    another kind, InputError where `out` exists, GateError where a graph differs; then nothing is left behind.
    """
    read = read_folder(folder)
    with new_bundle(out) as work:
        (work / TOKENIZER).write_text(read.tokenizer.json, encoding="utf-8")
        wanted = parts(float(read.vae["scaling_factor"]), read.window, read.tokenizer.size)
        graphs = write_adapted_graphs(folder, work, wanted, report)
        manifest = Manifest(
            system="sd",
            plan=_plan(read),
            graphs=graphs,
            files=file_records(work),
            sources=(Source("optimum", folder.name, digest(folder)),),
            licences=licences,
            producer=package_versions(PRODUCERS),
        )
        write_manifest(work, manifest)
    report(f"{out}: {len(graphs)} graphs")


def read_folder(folder: Path) -> OptimumFolder:
    """Reads and checks a folder; raises PlanError with all that is missing or of another kind."""
    wanted = [f"{part}/{name}" for part in (DENOISER, DECODER, TEXT_ENCODER) for name in (GRAPH, "config.json")]
    wanted += ["scheduler/scheduler_config.json"]
    if absent := [name for name in wanted if not (folder / name).is_file()]:
        raise PlanError(
            *(f"{folder}: expected {name}, got nothing; give a folder of `optimum-cli export onnx`" for name in absent)
        )
    settings = read_scheduler(folder)
    unet, vae, text = (read_json(folder / part / "config.json") for part in (DENOISER, DECODER, TEXT_ENCODER))
    problems = [
        f"{folder / DECODER}: expected {name} unset, got {vae[name]}; Stable Diffusion v1 alone is read"
        for name in ("shift_factor", "latents_mean", "latents_std")
        if vae.get(name)
    ]
    problems += _lacking(folder / DENOISER, unet, "in_channels", "block_out_channels")
    problems += _lacking(folder / DECODER, vae, "block_out_channels", "scaling_factor")
    problems += _lacking(folder / TEXT_ENCODER, text, "max_position_embeddings")
    for part, own in ((DENOISER, unet), (DECODER, vae), (TEXT_ENCODER, text)):
        problems += _odd_values(folder / part, own)
    if problems:
        raise PlanError(*problems)
    problems += channel_problems(unet, vae, str(folder)) + vae_problems(vae, str(folder / DECODER))
    tokenizer = read_clip_tokenizer(folder / "tokenizer")
    # Optimum's UNet reads what its text encoder gives, so the widths are one.
    problems += text_problems({"cross_attention_dim": text.get("hidden_size")}, text, tokenizer, str(folder))
    if text.get("use_attention_mask") is True:
        problems.append(
            f"{folder / TEXT_ENCODER}: expected no use_attention_mask, whose mask Optimum's graph does not take, got "
            "true; export the model itself with x2i export"
        )
    if problems:
        raise PlanError(*problems)
    return OptimumFolder(folder, unet, vae, text, tokenizer, read_sampling(settings, str(folder / "scheduler")))


def _lacking(part: Path, settings: dict[str, Any], *names: str) -> list[str]:
    absent = [name for name in names if settings.get(name) is None]
    return [f"{part / 'config.json'}: expected {name}, got nothing; export the folder again" for name in absent]


def _is_size(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= MOST_SIZE


def _are_sizes(value: Any, least: int, most: int) -> bool:
    return isinstance(value, list) and least <= len(value) <= most and all(map(_is_size, value))


def _is_factor(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < 1e6


KINDS: dict[str, tuple[str, Callable[[Any], bool]]] = {
    "sample_size": ("a size or two", lambda value: _is_size(value) or _are_sizes(value, 2, 2)),
    "in_channels": ("a size", _is_size),
    "block_out_channels": ("a list of sizes", lambda value: _are_sizes(value, 1, 8)),
    "scaling_factor": ("a number above 0", _is_factor),
    "max_position_embeddings": ("a size", _is_size),
}
"""What the settings are that are read here, in words and as a test."""


def _odd_values(part: Path, settings: dict[str, Any]) -> list[str]:
    return [
        f"{part / 'config.json'}: expected {expected} as {name}, got {settings[name]!r:.60}; export the folder again"
        for name, (expected, fits) in KINDS.items()
        if settings.get(name) is not None and not fits(settings[name])
    ]


def _plan(folder: OptimumFolder) -> Plan:
    stage = GraphCall(TEXT_ENCODER, {"input_ids": "input_ids"}, {"context": "context"})
    schedule = folder.sampling.schedule
    size, factor = latent_size(folder.unet), folder.factor
    height, width = (size, size) if isinstance(size, int) else size
    process = LatentsProcess(
        segments=(Segment("denoiser", schedule.train_steps, {"encoder_hidden_states": "context"}),),
        sampler=folder.sampling.sampler or DIFFUSERS_SAMPLING,
        decoder=Decoder(
            graph="decoder",
            channels=int(folder.unet["in_channels"]),
            factor=factor,
            size=(height * factor, width * factor),
            # Optimum's graph upsamples to twice the size, whatever the skip's is.
            size_multiple=factor * 2 ** (len(folder.unet["block_out_channels"]) - 1),
            grey=folder.vae.get("out_channels") == 1,
        ),
        schedule=schedule,
        guidance=Guidance(7.5),
    )
    return Plan(
        conditioners=(Conditioner((stage,), (TextInput(TOKENIZER, folder.window, folder.tokenizer.pad_id),)),),
        processes=(process,),
    )
