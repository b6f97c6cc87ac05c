"""Prompts of several windows and of weighted words: diffusers draws the same of what the encoder makes of them."""

from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from diffusers import StableDiffusionPipeline
from x2i.runtime import load
from x2i.runtime.cli import main
from x2i.runtime.errors import InputError

from tests.export.published_folders import publish
from tests.numerics import assert_close

WINDOW = 20
ROOM = WINDOW - 2
STEPS, GUIDANCE, SIZE = 2, 4.0, (16, 24)
Piece = tuple[str, float]


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("base")
    publish(folder, {}, {}, {}, [], WINDOW, "!")
    arguments = ["export", "sd", str(folder / "bundle"), "--base", str(folder / "base")]
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 0, result.output
    return folder


@pytest.fixture(scope="module")
def peer(base: Path) -> StableDiffusionPipeline:
    pipeline = StableDiffusionPipeline.from_pretrained(base / "base", safety_checker=None)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def windows(peer: StableDiffusionPipeline, sections: list[list[Piece]]) -> list[tuple[list[int], list[float]]]:
    """Sections of weighted pieces as windows of ids and weights, by the published rule."""
    tokenizer, found = peer.tokenizer, []
    for number, pieces in enumerate(sections):
        weighted = [
            (token, weight) for text, weight in pieces for token in tokenizer(text, add_special_tokens=False).input_ids
        ]
        while weighted or number < len(sections) - 1 or not found:
            now, weighted = weighted[:ROOM], weighted[ROOM:]
            pad = [tokenizer.pad_token_id] * (ROOM - len(now))
            ids = [tokenizer.bos_token_id, *(token for token, _ in now), tokenizer.eos_token_id, *pad]
            found.append((ids, [1.0, *(weight for _, weight in now), *[1.0] * (1 + len(pad))]))
            if not weighted:
                break
    return found


def states(peer: StableDiffusionPipeline, windows: list[tuple[list[int], list[float]]], count: int) -> torch.Tensor:
    empty = [peer.tokenizer.bos_token_id, peer.tokenizer.eos_token_id, *[peer.tokenizer.pad_token_id] * ROOM]
    parts = []
    for ids, weights in [*windows, *[(empty, [1.0] * WINDOW)] * (count - len(windows))]:
        hidden = peer.text_encoder(torch.tensor([ids])).last_hidden_state
        weighted = hidden * torch.tensor(weights)[None, :, None]
        parts.append(weighted * (hidden.mean() / weighted.mean()))
    return torch.cat(parts, dim=1)


NEGATIVE = "blurry and a longer negative prompt than one window holds"
LONG = "a red apple on a wooden table, a green pear in a blue bowl"
CASES: dict[str, tuple[str, list[list[Piece]], str, list[list[Piece]], dict[str, bool]]] = {
    "long": (LONG, [[(LONG, 1)]], "blurry", [[("blurry", 1)]], {"long_prompt": True}),
    "the negative one is longer": ("a pear", [[("a pear", 1)]], NEGATIVE, [[(NEGATIVE, 1)]], {"long_prompt": True}),
    "broken": (
        "a BREAK b BREAK BREAK c BREAK ",
        [[("a", 1)], [("b", 1)], [], [("c", 1)], []],
        "",
        [[]],
        {"long_prompt": True},
    ),
    "exactly full": ("a" * ROOM, [[("a" * ROOM, 1)]], "", [[]], {"long_prompt": True}),
    "weighted": (
        "a (red) [ap]ple (x:1.6) \\(y\\)",
        [[("a ", 1), ("red", 1.1), (" ", 1), ("ap", 1 / 1.1), ("ple ", 1), ("x", 1.6), (" (y)", 1)]],
        "(bad:0.4)",
        [[("bad", 0.4)]],
        {"weights": True},
    ),
    "weighted in several windows": (
        "(a red apple on a table:1.4) BREAK a ((green)) pear",
        [[("a red apple on a table", 1.4)], [("a ", 1), ("green", 1.21), (" pear", 1)]],
        "(bad)",
        [[("bad", 1.1)]],
        {"weights": True, "long_prompt": True},
    ),
}


@pytest.mark.parametrize("guidance", [GUIDANCE, 1.0])
@pytest.mark.parametrize("kind", CASES)
@torch.no_grad()
def test_the_latents_of_diffusers(base: Path, peer: StableDiffusionPipeline, kind: str, guidance: float) -> None:
    prompt, sections, negative, others, options = CASES[kind]
    own, other = windows(peer, sections), windows(peer, others)
    count = max(len(own), len(other)) if guidance != 1.0 else len(own)
    noise = np.random.default_rng(4).standard_normal((1, 4, 8, 12)).astype(np.float32)
    expected = peer(
        prompt_embeds=states(peer, own, count),
        negative_prompt_embeds=states(peer, other, count) if guidance != 1.0 else None,
        num_inference_steps=STEPS,
        guidance_scale=guidance,
        latents=torch.from_numpy(noise),
        output_type="latent",
    ).images.numpy()
    pipeline = load(base / "bundle", backend="cpu")
    made = pipeline(prompt, negative=negative, noise=noise, steps=STEPS, guidance=guidance, **options)
    assert made.latents is not None and not made.warnings
    assert_close(made.latents, expected, "latents")


def test_short_and_unweighted_prompts_are_what_they_were(base: Path) -> None:
    pipeline = load(base / "bundle", backend="cpu")
    plain = pipeline("a pear", steps=STEPS, size=SIZE).latents
    for options in ({"long_prompt": True}, {"weights": True}, {"long_prompt": True, "weights": True}):
        assert np.array_equal(pipeline("a pear", steps=STEPS, size=SIZE, **options).latents, plain)


def test_what_is_not_asked_for_is_told(base: Path) -> None:
    pipeline = load(base / "bundle", backend="cpu")
    with pytest.warns(UserWarning, match="--long-prompt") as told:
        output = pipeline("a (red:1.3) " + LONG, steps=1, size=SIZE)
    assert any("--weights" in str(each.message) for each in told) and len(output.warnings) == 2
    with pytest.warns(UserWarning, match="'BREAK' is read as letters"):
        pipeline("a BREAK b", steps=1, size=SIZE, weights=True)


@pytest.mark.parametrize(
    ("prompt", "options", "said"),
    [
        ("(a:1e)(b:900)", {"weights": True}, "weights: expected weights from -100 to 100, got 900"),
        ("a" * 20 * 80, {"long_prompt": True}, "at most 64 windows, got 89"),
        ("a", {"long_prompt": "yes"}, "long_prompt: expected True or False"),
        ("a", {"weights": 1.3}, "weights: expected True or False"),
    ],
)
def test_what_is_refused(base: Path, prompt: str, options: dict, said: str) -> None:
    with pytest.raises(InputError) as refused:
        load(base / "bundle", backend="cpu").check(prompt, **options)
    assert said in str(refused.value)
