"""A bundle from a folder of Stable Diffusion graphs as Optimum exports them; nothing is traced again."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer
from x2i.models.clip.published_tokenizer import clip_pad_token, clip_tokenizer_json
from x2i.models.readers.weights_folder import read_json
from x2i.models.stable_diffusion.scheduler import read_scheduler
from x2i.runtime.bundle.manifest import Manifest, Source
from x2i.runtime.bundle.plan import Conditioner, Decoder, GraphCall, Guidance, Plan, Segment
from x2i.runtime.bundle.writer import file_records, new_bundle, write_manifest
from x2i.runtime.inputs.prompt import TextInput
from x2i.runtime.machine import package_versions

from ..errors import PlanError
from ..provenance import digest
from ..sampling import DIFFUSERS_SAMPLING
from ..schedulers import FolderSampling, read_sampling
from .configs import DECODER, DENOISER, GRAPH, TEXT_ENCODER
from .graphs import parts, write_adapted_graphs

TOKENIZER = "tokenizer.json"
PRODUCERS = ("x2i-edge", "onnx", "onnxruntime")


@dataclass(frozen=True, slots=True)
class OptimumFolder:
    """A folder's configurations, checked: UNet's, VAE's and text encoder's, and its sampling."""

    path: Path
    unet: dict[str, Any]
    vae: dict[str, Any]
    text: dict[str, Any]
    sampling: FolderSampling

    @property
    def factor(self) -> int:
        """Pixels of the picture per latent."""
        return 2 ** (len(self.vae["block_out_channels"]) - 1)


def import_folder(
    folder: Path, out: Path, licences: tuple[str, ...] = (), report: Callable[[str], None] = lambda line: None
) -> None:
    """Writes the bundle `out` from Optimum's folder: its very graphs, under the names that our loop calls.

    Every graph is proven against the original, run by ONNX Runtime. Raises PlanError or CheckpointError for a folder of
    another kind, InputError where `out` exists, GateError where a graph differs; then nothing is left behind.
    """
    read = read_folder(folder)
    with new_bundle(out) as work:
        (work / TOKENIZER).write_text(clip_tokenizer_json(folder / "tokenizer"), encoding="utf-8")
        tokenizer = Tokenizer.from_file(str(work / TOKENIZER))
        wanted = parts(float(read.vae["scaling_factor"]), _window(read), tokenizer.get_vocab_size())
        graphs = write_adapted_graphs(folder, work, wanted, report)
        manifest = Manifest(
            system="sd",
            plan=_plan(read, tokenizer),
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
    problems += _lacking(folder / DENOISER, unet, "sample_size", "in_channels", "block_out_channels")
    problems += _lacking(folder / DECODER, vae, "block_out_channels", "scaling_factor")
    problems += _lacking(folder / TEXT_ENCODER, text, "max_position_embeddings")
    problems += _channel_problems(folder, unet, vae)
    if problems:
        raise PlanError(*problems)
    return OptimumFolder(folder, unet, vae, text, read_sampling(settings, str(folder / "scheduler")))


def _channel_problems(folder: Path, unet: dict[str, Any], vae: dict[str, Any]) -> list[str]:
    """A UNet for inpainting, for one, reads a mask and a picture beside the latents."""
    read = unet.get("in_channels")
    made, decoded = unet.get("out_channels", read), vae.get("latent_channels", read)
    if read == made == decoded:
        return []
    numbers = f"{read} in, {made} out, {decoded} in the VAE"
    return [f"{folder / DENOISER}: expected one number of latent channels, got {numbers}; give plain text-to-image"]


def _lacking(part: Path, settings: dict[str, Any], *names: str) -> list[str]:
    absent = [name for name in names if settings.get(name) is None]
    return [f"{part / 'config.json'}: expected {name}, got nothing; export the folder again" for name in absent]


def _window(folder: OptimumFolder) -> int:
    return int(folder.text["max_position_embeddings"])


def _plan(folder: OptimumFolder, tokenizer: Tokenizer) -> Plan:
    token = clip_pad_token(folder.path / "tokenizer")
    pad = tokenizer.token_to_id(token)
    if pad is None:
        raise PlanError(f"{folder.path / 'tokenizer'}: expected {token!r} in its vocabulary, got none")
    stage = GraphCall(TEXT_ENCODER, {"input_ids": "input_ids"}, {"context": "context"})
    schedule = folder.sampling.schedule
    size, factor = folder.unet["sample_size"], folder.factor
    height, width = (size, size) if isinstance(size, int) else size
    return Plan(
        conditioners=(Conditioner((stage,), (TextInput(TOKENIZER, _window(folder), pad),)),),
        segments=(Segment("denoiser", schedule.train_steps, {"encoder_hidden_states": "context"}),),
        sampler=folder.sampling.sampler or DIFFUSERS_SAMPLING,
        decoder=Decoder(
            graph="decoder",
            channels=int(folder.unet["in_channels"]),
            factor=factor,
            size=(height * factor, width * factor),
            # Optimum's graph upsamples to twice the size, whatever the skip's is.
            size_multiple=factor * 2 ** (len(folder.unet["block_out_channels"]) - 1),
        ),
        schedule=schedule,
        guidance=Guidance(7.5),
    )
