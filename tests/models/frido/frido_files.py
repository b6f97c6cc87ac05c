"""Frido's files from random networks: a checkpoint and a YAML in the layout of its authors."""

import torch
import yaml
from x2i.models.frido.checkpoint import averaged_name
from x2i.models.random.cascades.frido import random_frido


def frido_tensors(frido, views=True):
    """The tensors of a checkpoint: averaged weights, the trained copy as a decoy, and what is not read. With `views`
    the averages are transposed views of one storage each pair, as a checkpoint may hold them."""
    found = {averaged_name(key): value.clone() for key, value in frido.unet.state_dict().items()}
    if views:
        found = {key: _as_view(value) for key, value in found.items()}
    found |= {"model_ema.decay": torch.tensor(0.9999), "model_ema.num_updates": torch.tensor(7, dtype=torch.int32)}
    found |= {f"model.diffusion_model.{key}": torch.zeros_like(v) for key, v in frido.unet.state_dict().items()}
    for key, value in frido.decoder.state_dict().items():
        found[key if key == "scale_factor" else f"first_stage_model.{key}"] = value.clone().half()
    found |= {f"cond_stage_model.{key}": value.clone() for key, value in frido.encoder.state_dict().items()}
    noise = frido.noise
    betas = torch.linspace(noise.start**0.5, noise.end**0.5, noise.steps, dtype=torch.float64) ** 2
    found |= {"betas": betas.float(), "alphas_cumprod": (1 - betas).cumprod(0).float()}
    return found | {"first_stage_model.encoder.conv_in.weight": torch.zeros(3), "posterior_variance": torch.zeros(3)}


def _as_view(value):
    """The same numbers, every second one of a larger storage, back to front in memory where there are two axes."""
    pool = torch.full((*value.shape[::-1], 2), 9.0)
    view = pool[..., 1].permute(*range(value.ndim)[::-1])
    view.copy_(value)
    return view


def frido_yaml(frido):
    """The settings of these networks, as their authors write them."""
    unet, decoder, encoder = frido.unet.settings, frido.decoder.settings, frido.encoder.settings
    pyramid = decoder.decoder
    deepest = 2 ** (pyramid.levels - 1)
    attended = [4 * deepest // 2**level for level, attends in enumerate(pyramid.attends) if attends]
    params = {
        "linear_start": frido.noise.start,
        "linear_end": frido.noise.end,
        "timesteps": frido.noise.steps,
        "image_size": frido.side,
        "channels": sum(unet.levels),
        "cond_stage_key": "caption" if frido.task == "text" else "objects_bbox",
        "conditioning_key": "crossattn",
        "unet_config": {
            "target": "frido.modules.diffusionmodules.pyunet.PyUNetModel",
            "params": {
                "use_split_head": True,
                "split_embed_dim_list": list(unet.levels),
                "use_SPADE_norm": True,
                "in_channels": sum(unet.levels),
                "out_channels": sum(unet.levels),
                "model_channels": unet.width,
                "attention_resolutions": list(unet.attended),
                "num_res_blocks": unet.blocks,
                "channel_mult": list(unet.multipliers),
                "num_head_channels": 32,
                "use_spatial_transformer": True,
                "transformer_depth": unet.depth,
                "context_dim": unet.context_width,
                "num_stage": len(unet.levels),
            },
        },
        "first_stage_config": {
            "target": "taming.models.msvqgan.VQModelInterface",
            "params": {
                "embed_dim": list(decoder.widths),
                "n_embed": list(decoder.codes),
                "edconfig": {"multiscale": 2},
                "ddconfig": {
                    "double_z": False,
                    "z_channels": pyramid.features,
                    "resolution": 4 * deepest,
                    "in_channels": 3,
                    "out_ch": pyramid.channels,
                    "ch": pyramid.width,
                    "ch_mult": list(pyramid.multipliers),
                    "num_res_blocks": pyramid.blocks,
                    "attn_resolutions": attended,
                    "dropout": 0.0,
                },
                "lossconfig": {"target": "torch.nn.Identity"},
            },
        },
        "cond_stage_config": {
            "target": "frido.modules.encoders.modules.BERTEmbedder",
            "params": {
                "n_embed": encoder.width,
                "n_layer": encoder.layers,
                "vocab_size": encoder.classes,
                "max_seq_len": encoder.positions,
                "use_tokenizer": frido.task == "text",
            },
        },
    }
    return {"model": {"target": "frido.models.diffusion.frido.FridoDiffusion", "params": params}}


def write_frido(folder, variant="tiny", change=None, edit=None):
    """The files of a random model, (checkpoint, config); `change` edits the tensors, `edit` the settings."""
    frido = random_frido(variant)
    tensors, settings = frido_tensors(frido), frido_yaml(frido)
    for alter, what in ((change, tensors), (edit, settings)):
        if alter is not None:
            alter(what)
    torch.save({"state_dict": tensors, "epoch": 1, "global_step": 2}, folder / "model.ckpt")
    (folder / "config.yaml").write_text(yaml.safe_dump(settings))
    return folder / "model.ckpt", folder / "config.yaml"
