"""The configuration of a CompVis checkpoint: the default, the authors' YAML, JSON, and everything it cannot mean."""

import copy
import json

import pytest
from x2i.models.errors import CheckpointError
from x2i.models.stable_diffusion.compvis_config import SD_V1, read_compvis_config

from tests.goldens import golden

YAML = """
model:
  base_learning_rate: 1.0e-04
  target: ldm.models.diffusion.ddpm.LatentDiffusion
  params:
    linear_start: 0.00085
    linear_end: 0.0120
    num_timesteps_cond: 1
    log_every_t: 200
    timesteps: 1000
    first_stage_key: "jpg"
    cond_stage_key: "txt"
    image_size: 64
    channels: 4
    cond_stage_trainable: false
    conditioning_key: crossattn
    scale_factor: 0.18215
    use_ema: False
    unet_config:
      target: ldm.modules.diffusionmodules.openaimodel.UNetModel
      params:
        image_size: 32
        in_channels: 4
        out_channels: 4
        model_channels: 320
        attention_resolutions: [ 4, 2, 1 ]
        num_res_blocks: 2
        channel_mult: [ 1, 2, 4, 4 ]
        num_heads: 8
        use_spatial_transformer: True
        transformer_depth: 1
        context_dim: 768
        use_checkpoint: True
        legacy: False
    first_stage_config:
      target: ldm.models.autoencoder.AutoencoderKL
      params:
        embed_dim: 4
        monitor: val/rec_loss
        ddconfig:
          double_z: true
          z_channels: 4
          resolution: 256
          in_channels: 3
          out_ch: 3
          ch: 128
          ch_mult: [1, 2, 4, 4]
          num_res_blocks: 2
          attn_resolutions: []
          dropout: 0.0
        lossconfig:
          target: torch.nn.Identity
    cond_stage_config:
      target: ldm.modules.encoders.modules.FrozenCLIPEmbedder
"""


def write(tmp_path, content, name="config.json"):
    path = tmp_path / name
    path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    return path


def test_the_authors_yaml_is_the_default(tmp_path):
    default, read = read_compvis_config(None), read_compvis_config(write(tmp_path, YAML, "v1-inference.yaml"))
    for name in ("unet", "vae", "text_encoder", "scheduler"):
        assert getattr(read, name) == getattr(default, name)
    assert default.unet["block_out_channels"] == [320, 640, 1280, 1280]
    assert default.unet["down_block_types"] == ["CrossAttnDownBlock2D"] * 3 + ["DownBlock2D"]
    assert default.unet["up_block_types"] == ["UpBlock2D"] + ["CrossAttnUpBlock2D"] * 3
    assert default.unet["attention_head_dim"] == [8, 8, 8, 8]


def test_the_goldens_form():
    config = read_compvis_config(golden("gluegen/pipeline/config.json"))
    assert config.unet["down_block_types"] == ["CrossAttnDownBlock2D", "DownBlock2D"]
    assert config.unet["up_block_types"] == ["UpBlock2D", "CrossAttnUpBlock2D"]
    assert config.unet["cross_attention_dim"] == 48 and config.vae["scaling_factor"] == 0.18215


def test_heads_by_their_width(tmp_path):
    settings = copy.deepcopy(SD_V1)
    settings["unet"] |= {"num_heads": -1, "num_head_channels": 64}
    assert read_compvis_config(write(tmp_path, settings)).unet["attention_head_dim"] == [5, 10, 20, 20]


def test_all_problems_at_once(tmp_path):
    settings = copy.deepcopy(SD_V1)
    settings["unet"] |= {"num_res_blocks": [2, 2], "resblock_updown": True, "adm_in_channels": 2816}
    del settings["unet"]["context_dim"], settings["scale_factor"]
    settings["vae"]["ddconfig"] |= {"attn_resolutions": [16], "ch": "128"}
    with pytest.raises(CheckpointError) as caught:
        read_compvis_config(write(tmp_path, settings))
    for part in (
        "num_res_blocks as a positive whole number, got [2, 2]",
        "resblock_updown False, got True",
        "unknown 'adm_in_channels'",
        "context_dim as a positive whole number, got None",
        "scale_factor as a positive number, got None",
        "attn_resolutions [], got [16]",
        "ch as a positive whole number, got '128'",
    ):
        assert part in str(caught.value)
    assert len(caught.value.problems) == 7 and all("fix: " in line for line in caught.value.problems)


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        ("use_ema: False", "use_ema: True", "expected use_ema False, got True"),
        ("    use_ema: False\n", "", "expected use_ema False, got True"),
        (
            "use_ema: False",
            "use_ema: False\n    parameterization: x0",
            "expected parameterization 'eps' or 'v', got 'x0'",
        ),
        ("openaimodel.UNetModel", "openaimodel.EncoderUNetModel", "unet_config of class UNetModel"),
        ("model:", "modell:", "got 'NoneType'"),
        ("embed_dim: 4", "embed_dim: 3", "embed_dim 4, got 3"),
        ("[ 4, 2, 1 ]", "[ 4, 2, 1", "expected YAML"),
    ],
)
def test_yaml_of_another_model(tmp_path, old, new, problem):
    assert old in YAML
    with pytest.raises(CheckpointError, match=problem.replace("[", r"\[")):
        read_compvis_config(write(tmp_path, YAML.replace(old, new), "x.yaml"))


def test_files_that_are_no_configuration(tmp_path):
    for name, content in (("x.json", "{"), ("x.json", "[]"), ("x.yaml", "- 1"), ("x.yaml", ""), ("x.json", "{}")):
        with pytest.raises(CheckpointError, match=r"fix: "):
            read_compvis_config(write(tmp_path, content, name))
    with pytest.raises(CheckpointError, match="No such file"):
        read_compvis_config(tmp_path / "absent.yaml")


V2 = {
    "num_heads: 8": "num_head_channels: 64\n        use_linear_in_transformer: True\n        use_fp16: True",
    "context_dim: 768": "context_dim: 1024",
    "FrozenCLIPEmbedder": "FrozenOpenCLIPEmbedder\n      params:\n        freeze: True\n        layer: penultimate",
}


def second(text: str = YAML, **params: str) -> str:
    """The authors' YAML of version 2: OpenCLIP's last layer but one, and linear projections around the attention."""
    for old, new in V2.items():
        assert old in text
        text = text.replace(old, new)
    lines = "".join(f"    {name}: {value}\n" for name, value in params.items())
    return text.replace("  params:\n", "  params:\n" + lines, 1)


@pytest.mark.parametrize(
    ("params", "size", "predicts"), [({}, 64, "epsilon"), ({"parameterization": '"v"'}, 96, "v_prediction")]
)
def test_the_authors_yaml_of_version_2(tmp_path, params, size, predicts):
    read = read_compvis_config(write(tmp_path, second(**params), "v2-inference.yaml"))
    assert read.unet["cross_attention_dim"] == 1024 and read.unet["use_linear_projection"] is True
    assert read.unet["attention_head_dim"] == [5, 10, 20, 20] and read.unet["sample_size"] == size
    assert read.text_encoder["num_hidden_layers"] == 23 and read.text_encoder["hidden_act"] == "gelu"
    assert read.scheduler["prediction_type"] == predicts


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("layer: penultimate", "layer: pooled", "cond_stage_config, params: expected layer 'last' or 'penultimate'"),
        ("freeze: True", "arch: ViT-g-14", "expected arch 'ViT-H-14', got 'ViT-g-14'"),
    ],
)
def test_another_text_encoder_of_version_2(tmp_path, old, new, message):
    with pytest.raises(CheckpointError, match=message):
        read_compvis_config(write(tmp_path, second().replace(old, new), "v2.yaml"))


def test_a_hidden_layer_of_version_1(tmp_path):
    """Some fine-tunes were trained on it, without the final LayerNorm."""
    hidden = YAML.replace("FrozenCLIPEmbedder\n", "FrozenCLIPEmbedder\n      params: {layer: hidden, layer_idx: 11}\n")
    with pytest.raises(CheckpointError, match="expected layer 'last', got 'hidden'"):
        read_compvis_config(write(tmp_path, hidden, "v1.yaml"))
