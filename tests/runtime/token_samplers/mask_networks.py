"""The networks of mask-and-replace diffusion in the goldens, as the sampler calls them, and their runs' settings."""

import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
import yaml
from torch import Tensor
from x2i.export.components.text import UnitContext
from x2i.models.clip.merges_tokenizer import merges_tokenizer_json
from x2i.models.context_attention import ContextProjection
from x2i.models.token_transformers.dance import load_dance
from x2i.models.token_transformers.vq_diffusion import TokenTransformer, TokenTransformerSettings
from x2i.models.token_transformers.vq_diffusion_checkpoint import (
    NULL_CLASS,
    TRANSFORMER,
    VqDiffusion,
    read_vq_diffusion,
)
from x2i.models.token_transformers.vq_diffusion_config import read_vq_diffusion_config
from x2i.runtime.media.tokenizer import Tokenizer
from x2i.runtime.processes.guidance import Guidance
from x2i.runtime.token_samplers.mask_replace import MaskReplace
from x2i.runtime.token_samplers.sampler import Predict, TokenRun

from tests.goldens import golden, golden_arrays
from tests.runtime.token_samplers.mask_goldens import GoldenRun, sampler_of, token_run, with_slots

RULES = {None: None, 0: None, 1: "uniform", 2: "purity"}
"""The originals' numbers for priors."""


@dataclass(frozen=True)
class Networks:
    """A transformer, `conditions` for the sides of the guidance, and the scale that the case asks for."""

    transformer: TokenTransformer
    conditions: list[dict[str, Any]]
    scale: float

    @torch.no_grad()
    def __call__(self, tokens: np.ndarray, timestep: np.ndarray | int) -> dict[str, np.ndarray]:
        """As the process predicts: all rows of the guidance, then the rule for log-probabilities."""
        state, times = torch.from_numpy(np.ascontiguousarray(tokens)), torch.full((len(tokens),), int(timestep))
        said = [self.transformer(state, times, **condition) for condition in self.conditions]
        rule = Guidance(self.scale, "log_probabilities")
        return {"logits": rule.combined(torch.cat(said).numpy(), len(said), self.scale)}


def case_of(run: GoldenRun) -> dict[str, Any]:
    cases: dict[str, Any] = json.loads(golden(f"{run.family}/cases.json").read_text("utf-8"))[run.name]
    return cases


def walk_of(run: GoldenRun, predict: Predict | None = None, **changed: Any) -> tuple[MaskReplace, TokenRun]:
    """The sampler and the run as the original was started, from its networks or from `predict`; `changed` are options
    that the original had otherwise."""
    case, arrays, networks = case_of(run), run.arrays, networks_of(run)
    settings = networks.transformer.settings
    sampler = sampler_of(run.family, settings.classes, settings.steps, priors=settings.length == 1024)
    rate, skip, rule = case["truncation"], case.get("skip_step"), RULES[case.get("prior_rule")]
    given = {"truncation": rate, "untruncated": rate is None, "fast": None if skip is None else skip + 1}
    if rule is not None:
        weight = case["prior_weight"] if rule == "purity" else None
        given |= {"prior": rule, "prior_weight": weight, "reveals": case["prior_ps"]}
    if case.get("filter_ratio"):
        given["strength"] = case["filter_ratio"]
    asked = token_run(arrays, predict or networks, **given | changed)
    return sampler, with_slots(asked, **start_tokens(run, arrays)) if case.get("filter_ratio") else asked


def start_tokens(run: GoldenRun, arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The tokens that a run starts from; those of music are kept with the codec's arrays."""
    if "start_tokens" in arrays:
        return {"start_tokens": arrays["start_tokens"]}
    codec = golden_arrays(f"{run.family}/networks.npz")
    np.testing.assert_array_equal(codec["encode_wave"], arrays["music"])
    return {"start_tokens": codec["encoded_tokens_top"]}


def networks_of(run: GoldenRun) -> Networks:
    case, arrays = case_of(run), run.arrays
    if "motion" in arrays:
        return dance_networks(run.family, arrays)
    folder = case.get("model_dir", "model")
    # A case that names no unconditional side has no guidance, whatever its scale.
    scale = case.get("guidance", 1.0) if case.get("uncond_branch") else 1.0
    checkpoint = case.get("checkpoint") or next(Path(golden(f"{run.family}/{folder}")).rglob("pretrained_model/*.pth"))
    read = vq_diffusion(run.family, folder, str(checkpoint))
    count = arrays["tokens_after"].shape[1]
    if read.transformer.settings.class_rows is not None:
        sides = [NULL_CLASS, case["class_id"]] if scale != 1 else [case["class_id"]]
        return Networks(read.transformer, [{"class_id": torch.full((count,), side)} for side in sides], scale)
    if read.text_encoder is None:
        return Networks(read.transformer, [{}], 1.0)
    prompts = ["", case["prompt"]] if scale != 1 else [case["prompt"]]
    nulls = [scale != 1, False][: len(prompts)]
    return Networks(
        read.transformer,
        [text_condition(run, folder, read, *side, count) for side in zip(prompts, nulls, strict=True)],
        scale,
    )


@cache
def vq_diffusion(family: str, folder: str, checkpoint: str) -> VqDiffusion:
    config = read_vq_diffusion_config(
        golden(f"{family}/{folder}/configs/config.yaml"), ("first_stage_permuter_config",)
    )
    return read_vq_diffusion(golden(f"{family}/{folder}") / checkpoint, config)


@torch.no_grad()
def text_condition(
    run: GoldenRun, folder: str, read: VqDiffusion, prompt: str, is_null: bool, count: int
) -> dict[str, Any]:
    config = read_vq_diffusion_config(
        golden(f"{run.family}/{folder}/configs/config.yaml"), ("first_stage_permuter_config",)
    )
    assert config.prompt is not None and read.text_encoder is not None
    with TemporaryDirectory() as made:
        path = Path(made) / "tokenizer.json"
        path.write_text(merges_tokenizer_json(golden(f"{run.family}/bpe_tiny.txt.gz"), config.prompt.end_idx), "utf-8")
        ids = Tokenizer(path, config.prompt.window, 0, cleans=True)([prompt]).input_ids
    context = UnitContext(read.text_encoder, read.null_text)(torch.from_numpy(ids), torch.tensor([is_null]))
    return {"context": projected(read.transformer, context.expand(count, -1, -1))}


def projected(transformer: TokenTransformer, context: Tensor) -> tuple[Tensor, ...]:
    return tuple(ContextProjection(*transformer.context_weights())(context))


@torch.no_grad()
def dance_networks(family: str, arrays: dict[str, np.ndarray]) -> Networks:
    """The transformer of the music branch from its averaged weights, and its one token."""
    content = torch.load(golden(f"{family}/checkpoint/last.pth"), map_location="cpu", weights_only=True)
    settings = dance_settings(golden(f"{family}/configs/config.yaml"))
    transformer = TokenTransformer(settings).eval()
    transformer.load_state_dict({key: content["ema"][TRANSFORMER + key] for key in transformer.state_dict()})
    motion, video, genre = (torch.from_numpy(arrays[name]) for name in ("motion", "video", "genre"))
    token = load_dance(content["model"], content["ema"], "last.pth")(motion, video, genre.argmax(1))
    return Networks(transformer, [{"context": projected(transformer, token)}], 1.0)


def dance_settings(path: Path) -> TokenTransformerSettings:
    """The sizes in a configuration without tags of Python."""
    said = yaml.safe_load(path.read_text("utf-8").replace("!!python/tuple", ""))["model"]["params"]
    said = said["diffusion_config"]["params"]
    own, embedding = said["transformer_config"]["params"], said["content_emb_config"]["params"]
    assert math.prod(own["content_spatial_size"]) == own["content_seq_len"]
    return TokenTransformerSettings(
        classes=embedding["num_embed"],
        steps=said["diffusion_step"],
        length=own["content_seq_len"],
        position_grid=tuple(embedding["spatial_size"]),
        width=own["n_embd"],
        layers=own["n_layer"],
        heads=own["n_head"],
        mlp_factor=own["mlp_hidden_times"],
        context_width=own["condition_dim"],
    )


class Recording:
    """A prediction that notes which timesteps it was asked for."""

    def __init__(self, predict: Callable[..., dict[str, np.ndarray]]):
        self.predict, self.timesteps = predict, list[int]()

    def __call__(self, tokens: np.ndarray, timestep: np.ndarray | int) -> dict[str, np.ndarray]:
        self.timesteps.append(int(timestep))
        return self.predict(tokens, timestep)
