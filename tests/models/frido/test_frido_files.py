"""Frido's checkpoint and settings: what is read, and what is refused."""

import numpy as np
import pytest
import torch
from x2i.models.errors import CheckpointError
from x2i.models.frido.checkpoint import averaged_name, frido_of, read_frido
from x2i.models.frido.settings import read_frido_settings
from x2i.models.random.cascades.frido import VARIANTS, random_frido
from x2i.models.text_encoders.word_pieces import word_piece_tokenizer

from tests.export.cascades.frido_cases import frido_of_task, frido_parts, task_names
from tests.goldens import golden, golden_arrays
from tests.models.frido.frido_files import frido_yaml, write_frido
from tests.numerics import assert_close, assert_near

TASKS = pytest.mark.parametrize("task", task_names() or ["none"])


@TASKS
def test_the_recorded_networks(task):
    frido, nets = frido_of_task(task), golden_arrays(f"frido/{task}/nets.npz")
    assert_close(frido.unet.stage_emb.weight.numpy(), nets["stage_emb"], "exact")
    coarse = torch.from_numpy(nets["x"][:, : frido.unet.settings.levels[0]])
    assert_near(frido.unet.guide(1, coarse).numpy(), nets["stage1_cond_feature"], "frido-net")


def test_the_recorded_prompts():
    recorded = golden_arrays("frido/t2i/text.npz")
    from tokenizers import Tokenizer

    encoder = frido_of_task("t2i").encoder
    text, pad = word_piece_tokenizer(frido_parts("t2i")["tokenizer"], encoder.settings.classes)
    tokenizer = Tokenizer.from_str(text)
    for prompt, expected in zip(recorded["prompts"], recorded["input_ids"], strict=True):
        ids = tokenizer.encode(str(prompt)).ids
        assert [*ids, *[pad] * (len(expected) - len(ids))] == expected.tolist()
    contexts = np.concatenate([recorded["context"], recorded["context_empty"]])
    assert_near(encoder(torch.from_numpy(recorded["input_ids"])).numpy(), contexts, "frido-net")


@pytest.mark.parametrize("variant", ["tiny", "tiny-layout"])
def test_what_is_written_in_their_layout_is_read(variant, tmp_path):
    """Views of other strides are read as what they show, and the trained copy is not read at all."""
    own, read = random_frido(variant), read_frido(*write_frido(tmp_path, variant))
    assert (read.task, read.side, read.noise) == (own.task, own.side, own.noise)
    for name in ("unet", "encoder"):
        for key, value in getattr(own, name).state_dict().items():
            assert torch.equal(getattr(read, name).state_dict()[key], value), key
    decoder = read.decoder.state_dict()
    assert all(torch.equal(decoder[key], value.half().float()) for key, value in own.decoder.state_dict().items())


@pytest.mark.parametrize("variant", VARIANTS)
def test_settings_of_every_size_are_read(variant, tmp_path):
    """Those of the releases, too; no network is built for them."""

    class Sizes:
        task, side, noise = VARIANTS[variant].task, VARIANTS[variant].side, VARIANTS[variant].noise

        class unet:
            settings = VARIANTS[variant].unet

        class decoder:
            settings = VARIANTS[variant].codec

        class encoder:
            settings = VARIANTS[variant].encoder

    import yaml

    (tmp_path / "config.yaml").write_text(yaml.safe_dump(frido_yaml(Sizes)))
    assert read_frido_settings(tmp_path / "config.yaml") == VARIANTS[variant]


def test_the_published_sizes_have_the_published_attention():
    """Of heads nothing is said: there is one, as wide as the layer."""
    settings = VARIANTS["t2i-f16f8"]
    with torch.device("meta"):
        frido = frido_of(settings, "published")
    names = [key for key in frido.unet.state_dict() if key.endswith("attn2.to_k.weight")]
    # Sizes 2, 4 and 8 on the way down, with 2 blocks each, the middle, and 3 blocks each on the way up.
    assert len(names) == 3 * 2 + 1 + 3 * 3
    assert sum(value.numel() for value in frido.unet.parameters()) > 400e6


def test_without_averages_nothing_is_drawn(tmp_path):
    def strip(tensors):
        for key in [key for key in tensors if key.startswith("model_ema.")]:
            del tensors[key]

    with pytest.raises(CheckpointError, match="expected the UNet's averaged weights, model_ema") as told:
        read_frido(*write_frido(tmp_path, change=strip))
    assert "got the trained copy model.diffusion_model. alone" in str(told.value)
    assert len(told.value.problems) == 1


def test_every_wrong_key_is_told_at_once(tmp_path):
    def spoil(tensors):
        del tensors[averaged_name("out.0.2.weight")]
        tensors["model_ema.diffusion_modelanother"] = torch.zeros(2)
        tensors["first_stage_model.decoder.conv_in.weight"] = torch.zeros(1, 2, 3, 3)
        del tensors["cond_stage_model.transformer.norm.bias"]
        tensors["strange.weight"] = torch.zeros(4)
        tensors["scale_factor"] = torch.ones(())
        tensors["alphas_cumprod"] = tensors["alphas_cumprod"] * 0.99

    with pytest.raises(CheckpointError) as told:
        read_frido(*write_frido(tmp_path, change=spoil))
    for said in (
        "missing model_ema.diffusion_modelout02weight",
        "unexpected model_ema.diffusion_modelanother [2]",
        "wrong first_stage_model.decoder.conv_in.weight",
        "missing cond_stage_model.transformer.norm.bias",
        "unexpected strange.weight [4]",
        "wrong scale_factor: expected [2], got []",
        "expected alphas_cumprod of 1000 betas from 0.0015 to 0.0155",
    ):
        assert said in str(told.value)


def params(settings):
    return settings["model"]["params"]


@pytest.mark.parametrize(
    ("edit", "said"),
    [
        (lambda s: params(s)["unet_config"]["params"].update(legacy=False), "expected legacy True, got False"),
        (lambda s: params(s)["unet_config"]["params"].update(use_stage_expert=True), "use_stage_expert False"),
        (lambda s: params(s)["unet_config"]["params"].update(use_SPADE_norm=False), "use_SPADE_norm True"),
        (lambda s: params(s)["unet_config"]["params"].update(model_channels=48), "that are multiples of 32, got [48"),
        (lambda s: params(s)["unet_config"]["params"].update(channel_mult=[2, 2]), "that are model_channels itself"),
        (lambda s: params(s)["unet_config"]["params"].update(num_stage=3), "expected num_stage 2, got 3"),
        (lambda s: params(s)["unet_config"]["params"].update(spade=1), "got unknown 'spade'"),
        (lambda s: params(s)["unet_config"].update(target="ldm.UNetModel"), "the class PyUNetModel"),
        (lambda s: params(s)["cond_stage_config"].update(target="x.FrozenCLIPEmbedder"), "the class BERTEmbedder"),
        (
            lambda s: params(s)["cond_stage_config"]["params"].update(use_tokenizer=False),
            "cond_stage_key 'objects_bbox'",
        ),
        (lambda s: params(s)["cond_stage_config"]["params"].update(n_embed=25), "expected context_dim 25"),
        (lambda s: params(s)["first_stage_config"]["params"].update(n_embed=[3]), "the number of n_embed 2"),
        (lambda s: params(s)["first_stage_config"]["params"].update(embed_dim=[3, 4]), "expected embed_dim [4, 3]"),
        (lambda s: params(s)["first_stage_config"]["params"]["ddconfig"].update(out_ch=1), "expected out_ch 3"),
        (lambda s: params(s).update(image_size=13), "expected image_size in multiples of 2"),
        (lambda s: params(s).update(linear_end=1.5), "expected linear_start up to linear_end below 1"),
        (lambda s: params(s).update(parameterization="x0"), "expected parameterization 'eps'"),
        (lambda s: params(s).update(conditioning_key="concat"), "expected conditioning_key 'crossattn'"),
        (lambda s: s["model"].pop("params"), "params: expected a section of settings"),
        (
            lambda s: params(s)["unet_config"]["params"].update(
                split_embed_dim_list=[3, 2, 2], num_stage=3, in_channels=7, out_channels=7
            ),
            "expected split_embed_dim_list of 2 levels",
        ),
    ],
)
def test_another_model_s_settings_are_refused(edit, said, tmp_path):
    _, config = write_frido(tmp_path, edit=edit)
    with pytest.raises(CheckpointError) as told:
        read_frido_settings(config)
    assert said in str(told.value)
    assert len(set(told.value.problems)) == len(told.value.problems)


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        (["a", "b"], "got none of [PAD], [UNK], [CLS], [SEP], [MASK]"),
        (["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "a"], "got 1 of 7 pieces twice"),
        (["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *map(str, range(20))], "expected ids below 10"),
    ],
)
def test_a_vocabulary_of_another_model(lines, said, tmp_path):
    (tmp_path / "vocab.txt").write_text("\n".join(lines) + "\n")
    for path in (tmp_path, tmp_path / "vocab.txt"):
        with pytest.raises(CheckpointError) as told:
            word_piece_tokenizer(path, 10)
        assert said in str(told.value)


def test_the_tokenizer_is_transformers_own(tmp_path):
    from tokenizers import Tokenizer
    from transformers import BertTokenizerFast

    home = golden("frido/bert_tokenizer")
    peer = BertTokenizerFast(vocab=str(home / "vocab.txt"))
    own = Tokenizer.from_str(word_piece_tokenizer(home, 1000)[0])
    for text in ("A Man, snowboarding!", "Ünïcode  CAFÉ \t dog's", "[MASK] cat 犬 x" * 3, "", "a" * 200):
        assert own.encode(text).ids == peer(text)["input_ids"]
    peer.save_pretrained(tmp_path)
    (tmp_path / "vocab.txt").unlink(missing_ok=True)
    saved, pad = word_piece_tokenizer(tmp_path, 1000)
    assert pad == 0 and Tokenizer.from_str(saved).encode("two dogs").ids == own.encode("two dogs").ids
    with pytest.raises(CheckpointError, match=r"expected vocab.txt or tokenizer.json, got neither"):
        word_piece_tokenizer(tmp_path / "nothing", 1000)
