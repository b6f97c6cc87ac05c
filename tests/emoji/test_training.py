import numpy as np
import pytest
import torch
from x2i.emoji.recipe import decoder, text, translators, unet, vae, xlmr
from x2i.emoji.t5 import encoder_stage, translator_stage, words


def state(path):
    return torch.load(path, weights_only=True)


@pytest.mark.parametrize(("name", "stage"), [("text", text), ("xlmr", xlmr), ("t5", encoder_stage)])
def test_a_stage_goes_on_where_it_stopped(tmp_path, name, stage, monkeypatch):
    monkeypatch.setattr(stage, "BATCH", 8)
    stage.train(tmp_path, minutes=1e6, steps=2)
    before = state(tmp_path / f"{name}.pt")
    stage.train(tmp_path, minutes=1e6, steps=2)
    same = state(tmp_path / f"{name}.pt")
    assert before["steps"] == same["steps"] == 2
    assert all(torch.equal(value, same["module"][key]) for key, value in before["module"].items())
    stage.train(tmp_path, minutes=1e6, steps=3)
    after = state(tmp_path / f"{name}.pt")
    assert after["steps"] == 3 and after["seconds"] > before["seconds"]
    assert any(not torch.equal(value, after["module"][key]) for key, value in before["module"].items())


def test_weights_lean_on_the_noisy_end_and_bound_both():
    alphas = unet.alphas_cumprod()
    weights = unet.weights(alphas)
    assert weights[0] < weights[500] < weights[999]
    assert weights.max() == unet.SNR_BOOST and weights[0] == pytest.approx(
        float(unet.SNR_GAMMA * (1 - alphas[0]) / alphas[0]), rel=1e-3
    )


def test_the_loss_reacts_to_every_input():
    model = unet.build()
    random = torch.Generator().manual_seed(1)
    latents, noise = torch.randn(2, 2, 4, 16, 16, generator=random)
    context = torch.randn(2, 24, text.WIDTH, generator=random)
    levels = torch.tensor([10, 900])
    inputs = {"latents": latents, "context": context, "levels": levels, "noise": noise}
    with torch.no_grad():
        before = unet.loss(model, **inputs)
        for name, value in inputs.items():
            assert unet.loss(model, **inputs | {name: value + 1}) != before, name


def test_translator_pairs_say_the_same_scene_and_end_in_empty_prompts():
    said, meant = translators.draw_pairs("German", 3)
    assert len(said) == len(meant) == translators.BATCH
    assert said[-translators.EMPTY :] == meant[-translators.EMPTY :] == [""] * translators.EMPTY
    assert all(said[: -translators.EMPTY]) and all(meant[: -translators.EMPTY])


def test_some_words_are_spelled_and_no_text_is_cut_for_it(monkeypatch):
    texts = ["a red apple on a blue background", "", "a" + " red" * 22]
    plain = words.encode(texts)
    monkeypatch.setattr(words, "SPELLED_SHARE", 1.0)
    spelled = words.encode_spelled(texts, np.random.default_rng(0))
    tokenizer = words.tokenizer()
    assert [tokenizer.decode(row) for row in spelled.tolist()] == [tokenizer.decode(row) for row in plain.tolist()]
    assert (spelled[0] != words.PAD).sum() > (plain[0] != words.PAD).sum()
    assert (spelled[1:] == plain[1:]).all()
    monkeypatch.setattr(words, "SPELLED_SHARE", 0.0)
    assert (words.encode_spelled(texts, np.random.default_rng(0)) == plain).all()


def test_t5_learns_from_masked_words_and_its_translator_from_t5(tmp_path):
    torch.manual_seed(0)
    model = encoder_stage.build()
    encoder_stage.loss(model, 1).backward()
    assert all(value.grad is not None and value.grad.abs().max() > 0 for value in model.parameters())
    ids = torch.from_numpy(words.encode(["a red apple"]))
    others = torch.from_numpy(words.encode(["a green apple"]))
    states = encoder_stage.features(model, ids)
    assert states.shape == (1, words.POSITIONS, encoder_stage.WIDTH)
    assert (encoder_stage.features(model, others) - states).abs().amax(-1).gt(1e-6).all()
    encoder_stage.train(tmp_path, minutes=1e6, steps=1)
    translator_stage.train(tmp_path, minutes=1e6, steps=2)
    assert state(tmp_path / "t5_translator.pt")["steps"] == 2
    assert {len(context) for context in translator_stage.contexts().values()} == {words.POSITIONS}


def test_the_decoder_stage_leaves_the_latents_alone(tmp_path):
    torch.save({"average": vae.build().state_dict()}, tmp_path / "vae.pt")
    model = decoder.opened(tmp_path)
    decoder.loss(model, torch.zeros(1, 3, 64, 64), torch.zeros(1, 4, 16, 16)).backward()
    moved = {name.split(".")[0] for name, value in model.named_parameters() if value.grad is not None}
    assert moved == {"decoder", "post_quant_conv"}
    assert not any(value.requires_grad for part in (model.encoder, model.quant_conv) for value in part.parameters())
