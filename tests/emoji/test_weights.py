"""The committed weights, read as a user's exporter reads any published checkpoint."""

import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer
from x2i import emoji
from x2i.emoji.fastcomposer.checkpoint import write_checkpoint
from x2i.emoji.t5 import words
from x2i.emoji.world import english, multilingual, vocabulary
from x2i.emoji.world.captions import caption
from x2i.emoji.world.spoken import prepared, spoken_words
from x2i.emoji.world.subject_views import normalised
from x2i.emoji.world.subjects import subject_mask, subject_scene
from x2i.models.clip.vision import VisionLevels
from x2i.models.sound.audioclip_checkpoint import read_audioclip
from x2i.models.stable_diffusion.base import read_stable_diffusion
from x2i.models.subjects.elite import read_elite
from x2i.models.text_encoders.prompt_encoder import read_prompt_encoder
from x2i.models.text_encoders.xlmr import read_xlmr, xlmr_tokenizer_json
from x2i.models.translators.gluenet import read_tensor_norm, read_translator
from x2i.models.translators.gluenet_sound import SoundConditioner, read_sound_translator, read_unconditional

from tests.numerics import assert_close

WEIGHTS = Path(emoji.__path__[0]) / "weights"
BUDGETS = {"base": (10, 32), "elite": (5, 12), "sound": (1, 3), "clip": (0.3, 0.8), "fastcomposer": (5, 8.5)}
BUDGETS |= {"t5": (1, 3)}
BUDGETS |= {"vq_diffusion": (1, 4), "muse": (3, 7), "ddcap": (1, 3)}
TEXTS = [caption("English", key, "green") for key in vocabulary.picture_keys()]


def test_every_part_keeps_its_budget():
    """In megabytes: the base and the multilingual translators, and what each other system adds."""
    sizes = Counter()
    for path in WEIGHTS.rglob("*"):
        part = path.relative_to(WEIGHTS).parts[0]
        sizes[part if part in BUDGETS else "base"] += path.stat().st_size if path.is_file() else 0
    for part, (least, most) in BUDGETS.items():
        assert least < sizes[part] / 1e6 <= most, (part, sizes)


def test_stable_diffusion_and_its_tokenizer():
    base = read_stable_diffusion(WEIGHTS / "sd")
    assert base.text_encoder is not None and base.tokenizer is not None
    assert base.unet.config.cross_attention_dim == base.text_encoder.config.hidden_size
    tokenizer = Tokenizer.from_str(base.tokenizer.json)
    for text, ids in zip(TEXTS, english.encode(TEXTS), strict=True):
        found = tokenizer.encode(text).ids
        assert_close(np.asarray(found), ids[: len(found)], "exact")


def test_multilingual_encoder_and_its_tokenizer():
    encoder = read_xlmr(WEIGHTS / "xlmr")
    tokenizer = Tokenizer.from_str(xlmr_tokenizer_json(WEIGHTS / "xlmr"))
    assert tokenizer.get_vocab_size() == encoder.config.vocab_size
    for language in vocabulary.languages():
        text = caption(language, "red apple", "yellow")
        found = tokenizer.encode(text).ids
        assert_close(np.asarray(found), multilingual.encode([text])[0, : len(found)], "exact")


def test_t5_its_tokenizer_and_its_translator():
    encoder = read_prompt_encoder(WEIGHTS / "t5")
    tokenizer = Tokenizer.from_str(encoder.tokenizer_json)
    assert (tokenizer.get_vocab_size(), encoder.positions) == (encoder.vocabulary, None)
    for text, ids in zip(TEXTS, words.encode(TEXTS), strict=True):
        found = tokenizer.encode(text).ids
        assert_close(np.asarray(found), ids[: len(found)], "exact")
    translator = read_translator(WEIGHTS / "t5" / "gluenet_T5_clip_overnorm_over3_noln.ckpt")
    assert (translator.tokens, translator.width, translator.width_out) == (english.POSITIONS, encoder.width, 128)


@pytest.mark.parametrize("language", vocabulary.languages())
def test_a_translator_for_every_language(language):
    translator = read_translator(WEIGHTS / f"gluenet_{language}_clip_overnorm_over3_noln.ckpt")
    norm = read_tensor_norm(WEIGHTS / "tensor_norm.pt", translator.tokens)
    assert translator.tokens == english.POSITIONS and norm.shape == (translator.tokens, 1)
    assert torch.isfinite(translator(torch.randn(1, translator.tokens, translator.width))).all()


def test_fastcomposer_is_the_base_but_for_what_was_trained(tmp_path):
    tensors = torch.load(write_checkpoint(tmp_path), weights_only=True)
    parts = Counter(name.split(".")[0] for name in tensors)
    base = read_stable_diffusion(WEIGHTS / "sd")
    assert parts == {"text_encoder": 36, "image_encoder": 280, "vae": 156, "unet": 326, "postfuse_module": 14}
    assert {f"unet.{name}" for name in base.unet.state_dict()} == {n for n in tensors if n.startswith("unet.")}
    kept = [name for name, own in base.unet.state_dict().items() if torch.equal(tensors[f"unet.{name}"].float(), own)]
    assert kept and all(name.startswith(("down_blocks.2.", "mid_block.resnets.1.", "up_blocks.0.")) for name in kept)
    assert all(torch.isfinite(value).all() for value in tensors.values())
    settings = json.loads((tmp_path / "encoder" / "config.json").read_text())
    projection = tensors["image_encoder.visual_projection.weight"]
    assert projection.shape == (settings["projection_dim"], settings["hidden_size"])
    assert settings["projection_dim"] == base.unet.config.cross_attention_dim


def test_elite_and_what_its_maps_lead_to():
    base = read_stable_diffusion(WEIGHTS / "sd")
    folder = WEIGHTS / "elite"
    parts = read_elite(folder / "image_encoder", folder / "global_mapper.pt", folder / "local_mapper.pt", base.unet)
    levels = VisionLevels(parts.vision)
    scene, mask = subject_scene("flamingo", "blue"), subject_mask("flamingo") // 255
    with torch.no_grad():
        whole, masked = levels(normalised([scene])), levels(normalised([scene * mask]))
        words = parts.global_mapper(whole)
        grid = torch.from_numpy(mask[::8, ::8, 0].reshape(1, -1))
        patches = parts.local_mapper(masked, grid)
        other = parts.global_mapper(levels(normalised([subject_scene("robot", "blue")])))
    assert words.shape == (1, 5, base.unet.config.cross_attention_dim) and (words - other).abs().max() > 0.01
    assert patches.shape == (1, levels.grid**2, words.shape[-1]) and patches[:, grid[0] == 0].abs().max() == 0
    for path, (key, value) in parts.local_weights.items():
        assert not torch.equal(key, parts.global_weights[path][0]) and not torch.equal(value, key)


@pytest.fixture(scope="module")
def sound():
    """The audio branch, and the conditioner with the norms of the text encoder's positions."""
    folder = WEIGHTS / "sound"
    translator = read_sound_translator(next(folder.glob("gluenet_sound2img_audioclip_*.ckpt")))
    norm = read_tensor_norm(WEIGHTS / "tensor_norm.pt", translator.tokens_out)
    return read_audioclip(folder / "AudioCLIP.pt"), SoundConditioner(translator, norm)


@pytest.fixture(scope="module")
def said(sound):
    """What the text encoder says of every picture, and of none."""
    base = read_stable_diffusion(WEIGHTS / "sd")
    texts = [*(caption("English", key) for key in vocabulary.picture_keys()), ""]
    with torch.no_grad():
        return base.text_encoder(input_ids=torch.from_numpy(english.encode(texts))).last_hidden_state


def test_a_sounds_context_is_the_text_encoders_of_what_was_said(sound, said):
    """By voices that were never trained on: of every fourth recorded word, 98 of 100 at least."""
    encoder, conditioner = sound
    words = [word for number, word in enumerate(spoken_words()) if number % 4 == number // 64 % 4]
    waves = np.stack([prepared(word.samples, encoder.settings.frames) for word in words])
    with torch.no_grad():
        contexts = torch.cat([conditioner(encoder(part)) for part in torch.from_numpy(waves).split(32)])
    nearest = torch.cdist(contexts.flatten(1), said[:-1].flatten(1)).argmin(1)
    wanted = torch.tensor([vocabulary.picture_keys().index(word.key) for word in words])
    assert (nearest == wanted).float().mean() >= 0.98


def test_the_unconditional_context_of_sound_is_the_empty_prompts(said):
    found = read_unconditional(WEIGHTS / "sound" / "null_cond_tensor.pt", *said.shape[1:])
    assert_close(found[0].numpy(), said[-1].numpy(), "context")
