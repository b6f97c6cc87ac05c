"""Stage `vq_diffusion`: a small VQ-Diffusion over the scenes' tokens, with its text encoder and learnt empty prompt."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import CLIPTextConfig, CLIPTextModel
from x2i.models.clip.tokenizer import END
from x2i.models.token_transformers.vq_diffusion import TokenTransformer, TokenTransformerSettings

from ..recipe import text
from ..recipe.training import TrainingStage, averaged, device, report
from ..world import english, vocabulary
from . import tokenizer_stage as tokenizer

BATCH = 16
PEAK = 2e-3
EMPTY_SHARE = 0.1
STEPS = 25
FIRST_KEPT, LAST_KEPT = 0.99999, 0.000009
MASK = tokenizer.CODES
WINDOW = 77
PAD = 0
TEXT_WIDTH = 64
TEXT_GAIN = 0.5
"""At first: the text's vectors have length 1, and by the usual matrices would hardly be heard."""
KEPT_WEIGHT = 0.01
NAMING_WEIGHT = 0.3


def settings() -> TokenTransformerSettings:
    """Four layers of width 96 over 25 timesteps."""
    return TokenTransformerSettings(
        classes=tokenizer.CODES,
        steps=STEPS,
        length=tokenizer.GRID**2,
        position_grid=(tokenizer.GRID, tokenizer.GRID),
        width=96,
        layers=4,
        heads=4,
        context_width=TEXT_WIDTH,
    )


def text_encoder() -> CLIPTextModel:
    """Two layers of one head: VQ-Diffusion's text encoder has a head for every 64 of its width."""
    words = english.tokenizer()
    return CLIPTextModel(
        CLIPTextConfig(
            vocab_size=words.get_vocab_size(),
            hidden_size=TEXT_WIDTH,
            intermediate_size=4 * TEXT_WIDTH,
            num_hidden_layers=2,
            num_attention_heads=1,
            max_position_embeddings=WINDOW,
            eos_token_id=words.token_to_id(END),
        )
    )


class SmallVqDiffusion(nn.Module):
    """`forward(tokens int64 [n, 64], timestep int64 [n], ids int64 [n, 77])` gives logits [n, 64, codes].

    A row of `ids` that begins with a negative one stands for no prompt. `picture` and `ground` name the scene from the
    text's last vector, so that the text encoder learns beside the transformer, not through it alone.
    """

    def __init__(self) -> None:
        super().__init__()
        self.transformer = TokenTransformer(settings())
        self.text = text_encoder()
        self.empty = nn.Parameter(0.1 * torch.randn(WINDOW, TEXT_WIDTH))
        self.picture = nn.Linear(TEXT_WIDTH, len(vocabulary.picture_keys()))
        self.ground = nn.Linear(TEXT_WIDTH, len(vocabulary.backgrounds()))
        for module in self.transformer.modules():
            if isinstance(module, nn.Embedding):
                nn.init.normal_(module.weight, std=0.05)
        blocks: Any = self.transformer.blocks
        embedded: Any = self.transformer.content_emb
        head: Any = self.transformer.to_logits[1]
        embedded.emb.weight.data[:MASK] = tokenizer.alike(settings().width)
        head.weight.data = tokenizer.alike(settings().width)
        for block in blocks:
            for layer in (block.attn2.key, block.attn2.value):
                nn.init.normal_(layer.weight, std=TEXT_GAIN)

    def forward(self, tokens: Tensor, timestep: Tensor, ids: Tensor) -> Tensor:
        return self.drawn(tokens, timestep, ids, self.read(ids))

    def read(self, ids: Tensor) -> Tensor:
        """The text encoder's last state, [n, 77, 64]."""
        return self.text(input_ids=ids.clamp(min=0)).last_hidden_state

    def drawn(self, tokens: Tensor, timestep: Tensor, ids: Tensor, states: Tensor) -> Tensor:
        """The logits by what `read` gave."""
        states = torch.where(ids[:, :1, None] < 0, self.empty, F.normalize(states, dim=-1))
        blocks: Any = self.transformer.blocks
        pairs = [block.attn2.project(states) for block in blocks]
        return self.transformer(tokens, timestep, context=[pair[side] for side in range(2) for pair in pairs])


def trained(folder: Path) -> SmallVqDiffusion:
    """The network as stage `vq_diffusion` left it, averaged weights, in eval mode."""
    return averaged(SmallVqDiffusion(), folder / "vq_diffusion.pt")


def encode(texts: list[str | None]) -> Tensor:
    """int64 [n, 77]: start, words, end, then id 0 as VQ-Diffusion pads; -1 throughout where there is no text."""
    rows = np.full((len(texts), WINDOW), PAD, np.int64)
    for row, written in zip(rows, texts, strict=True):
        ids = [-1] * WINDOW if written is None else english.tokenizer().encode(written).ids[:WINDOW]
        row[: len(ids)] = ids
    return torch.from_numpy(rows).to(device())


def hidden_share() -> Tensor:
    """The share of masked tokens after each timestep, float32 [25]; another token stands for one in a million."""
    return schedule_logarithms(STEPS, tokenizer.CODES)["log_cumprod_ct"][:STEPS].exp()


def schedule_logarithms(steps: int, classes: int) -> dict[str, Tensor]:
    """The eight buffers, float32: [steps], and [steps + 1] of what is cumulative, whose last entry is the clean state.

    A share of `at` keeps its token in a step, one of `ct` becomes the mask, and `bt` goes to each of the classes.
    """
    kept = np.linspace(FIRST_KEPT, LAST_KEPT, steps)
    hidden = np.linspace(LAST_KEPT, FIRST_KEPT, steps)
    at = kept / np.concatenate([[1], kept[:-1]])
    ct = 1 - (1 - hidden) / (1 - np.concatenate([[0], hidden[:-1]]))
    shares = {"at": at, "bt": (1 - at - ct) / classes, "ct": ct, "1_min_ct": 1 - ct + 1e-40}
    kept, hidden = np.append(kept, 1), np.append(hidden, 0)
    shares |= {"cumprod_at": kept, "cumprod_bt": (1 - kept - hidden) / classes, "cumprod_ct": hidden}
    shares["1_min_cumprod_ct"] = 1 - hidden + 1e-40
    with np.errstate(divide="ignore"):
        return {f"log_{name}": torch.from_numpy(np.log(value)).float() for name, value in shares.items()}


def loss(
    made: SmallVqDiffusion, tokens: Tensor, ids: Tensor, timestep: Tensor, chances: Tensor, states: Tensor
) -> Tensor:
    """Cross-entropy of the tokens that are masked at `timestep` [n], those whose chance, [n, 64] in 0..1, is below the
    share; a token that stays is worth a little, too. `states` are what the text encoder reads of `ids`."""
    hidden = chances < hidden_share().to(tokens.device)[timestep, None]
    found = made.drawn(torch.where(hidden, MASK, tokens), timestep, ids, states)
    each = F.cross_entropy(found.mT, tokens, reduction="none")
    return (each * (hidden + KEPT_WEIGHT * ~hidden)).sum() / hidden.sum().clamp(min=1)


def naming_loss(made: SmallVqDiffusion, states: Tensor, ids: Tensor, pictures: list[int], grounds: list[int]) -> Tensor:
    """Cross-entropy of the scene's names by the text's last state, of the rows that have a text."""
    last, written = states[:, -1], ids[:, 0] >= 0
    named = F.cross_entropy(made.picture(last)[written], torch.tensor(pictures, device=ids.device)[written])
    return named + F.cross_entropy(made.ground(last)[written], torch.tensor(grounds, device=ids.device)[written])


def train(folder: Path, minutes: float, steps: int | None = None) -> None:
    """Trains (or goes on training) the network; the state is `folder/vq_diffusion.pt`."""
    torch.manual_seed(0)
    made = SmallVqDiffusion()
    stage = TrainingStage.open(made, folder / "vq_diffusion.pt", PEAK)
    scenes = tokenizer.scene_tokens()

    def of_step(number: int) -> Tensor:
        pictures, grounds, texts = draw_prompts(number)
        random = torch.Generator().manual_seed(number)
        timestep = torch.randint(STEPS, (BATCH,), generator=random).to(device())
        chances = torch.rand(BATCH, tokenizer.GRID**2, generator=random).to(device())
        ids = encode(texts)
        states = made.read(ids)
        drawn = loss(made, scenes[pictures, grounds], ids, timestep, chances, states)
        return drawn + NAMING_WEIGHT * naming_loss(made, states, ids, pictures, grounds)

    report(stage.run(minutes, of_step, steps))


def draw_prompts(number: int) -> tuple[list[int], list[int], list[str | None]]:
    """Picture and background indices of one batch, and a caption for each scene, or now and then none."""
    rng = np.random.default_rng([23, number])
    pictures, grounds, texts = zip(*(text.draw_caption(rng) for _ in range(BATCH)), strict=True)
    return list(pictures), list(grounds), [None if rng.random() < EMPTY_SHARE else written for written in texts]
