"""FastComposer's inference written a second time, on stock torch modules and diffusers' samplers, from its SPEC.

It shares no code with x2i but the checkpoints' values.
"""

import tokenizers
import torch
from diffusers import DDIMScheduler, PNDMScheduler
from torch.nn import functional as F

MEAN = torch.tensor([0.48145466, 0.4578275, 0.40821073]).view(3, 1, 1)
STD = torch.tensor([0.26862954, 0.26130258, 0.27577711]).view(3, 1, 1)
SAMPLERS = {"pndm": PNDMScheduler, "ddim": DDIMScheduler}


@torch.no_grad()
def twin_run(parts, pictures, tokenizer_file, prompt, options):
    """Latents after every UNet call, and for every call whether the subjects took part."""
    marker, negative = options["marker"], options.get("negative", "")
    objects = torch.stack([object_of(parts.vision, picture, options["object_resolution"]) for picture in pictures])
    encoder = parts.text_encoder
    null, plain = (
        encoder(input_ids=ordinary_ids(tokenizer_file, text)).last_hidden_state
        for text in (negative, prompt.replace(marker, ""))
    )
    ids, marked = marked_ids(tokenizer_file, prompt, marker)
    augmented = encoder(input_ids=ids).last_hidden_state
    assert len(marked) == len(objects)
    for place, vector in zip(marked, objects, strict=True):
        augmented[0, place] = fused(parts.postfuse.state_dict(), augmented[0, place], vector)
    extra = {"skip_prk_steps": True} if options["sampler"] == "pndm" else {"clip_sample": False}
    betas = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
    scheduler = SAMPLERS[options["sampler"]](**betas, steps_offset=1, set_alpha_to_one=False, **extra)
    scheduler.set_timesteps(options["steps"])
    start = options["start"] if "alpha" not in options else (1 - options["alpha"]) * options["steps"]
    x = torch.from_numpy(options["noise"])
    rows, walked, flags = len(x), [], []
    for call, timestep in enumerate(scheduler.timesteps):
        flags.append(not call <= start)
        words = augmented if flags[-1] else plain
        context = torch.cat([null.expand(rows, -1, -1), words.expand(rows, -1, -1)])
        noise = parts.unet(torch.cat([x, x]), timestep, context).sample
        unconditional, conditional = noise.chunk(2)
        x = scheduler.step(unconditional + options["guidance"] * (conditional - unconditional), timestep, x).prev_sample
        walked.append(x.numpy())
    return walked, flags


@torch.no_grad()
def object_of(vision, picture, resolution):
    height, width = picture.shape[:2]
    margin = abs(height - width) // 2
    sides = (0, 0, margin, margin) if height < width else (margin, margin, 0, 0)
    square = F.pad(torch.tensor(picture).permute(2, 0, 1).float(), sides)[None]
    levels = F.interpolate(square, size=(resolution, resolution), mode="bilinear", antialias=True).round()
    size = vision.config.image_size
    shares = F.interpolate(levels / 255, size=(size, size), mode="bilinear", antialias=True)
    pooled = vision.vision_model((shares - MEAN) / STD).pooler_output
    return (pooled @ vision.visual_projection.weight.T)[0]


def ordinary_ids(tokenizer_file, text):
    tokenizer = tokenizers.Tokenizer.from_file(str(tokenizer_file))
    ids = tokenizer.encode(text).ids
    end = ids[-1]
    ids = ids if len(ids) <= 77 else [*ids[:76], end]
    return torch.tensor([ids + [end] * (77 - len(ids))])


def marked_ids(tokenizer_file, prompt, marker):
    """The ids without markers, and the places of the tokens before them, all within the window."""
    tokenizer = tokenizers.Tokenizer.from_file(str(tokenizer_file))
    tokenizer.add_special_tokens([marker])
    kept, marked = [], []
    for number in tokenizer.encode(prompt).ids:
        if number == tokenizer.token_to_id(marker):
            marked.append(len(kept) - 1)
        else:
            kept.append(number)
    end = kept[-1]
    return torch.tensor([(kept + [end] * 77)[:77]]), sorted({place for place in marked if place < 77})


def fused(state, text, vector):
    def block(name, x):
        x = F.layer_norm(x, x.shape, state[f"{name}.layernorm.weight"], state[f"{name}.layernorm.bias"])
        x = F.gelu(state[f"{name}.fc1.weight"] @ x + state[f"{name}.fc1.bias"])
        return state[f"{name}.fc2.weight"] @ x + state[f"{name}.fc2.bias"]

    joined = block("mlp1", torch.cat([text, vector])) + text
    out = block("mlp2", joined) + joined
    return F.layer_norm(out, out.shape, state["layer_norm.weight"], state["layer_norm.bias"])
