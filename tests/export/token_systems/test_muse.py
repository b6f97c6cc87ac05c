"""Muse from aMUSEd's folders, exported and run without torch, against every recorded network and run."""

import json
import re
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
import torch
from x2i.export.plan import ExportPlan
from x2i.export.token_systems.muse import build_muse
from x2i.runtime.inputs.text.prompt import TextInput
from x2i.runtime.load import load
from x2i.runtime.media.tokenizer import Tokenizer
from x2i.runtime.output import to_uint8
from x2i.runtime.request import make_request
from x2i.runtime.token_samplers.noise import TokenNoise
from x2i.runtime.token_samplers.sampler import TokenRun

from tests.export.token_systems.muse_cases import HOME, case_names, muse_bundle, muse_case, pipes
from tests.goldens import golden, golden_arrays
from tests.numerics import assert_close, assert_same_picture

CASES = pytest.mark.parametrize("name", case_names() or ["none"])


@cache
def pipeline(pipe):
    return load(muse_bundle(pipe), "cpu")


def recorded(pipe):
    """The recorded arrays of a pipe's networks, and the shapes of grids that they were recorded for."""
    arrays = golden_arrays(f"{HOME}/networks.npz")
    prefix = f"{pipe.removeprefix('pipe_')}_"
    own = {name.removeprefix(prefix): array for name, array in arrays.items() if name.startswith(prefix)}
    return own, sorted({found[1] for name in own if (found := re.fullmatch(r"uvit_(\w+)_ids", name))})


@pytest.mark.parametrize("pipe", pipes() or ["none"])
def test_the_graphs_are_the_recorded_networks(pipe):
    own, grids = recorded(pipe)
    session = pipeline(pipe).session
    text = session("text_encoder")(input_ids=own["text_ids"])
    assert_close(text["context"], own["text_hidden_penultimate"], "muse-text")
    assert_close(text["pooled"], own["text_embeds"], "muse-text")
    for grid in grids:
        of_grid = {name: own[f"uvit_{grid}_{name}"] for name in ("ids", "hidden", "pooled", "micro", "logits")}
        read = session("projection")(context=of_grid["hidden"], pooled=of_grid["pooled"], micro=of_grid["micro"])
        logits = session("transformer")(tokens=of_grid["ids"], **read)["logits"]
        assert_close(logits.transpose(0, 3, 1, 2), of_grid["logits"], "muse-logits")
    image = session("decoder")(tokens=own["vq_ids"])["image"]
    assert_close((image + 1) / 2, own["vq_decoded"], "muse-decoded")
    tokens = session("image_tokens")(pixels=own["vq_image"])["tokens"]
    assert_close(tokens.reshape(-1), own["vq_indices"], "exact")


@CASES
def test_a_run_of_one_prompt_is_the_recorded_one(name):
    case = muse_case(name)
    if len(case.prompts) > 1:
        pytest.skip("several prompts, which a call of ours does not take")
    pipe = pipeline(case.settings["pipe"])
    walk = pipe.steps(case.prompts[0], **options_of(case, 0), count=case.pictures, noise=case.noise)
    step = None
    for step, after in zip(walk, case.arrays["sample_after"], strict=True):
        assert_close(step.tokens.reshape(after.shape), after, "exact")
    output = walk.finish(step)
    for image, expected in zip(output.images, case.arrays["image_u8"], strict=True):
        assert_same_picture(np.asarray(image), expected)


@CASES
def test_every_prompt_of_a_batch_is_the_recorded_one(name):
    case = muse_case(name)
    batch, arrays = Batch(case), case.arrays
    assert_close(batch.token_ids[-1], arrays["text_input_ids"], "exact")
    assert_close(batch.context, arrays["encoder_hidden_states"], "muse-text")
    assert_close(batch.pooled, arrays["pooled_text_emb"], "muse-text")
    assert_close(batch.micro, arrays["micro_conds"], "exact")
    if "image_in" in arrays:
        assert_close(batch.start_pixels, arrays["image_in"], "exact")
        assert_close(batch.start_ids.reshape(-1), arrays["enc_ids"], "exact")
    steps = batch.walked()
    assert batch.states(steps) == batch.states(arrays["sample_after"])
    likely = np.stack([step.likely() for step in steps])
    assert_close(likely.reshape(arrays["pred_original"].shape), arrays["pred_original"], "exact")
    for number, kept in ((0, "guided_logits_first"), (-1, "guided_logits_last")):
        if kept in arrays:
            logits = batch.logits[number].reshape(case.rows, *batch.grid, -1).transpose(0, 3, 1, 2)
            assert_close(logits, arrays[kept], "muse-logits")
    image = batch.session("decoder")(tokens=arrays["final_ids"])["image"]
    assert_close((image + 1) / 2, arrays["decoded"], "muse-decoded")
    for drawn, expected in zip(to_uint8(image, "round"), arrays["image_u8"], strict=True):
        assert_same_picture(drawn, expected)


def options_of(case, number):
    """A run's options for one of the prompts of a case."""
    files = {"image": case.given("image"), "mask": case.given("mask_image")}
    return (
        case.options | {"negative": case.negatives[number]} | {k: paths[number] for k, paths in files.items() if paths}
    )


class Batch:
    """All rows of a recorded run in one batch, as the original draws several prompts; `blocks` says how the rows of
    several pictures lie, and what is passed as `change` is done wrong on purpose."""

    def __init__(self, case, *, repeat=lambda rows, count: np.concatenate([rows] * count), halves=1, change=None):
        self.case, self.repeat, self.logits = case, repeat, []
        self.pipe = pipeline(case.settings["pipe"])
        self.session, self.process = self.pipe.session, self.pipe.bundle.manifest.plan.process
        manifest, numbers = self.pipe.bundle.manifest, range(len(case.prompts))
        self.requests = [
            make_request(manifest, case.prompts[k], (), False, **options_of(case, k), count=case.pictures)
            for k in numbers
        ]
        first = self.requests[0]
        self.grid, self.values = self.process.canvas.cells(first.size), first.values
        self.rows, self.scale = first.rows, first.guidance
        self._read_text(halves)
        own = np.concatenate([request.inputs.slots["micro"] for request in self.requests])
        self.micro = np.concatenate([self.repeat(own, case.pictures)] * self.rows)
        self.slots = self._starts()
        micro = self.micro if change is None else change(self.micro)
        self.read = self.session("projection")(context=self.context, pooled=self.pooled, micro=micro)

    def _read_text(self, halves):
        text = self.pipe.bundle.manifest.plan.find(TextInput)
        tokenizer = Tokenizer(self.pipe.bundle.checked(text.tokenizer), text.window, text.pad_id)
        sides = [self.case.negatives, self.case.prompts][-self.rows :][::halves]
        self.token_ids = [tokenizer(side).input_ids for side in sides]
        read = [self.session("text_encoder")(input_ids=ids) for ids in self.token_ids]
        self.context, self.pooled = (
            np.concatenate([self.repeat(side[name], self.case.pictures) for side in read])
            for name in ("context", "pooled")
        )

    def _starts(self):
        """The slots that the sampler reads, one row each picture."""
        given = [request.inputs.slots for request in self.requests]
        slots = {}
        if "start_pixels" in given[0]:
            self.start_pixels = np.concatenate([each["start_pixels"] for each in given])
            self.start_ids = self.session("image_tokens")(pixels=self.start_pixels)["tokens"]
            slots["start_tokens"] = self.repeat(self.start_ids, self.case.pictures)
        for name in {"start_tokens", "known"} & given[0].keys():
            slots[name] = self.repeat(np.concatenate([each[name] for each in given]), self.case.pictures)
        return slots

    def predict(self, tokens, timestep):
        state = np.concatenate([tokens.reshape(-1, *self.grid)] * self.rows)
        logits = self.session("transformer")(tokens=state, **self.read)["logits"]
        self.logits.append(self.process.guidance.combined(logits, self.rows, self.scale))
        return {"logits": self.logits[-1].reshape(*tokens.shape, -1)}

    def walked(self, **changes):
        run = TokenRun(
            self.predict,
            TokenNoise(0, self.case.rows, self.case.noise),
            self.case.rows,
            self.grid,
            self.values,
            self.slots,
        )
        return list(replace(self.process.sampler, **changes).walk(run))

    @staticmethod
    def states(steps):
        """The state behind each step, of a walk or as it was recorded, to be compared whole."""
        states = [step.tokens if hasattr(step, "tokens") else step for step in steps]
        return [state.reshape(-1).tolist() for state in states]


MISTAKES = {
    "width and height swapped": {"change": lambda micro: micro[:, [1, 0, 2, 3, 4]]},
    "the edges of the crop swapped": {"change": lambda micro: micro[:, [0, 1, 3, 2, 4]]},
    "the halves of the guidance swapped": {"halves": -1},
    "a prompt's pictures side by side": {"repeat": lambda rows, count: np.repeat(rows, count, axis=0)},
}


@pytest.mark.parametrize("mistake", MISTAKES.values(), ids=MISTAKES)
def test_a_mistake_in_what_is_read_is_noticed(mistake):
    """The recorded runs are searched for one that the mistake changes."""
    for name in case_names() or ["none"]:
        case = muse_case(name)
        if len(Batch.states(case.arrays["sample_after"])) > 8:
            continue
        batch = Batch(case, **mistake)
        if Batch.states(batch.walked()) != Batch.states(case.arrays["sample_after"]):
            return
    raise AssertionError("no recorded run would show it")


@pytest.mark.parametrize("pipe", pipes() or ["none"])
def test_the_state_behind_the_last_layer_is_another(pipe):
    own, _ = recorded(pipe)
    context = pipeline(pipe).session("text_encoder")(input_ids=own["text_ids"])["context"]
    with pytest.raises(AssertionError):
        assert_close(context, own["text_last_hidden"], "muse-text")


@pytest.mark.parametrize("pipe", pipes() or ["none"])
def test_prompts_are_tokenized_as_recorded(pipe):
    text = pipeline(pipe).bundle.manifest.plan.find(TextInput)
    tokenizer = Tokenizer(pipeline(pipe).bundle.checked(text.tokenizer), text.window, text.pad_id)
    cases = json.loads(golden(f"{HOME}/tokenizer_cases.json").read_text())
    assert_close(tokenizer([case["text"] for case in cases]).input_ids, [case["ids"] for case in cases], "exact")


def test_random_weights_make_the_whole_system():
    build = build_muse(ExportPlan("muse", None, random_weights="tiny"))
    made = {}
    for component in build.components:
        inputs = component.example(component.proof)
        with torch.no_grad():
            returned = component.module(*inputs.values())
        made[component.name] = len(returned) if isinstance(returned, tuple) else 1
        assert made[component.name] == len(component.outputs)
    assert len(made) == build.count and build.plan.problems(set(made)) == []
