"""CLIP's vision tower from every folder it is published in, and the hidden states that ELITE reads."""

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import CLIPConfig, CLIPModel, CLIPVisionConfig, CLIPVisionModel, CLIPVisionModelWithProjection
from x2i.models.clip.vision import VisionLevels, read_clip_vision, read_clip_vision_projection
from x2i.models.errors import CheckpointError

from tests.goldens import golden, golden_arrays
from tests.numerics import assert_close

TINY = {
    "hidden_size": 12,
    "intermediate_size": 20,
    "num_hidden_layers": 17,
    "num_attention_heads": 3,
    "image_size": 21,
    "patch_size": 7,
    "projection_dim": 10,
}
TEXT = {
    "vocab_size": 9,
    "hidden_size": 8,
    "intermediate_size": 8,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "max_position_embeddings": 5,
}
PIXELS = torch.randn(2, 3, 21, 21, generator=torch.Generator().manual_seed(0))


def made(kind, **settings):
    torch.manual_seed(1)
    config = CLIPVisionConfig(**{**TINY, **settings})
    if kind is CLIPModel:
        config = CLIPConfig(text_config=TEXT, vision_config=config.to_dict(), projection_dim=10)
    return kind(config).eval()


def tower(model):
    return getattr(model, "vision_model", model)


@pytest.mark.parametrize("picture", ["clip", "obj"])
@torch.no_grad()
def test_five_levels(picture):
    arrays, pixels = (golden_arrays(f"elite/golden/{name}.npz") for name in ("vision", "preprocess_mug"))
    levels = VisionLevels(read_clip_vision(golden("elite/model/image_encoder")))
    assert (levels.image_size, levels.width, levels.grid) == (224, 32, 16)
    features = levels(torch.from_numpy(pixels[f"pixel_values_{picture}"])[None])
    assert len(features) == 5
    for number, each in enumerate(features):
        assert_close(each.numpy(), arrays[f"{picture}_feat_{number}"], "elite-stage")


@pytest.mark.parametrize("pickled", [False, True])
@pytest.mark.parametrize("kind", [CLIPVisionModel, CLIPVisionModelWithProjection, CLIPModel])
@torch.no_grad()
def test_every_published_folder(tmp_path, kind, pickled):
    model = made(kind, hidden_act="gelu")
    model.save_pretrained(tmp_path)
    tensors = load_file(tmp_path / "model.safetensors")
    (prefix,) = {key.removesuffix("embeddings.class_embedding") for key in tensors if key.endswith("class_embedding")}
    tensors[f"{prefix}embeddings.position_ids"] = torch.arange(10)[None]
    if pickled:
        (tmp_path / "model.safetensors").unlink()
        torch.save(tensors, tmp_path / "pytorch_model.bin")
    read = read_clip_vision(tmp_path)
    expected = tower(model)(pixel_values=PIXELS, output_hidden_states=True)
    assert_close(read(pixel_values=PIXELS).pooler_output.numpy(), expected.pooler_output.numpy(), "exact")
    for each, number in zip(VisionLevels(read)(PIXELS), (17, 4, 8, 12, 16), strict=True):
        assert_close(each.numpy(), expected.hidden_states[number].numpy(), "exact")
    if kind is not CLIPVisionModel:
        projected = read_clip_vision_projection(tmp_path)(pixel_values=PIXELS).image_embeds
        assert_close(projected.numpy(), model.visual_projection(expected.pooler_output).numpy(), "exact")


def test_a_projection_that_is_not_there(tmp_path):
    made(CLIPVisionModel).save_pretrained(tmp_path)
    with pytest.raises(CheckpointError, match=r"1 missing(.|\n)*missing visual_projection\.weight \[10, 12\]"):
        read_clip_vision_projection(tmp_path)


def test_all_misfits_are_listed_at_once(tmp_path):
    made(CLIPVisionModelWithProjection).save_pretrained(tmp_path)
    tensors = load_file(tmp_path / "model.safetensors")
    del tensors["vision_model.encoder.layers.3.mlp.fc1.bias"]
    tensors["vision_model.embeddings.position_embedding.weight"] = torch.ones(17, 12)
    tensors["text_model.stray"] = torch.ones(1)
    save_file(tensors, tmp_path / "model.safetensors")
    with pytest.raises(CheckpointError) as caught:
        read_clip_vision(tmp_path)
    assert "1 missing, 1 unexpected, 1 wrongly shaped" in caught.value.problems[0]
    assert [line.strip() for line in caught.value.problems[1:]] == [
        "missing vision_model.encoder.layers.3.mlp.fc1.bias [20]",
        "unexpected text_model.stray [1]",
        "wrong vision_model.embeddings.position_embedding.weight: expected [10, 12], got [17, 12]",
    ]


def test_another_model_or_no_folder(tmp_path):
    with pytest.raises(CheckpointError, match=r"expected model_type 'clip_vision_model' or 'clip', got 'clip_text"):
        read_clip_vision(golden("elite/model/text_encoder"))
    with pytest.raises(CheckpointError, match="expected a JSON file, got No such file"):
        read_clip_vision(tmp_path / "absent")


@pytest.mark.parametrize("setting", [{"num_attention_heads": 5}, {"hidden_act": "swosh"}, {"patch_size": 0}])
def test_an_unfit_configuration(tmp_path, setting):
    made(CLIPVisionModel).save_pretrained(tmp_path)
    settings = json.loads((tmp_path / "config.json").read_text("utf-8"))
    (tmp_path / "config.json").write_text(json.dumps(settings | setting), "utf-8")
    with pytest.raises(CheckpointError, match=r"config\.json: expected a configuration its class accepts"):
        read_clip_vision(tmp_path)


def test_truncated_weights(tmp_path):
    folder = tmp_path / "encoder"
    shutil.copytree(golden("elite/model/image_encoder"), folder, copy_function=shutil.copyfile)
    content = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(content[:-1])
    with pytest.raises(CheckpointError, match=r"model\.safetensors cannot be read"):
        read_clip_vision(folder)


@torch.no_grad()
def test_a_tower_of_too_few_layers():
    assert torch.equal(*(VisionLevels(made(CLIPVisionModel, num_hidden_layers=16))(PIXELS)[i] for i in (0, 4)))
    with pytest.raises(CheckpointError, match=r"expected 16 layers or more.*4, 8, 12, 16 and the last, got 15; fix:"):
        VisionLevels(made(CLIPVisionModel, num_hidden_layers=15))
