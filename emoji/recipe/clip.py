"""Stage `clip`: a small CLIP, taught on the whole emoji font but the held-out subjects to match pictures and captions.

ELITE reads its vision tower's hidden states 4, 8, 12, 16 and the last, so the tower is deep and narrow: 17 layers.
"""

from collections.abc import Sequence
from functools import cache
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import CLIPConfig, CLIPModel, CLIPTextConfig, CLIPVisionConfig, CLIPVisionModel
from x2i.models.clip import tokenizer

from ..world import captions, english, subjects, vocabulary
from ..world.scenes import wide_pictures
from ..world.subject_views import View, draw_view, normalised, rendered
from .training import TrainingStage, averaged, device, low_precision, report

BATCH = 128
PEAK = 1.5e-3
IMAGE = 64
PATCH = 8
WIDTH = 96
LEVELS = (17, 4, 8, 12, 16)
"""Hidden states in the order in which ELITE reads them, the last one first."""
TEXT_POSITIONS = 48
THUMBNAIL = 4
THUMBNAIL_WEIGHT = 2.0


def build() -> CLIPModel:
    """Vision: 17 layers of width 96 over 8 x 8 patches. Text: 2 layers of width 96 over 48 positions."""
    words = english.tokenizer()
    end = words.token_to_id(tokenizer.END)
    pictures = CLIPVisionConfig(
        hidden_size=WIDTH,
        intermediate_size=4 * WIDTH,
        num_hidden_layers=17,
        num_attention_heads=4,
        image_size=IMAGE,
        patch_size=PATCH,
        projection_dim=WIDTH,
        hidden_act="quick_gelu",
    )
    texts = CLIPTextConfig(
        vocab_size=words.get_vocab_size(),
        hidden_size=WIDTH,
        intermediate_size=4 * WIDTH,
        projection_dim=WIDTH,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=TEXT_POSITIONS,
        bos_token_id=words.token_to_id(tokenizer.START),
        eos_token_id=end,
        pad_token_id=end,
    )
    return CLIPModel(CLIPConfig(text_config=texts.to_dict(), vision_config=pictures.to_dict(), projection_dim=WIDTH))


def trained(folder: Path) -> CLIPModel:
    """The encoder as stage `clip` left it, in eval mode."""
    return averaged(_with_heads(), folder / "clip.pt")["clip"]


def vision(model: CLIPModel) -> CLIPVisionModel:
    """The vision tower on its own, sharing the weights."""
    tower = CLIPVisionModel(model.config.vision_config).to(device()).eval()
    own = {key.removeprefix("vision_model."): value for key, value in model.vision_model.state_dict().items()}
    tower.load_state_dict(own)
    return tower


def _with_heads() -> nn.ModuleDict:
    """CLIP and, for each level, what reads a thumbnail of every patch off it."""
    heads = nn.ModuleList([nn.Linear(WIDTH, 3 * THUMBNAIL**2) for _ in LEVELS])
    return nn.ModuleDict({"clip": build(), "thumbnails": heads})


@cache
def characters() -> tuple[str, ...]:
    """Everything that has a picture and a name and is not held out."""
    return tuple(c for c in wide_pictures() if c in captions.cldr_names() and c not in subjects.characters())


def written(character: str, background: str | None, rng: np.random.Generator) -> str:
    """A caption, "a palm tree on a blue background" or the like; sometimes with one of the keywords."""
    words = vocabulary.vocabulary_table()["languages"]["English"]
    item = captions.cldr_names()[character]
    found = captions.cldr_keywords().get(character, ())
    if found and rng.random() < 0.3:
        item = f"{item}, {found[rng.integers(len(found))]}"
    template = words["plain" if background is None else "scene"]
    article = words["articles"][rng.integers(len(words["articles"]))]
    return template[rng.integers(len(template))].format(item=f"{article} {item}".strip(), background=background)


def encode(texts: Sequence[str]) -> Tensor:
    """Token ids int64 [n, TEXT_POSITIONS]: start, words, end, then the end token as padding."""
    end = english.tokenizer().token_to_id(tokenizer.END)
    rows = np.full((len(texts), TEXT_POSITIONS), end, np.int64)
    for row, encoding in zip(rows, english.tokenizer().encode_batch(list(texts)), strict=True):
        ids = encoding.ids[: TEXT_POSITIONS - 1]
        row[: len(ids)] = ids
    return torch.from_numpy(rows).to(device())


def draw_batch(rng: np.random.Generator) -> tuple[list[np.ndarray], list[str]]:
    """Pictures as the encoder gets them, uint8 [64, 64, 3], and a caption for each."""
    chosen = rng.choice(characters(), BATCH, replace=False)
    views: list[View] = [draw_view(rng) for _ in chosen]
    images = [rendered(wide_pictures()[c], view) for c, view in zip(chosen, views, strict=True)]
    return images, [written(c, view.named, rng) for c, view in zip(chosen, views, strict=True)]


def loss(module: nn.ModuleDict, pixels: Tensor, ids: Tensor) -> Tensor:
    """Contrastive loss both ways, and a thumbnail of each patch read off each level.

    Matching captions asks nothing of the last layers' patches, and ELITE's local mapper reads just those: without the
    thumbnails they forget what they show.
    """
    model: CLIPModel = module["clip"]
    heads = module["thumbnails"]
    assert isinstance(heads, nn.ModuleList)
    with low_precision():
        seen = model.vision_model(pixel_values=pixels, output_hidden_states=True)
        pictures = model.visual_projection(seen.pooler_output).float()
        texts = model.text_projection(model.text_model(input_ids=ids).pooler_output).float()
    logits = F.normalize(pictures, dim=-1) @ F.normalize(texts, dim=-1).T * model.logit_scale.clamp(max=4.6).exp()
    target = torch.arange(len(pixels), device=pixels.device)
    value = (F.cross_entropy(logits, target) + F.cross_entropy(logits.T, target)) / 2
    shown = thumbnails(pixels)
    for level, head in zip(LEVELS, heads, strict=True):
        value = value + THUMBNAIL_WEIGHT / len(LEVELS) * F.l1_loss(
            head(seen.hidden_states[level][:, 1:].float()), shown
        )
    return value


def thumbnails(pixels: Tensor) -> Tensor:
    """What each patch shows at half size, [n, patches, 3 * 4 * 4], patches in the encoder's order."""
    small = F.avg_pool2d(pixels, PATCH // THUMBNAIL)
    return F.unfold(small, THUMBNAIL, stride=THUMBNAIL).mT


def train(folder: Path, minutes: float, steps: int | None = None) -> None:
    """Trains (or goes on training) the encoder; the state is `folder/clip.pt`."""
    torch.manual_seed(0)
    module = _with_heads()
    # On CPUs the fused attention's backward pass takes four times as long as all the rest.
    model: CLIPModel = module["clip"]
    model.set_attn_implementation("eager")
    stage = TrainingStage.open(module, folder / "clip.pt", PEAK, decay=0.99)

    def of_step(number: int) -> Tensor:
        images, texts = draw_batch(np.random.default_rng([21, number]))
        return loss(module, normalised(images), encode(texts))

    report(stage.run(minutes, of_step, steps), every=20)
