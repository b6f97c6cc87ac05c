"""The layouts that a base, its text encoder and its VAE are published in: each is read, and the docs list them."""

import json
import re
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import torch
from diffusers import PNDMScheduler
from safetensors.torch import load_file, save_file
from torch import Tensor
from x2i.models.errors import CheckpointError
from x2i.models.random.sizes import SIZES
from x2i.models.random.weights import random_stable_diffusion
from x2i.models.stable_diffusion.base import Replacements, StableDiffusion, read_stable_diffusion
from x2i.models.stable_diffusion.compvis_names import unet_names, vae_names

DOCS = Path(__file__).parents[3] / "docs" / "export.md"
TENSORS = "diffusion_pytorch_model.safetensors"
OLD_ATTENTION = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}
OPEN_CLIP = {
    "embeddings.token_embedding.": "token_embedding.",
    "embeddings.position_embedding.weight": "positional_embedding",
    "final_layer_norm.": "ln_final.",
    "encoder.layers.": "transformer.resblocks.",
    "layer_norm1": "ln_1",
    "layer_norm2": "ln_2",
    "self_attn.out_proj": "attn.out_proj",
    "mlp.fc1": "mlp.c_fc",
    "mlp.fc2": "mlp.c_proj",
}
Tensors = dict[str, Tensor]


@pytest.fixture(scope="module")
def tiny() -> StableDiffusion:
    return random_stable_diffusion("tiny", seed=11)


@pytest.fixture(scope="module")
def published(tiny, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("published")
    for part in ("unet", "vae", "text_encoder"):
        getattr(tiny, part).save_pretrained(folder / part)
    schedule = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
    PNDMScheduler(**schedule, skip_prk_steps=True, steps_offset=1).save_pretrained(folder / "scheduler")
    (folder / "tokenizer").mkdir()
    (folder / "tokenizer" / "tokenizer.json").write_text(tiny.tokenizer.json, encoding="utf-8")
    return folder


def compvis_tensors(tiny: StableDiffusion) -> Tensors:
    """The three parts as one CompVis file names them; CLIP's keys in transformers' form."""
    settings = SIZES["tiny"].stable_diffusion["unet"]
    attends = ["CrossAttn" in each for each in tiny.unet.config.down_block_types]
    names = unet_names(tiny.unet, settings["num_res_blocks"], attends)
    tensors = {names[key]: value for key, value in tiny.unet.state_dict().items()}
    tensors |= compvis_vae(tiny)
    text = tiny.text_encoder.state_dict()
    prefix = "cond_stage_model.transformer.text_model."
    return tensors | {prefix + key.removeprefix("text_model."): value for key, value in text.items()}


def compvis_vae(tiny: StableDiffusion, prefix: str = "first_stage_model.") -> Tensors:
    names = vae_names(tiny.vae, 4, prefix)
    attention = re.compile(r".*mid\.attn_1\.(q|k|v|proj_out)\.weight")
    state = {names[key]: value for key, value in tiny.vae.state_dict().items()}
    return {key: value[..., None, None] if attention.fullmatch(key) else value for key, value in state.items()}


def same(ours: StableDiffusion, tiny: StableDiffusion, dtype: torch.dtype = torch.float32) -> bool:
    """Whether all weights are those of the dtype, as float32."""
    pairs = [(getattr(ours, part), getattr(tiny, part)) for part in ("unet", "vae", "text_encoder")]
    return all(
        value.dtype == torch.float32 and torch.equal(value, theirs.state_dict()[key].to(dtype).float())
        for own, theirs in pairs
        for key, value in own.state_dict().items()
    )


def rewritten(folder: Path, part: str, change: Callable[[Tensors], Tensors]) -> None:
    (file,) = (folder / part).glob("*.safetensors")
    save_file({key: value.contiguous() for key, value in change(load_file(file)).items()}, file)


def changed(folder: Path, part: str, **settings) -> None:
    file = folder / part / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text("utf-8")) | settings), encoding="utf-8")


def pickled(folder: Path) -> None:
    for part, name in (("unet", TENSORS), ("vae", TENSORS), ("text_encoder", "model.safetensors")):
        stem = "pytorch_model" if part == "text_encoder" else "diffusion_pytorch_model"
        torch.save(load_file(folder / part / name), folder / part / f"{stem}.bin")
        (folder / part / name).unlink()


def sharded(folder: Path, tiny: StableDiffusion) -> None:
    shutil.rmtree(folder / "unet")
    tiny.unet.save_pretrained(folder / "unet", max_shard_size="1MB")


def older(tensors: Tensors) -> Tensors:
    for new, old in OLD_ATTENTION.items():
        tensors = {key.replace(f".attentions.0.{new}.", f".attentions.0.{old}."): v for key, v in tensors.items()}
    return tensors


def plain_clip(tensors: Tensors) -> Tensors:
    return {key.removeprefix("text_model."): value for key, value in tensors.items()}


def prefixed_clip(tensors: Tensors) -> Tensors:
    prefixed = {"text_model." + key: value for key, value in plain_clip(tensors).items()}
    return prefixed | {"text_model.embeddings.position_ids": torch.arange(77)[None]}


def whole_clip(folder: Path) -> None:
    file = folder / "text_encoder" / "config.json"
    text = json.loads(file.read_text("utf-8"))
    file.write_text(json.dumps({"model_type": "clip", "text_config": text}), encoding="utf-8")
    extras = {"text_projection.weight": torch.ones(4, 4), "logit_scale": torch.ones(1)}
    rewritten(folder, "text_encoder", lambda t: prefixed_clip(t) | extras | {"vision_model.x": torch.ones(1)})


FOLDERS: dict[str, Callable[[Path, StableDiffusion], object]] = {
    "safetensors": lambda folder, tiny: None,
    "pickles (`.bin`)": lambda folder, tiny: pickled(folder),
    "shards": sharded,
    "CLIP's keys with `text_model.`": lambda folder, tiny: rewritten(folder, "text_encoder", prefixed_clip),
    "CLIP's keys without it": lambda folder, tiny: rewritten(folder, "text_encoder", plain_clip),
    "a whole CLIP in `text_encoder/`": lambda folder, tiny: whole_clip(folder),
    "the VAE's attention of diffusers before 0.16": lambda folder, tiny: rewritten(folder, "vae", older),
    "`sample_size` of diffusers before 0.9": lambda folder, tiny: changed(
        folder, "unet", _diffusers_version="0.6.0", sample_size=32
    ),
    "`upcast_attention`, one number of heads a level": lambda folder, tiny: changed(
        folder, "unet", upcast_attention=True, attention_head_dim=[4, 4]
    ),
}


@pytest.mark.parametrize("name", FOLDERS)
def test_diffusers_folders(name, published, tiny, tmp_path):
    shutil.copytree(published, tmp_path / "sd")
    FOLDERS[name](tmp_path / "sd", tiny)
    base = read_stable_diffusion(tmp_path / "sd")
    assert same(base, tiny) and base.tokenizer.pad_id == tiny.tokenizer.pad_id


DTYPES = {"fp16": torch.float16, "bf16": torch.bfloat16, "fp8": torch.float8_e4m3fn, "fp8_": torch.float8_e5m2}


@pytest.mark.parametrize("variant", DTYPES)
def test_lower_precisions_are_read_exactly(variant, published, tiny, tmp_path):
    """In a folder of that variant, and in one CompVis file."""
    dtype = DTYPES[variant]
    shutil.copytree(published, tmp_path / "sd")
    for part in ("unet", "vae", "text_encoder"):
        (file,) = (tmp_path / "sd" / part).glob("*.safetensors")
        low = {key: value.to(dtype) for key, value in load_file(file).items()}
        save_file(low, file.with_suffix(f".{variant.rstrip('_')}.safetensors"))
        file.unlink()
    assert same(read_stable_diffusion(tmp_path / "sd"), tiny, dtype)
    low = {key: value.to(dtype).contiguous() for key, value in compvis_tensors(tiny).items()}
    assert same(read_compvis_file(low, tmp_path, "safetensors"), tiny, dtype)


def read_compvis_file(tensors: Tensors, folder: Path, suffix: str, **replaced) -> StableDiffusion:
    file, config = folder / f"sd.{suffix}", folder / "config.json"
    if suffix == "safetensors":
        save_file({key: value.contiguous() for key, value in tensors.items()}, file)
    else:
        torch.save({"state_dict": tensors, "global_step": 3}, file)
    sizes = SIZES["tiny"]
    config.write_text(json.dumps({**sizes.stable_diffusion, "text_encoder": sizes.text_encoder}), encoding="utf-8")
    return read_stable_diffusion(file, config, Replacements(**replaced))


def open_clip(tensors: Tensors, last: int = 2) -> Tensors:
    """OpenCLIP's names for the same weights, with a layer behind the last that is read."""
    found: Tensors = {}
    for key, value in tensors.items():
        if not key.startswith("cond_stage_model."):
            found[key] = value
            continue
        name = key.removeprefix("cond_stage_model.transformer.text_model.")
        if ".self_attn." in name and ".out_proj." not in name:
            continue
        for ours, theirs in OPEN_CLIP.items():
            name = name.replace(ours, theirs)
        found["cond_stage_model.model." + name] = value
    for layer in range(last):
        where = f"cond_stage_model.transformer.text_model.encoder.layers.{layer}.self_attn."
        for kind in ("weight", "bias"):
            joined = torch.cat([tensors[f"{where}{letter}_proj.{kind}"] for letter in "qkv"])
            found[f"cond_stage_model.model.transformer.resblocks.{layer}.attn.in_proj_{kind}"] = joined
    unread = {f"cond_stage_model.model.transformer.resblocks.{last}.ln_1.weight": torch.ones(48)}
    return found | unread | {"cond_stage_model.model.text_projection": torch.ones(4, 4)}


def renamed(tensors: Tensors, old: str, new: str) -> Tensors:
    return {key.replace(old, new): value for key, value in tensors.items()}


TRAINING = {
    "model_ema.decay": torch.tensor(0.9),
    "model_ema.diffusion_modeltime_embed0weight": torch.ones(3),
    "first_stage_model.loss.logvar": torch.ones(1),
    "cond_stage_model.transformer.text_model.embeddings.position_ids": torch.arange(77)[None],
    "cond_stage_model.logit_scale": torch.ones(1),
    "scale_factor": torch.tensor(0.18215),
}
FILES: dict[str, tuple[str, Callable[[Tensors], Tensors]]] = {
    "`.safetensors`": ("safetensors", lambda tensors: tensors),
    "`.ckpt`": ("ckpt", lambda tensors: tensors),
    "with averaged weights, losses and buffers": ("ckpt", lambda tensors: tensors | TRAINING),
    "CLIP's keys without `text_model.`": ("safetensors", partial(renamed, old=".text_model.", new=".")),
    "CLIP's keys without `transformer.`": ("safetensors", partial(renamed, old=".transformer.text_model.", new=".")),
    "OpenCLIP's keys, as in Stable Diffusion 2": ("safetensors", open_clip),
}


@pytest.mark.parametrize("name", FILES)
def test_compvis_files(name, published, tiny, tmp_path):
    suffix, change = FILES[name]
    base = read_compvis_file(change(compvis_tensors(tiny)), tmp_path, suffix, tokenizer=published / "tokenizer")
    assert same(base, tiny)
    assert base.tokenizer.pad_id == (0 if "OpenCLIP" in name else tiny.tokenizer.pad_id)


def test_open_clip_without_a_configuration(tiny, tmp_path):
    """The weights do not say what Stable Diffusion 2's UNet predicts: the authors' YAML does."""
    save_file(
        {key: value.contiguous() for key, value in open_clip(compvis_tensors(tiny)).items()},
        tmp_path / "v2.safetensors",
    )
    with pytest.raises(CheckpointError, match=r"got OpenCLIP's .*fix: give its authors' YAML as --base-config"):
        read_stable_diffusion(tmp_path / "v2.safetensors")


def vae_folder(tiny: StableDiffusion, out: Path) -> Path:
    tiny.vae.save_pretrained(out / "other")
    return out / "other"


def vae_file(tiny: StableDiffusion, out: Path, tensors: Tensors, suffix: str = "safetensors") -> Path:
    file = out / f"other.{suffix}"
    if suffix == "safetensors":
        save_file({key: value.contiguous() for key, value in tensors.items()}, file)
    else:
        torch.save({"state_dict": tensors | {"loss.logvar": torch.ones(1)}}, file)
    return file


VAES: dict[str, Callable[[StableDiffusion, Path], Path]] = {
    "a diffusers folder": vae_folder,
    "a base's diffusers folder": lambda tiny, out: vae_folder(tiny, out / "base").rename(out / "base" / "vae").parent,
    "a file with diffusers' keys": lambda tiny, out: vae_file(tiny, out, tiny.vae.state_dict()),
    "a file with diffusers' keys before 0.16": lambda tiny, out: vae_file(tiny, out, older(tiny.vae.state_dict())),
    "a file with CompVis' keys": lambda tiny, out: vae_file(tiny, out, compvis_vae(tiny, ""), "ckpt"),
    "a file with CompVis' keys below `first_stage_model.`": lambda tiny, out: vae_file(tiny, out, compvis_vae(tiny)),
    "a whole CompVis base": lambda tiny, out: vae_file(tiny, out, compvis_tensors(tiny)),
}


@pytest.mark.parametrize("name", VAES)
def test_a_vae_instead_of_the_bases(name, published, tiny, tmp_path):
    other = random_stable_diffusion("tiny", seed=12)
    part = VAES[name](other, tmp_path)
    base = read_stable_diffusion(published, instead=Replacements(vae=part))
    assert all(torch.equal(value, other.vae.state_dict()[key]) for key, value in base.vae.state_dict().items())
    assert torch.equal(base.unet.conv_in.bias, tiny.unet.conv_in.bias)


def test_a_vae_that_does_not_fit(published, tiny, tmp_path):
    tensors = {key: value for key, value in tiny.vae.state_dict().items() if "decoder.conv_out" not in key}
    with pytest.raises(CheckpointError, match=r"other\.safetensors does not fit AutoencoderKL"):
        read_stable_diffusion(published, instead=Replacements(vae=vae_file(tiny, tmp_path, tensors)))
    save_file({"a": torch.ones(1)}, tmp_path / "other.safetensors")
    with pytest.raises(CheckpointError, match="does not fit AutoencoderKL"):
        read_stable_diffusion(published, instead=Replacements(vae=tmp_path / "other.safetensors"))


def test_the_docs_list_what_is_tried():
    """Row by row, as the tables of this file do."""
    section = DOCS.read_text("utf-8").partition("## Layouts")[2].partition("\n## ")[0]
    listed = [
        tuple(cell.strip() for cell in line.strip("|").split("|")) for line in section.splitlines() if "|" in line
    ]
    tried = [
        (group, name)
        for group, names in (("a diffusers folder", FOLDERS), ("a CompVis file", FILES), ("`--part vae=`", VAES))
        for name in names
    ]
    assert [row for row in listed if row[0] not in ("base", "") and not row[0].startswith("-")] == tried
