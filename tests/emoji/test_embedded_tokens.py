"""The embedded systems of tokens: from their committed files to pictures and captions that the judges call right, and
Muse's transformer, whose export takes the longest, to the tokens of every scene."""

import numpy as np
import pytest
import torch
from x2i.emoji.tokens import muse_stage
from x2i.emoji.tokens import tokenizer_stage as tokenizer
from x2i.emoji.tokens.caption_judge import held_out_scenes, judge_caption
from x2i.emoji.tokens.written_layouts import write_muse
from x2i.emoji.world.captions import caption
from x2i.emoji.world.judge import Verdict, judge
from x2i.emoji.world.vocabulary import backgrounds, picture_keys, scene
from x2i.models.muse.amused import read_amused
from x2i.runtime import load

from tests.bundles import whole_embedded

SCENES = (("red apple", "white"), ("rocket", "blue"), ("crown", "purple"))


def test_vq_diffusion_draws_what_was_asked():
    pipeline = load(whole_embedded("vq-diffusion"))
    drawn = [pipeline(caption("English", *scene), seed=3).images[0] for scene in SCENES]
    assert [judge(np.asarray(image)) for image in drawn] == [Verdict(*scene) for scene in SCENES]


def test_ddcap_says_what_it_sees():
    pipeline, scenes = load(whole_embedded("ddcap")), held_out_scenes()[::9]
    said = [judge_caption(pipeline(image=picture).texts[0]) for _, _, picture in scenes]
    right = [verdict == Verdict(key, colour) for verdict, (key, colour, _) in zip(said, scenes, strict=True)]
    assert sum(right) >= len(scenes) - 1


@pytest.fixture(scope="module")
def muse(tmp_path_factory):
    return read_amused(write_muse(tmp_path_factory.mktemp("muse")))


@torch.no_grad()
def test_muse_knows_each_scene_by_its_prompt(muse):
    """Half of the tokens shown: most of the others are told right, and by another prompt far fewer."""
    scenes = list(zip(picture_keys()[::4], [ground.key for ground in backgrounds()] * 2, strict=True))
    tokens = tokenizer.tokens([scene(*each) for each in scenes])
    seen = torch.where(torch.rand(tokens.shape, generator=torch.Generator().manual_seed(0)) < 0.5, muse.mask_id, tokens)
    states, pooled = muse_stage.read(muse_stage.published_encoder(), [caption("English", *each) for each in scenes])
    made = torch.nn.ModuleDict({"transformer": muse.transformer, "projection": muse.text.projection})
    hidden = seen == muse.mask_id

    def right(order: list[int]) -> float:
        found = muse_stage.logits(made, seen, states[order], pooled[order]).argmax(-1)
        return float((found == tokens)[hidden].float().mean())

    assert right(list(range(16))) > 0.9 and right([*range(1, 16), 0]) < 0.8
