"""ELITE and IP-Adapter from end to end on tiny bundles: guidance, batches, and what a change of input costs."""

import numpy as np
import onnx
import pytest
from x2i.kernels.domain import DOMAIN
from x2i.kernels.injected_attention.op import NAME

from tests.numerics import assert_close
from tests.runtime.sessions.recorded import Recorded

RANDOM = np.random.default_rng(23)
PICTURE, OTHER = RANDOM.integers(0, 256, (2, 37, 53, 3), dtype=np.uint8)
MASK = np.zeros((37, 53), np.uint8)
MASK[5:30, 11:44] = 255
PROMPT = "on a red S"
GIVEN = {
    "elite": {"subject": PICTURE, "mask": MASK},
    "ip-adapter": {"image": [PICTURE, OTHER]},
}
QUICK = {"steps": 2, "size": (24, 40)}
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")


@pytest.fixture(scope="module")
def pipelines(elite_bundle, ip_adapter_bundle):
    return {"elite": Recorded(elite_bundle), "ip-adapter": Recorded(ip_adapter_bundle)}


@pytest.fixture(params=["elite", "ip-adapter"])
def system(request):
    return request.param


@pytest.fixture
def draw(pipelines, system):
    """Latents of a quick run; `calls` of the denoiser are those of the last one."""

    def run(prompt=PROMPT, **changes):
        run.pipeline.calls.clear()
        return run.pipeline(prompt, **QUICK | GIVEN[system] | changes).latents

    run.pipeline = pipelines[system]
    return run


def differ(first, second):
    return np.abs(first - second).max() > 1e-3 * first.std()


@pytest.mark.parametrize("count", [1, 2])
def test_no_guidance_is_the_conditional_half(draw, count):
    draw(guidance=3.0, count=count, strength=1.7)
    guided, noise = draw.pipeline.calls[0]
    draw(guidance=1.0, count=count, strength=1.7)
    alone, alone_noise = draw.pipeline.calls[0]
    assert guided.keys() == alone.keys() and {"strength", "token_index"} <= alone.keys()
    for name, array in alone.items():
        assert len(array) == count and len(guided[name]) == 2 * count
        assert_close(array, guided[name][count:], "batched")
    assert_close(alone_noise, noise[count:], "batched")


@pytest.mark.parametrize(
    ("system", "strength", "token_index"), [("elite", [0.0, 1.7], [7, 7]), ("ip-adapter", [1.7, 1.7], [-1, -1])]
)
def test_strength_and_index_of_the_two_sides(draw, strength, token_index):
    draw(strength=1.7)
    inputs, _ = draw.pipeline.calls[0]
    assert_close(inputs["strength"], np.float32(strength), "exact")
    assert_close(inputs["token_index"], np.int64(token_index), "exact")


@pytest.mark.parametrize("guidance", [1.0, 4.0])
def test_reacts_to_strength_picture_and_prompt(draw, system, guidance):
    before = draw(guidance=guidance)
    picture = {"subject": OTHER} if system == "elite" else {"image": OTHER}
    for change in ({"strength": 0.0}, {"strength": 2.5}, picture, {"prompt": "a S at sea"}):
        assert differ(before, draw(guidance=guidance, **change)), change


def test_the_order_of_pictures_is_no_matter(pipelines):
    """The second attention has no positions; but two of the same picture weigh as one."""
    pipeline = pipelines["ip-adapter"]
    drawn = [pipeline(PROMPT, **QUICK, image=images).latents for images in ([PICTURE, OTHER], [OTHER, PICTURE])]
    assert_close(drawn[0], drawn[1], "batched-latents")
    alone, twice = (pipeline(PROMPT, **QUICK, image=images).latents for images in (PICTURE, [PICTURE] * 2))
    assert_close(alone, twice, "batched-latents")
    assert differ(alone, drawn[0])


@pytest.mark.parametrize("guidance", [1.0, 4.0])
def test_pictures_of_a_batch_do_not_influence_each_other(draw, guidance):
    batch = draw(count=3, seed=5, guidance=guidance)
    for k in range(3):
        assert_close(draw(seed=5 + k, guidance=guidance), batch[k : k + 1], "batched-latents")


def test_the_negative_prompt_is_used(draw):
    before = draw()
    plain, _ = draw.pipeline.calls[0]
    after = draw(negative="a blue S by night")
    changed, _ = draw.pipeline.calls[0]
    keys = [name for name in plain if name.startswith(("key.", "value."))]
    assert differ(before, after) and keys
    for name in plain:
        assert_close(changed[name][1], plain[name][1], "batched")
        assert (name in keys) == bool(np.abs(changed[name][0] - plain[name][0]).max() > 1e-3)


def test_no_change_opens_a_graph_again(draw, system):
    opened = list(draw.pipeline.opened)
    manifest = draw.pipeline.bundle.manifest
    unused = {*manifest.plan.side_graphs(), "vae_encoder"}
    assert sorted(opened) == sorted(manifest.graphs.keys() - unused)
    changes = [{"strength": 0.3}, {"prompt": "a S"}, {"guidance": 1.0}, {"count": 2}, {"size": (16, 16)}]
    if system == "elite":
        changes += [{"subject": OTHER}, {"mask": None}, {"word": "a"}, {"words": 5, "global_only": True}]
    else:
        changes += [{"image": OTHER}, {"image": [OTHER] * 3}]
    for change in changes:
        draw(**{"prompt": "on a S"} | change)
    assert draw.pipeline.opened == opened


@pytest.mark.parametrize("system", ["elite"])
class TestElite:
    def test_placements_differ_where_an_earlier_word_is_split(self, draw):
        """A token is a letter here, so that only single letters are tokens of their own."""
        split = [draw(prompt=PROMPT, placement=placement) for placement in ("token", "authors")]
        indices = [
            draw.pipeline._request(PROMPT, GIVEN["elite"] | {"placement": p})[0].inputs.slots
            for p in ("token", "authors")
        ]
        assert [slots["word_index"].tolist() for slots in indices] == [[77, 7], [77, 4]]
        assert differ(*split)
        whole = [draw(prompt="a b S", placement=placement) for placement in ("token", "authors")]
        assert_close(whole[0], whole[1], "exact")

    def test_global_only_takes_up_to_five_words(self, draw):
        drawn = [draw(global_only=True, words=words) for words in (1, 2, 5)]
        assert differ(drawn[0], drawn[1]) and differ(drawn[1], drawn[2])
        inputs, _ = draw.pipeline.calls[0]
        assert not inputs["strength"].any()

    def test_global_only_is_no_strength(self, draw):
        assert_close(draw(global_only=True), draw(strength=0.0), "exact")
        assert differ(draw(global_only=True), draw())

    def test_another_word_stands_for_the_subject(self, draw):
        assert_close(draw(prompt="on a red T", word="T"), draw(), "batched-latents")


def test_the_denoiser_holds_a_node_for_every_cross_attention(pipelines, system):
    bundle = pipelines[system].bundle
    model = onnx.load(bundle.path(bundle.manifest.graphs["denoiser"].file))
    layers = [given.name for given in model.graph.input if given.name.startswith("local_key.")]
    nodes = [node for node in model.graph.node if node.domain == DOMAIN]
    assert len(nodes) == len(layers) > 1
    assert {(node.op_type, len(node.input)) for node in nodes} == {(NAME, 7)}
    assert [(function.domain, function.name) for function in model.functions if function.domain == DOMAIN] == [
        (DOMAIN, NAME)
    ]
    assert {node.input[3] for node in nodes} == set(layers), "a layer does not get its own patches"


def test_a_start_and_the_subject_both_count(draw, system):
    """A subject put into a given scene."""
    scene, white = RANDOM.integers(0, 256, (24, 40, 3), dtype=np.uint8), np.zeros((24, 40), np.uint8)
    white[4:20, 8:32] = 255
    started = {"start": scene, "inpaint": white, "start_strength": 0.9, "steps": 3}
    before = draw(**started)
    picture = {"subject": OTHER} if system == "elite" else {"image": OTHER}
    for change in (picture, {"strength": 0.0}, {"start": scene[::-1]}, {"inpaint": 255 - white}, {"seed": 9}):
        assert differ(before, draw(**started | change)), change
    black = white[::8, ::8] == 0
    assert np.array_equal(before[0, :, black], draw(**started | picture)[0, :, black])
