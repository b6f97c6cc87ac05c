"""What `x2i export` refuses: exit code 2, every problem named, and nothing left behind."""

import subprocess
import sys

import pytest
import torch
from click.testing import CliRunner
from safetensors.torch import load_file, save_file
from x2i.export.system import SystemSpec
from x2i.export.systems.registry import SYSTEMS, system_spec
from x2i.runtime.cli import main

from tests.goldens import golden


def export(*arguments):
    return CliRunner().invoke(main, ["export", *(str(argument) for argument in arguments)])


def golden_options(**replaced):
    text = golden("gluegen/multilingual")
    parts = {
        "encoder": text / "xlmr",
        "translator:French": text / "gluenet_French_clip_overnorm_over3_noln.ckpt",
        "tensor-norm": text / "tensor_norm.safetensors",
    } | replaced
    base = ["--base", golden("gluegen/pipeline/sd-tiny.ckpt"), "--base-config", golden("gluegen/pipeline/config.json")]
    return [*base, *(word for name, path in parts.items() if path is not None for word in ("--part", f"{name}={path}"))]


def refused(result, folder, *messages):
    assert result.exit_code == 2, result.output
    for message in messages:
        assert message in result.stderr
    assert list(folder.iterdir()) == []


def test_unknown_system(tmp_path):
    told = f"system: expected one of {', '.join(SYSTEMS)}, got 'magic'"
    refused(export("magic", tmp_path / "out"), tmp_path, told)


def test_help_names_every_system():
    help_text = " ".join(export("--help").output.split())
    assert f"SYSTEM ({', '.join(SYSTEMS)})" in help_text


def test_help_imports_no_torch():
    """The names of the systems are known without the rooms' libraries."""
    code = (
        "import sys; from click.testing import CliRunner; from x2i.runtime.cli import main; "
        "assert 'fastcomposer' in CliRunner().invoke(main, ['export', '--help']).output; "
        "assert not {'torch', 'onnx', 'transformers', 'diffusers'} & sys.modules.keys()"
    )
    subprocess.run([sys.executable, "-P", "-c", code], check=True)


@pytest.mark.parametrize("name", SYSTEMS)
def test_every_name_has_its_system(name):
    assert isinstance(system_spec(name), SystemSpec)


def test_all_missing_pieces_are_told_together(tmp_path):
    result = export("gluegen-text", tmp_path / "out", "--part", "colour=red", "--sampler", "magic", "--steps", 0)
    refused(
        result,
        tmp_path,
        "--base: expected",
        "--part encoder: expected the text encoder's folder: XLM-R, T5, mT5, UMT5, BERT, RoBERTa or CLIP, got nothing",
        "--part translator:LANGUAGE: expected",
        "--part colour: unknown for this system",
        "--part colour: expected a file or folder, found none at red",
        "sampler: expected one of",
        "steps: expected",
    )


def test_part_without_a_path(tmp_path):
    refused(export("sd", tmp_path / "out", "--part", "encoder"), tmp_path, "expected NAME=PATH, got 'encoder'")


def test_existing_output_folder(tmp_path):
    (tmp_path / "out").mkdir()
    result = export("sd", tmp_path / "out", "--random-weights", "tiny")
    assert result.exit_code == 2 and "expected a new folder, but it exists" in result.stderr
    assert list((tmp_path / "out").iterdir()) == []


def test_random_weights_and_files_exclude_each_other(tmp_path):
    result = export("sd", tmp_path / "out", "--random-weights", "tiny", "--base", "x")
    refused(result, tmp_path, "--random-weights: stands for all weights")


def test_unknown_random_variant(tmp_path):
    refused(export("sd", tmp_path / "out", "--random-weights", "huge"), tmp_path, "huge")


def test_base_that_is_nowhere(tmp_path):
    refused(export("sd", tmp_path / "out", "--base", tmp_path / "nothing.ckpt"), tmp_path, "nothing.ckpt")


def test_compvis_base_without_text_encoder_is_refused_for_sd(tmp_path):
    base = golden_options()[:4]
    refused(export("sd", tmp_path / "out", *base), tmp_path, "without a text encoder")


def test_wrong_part_for_a_role(tmp_path):
    swapped = golden("gluegen/translators/whead_16_77_64_48_4_5.ckpt")
    result = export("gluegen-text", tmp_path / "out", *golden_options(**{"translator:French": swapped}))
    refused(result, tmp_path, "whead_16_77_64_48_4_5.ckpt")


def test_parts_that_do_not_fit_each_other_are_all_named(tmp_path):
    small = golden("gluegen/translators/small_noln_10_12_8.safetensors")
    result = export(
        "gluegen-text", tmp_path / "out", *golden_options(**{"translator:Klingon": small, "translator:Elvish": small})
    )
    refused(
        result,
        tmp_path,
        "translator:Klingon: expected 77 tokens of 64",
        "translator:Elvish",
        "got 10 tokens of 12 to 8",
    )


def test_the_translators_of_xlmr_want_their_norms(tmp_path):
    result = export("gluegen-text", tmp_path / "out", *golden_options(**{"tensor-norm": None}))
    refused(result, tmp_path, "--part tensor-norm: expected the per-position norms", "give GlueGen's tensor_norm")


def test_checkpoint_with_missing_extra_and_misshapen_keys_lists_them_all(tmp_path):
    original = golden("gluegen/translators/noln_77_64_48_2_5.safetensors")
    tensors = load_file(original)
    del tensors["blocks.1.net_tok.0.bias"]
    tensors["blocks.2.net_sen.3.weight"] = torch.zeros(3, 5)
    tensors["decoy"] = torch.zeros(1)
    sources = tmp_path / "sources"
    sources.mkdir()
    save_file(tensors, sources / "bad.safetensors")
    bundles = tmp_path / "bundles"
    bundles.mkdir()
    result = export(
        "gluegen-text", bundles / "out", *golden_options(**{"translator:French": sources / "bad.safetensors"})
    )
    refused(result, bundles, "blocks.1.net_tok.0.bias", "blocks.2.net_sen.3.weight", "decoy")


class Bomb:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


def test_pickle_that_wants_to_run_code_is_refused_by_name(tmp_path):
    sources, bundles = tmp_path / "sources", tmp_path / "bundles"
    sources.mkdir()
    bundles.mkdir()
    torch.save({"weight": Bomb(tmp_path / "ran")}, sources / "bomb.ckpt")
    result = export("gluegen-text", bundles / "out", *golden_options(**{"translator:French": sources / "bomb.ckpt"}))
    refused(result, bundles, "bomb.ckpt", "open")
    assert not (tmp_path / "ran").exists()


def test_gate_refuses_a_graph_that_differs(tmp_path, monkeypatch):
    from x2i.export import proofs

    monkeypatch.setattr(proofs, "proof_error", lambda *arguments: float("nan"))
    result = export("sd", tmp_path / "out", "--random-weights", "tiny")
    refused(result, tmp_path, "differs from fp32 torch by nan", "nothing was written")


@pytest.mark.parametrize("name", ["../French", "a b", ""])
def test_language_names_are_words(tmp_path, name):
    result = export("gluegen-text", tmp_path / "out", *golden_options(**{f"translator:{name}": golden("gluegen/mix")}))
    refused(result, tmp_path, f"--part translator:{name}: unknown")
