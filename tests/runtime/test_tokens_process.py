"""Walks through tokens on numpy stand-ins for the networks: pictures, sounds and texts, guidance, stages, states."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from x2i.runtime.bundle.calls import GraphCall
from x2i.runtime.bundle.plan import Conditioner, Plan
from x2i.runtime.bundle.reader import open_bundle
from x2i.runtime.errors import InputError
from x2i.runtime.gate.cases import draw_case, store_drawing, write_case
from x2i.runtime.gate.comparison import compare
from x2i.runtime.gate.record import Limits
from x2i.runtime.inputs.option import CallShape
from x2i.runtime.inputs.text.prompt import TextInput
from x2i.runtime.pipeline import Pipeline
from x2i.runtime.processes.guidance import Guidance
from x2i.runtime.processes.latents import Decoder, LatentsProcess, SamplerChoice
from x2i.runtime.processes.segment import Segment
from x2i.runtime.processes.tails import PictureTail, SoundTail, TextTail, TokenSpan, tokens_shape
from x2i.runtime.processes.tokens import TokensProcess
from x2i.runtime.token_samplers.masked_decoding import MaskedDecoding

from tests.numerics import assert_close
from tests.runtime.toy import Sessions, write_toy

CLASSES, MASK, GRID = 7, 9, (3, 5)
VOICE = (
    GraphCall("codec", {"tokens": "tokens"}, {"mel": "mel"}),
    GraphCall("vocoder", {"mel": "mel"}, {"waveform": "waveform"}),
)
SPEAK = SoundTail(VOICE, 22050)
READ = TextTail("tokenizer.json", TokenSpan(3, 4), dropped=(2,), unknown="?")


class TokenSessions(Sessions):
    """A network that wants each token to be its place plus its context, modulo the classes."""

    def encoder(self, graph, input_ids, attention_mask, is_null):
        return {"context": np.where(is_null, 0, (input_ids * attention_mask).sum(1)).astype(np.float32)[:, None]}

    def transformer(self, graph, tokens, context):
        places = np.arange(tokens[0].size).reshape(tokens.shape[1:])
        wanted = (places + context.reshape(-1, 1, 1).astype(int)) % CLASSES
        known = (tokens != MASK).mean((1, 2), keepdims=True)[..., None]
        return {"logits": (6 * (wanted[..., None] == np.arange(CLASSES)) + known).astype(np.float32)}

    def decoder(self, graph, tokens):
        levels = tokens[:, None].astype(np.float32) / 5 - 1
        return {"image": np.repeat(np.kron(levels, np.ones((4, 4), np.float32)), 3, axis=1)}

    def denoiser(self, graph, latents, timestep, context):
        return {"noise": (latents * 0 + context.mean(1)[:, None, None, None]).astype(np.float32)}

    def painter(self, graph, latents):
        return {"image": np.tanh(np.kron(latents[:, :3], np.ones((8, 8), np.float32)))}

    def codec(self, graph, tokens):
        return {"mel": tokens.reshape(len(tokens), 1, -1).astype(np.float32) / 10}

    def vocoder(self, graph, mel):
        return {"waveform": np.repeat(mel[:, 0], 8, axis=1)}


def token_plan(**changes) -> Plan:
    stage = GraphCall(
        "encoder",
        {"input_ids": "input_ids", "attention_mask": "attention_mask", "is_null": "is_null"},
        {"context": "context"},
    )
    process = TokensProcess(
        segments=(Segment("transformer", 1e6, {"context": "context"}),),
        sampler=MaskedDecoding(CLASSES, MASK, steps=6),
        grid=GRID,
        tails=(PictureTail("decoder"),),
        guidance=Guidance(3.0, "logits"),
        factor=4,
        any_grid=True,
        size_multiple=4,
        takes_timestep=False,
    )
    conditioner = Conditioner((stage,), (TextInput("tokenizer.json", 6, 1),))
    return Plan((conditioner,), (replace(process, **changes),))


def token_pipeline(target: Path, plan: Plan) -> tuple[Pipeline, TokenSessions]:
    sessions = TokenSessions()
    return Pipeline(open_bundle(write_toy(target, plan=plan, names=plan.graphs())), sessions.open), sessions


@pytest.fixture
def drawn(tmp_path):
    return token_pipeline(tmp_path / "tokens", token_plan())


def test_a_run_gives_tokens_and_a_picture(drawn):
    pipeline, _ = drawn
    out = pipeline("red apple", seed=3, count=2)
    assert out.tokens is not None and out.tokens.shape == (2, 15) and out.tokens.dtype == np.int64
    assert out.tokens.max() < CLASSES and out.latents is None and out.texts == [] and out.sounds == []
    assert [image.size for image in out.images] == [(20, 12)] * 2
    assert len(out.graphs) == len(out.segments) == 6
    again = pipeline("red apple", seed=4)
    assert_close(again.tokens, out.tokens[1:], "exact")
    assert (pipeline("pomme", seed=3).tokens != out.tokens[:1]).any()


def test_another_size_is_another_grid(drawn):
    assert drawn[0]("red", size=(8, 28)).tokens.shape == (1, 14)
    with pytest.raises(InputError, match="multiples of 4"):
        drawn[0]("red", size=(9, 28))


def test_guidance_is_of_logits_and_only_above_one(drawn):
    pipeline, sessions = drawn
    for scale, rows in ((1.0, 1), (0.5, 1), (3.0, 2)):
        sessions.calls.clear()
        pipeline("red apple", guidance=scale, seed=1, steps=2)
        assert {len(arrays["tokens"]) for graph, arrays in sessions.calls if graph == "transformer"} == {rows}
    assert [arrays["is_null"].tolist() for graph, arrays in sessions.calls if graph == "encoder"] == [[True, False]]
    sessions.calls.clear()
    pipeline("red apple", negative="blue", steps=1)
    assert [arrays["is_null"].tolist() for graph, arrays in sessions.calls if graph == "encoder"] == [[False, False]]


def test_a_network_that_ran_away_is_refused(drawn, monkeypatch):
    """No token is likelier than another there: whatever is drawn would be none of the network's."""
    pipeline, sessions = drawn
    monkeypatch.setattr(sessions, "transformer", lambda *given, **arrays: {"logits": nowhere(**arrays)})
    with pytest.raises(InputError, match=r"tokens: expected numbers from the network, got NaN; lower guidance"):
        pipeline("red apple")


def nowhere(tokens, **others):
    logits = np.zeros((*tokens.shape, CLASSES), np.float32)
    logits[0, 1, 2, 3] = np.nan
    return logits


def test_steps_show_what_is_expected_and_take_another_state(drawn):
    pipeline, _ = drawn
    walk = pipeline.steps("red apple", seed=2)
    first = next(walk)
    assert (first.tokens == MASK).any() and first.preview()[0].size == (20, 12) and first.count == 6
    forced = walk.send(np.full((1, 15), 3))
    assert (forced.tokens != MASK).all() or (forced.tokens == 3).any()
    other = list(pipeline.steps("red apple", seed=2))
    assert_close(other[0].tokens, first.tokens, "exact")
    assert (other[1].tokens != forced.tokens).any()


def test_sounds_and_texts_come_from_the_same_tokens(tmp_path):
    tails = (PictureTail("decoder"), SPEAK, READ)
    pipeline, _ = token_pipeline(tmp_path / "all", token_plan(tails=tails))
    out = pipeline("red apple", count=2)
    assert [sound.samples.shape for sound in out.sounds] == [(120,)] * 2 and out.sounds[0].rate == 22050
    words = ["<s>", "<pad>", "</s>", "<unk>", "red", "apple", "pomme", "rouge", "blue"]
    expected = [" ".join(words[token] for token in row[3:7] if token != 2) for row in out.tokens]
    assert out.texts == expected and len(out.images) == 2


def test_a_stage_writes_for_the_next(tmp_path):
    """Tokens become the context of latents, with a row for each picture."""
    first = replace(token_plan().process, writes="drawn", tails=())
    second = LatentsProcess(
        segments=(Segment("denoiser", 1000, {"context": "drawn"}),),
        sampler=SamplerChoice("ddim", 3),
        decoder=Decoder("painter", 4, 8, (16, 24), 8),
    )
    plan = replace(token_plan(), processes=(first, second))
    pipeline, sessions = token_pipeline(tmp_path / "stages", plan)
    steps = list(pipeline.steps("red apple", count=2, steps=4))
    assert [step.tokens is not None for step in steps] == [True] * 6 + [False] * 4
    contexts = [arrays["context"] for graph, arrays in sessions.calls if graph == "denoiser"]
    assert_close(contexts[0], np.concatenate([steps[5].tokens] * 2), "exact")
    assert pipeline("red apple", steps=2).latents.shape == (1, 4, 2, 3)


def test_recorded_draws_replace_the_seed(drawn):
    pipeline, _ = drawn
    rng = np.random.default_rng(0)
    noise = {
        "token": rng.exponential(size=(6, 2, 15, CLASSES)).astype(np.float32),
        "confidence": rng.random((5, 2, 15)).astype(np.float32),
    }
    out = pipeline("red apple", noise=noise)
    assert out.tokens.shape == (2, 15)
    assert_close(pipeline("red apple", noise=noise, seed=9).tokens, out.tokens, "exact")
    for wrong, said in (
        ({"token": noise["token"]}, "draws named 'confidence'"),
        (noise | {"token": noise["token"][..., :-1]}, "of shape"),
        (noise | {"confidence": noise["confidence"][:, :1]}, "for one number of pictures"),
        ({}, "draws by their names"),
        (np.zeros((1, 4, 3, 3), np.float32), "draws by their names"),
        (noise | {"token": noise["token"] * np.nan}, "finite numbers"),
    ):
        with pytest.raises(InputError, match=said):
            pipeline("red apple", noise=wrong)


def test_what_latents_take_is_refused(drawn):
    with pytest.raises(InputError) as refused:
        drawn[0]("red", sampler="ddim", eta=0.5)
    assert [problem.partition(":")[0] for problem in refused.value.problems] == ["sampler", "eta"]


def test_the_gate_compares_step_by_step_from_the_same_state(drawn, tmp_path):
    pipeline, sessions = drawn
    case = write_case(tmp_path, 0, {"prompt": "red apple", "seed": 5})
    store_drawing(draw_case(pipeline, case, tmp_path), case, tmp_path)
    limits = Limits(0.1, 30.0, 0.9, 0.99)
    (same,) = compare(pipeline, [case], limits, tmp_path)
    assert same.passed and same.closeness.tokens == 1.0 and same.closeness.psnr is None
    right = TokenSessions.transformer
    calls = []

    def wrong_once(graph, tokens, context):
        calls.append(1)
        made = right(sessions, graph, tokens, context)["logits"]
        return {"logits": np.roll(made, 1, axis=-1) if len(calls) == 2 else made}

    sessions.transformer = wrong_once
    (other,) = compare(pipeline, [case], limits, tmp_path)
    # One bad step of six spoils its own tokens, and none of those behind it.
    assert not other.passed and 5 / 6 <= other.closeness.tokens < 0.99


def test_a_picture_may_be_a_part_of_the_state(tmp_path):
    """Of 15 tokens, 8 are those of a picture of 2 x 4."""
    tails = (PictureTail("decoder", span=TokenSpan(2, 8)),)
    changes = {"any_grid": False, "grid": (1, 15), "tails": tails, "picture_size": (8, 16)}
    process = token_plan(**changes).process
    assert process.canvas.size == (8, 16) and process.canvas.cells((8, 16)) == (1, 15)
    assert not process.problems() and not process.canvas.problems((8, 16))
    assert process.canvas.problems((16, 8)) == [
        "size: expected 8x16, the only size of this bundle, got (16, 8); leave it out"
    ]
    assert (
        "plan: expected a picture of one size, or tokens of any grid, got both"
        in replace(process, any_grid=True).problems()
    )


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"tails": (SoundTail((), 22050),)}, "expected graphs of the sound that write the slot 'waveform', got none"),
        ({"tails": (SoundTail(VOICE[:1], 22050),)}, "expected graphs of the sound that write the slot 'waveform'"),
        ({"tails": (SoundTail(VOICE[1:], 22050),)}, "vocoder of the sound reads slot 'mel', which is not written"),
        ({"outputs": ()}, "expected the outputs logits, by which tokens are drawn, got none"),
        ({"outputs": ("others",)}, "expected the outputs logits, by which tokens are drawn, got others"),
    ],
)
def test_a_plan_that_cannot_be_walked_is_told(changes, told):
    plan = token_plan(**changes)
    assert any(told in problem for problem in plan.problems(set(plan.graphs())))


def test_what_reads_a_grid_reads_it_in_a_run_as_in_its_shapes(tmp_path):
    plan = token_plan(tails=(PictureTail("decoder"), SPEAK, READ))
    pipeline, sessions = token_pipeline(tmp_path / "tokens", plan)
    pipeline("red apple", seed=3, size=(8, 28))
    shapes = plan.process.tail_shapes(CallShape((8, 28), 1, 2))
    called = {graph: arrays["tokens"].shape for graph, arrays in sessions.calls if graph in shapes}
    assert called == {graph: shape["tokens"] for graph, shape in shapes.items()} and set(called) == {"decoder", "codec"}
    assert tokens_shape(READ, (1, 14), (2, 7)) == (1, 4)
    assert tokens_shape(replace(READ, span=None), (1, 14), (2, 7)) == (1, 14)
