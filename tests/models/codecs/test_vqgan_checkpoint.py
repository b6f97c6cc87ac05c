"""Codecs from files: every layout, and what does not belong together in one line each."""

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import yaml
from x2i.models.codecs.token_codec import read_code_map, read_token_codec
from x2i.models.codecs.vqgan import PyramidSettings, Vqgan, VqganSettings
from x2i.models.codecs.vqgan_checkpoint import (
    find_codec_config,
    holds_vqgan,
    load_vqgan,
    read_vqgan,
    read_vqgan_settings,
)
from x2i.models.errors import CheckpointError
from x2i.models.random.weights import draw_weights

from tests.models.codecs.codec_goldens import ALL, MAPPED, codec_goldens, read_codec

HALF = PyramidSettings(width=32, multipliers=(2, 1, 3), blocks=1, attends=(False, True, False), channels=3, features=5)
SETTINGS = VqganSettings(encoder=HALF, decoder=HALF, code_width=6, codes=11)
DDCONFIG = {
    "double_z": False,
    "z_channels": 5,
    "resolution": 52,
    "in_channels": 3,
    "out_ch": 3,
    "ch": 32,
    "ch_mult": [2, 1, 3],
    "num_res_blocks": 1,
    "attn_resolutions": [26],
    "dropout": 0.0,
}


def refusal(call) -> str:
    with pytest.raises(CheckpointError) as refused:
        call()
    (line,) = refused.value.problems
    assert "; fix: " in line and "\n" not in line
    return line


def yaml_file(path: Path, target="taming.models.vqgan.VQModel", **changes) -> Path:
    model = {"target": target, "params": {"embed_dim": 6, "n_embed": 11, "ddconfig": {**DDCONFIG, **changes}}}
    path.write_text(yaml.safe_dump({"model": model}), "utf-8")
    return path


@pytest.fixture(scope="module")
def vqgan() -> Vqgan:
    return draw_weights(Vqgan(SETTINGS), 4).requires_grad_(False)


def published(vqgan: Vqgan, prefix: str = "", book: str = "quantize.embedding.weight") -> dict[str, torch.Tensor]:
    """The codec's tensors under its authors' names."""
    state = dict(vqgan.state_dict())
    return {prefix + (book if key == "codebook" else key): value for key, value in state.items()}


def test_the_codec_inside_a_checkpoint_is_taken_before_the_files():
    for case in (case for case in codec_goldens() if holds_vqgan(case.inside())):
        state = case.inside()
        inside = read_token_codec(case.codec, case.code_map, case.classes, inside=state)
        for key, value in read_codec(case).vqgan.state_dict().items():
            assert torch.equal(inside.vqgan.state_dict()[key], value), key
        key = next(key for key in state if key.endswith("post_quant_conv.bias"))
        changed = read_token_codec(case.codec, case.code_map, case.classes, inside={**state, key: state[key] * 2})
        assert torch.equal(changed.vqgan.post_quant_conv.bias, read_codec(case).vqgan.post_quant_conv.bias * 2)


@ALL
def test_weights_are_computed_in_float32(case):
    assert {value.dtype for value in read_codec(case).vqgan.parameters()} == {torch.float32}


@pytest.mark.parametrize("case", MAPPED, ids=lambda case: case.folder)
def test_a_map_of_another_codec(case):
    others = [
        other for other in MAPPED if read_codec(other).vqgan.settings.codes != read_codec(case).vqgan.settings.codes
    ]
    for other in others:
        line = refusal(lambda other=other: read_token_codec(case.codec, other.code_map, case.classes))
        assert f"expected the map of a codec of {read_codec(case).vqgan.settings.codes} codes" in line


@ALL
def test_a_transformer_of_other_classes(case):
    line = refusal(lambda: read_token_codec(case.codec, case.code_map, case.classes + 1))
    assert f"expected the {case.classes + 1} classes of the transformer, got {case.classes}" in line


@pytest.mark.parametrize("case", MAPPED, ids=lambda case: case.folder)
def test_a_map_that_was_left_out(case):
    assert "or the map of its codes beside it" in refusal(lambda: read_token_codec(case.codec, None, case.classes))


def test_each_layout(vqgan, tmp_path):
    config = yaml_file(tmp_path / "a.yaml")
    layouts = {
        "state_dict": {"state_dict": published(vqgan)},
        "model": {"model": published(vqgan, book="quantize.embedding")},
        "bare": published(vqgan) | {"loss.discriminator.main.0.weight": torch.ones(2)},
        "first stage": {
            "state_dict": published(vqgan, "first_stage_model.") | {"transformer.head.weight": torch.ones(2)}
        },
    }
    for name, content in layouts.items():
        torch.save(content, tmp_path / f"{name}.pth")
        read = read_vqgan(tmp_path / f"{name}.pth", config)
        assert all(torch.equal(read.state_dict()[key], value) for key, value in vqgan.state_dict().items()), name


def test_a_picture_goes_through_as_many_levels_as_the_settings_say(vqgan):
    with torch.no_grad():
        vectors = vqgan.encode(torch.rand(1, 3, 20, 12))
        assert vectors.shape == (1, 6, 5, 3) and vqgan.decode(vectors).shape == (1, 3, 20, 12)


def test_both_halves_of_a_checkpoint_must_have_one_codebook(vqgan):
    tensors = {
        f"content_codec.{half}.{key}": value
        for half, own in (("enc", ("encoder", "quant_conv", "quantize")), ("dec", ("decoder", "post", "quantize")))
        for key, value in published(vqgan).items()
        if key.startswith(own)
    }
    read = load_vqgan(SETTINGS, tensors, "last.pth")
    assert torch.equal(read.codebook, vqgan.codebook)
    tensors["content_codec.enc.quantize.embedding.weight"] = vqgan.codebook + 1
    assert "expected one codebook" in refusal(lambda: load_vqgan(SETTINGS, tensors, "last.pth"))


def test_every_key_that_does_not_fit_is_told(vqgan):
    tensors = published(vqgan)
    del tensors["decoder.conv_out.bias"]
    tensors |= {"decoder.up.0.attn.0.q.weight": torch.ones(2), "quant_conv.bias": torch.ones(7)}
    with pytest.raises(CheckpointError) as refused:
        load_vqgan(SETTINGS, tensors, "a.pth")
    text = str(refused.value)
    assert "1 missing, 1 unexpected, 1 wrongly shaped" in text and "decoder.up.0.attn.0.q.weight" in text


def test_a_file_without_a_codec():
    line = refusal(lambda: load_vqgan(SETTINGS, {"blocks.0.a": torch.ones(1)}, "a.pth"))
    assert line.startswith("a.pth: expected a VQGAN") and "GlueNet" in line


def test_settings_of_each_class(tmp_path):
    assert read_vqgan_settings(yaml_file(tmp_path / "a.yaml")) == SETTINGS
    gumbel = read_vqgan_settings(yaml_file(tmp_path / "b.yaml", target="x.GumbelVQ"))
    assert gumbel == replace(SETTINGS, gumbel=True)


@pytest.mark.parametrize(
    ("changes", "attends"),
    [
        ({"attn_resolutions": []}, (False, False, False)),
        ({"attn_resolutions": [52, 13]}, (True, False, True)),
        ({"attn_resolutions": [[26, 26]], "resolution": [52, 52]}, (False, True, False)),
        ({"attn_resolutions": [[26, 14]], "resolution": [52, 28]}, (False, True, False)),
        ({"attn_resolutions": [26], "resolution": [52, 26]}, (False, False, False)),
    ],
)
def test_levels_of_a_listed_size_attend(tmp_path, changes, attends):
    settings = read_vqgan_settings(yaml_file(tmp_path / "a.yaml", **changes))
    assert settings.encoder.attends == settings.decoder.attends == attends


def test_a_decoder_s_sizes_are_counted_from_the_coarsest(tmp_path):
    settings = read_vqgan_settings(yaml_file(tmp_path / "a.yaml", resolution=55, attn_resolutions=[27, 26]))
    assert (settings.encoder.attends, settings.decoder.attends) == ((False, True, False), (False, True, False))
    settings = read_vqgan_settings(yaml_file(tmp_path / "a.yaml", resolution=55, attn_resolutions=[27]))
    assert (settings.encoder.attends, settings.decoder.attends) == ((False, True, False), (False, False, False))


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"double_z": True}, "double_z False"),
        ({"resolution": 0}, "expected resolution and attn_resolutions"),
        ({"attn_resolutions": [True]}, "expected resolution and attn_resolutions"),
        ({"patch": 2}, "unknown 'patch'"),
        ({"ch_mult": []}, "ch_mult as a list"),
        ({"target": "ldm.models.autoencoder.AutoencoderKL"}, "got AutoencoderKL"),
    ],
)
def test_settings_that_are_another_model_s(tmp_path, changes, expected):
    target = changes.pop("target", "taming.models.vqgan.VQModel")
    with pytest.raises(CheckpointError) as refused:
        read_vqgan_settings(yaml_file(tmp_path / "a.yaml", target=target, **changes))
    assert expected in str(refused.value)


def test_the_configuration_beside_a_codec(tmp_path):
    codec = tmp_path / "taming_x_last.pth"
    assert "got none" in refusal(lambda: find_codec_config(codec))
    (only := tmp_path / "z.yaml").touch()
    assert find_codec_config(codec) == only
    (tmp_path / "y.yaml").touch()
    assert "got y.yaml, z.yaml" in refusal(lambda: find_codec_config(codec))
    for name in ("config.yaml", "taming_x.yaml", "taming_x_last.yaml"):
        (tmp_path / name).touch()
        assert find_codec_config(codec).name == name
    assert find_codec_config(codec, "/home/someone/OUTPUT/z.yaml") == only
    assert find_codec_config(codec, "/home/someone/OUTPUT/gone.yaml").name == "taming_x_last.yaml"


def test_codecs_whose_weights_were_exchanged(tmp_path):
    cases = codec_goldens()
    if len(cases) < 2:
        pytest.skip("one codec has none to be exchanged with")
    for number, case in enumerate(cases):
        other = cases[number - 1]
        if read_codec(case).vqgan.settings == read_codec(other).vqgan.settings:
            continue
        folder = tmp_path / str(number)
        folder.mkdir()
        shutil.copy(other.codec, folder / "codec.pth")
        shutil.copy(find_codec_config(case.codec), folder / "codec.yaml")
        with pytest.raises(CheckpointError, match="does not fit Vqgan"):
            read_token_codec(folder / "codec.pth", case.code_map, case.classes)


@pytest.mark.parametrize(
    "content",
    [torch.tensor([0, 2, 0]), torch.tensor([1, 2]), torch.tensor([[0]]), torch.tensor([0.0]), torch.tensor([-1, 0])],
    ids=["a gap", "from 1", "a table", "float", "negative"],
)
def test_no_map(tmp_path, content):
    torch.save(content, tmp_path / "map.pt")
    assert "expected the class of each code" in refusal(lambda: read_code_map(tmp_path / "map.pt"))


def test_a_map_of_more_codes_than_any_codec_has_is_refused(tmp_path):
    """A view may stand for terabytes in a file of a few bytes."""
    torch.save(torch.zeros(1, dtype=torch.int64).expand(2**40), tmp_path / "map.pt")
    with pytest.raises(CheckpointError, match="expected the class of each code, int64"):
        read_code_map(tmp_path / "map.pt")
