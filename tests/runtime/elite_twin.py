"""ELITE's inference written a second time, on stock torch modules and diffusers' sampler, straight from its SPEC.

It shares no code with x2i but the checkpoints' values: two separate UNet calls a step, one picture, one maximum over
the call.
"""

import numpy as np
import torch
from diffusers import LMSDiscreteScheduler
from torch import nn
from torch.nn import functional as F


class LayerAttention:
    """The authors' cross-attention for one layer; `context` is (text, patches or None, index, strength)."""

    def __init__(self, state, text_weights, patch_weights):
        self.state, self.text_weights, self.patch_weights = state, text_weights, patch_weights

    def __call__(self, attn, hidden_states, **unused):
        text, patches, index, strength = self.state["context"]
        q = attn.head_to_batch_dim(attn.to_q(hidden_states))
        k, v = (attn.head_to_batch_dim(F.linear(text, weight)) for weight in self.text_weights)
        probabilities = torch.softmax(attn.scale * q @ k.transpose(1, 2), -1)
        out = probabilities @ v
        if patches is not None:
            k, v = (attn.head_to_batch_dim(F.linear(patches, weight)) for weight in self.patch_weights)
            column = probabilities[:, :, index : index + 1]
            local = torch.softmax(attn.scale * q @ k.transpose(1, 2), -1) * (column / column.max()) * strength
            out = out + local @ v
        return attn.to_out[0](attn.batch_to_head_dim(out))


@torch.no_grad()
def twin_latents(base, elite, pixels, ids, options):
    """Latents after every step, [steps, 1, C, h, w]; `pixels`: whole, masked, mask [1, P]; `ids`: prompt, empty."""
    whole, masked, mask = (torch.from_numpy(array) for array in pixels)
    words = words_of(elite.global_mapper, levels_of(elite.vision, whole))[:, : options["words"]]
    patches = patches_of(elite.local_mapper, levels_of(elite.vision, masked)) * mask[..., None]
    text = encoded(base.text_encoder, ids[0], words, options["index"])
    nothing = encoded(base.text_encoder, ids[1], None, 0)
    state = {}
    for path in elite.global_weights:
        layer = base.unet.get_submodule(path)
        layer.set_processor(LayerAttention(state, elite.global_weights[path], elite.local_weights[path]))
    scheduler = LMSDiscreteScheduler(
        beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", timestep_spacing="linspace"
    )
    scheduler.set_timesteps(options["steps"])
    x = torch.from_numpy(options["noise"]) * scheduler.init_noise_sigma
    walked = []
    for timestep in scheduler.timesteps:
        scaled, times = scheduler.scale_model_input(x, timestep), timestep.reshape(1).float()
        state["context"] = (text, patches, options["index"], options["strength"])
        conditional = base.unet(scaled, times, text).sample
        state["context"] = (nothing, None, 0, 0.0)
        unconditional = base.unet(scaled, times, nothing).sample
        noise = unconditional + options["guidance"] * (conditional - unconditional)
        x = scheduler.step(noise, timestep, x).prev_sample
        walked.append(x.numpy())
    return np.stack(walked)


def levels_of(tower, pixels):
    states = tower(pixel_values=pixels, output_hidden_states=True).hidden_states
    return [states[-1], states[4], states[8], states[12], states[16]]


def words_of(mapper: nn.Module, levels):
    words = []
    for number, level in enumerate(levels):
        patches = mapper.get_submodule(f"mapping_patch_{number}")(level[:, 1:])
        words.append(mapper.get_submodule(f"mapping_{number}")(level[:, 0]) + patches.mean(1))
    return torch.stack(words, 1)


def patches_of(mapper: nn.Module, levels):
    each = [
        mapper.get_submodule(f"mapping_{n}")(level[:, :1]) + mapper.get_submodule(f"mapping_patch_{n}")(level[:, 1:])
        for n, level in enumerate(levels)
    ]
    return sum(each) / len(each)


def encoded(encoder, ids, words, index):
    """The text encoder with the words put where its token embedding comes out."""
    table = encoder.get_input_embeddings()

    def inject(module, given, tokens):
        if words is None:
            return tokens
        window = tokens.shape[1]
        return torch.cat([tokens[:, :index], words, tokens[:, index + 1 :]], 1)[:, :window]

    hook = table.register_forward_hook(inject)
    try:
        return encoder(input_ids=torch.from_numpy(ids)).last_hidden_state
    finally:
        hook.remove()
