"""What may go wrong in M-VADER, done wrong on purpose: each mistake shows in what the goldens are compared by."""

import numpy as np
import pytest
import torch
from x2i.models.m_vader import language_model
from x2i.models.m_vader.encoder import read_sequence_encoder
from x2i.runtime import conditions
from x2i.runtime.gate.metrics import relative_l2
from x2i.runtime.items.sequence import CONTEXT, MixedSequence
from x2i.runtime.items.weights import KEY_BIAS, KEY_STRETCH, UNREAD, WEIGHTINGS, key_bias

from tests.export.cascades.m_vader_cases import case_names, contexts, item, m_vader_case, sequence_names
from tests.export.cascades.test_m_vader import pipeline, predicted, slots_of, walked
from tests.goldens import golden
from tests.numerics import TOLERANCES, assert_close

CONTEXT_BOUND, RUN_BOUND = TOLERANCES["m-vader-context"].absolute, TOLERANCES["m-vader-run"].relative


@pytest.fixture(autouse=True)
def goldens():
    if not case_names():
        pytest.skip("the goldens of M-VADER are not here")


def longest():
    """The sequence of the most elements that are not all of one kind."""
    return max((name for name in sequence_names() if {"t", "i"} <= set(name)), key=len)


def context_of(elements, **options):
    return slots_of(items=[item(each) for each in elements], guidance=1.0, **options)[CONTEXT]


def test_the_unet_does_not_see_an_order_which_contexts_do():
    recorded = contexts()[f"joint_{longest()}_context"]
    assert_close(predicted(np.ascontiguousarray(recorded[:, ::-1])), predicted(recorded), "m-vader-net")
    turned = context_of(longest().split("_")[::-1], encoding="joint")
    assert np.abs(turned - recorded).max() > 1000 * CONTEXT_BOUND


def test_pictures_in_front_of_texts_are_noticed(monkeypatch):
    """A splice by kinds instead of the prompt's order."""
    spliced = conditions.context_slots

    def by_kind(sequences, *others):
        pieces = [sorted(each.pieces, key=lambda piece: piece.ndim) for each in sequences]
        return spliced([MixedSequence(tuple(own), (1.0,) * len(own)) for own in pieces], *others)

    sequence = next(name for name in sequence_names() if name.startswith("i") and "t" in name)
    right = context_of(sequence.split("_"), encoding="joint")
    monkeypatch.setattr(conditions, "context_slots", by_kind)
    wrong = context_of(sequence.split("_"), encoding="joint")
    assert_close(right, contexts()[f"joint_{sequence}_context"], "m-vader-context")
    assert np.abs(wrong - right).max() > 1000 * CONTEXT_BOUND


def test_elements_before_are_read_in_a_joint_pass_alone():
    first, *_, last = longest().split("_")
    joint, separate = (context_of([first, last], encoding=encoding) for encoding in ("joint", "separate"))
    alone = context_of([first], encoding="joint").shape[1]
    assert_close(joint[:, :alone], separate[:, :alone], "m-vader-context")
    assert relative_l2(joint[:, alone:], separate[:, alone:]) > 0.3


def in_sequence(self, states, turn):
    states = states + self.attn(self.ln_1(states), turn)
    return states + self.mlp(self.ln_1(states))


def half_split(rows, sines, cosines):
    width = sines.shape[-1]
    sines, cosines = (torch.cat([table[..., ::2]] * 2, dim=-1) for table in (sines, cosines))
    turned = rows[..., :width]
    crossed = torch.cat([-turned[..., width // 2 :], turned[..., : width // 2]], dim=-1)
    return torch.cat([turned * cosines + crossed * sines, rows[..., width:]], dim=-1)


MISTAKES = {
    "attention and MLP one after the other": ("_Block.forward", in_sequence),
    "pairs half a width apart instead of neighbours": ("rotated", half_split),
    "no adapter": ("_Adapter.forward", lambda self, states: states),
    "an adapter without its residual": ("_Adapter.forward", lambda self, states: self.adapter(states)),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_in_the_language_model_is_noticed(mistake, monkeypatch):
    model = read_sequence_encoder(golden("mvader/model"), {}).language_model
    embeds = torch.from_numpy(contexts()[f"joint_{longest()}_embeds"])
    expected = contexts()[f"joint_{longest()}_context"]
    with torch.no_grad():
        assert_close(model(embeds).numpy(), expected, "m-vader-context")
        place, wrong = MISTAKES[mistake]
        owner, _, name = place.rpartition(".")
        monkeypatch.setattr(getattr(language_model, owner) if owner else language_model, name, wrong)
        assert np.abs(model(embeds).numpy() - expected).max() > 100 * CONTEXT_BOUND


def weighted_names():
    names = [name for name in case_names() if m_vader_case(name).settings["weighting"] in WEIGHTINGS[:2]]
    return [name for name in names if "eps_null" in m_vader_case(name).arrays]


def test_weights_on_the_side_that_is_steered_away_from_are_noticed(monkeypatch):
    right_slots = conditions.context_slots
    for name in weighted_names():
        case = m_vader_case(name)
        weighting = case.settings["weighting"]

        def weighed(*given, weighting=weighting):
            made = dict(right_slots(*given))
            read = KEY_BIAS if weighting == "additive" else KEY_STRETCH
            made[read] = np.stack([np.where(made[KEY_BIAS][0] == UNREAD, 0, made[read][1])] * 2)
            return made

        with monkeypatch.context() as patch:
            patch.setattr(conditions, "context_slots", weighed)
            _, _, _, output = walked(**case.options)
        assert relative_l2(output.latents, case.arrays["final_latents"]) > 10 * RUN_BOUND, name


@pytest.mark.parametrize("weighting", WEIGHTINGS)
def test_weights_of_one_are_none_to_the_bit(weighting):
    elements = longest().split("_")
    few = {"steps": 3, "seed": 2, "weighting": weighting}
    plain = pipeline()(items=[item(each)[:2] for each in elements], **few)
    ones = pipeline()(items=[item(each, 1.0) for each in elements], **few)
    assert ones.latents.tobytes() == plain.latents.tobytes()
    assert np.asarray(ones.images[0]).tobytes() == np.asarray(plain.images[0]).tobytes()
    others = pipeline()(items=[item(each, 0.5 + number) for number, each in enumerate(elements)], **few)
    assert relative_l2(others.latents, plain.latents) > 10 * RUN_BOUND


def test_a_weight_of_zero_removes_an_element_where_weights_are_added():
    assert np.isfinite(key_bias(np.zeros(3, np.float32), "additive")).all()
    first, *others = longest().split("_")
    slots = slots_of(items=[item(first, 0.0), *map(item, others)], weighting="additive", guidance=1.0)
    gone = slots[KEY_BIAS][0] == UNREAD
    assert 0 < gone.sum() < len(gone)
    removed = predicted(slots[CONTEXT], slots[KEY_BIAS])
    assert_close(removed, predicted(np.ascontiguousarray(slots[CONTEXT][:, ~gone])), "m-vader-net")


@pytest.mark.parametrize("weighting", WEIGHTINGS)
def test_padding_of_the_shorter_side_changes_nothing_of_its_prediction(weighting):
    """Behind a longer negative side the drawn one is padded, whose least score must be its own."""
    drawn, away = min(sequence_names(), key=len).split("_"), longest().split("_")
    options = {"items": [item(each, 1.7) for each in drawn], "weighting": weighting, "steps": 2, "seed": 3}
    alone = walked(**options, guidance=1.0)[2][0]
    both = walked(**options, negative_items=[item(each) for each in away])[2][0]
    assert_close(both[len(alone) :], alone, "m-vader-net")


def test_every_input_of_the_denoiser_counts():
    context = contexts()[f"joint_{longest()}_context"]
    plain, ramp = predicted(context), np.linspace(-1, 1, context.shape[1], dtype=np.float32)[None]
    for other in (predicted(context, bias=ramp), predicted(context, stretch=ramp), predicted(context[:, 1:])):
        assert np.abs(other - plain).max() > 1e-2
