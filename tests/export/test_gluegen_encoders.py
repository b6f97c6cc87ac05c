"""`gluegen-text` with T5 and other encoders: from folders through a bundle to latents, against torch; and misfits."""

from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import UNet2DConditionModel
from transformers import AutoTokenizer, BertModel, CLIPTextModel, RobertaModel, T5EncoderModel
from x2i.export.components.text import prompt_encoder_component
from x2i.export.to_onnx import to_onnx
from x2i.models.random.weights import draw_weights
from x2i.models.text_encoders.prompt_encoder import read_prompt_encoder
from x2i.models.translators.gluenet import GlueNetConditioner, Translator, TranslatorNoLN, read_translator
from x2i.runtime import load
from x2i.runtime.bundle.calls import Tensor
from x2i.runtime.errors import InputError
from x2i.runtime.pipeline import Pipeline
from x2i.runtime.request import make_request
from x2i.runtime.sessions.onnxruntime_cpu import OnnxRuntimeSession

from tests.export.published_folders import publish, refused, run
from tests.models.text_encoders.encoder_folders import publish_bert, publish_clip, publish_t5
from tests.numerics import assert_close

CONTEXT = 24
WINDOW = 11
TRANSLATORS = {"T5": TranslatorNoLN, "Fr": Translator}
PROMPTS = ["a red apple on a blue background", "", "the small house by the sea " * 4]
ENCODERS = {
    "gated": (partial(publish_t5, feed_forward_proj="gated-gelu"), T5EncoderModel),
    "relu": (partial(publish_t5, whole=False, d_kv=17, num_heads=5), T5EncoderModel),
    "bert": (publish_bert, BertModel),
    "roberta": (partial(publish_bert, kind="roberta"), RobertaModel),
    "clip": (publish_clip, CLIPTextModel),
}


@pytest.fixture(scope="module")
def base(tmp_path_factory) -> Path:
    return publish(tmp_path_factory.mktemp("base"))


def write_translator(path: Path, width: int, tokens: int = WINDOW, kind=TranslatorNoLN, seed: int = 0) -> Translator:
    translator = draw_weights(kind(tokens, width, CONTEXT, depth=2), seed).eval()
    torch.save(translator.state_dict(), path)
    return translator


def options(**parts: Path) -> list[str]:
    return [word for name, path in parts.items() for word in ("--part", f"{name}={path}")]


@torch.no_grad()
def context_of(folder: Path, model, translator: Translator, norm: torch.Tensor, texts: list[str]) -> torch.Tensor:
    """The published rule, by transformers alone: features over three, the translator, half the norms."""
    words = AutoTokenizer.from_pretrained(folder)(
        texts, truncation=True, max_length=WINDOW, padding="max_length", return_tensors="pt"
    )
    states = model.from_pretrained(folder).eval()(**words).last_hidden_state
    return translator(states / 3) * norm / 2


def twin_latents(pipeline: Pipeline, base: Path, prompt: str, given: dict) -> np.ndarray:
    """The latents of the same loop over diffusers' UNet, behind the bundle's own contexts."""
    unet = UNet2DConditionModel.from_pretrained(base / "unet").eval()

    class StandIn:
        def __init__(self, names, function):
            self.inputs = tuple(Tensor(name, "float32", ()) for name in names)
            self.function = function

        def __call__(self, **arrays):
            return self.function(**arrays)

        def bind(self, **arrays):
            return partial(self, **arrays)

    @torch.no_grad()
    def noise(latents, timestep, **context):
        arrays = map(torch.from_numpy, (latents, timestep, context["key.all"]))
        return {"noise": unet(*arrays).sample.numpy()}

    graphs = {
        "projection": StandIn(["context"], lambda context: {"key.all": context}),
        "denoiser": StandIn(["key.all"], noise),
    }
    return Pipeline(pipeline.bundle, lambda graph: graphs.get(graph) or pipeline.session(graph))(
        prompt, **given
    ).latents


@pytest.fixture(scope="module")
def sources(tmp_path_factory) -> Path:
    """A T5, two translators for it and their norms."""
    folder = tmp_path_factory.mktemp("sources")
    publish_t5(folder / "encoder", feed_forward_proj="gated-gelu")
    torch.save(torch.linspace(1, 3, WINDOW)[:, None], folder / "norm.pt")
    for seed, (name, kind) in enumerate(TRANSLATORS.items()):
        write_translator(folder / f"{name}.ckpt", 28, kind=kind, seed=seed)
    return folder


@pytest.fixture(scope="module")
def pipeline(tmp_path_factory, sources, base) -> Pipeline:
    bundle = tmp_path_factory.mktemp("bundles") / "t5"
    parts = {f"translator:{name}": sources / f"{name}.ckpt" for name in TRANSLATORS}
    parts |= {"encoder": sources / "encoder", "tensor-norm": sources / "norm.pt"}
    run("export", "gluegen-text", bundle, "--base", base, *options(**parts))
    return load(bundle)


def contexts(pipeline: Pipeline, prompt: str, **given) -> np.ndarray:
    """What the denoiser reads of an empty prompt and of this one."""
    return pipeline._conditions(make_request(pipeline.bundle.manifest, prompt, **given))[0]["context"]


@pytest.mark.parametrize("prompt", PROMPTS)
@pytest.mark.parametrize("name", TRANSLATORS)
def test_the_context_is_the_published_rules(pipeline, sources, name, prompt):
    translator, norm = read_translator(sources / f"{name}.ckpt"), torch.load(sources / "norm.pt")
    expected = context_of(sources / "encoder", T5EncoderModel, translator, norm, ["", prompt])
    assert_close(contexts(pipeline, prompt, language=name), expected.numpy(), "context")


def test_the_language_is_one_of_the_translators(pipeline):
    with pytest.raises(InputError, match="language: expected one of Fr, T5, got 'German'"):
        pipeline(PROMPTS[0], language="German")


@pytest.mark.filterwarnings("ignore:prompt. longer than the encoder's 11 tokens")
def test_a_run_is_torchs_and_reacts_to_the_prompt(pipeline, base):
    given = {"language": "T5", "steps": 4, "size": (16, 24), "seed": 5, "guidance": 5.0}
    latents = pipeline(PROMPTS[0], **given).latents
    assert_close(latents, twin_latents(pipeline, base, PROMPTS[0], given), "latents")
    assert np.abs(pipeline(PROMPTS[2], **given).latents - latents).max() > 1e-3


def test_a_window_of_t5_has_no_opening_token(pipeline, sources):
    """It has room for one token more than CLIP's, which tells where the next window begins."""
    text = PROMPTS[2].strip()
    tokenizer = AutoTokenizer.from_pretrained(sources / "encoder")
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    rows = [[*ids[at : at + WINDOW - 1], 1] for at in range(0, len(ids), WINDOW - 1)]
    padded = torch.tensor([row + [0] * (WINDOW - len(row)) for row in rows])
    mask = torch.tensor([[1] * len(row) + [0] * (WINDOW - len(row)) for row in rows])
    encoder = T5EncoderModel.from_pretrained(sources / "encoder").eval()
    conditioner = GlueNetConditioner(read_translator(sources / "T5.ckpt"), torch.load(sources / "norm.pt"))
    with torch.no_grad():
        states = encoder(input_ids=padded, attention_mask=mask).last_hidden_state
        expected = conditioner(states).reshape(1, -1, CONTEXT)
    assert len(rows) > 2
    assert_close(contexts(pipeline, text, language="T5", long_prompt=True)[1:], expected.numpy(), "context")


def test_a_weight_is_at_its_own_word(pipeline, sources):
    ids = AutoTokenizer.from_pretrained(sources / "encoder")("a", add_special_tokens=False)["input_ids"]
    plain = contexts(pipeline, "a red sea", language="T5")[1]
    scale = contexts(pipeline, "(a:1.5) red sea", language="T5", weights=True)[1] / plain
    expected = np.where(np.arange(WINDOW) < len(ids), 1.5, 1.0)
    assert_close((scale / scale[-1]).mean(1), expected, "trajectory")


@pytest.mark.parametrize("name", ENCODERS)
@torch.no_grad()
def test_the_encoders_graph(tmp_path, name):
    make, model = ENCODERS[name]
    folder = make(tmp_path / "encoder")
    encoder = read_prompt_encoder(folder)
    to_onnx(prompt_encoder_component(encoder, WINDOW), tmp_path / "encoder.onnx")
    session = OnnxRuntimeSession(tmp_path / "encoder.onnx", 1)
    words = AutoTokenizer.from_pretrained(folder)(
        PROMPTS, truncation=True, max_length=WINDOW, padding="max_length", return_tensors="pt"
    )
    given = {each.name: words[each.name] for each in session.inputs}
    assert tuple(given) == encoder.inputs
    found = session(**{key: value.numpy() for key, value in given.items()})["features"]
    expected = model.from_pretrained(folder).eval()(**given).last_hidden_state
    assert_close(found, expected.numpy(), "xlmr")


def test_an_encoder_that_no_translator_takes(tmp_path, base):
    folder = publish_t5(tmp_path / "encoder")
    write_translator(tmp_path / "wide.ckpt", 30)
    write_translator(tmp_path / "long.ckpt", 28, tokens=7)
    write_translator(tmp_path / "fits.ckpt", 28)
    parts = {f"translator:{name}": tmp_path / f"{name}.ckpt" for name in ("fits", "wide", "long")}
    said = refused("export", "gluegen-text", tmp_path / "out", "--base", base, *options(encoder=folder, **parts))
    expected = f"expected 11 tokens of 28 (the width of the encoder {folder}, t5) to 24 (the UNet's context), got"
    fix = "give the translator that was trained for this encoder and this base"
    assert f"--part translator:wide: {expected} 11 tokens of 30 to 24; {fix}" in said
    assert f"--part translator:long: {expected} 7 tokens of 28 to 24; {fix}" in said
    assert "fits:" not in said and not (tmp_path / "out").exists()


def test_an_encoder_too_short_for_its_translator(tmp_path, base):
    write_translator(tmp_path / "t.ckpt", 20, tokens=23)
    parts = options(encoder=publish_clip(tmp_path / "encoder"), **{"translator:T5": tmp_path / "t.ckpt"})
    said = refused("export", "gluegen-text", tmp_path / "out", "--base", base, *parts)
    assert "--part encoder: expected room for the translator's 23 tokens, got 19 positions; give" in said
    assert not (tmp_path / "out").exists()


def test_broken_parts_are_told_together(tmp_path, base):
    folder = publish_t5(tmp_path / "encoder")
    (folder / "model.safetensors").write_bytes(b"nothing")
    (tmp_path / "t.ckpt").write_bytes(b"nothing")
    parts = options(encoder=folder, **{"translator:T5": tmp_path / "t.ckpt"})
    said = refused("export", "gluegen-text", tmp_path / "out", "--base", base, *parts)
    assert "model.safetensors cannot be read: expected" in said and "t.ckpt cannot be read: expected" in said
    assert not (tmp_path / "out").exists()
