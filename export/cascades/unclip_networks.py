"""unCLIP's networks as its processes call them: prompts and pictures to an embedding, a small and a large picture."""

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from x2i.models.clip.projected_text import ProjectedText

from ..components.text import prompt_ids
from ..to_onnx import Component, Sizes, batched_component

if TYPE_CHECKING:
    from diffusers.models.transformers.prior_transformer import PriorTransformer
    from diffusers.models.unets.unet_2d import UNet2DModel
    from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
    from diffusers.pipelines.deprecated.unclip.text_proj import UnCLIPTextProjModel
    from transformers import CLIPVisionModelWithProjection


TEXTS = "text_embeds", "text_states", "attention_mask"
"""What the networks read of prompts, by its slots."""


class PromptStates(nn.Module):
    """`forward(input_ids [B, T])` returns the projection of the end token's state [B, E], not normalised, and the last
    states behind the final LayerNorm [B, T, D]. Padding is not masked."""

    def __init__(self, text: ProjectedText):
        super().__init__()
        self.text = text

    def forward(self, input_ids: Tensor) -> tuple[Tensor, Tensor]:
        _, last = self.text.states(input_ids)
        normed = self.text.final_layer_norm(last)
        return self.text.projected(input_ids, normed), normed


class _Embedding(nn.Module):
    """`forward(pixels [B, 3, S, S])` returns CLIP's embedding of the pictures [B, E], not normalised."""

    def __init__(self, vision: "CLIPVisionModelWithProjection"):
        super().__init__()
        self.vision = vision

    def forward(self, pixels: Tensor) -> Tensor:
        return self.vision(pixel_values=pixels).image_embeds


class _Prior(nn.Module):
    """`forward(vectors [B, E], timestep [B], text_embeds [B, E], text_states [B, T, E], attention_mask int64 [B, T])`
    returns the embedding that it expects [B, E]."""

    def __init__(self, prior: "PriorTransformer"):
        super().__init__()
        self.prior = prior

    def forward(self, vectors: Tensor, timestep: Tensor, embeds: Tensor, states: Tensor, mask: Tensor) -> Tensor:
        return self.prior(vectors, timestep, embeds, states, mask.to(vectors.dtype)).predicted_image_embedding


class _Denormalised(nn.Module):
    """`forward(vectors [B, E])` returns them in CLIP's own spread and around its own mean."""

    def __init__(self, prior: "PriorTransformer"):
        super().__init__()
        self.mean, self.spread = prior.clip_mean, prior.clip_std

    def forward(self, vectors: Tensor) -> Tensor:
        return vectors * self.spread + self.mean


class _DecoderContext(nn.Module):
    """`forward(image_embedding [B, E], unconditional bool [B], text_embeds [B, E], text_states [B, T, D],
    attention_mask int64 [B, T])` returns the decoder's context [B, K + T, C], what is added to its time embedding
    [B, W], and 1 for every place of the context that is read [B, K + T].

    Where a row is steered away from, a learned vector stands for the picture's.
    """

    def __init__(self, projection: "UnCLIPTextProjModel"):
        super().__init__()
        self.projection = projection

    def forward(
        self, image: Tensor, unconditional: Tensor, embeds: Tensor, states: Tensor, mask: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        learned = self.projection.learned_classifier_free_guidance_embeddings
        image = torch.where(unconditional[:, None], learned, image)
        context, added = self.projection(
            image_embeddings=image,
            prompt_embeds=embeds,
            text_encoder_hidden_states=states,
            do_classifier_free_guidance=False,
        )
        read = F.pad(mask.to(image.dtype), (self.projection.clip_extra_context_tokens, 0), value=1.0)
        return context, added, read


class _Decoder(nn.Module):
    """`forward(latents [B, 3, h, w], timestep [B], context, added, read)` returns the noise and the variance's logits,
    [B, 3, h, w] each."""

    def __init__(self, unet: "UNet2DConditionModel"):
        super().__init__()
        self.unet = unet

    def forward(
        self, latents: Tensor, timestep: Tensor, context: Tensor, added: Tensor, read: Tensor
    ) -> tuple[Tensor, Tensor]:
        out = self.unet(latents, timestep, context, class_labels=added, attention_mask=read).sample
        noise, variance = out.chunk(2, dim=1)
        return noise, variance


class _Enlarged(nn.Module):
    """`forward(small [B, 3, s, s])` returns the picture, cut to -1..1, at a larger size: bicubic with antialiasing, by
    one matrix a side."""

    matrix: Tensor

    def __init__(self, small: int, large: int):
        super().__init__()
        unit = torch.eye(small)[None, None]
        rows = F.interpolate(unit, size=(large, small), mode="bicubic", align_corners=False, antialias=True)
        self.register_buffer("matrix", rows[0, 0])

    def forward(self, small: Tensor) -> Tensor:
        return self.matrix @ small.clamp(-1, 1) @ self.matrix.T


class _SuperResolution(nn.Module):
    """`forward(latents [B, 3, h, w], timestep [B], enlarged [B, 3, h, w])` returns the noise."""

    def __init__(self, unet: "UNet2DModel"):
        super().__init__()
        self.unet = unet

    def forward(self, latents: Tensor, timestep: Tensor, enlarged: Tensor) -> Tensor:
        return self.unet(torch.cat([latents, enlarged], dim=1), timestep).sample


def prompt_states_component(text: ProjectedText, tokens: int) -> Component:
    """The text encoder's graph: input_ids int64 [B, tokens] to text_embeds [B, E] and text_states [B, tokens, D]."""

    def example(sizes: Sizes) -> dict[str, Tensor]:
        return {"input_ids": prompt_ids(sizes["batch"], tokens, text.config.vocab_size, _end(text))}

    return batched_component(
        "text_encoder", PromptStates(text), example, ("input_ids",), ("text_embeds", "text_states")
    )


def image_embedding_component(vision: "CLIPVisionModelWithProjection") -> Component:
    """The graph of CLIP's vision tower: pixels [B, 3, S, S] to image_embedding [B, E]."""
    size = vision.config.image_size

    def example(sizes: Sizes) -> dict[str, Tensor]:
        random = torch.Generator().manual_seed(31)
        return {"pixels": torch.randn(sizes["batch"], 3, size, size, generator=random)}

    return batched_component("image_encoder", _Embedding(vision), example, ("pixels",), ("image_embedding",))


def prior_components(prior: "PriorTransformer", text: ProjectedText, tokens: int) -> list[Component]:
    """The prior's graph and what makes an embedding of its last vectors."""
    width = prior.config.embedding_dim

    def example(sizes: Sizes) -> dict[str, Tensor]:
        batch, random = sizes["batch"], torch.Generator().manual_seed(32)
        inputs = {"vectors": torch.randn(batch, width, generator=random)}
        return inputs | {"timestep": torch.rand(batch, generator=random) * 999} | _texts(text, tokens, batch)

    def vectors(sizes: Sizes) -> dict[str, Tensor]:
        return {"vectors": torch.randn(sizes["batch"], width, generator=torch.Generator().manual_seed(33))}

    return [
        batched_component("prior", _Prior(prior), example, ("vectors", "timestep", *TEXTS), ("predicted",)),
        batched_component("prior_tail", _Denormalised(prior), vectors, ("vectors",), ("written",)),
    ]


def decoder_context_component(projection: "UnCLIPTextProjModel", text: ProjectedText, tokens: int) -> Component:
    """The graph of what the decoder reads of a prompt and an embedding, once a picture."""

    def example(sizes: Sizes) -> dict[str, Tensor]:
        batch, random = sizes["batch"], torch.Generator().manual_seed(34)
        inputs = {
            "image_embedding": torch.randn(batch, projection.config.clip_embeddings_dim, generator=random),
            "unconditional": torch.arange(batch) % 2 == 0,
        }
        return inputs | _texts(text, tokens, batch)

    return batched_component(
        "decoder_context",
        _DecoderContext(projection),
        example,
        ("image_embedding", "unconditional", *TEXTS),
        ("context", "added", "read"),
    )


def pixel_decoder_component(unet: "UNet2DConditionModel", context: Component) -> Component:
    """The decoder's graph; what it reads is what `context` gives."""
    config = unet.config
    multiple = 2 ** (len(config.block_out_channels) - 1)

    def example(sizes: Sizes) -> dict[str, Tensor]:
        batch, random = sizes["batch"], torch.Generator().manual_seed(35)
        size = (batch, config.in_channels, sizes["height"] * multiple, sizes["width"] * multiple)
        inputs = {"latents": torch.randn(size, generator=random), "timestep": torch.rand(batch, generator=random) * 999}
        return inputs | context.run(context.example(sizes))

    plane = {0: "batch", 2: f"{multiple}*height", 3: f"{multiple}*width"}
    return Component(
        name="denoiser",
        module=_Decoder(unet).eval(),
        example=example,
        outputs=("noise", "variance"),
        free={"latents": plane} | {name: {0: "batch"} for name in ("timestep", *context.outputs)},
        trace={"batch": 2, "height": 4, "width": 5},
        proof={"batch": 3, "height": 3, "width": 4},
    )


def enlarged_component(small: int, large: int) -> Component:
    """The graph that brings a picture [B, 3, small, small] to [B, 3, large, large]."""

    def example(sizes: Sizes) -> dict[str, Tensor]:
        random = torch.Generator().manual_seed(36)
        return {"small": torch.randn(sizes["batch"], 3, small, small, generator=random)}

    return batched_component("enlarged", _Enlarged(small, large), example, ("small",), ("enlarged",))


def super_resolution_component(unet: "UNet2DModel", name: str) -> Component:
    """The graph of a network of the super resolution."""
    multiple = 2 ** (len(unet.config.block_out_channels) - 1)

    def example(sizes: Sizes) -> dict[str, Tensor]:
        batch, random = sizes["batch"], torch.Generator().manual_seed(37)
        size = (batch, unet.config.out_channels, sizes["height"] * multiple, sizes["width"] * multiple)
        return {
            "latents": torch.randn(size, generator=random),
            "timestep": torch.rand(batch, generator=random) * 999,
            "enlarged": torch.randn(size, generator=random),
        }

    plane = {0: "batch", 2: f"{multiple}*height", 3: f"{multiple}*width"}
    return Component(
        name=name,
        module=_SuperResolution(unet).eval(),
        example=example,
        outputs=("noise",),
        free={"latents": plane, "timestep": {0: "batch"}, "enlarged": plane},
        trace={"batch": 2, "height": 4, "width": 5},
        proof={"batch": 3, "height": 3, "width": 4},
    )


def _texts(text: ProjectedText, tokens: int, batch: int) -> dict[str, Tensor]:
    """Prompts of several lengths, encoded, and their masks."""
    ids = prompt_ids(batch, tokens, text.config.vocab_size, _end(text))
    with torch.no_grad():
        embeds, states = PromptStates(text)(ids)
    read = torch.arange(tokens) < torch.arange(3, 3 + batch)[:, None]
    return {"text_embeds": embeds, "text_states": states, "attention_mask": read.long()}


def _end(text: ProjectedText) -> int:
    return int(text.config.vocab_size) - 1
