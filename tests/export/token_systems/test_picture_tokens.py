"""Every run of VQ-Diffusion's and CDCD's goldens through the exported bundle, and its graphs against their networks."""

from typing import Any

import numpy as np
import pytest
from x2i.runtime import load
from x2i.runtime.sessions.backends import open_session
from x2i.runtime.sessions.session import GraphFile, Session

from tests.export.token_systems.token_bundles import case_options, golden_bundle_of, golden_cases
from tests.goldens import golden_arrays
from tests.models.token_transformers.token_goldens import GoldenModel, models
from tests.numerics import assert_close, assert_same_picture

MODELS = pytest.mark.parametrize("model", models("vq_diffusion", "cdcd"))


def graph(model: GoldenModel, name: str) -> Session:
    return open_session("cpu", GraphFile(name, golden_bundle_of(model) / f"{name}.onnx"))


@pytest.mark.parametrize(("model", "name", "case"), golden_cases())
def test_every_token_of_a_run_is_the_authors(model: GoldenModel, name: str, case: dict[str, Any]) -> None:
    arrays = golden_arrays(f"{model.system}/{name}.npz")
    walk = load(golden_bundle_of(model)).steps(**case_options(case, arrays))
    steps = list(walk)
    drawn = walk.finish(steps[-1])
    assert [step.timestep for step in steps] == arrays["call_t"].tolist()
    assert_close(np.stack([step.tokens for step in steps]), arrays["tokens_after"], "exact")
    assert_close(drawn.tokens, arrays["final_tokens"], "exact")
    pictures = np.stack([np.asarray(image) for image in drawn.images])
    assert_same_picture(pictures, arrays["image_u8"])
    rounded = np.floor(arrays["content_float"] + 0.5).transpose(0, 2, 3, 1).astype(np.uint8)
    with pytest.raises(AssertionError):
        assert_same_picture(pictures, rounded)


@MODELS
def test_the_transformers_graph_is_the_authors(model: GoldenModel) -> None:
    arrays = golden_arrays(model.arrays("transformer"))
    ids = arrays["ids"]
    context: dict[str, np.ndarray] = {}
    if arrays.get("cond") is not None and arrays["cond"].ndim == 3:
        context = graph(model, "projection")(context=arrays["cond"])
    elif "cond" in arrays:
        context = {"class_id": arrays["cond"].astype(np.int64)}
    transformer = graph(model, "transformer")
    made = [transformer(tokens=ids, timestep=np.full(len(ids), t), **context)["logits"] for t in arrays["t"]]
    assert_close(np.stack(made).swapaxes(2, 3), arrays["logits"], "token-logits")


@MODELS
def test_the_text_encoders_graph_is_the_authors(model: GoldenModel) -> None:
    if not (golden_bundle_of(model) / "text_encoder.onnx").exists():
        pytest.skip("reads no text")
    arrays, encoder = golden_arrays(f"{model.system}/{model.folder}_textencoder.npz"), graph(model, "text_encoder")
    tokens, null = arrays["token"], arrays.get("empty_text_embed")
    absent = {} if null is None else {"is_null": np.zeros(len(tokens), bool)}
    assert_close(encoder(input_ids=tokens, **absent)["context"], arrays["cond"], "token-context")
    if null is not None:
        rows = np.arange(len(tokens)) % 2 == 0
        expected = np.where(rows[:, None, None], null.astype(np.float32), arrays["cond"])
        assert_close(encoder(input_ids=tokens, is_null=rows)["context"], expected, "token-context")
    # Padding with the closing token, and the half precision that the original encodes in, would be seen.
    padded = np.where(np.arange(tokens.shape[1]) > tokens.argmax(axis=1)[:, None], tokens.max(), tokens)
    for other in (encoder(input_ids=padded, **absent)["context"], arrays["cond_fp16"]):
        with pytest.raises(AssertionError, match="token-context"):
            assert_close(other, arrays["cond"], "token-context")
