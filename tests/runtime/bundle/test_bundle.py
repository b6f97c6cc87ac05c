import subprocess
import sys
import time
from dataclasses import replace

import pytest
from x2i.runtime.bundle.calls import GraphCall
from x2i.runtime.bundle.manifest import File, Manifest
from x2i.runtime.bundle.plan import Conditioner
from x2i.runtime.bundle.reader import open_bundle
from x2i.runtime.bundle.records import decode, encode
from x2i.runtime.bundle.writer import new_bundle
from x2i.runtime.errors import InputError
from x2i.runtime.inputs.strength import Injection
from x2i.runtime.inputs.text.word import WordInput

from tests.runtime.toy import edit_manifest, plan, write_toy


def test_manifest_survives_writing_and_reading(tmp_path):
    bundle = open_bundle(write_toy(tmp_path / "toy"))
    assert bundle.manifest.plan == plan()
    assert decode(Manifest, encode(bundle.manifest), "again") == bundle.manifest


def test_every_problem_of_a_manifest_is_told_at_once(tmp_path):
    folder = write_toy(tmp_path / "toy")

    def spoil(data):
        data["colour"] = "red"
        data["plan"]["processes"][0]["sampler"]["name"] = 7
        del data["plan"]["processes"][0]["decoder"]["graph"]
        data["plan"]["processes"][0]["decoder"]["to_uint8"] = "floor"
        data["plan"]["processes"][0]["decoder"]["size"] = [48]

    edit_manifest(folder, spoil)
    with pytest.raises(InputError) as caught:
        open_bundle(folder)
    text = str(caught.value)
    for part in ("unknown key 'colour'", "sampler.name: expected str", "missing key 'graph'", "'truncate', 'round'"):
        assert part in text
    assert "decoder.size: expected 2 items, got 1" in text


def test_plan_must_fit_the_graphs(tmp_path):
    folder = write_toy(tmp_path / "toy")

    def spoil(data):
        del data["graphs"]["denoiser"]
        data["plan"]["processes"][0]["segments"][0]["context"] = {"context": "nowhere"}

    edit_manifest(folder, spoil)
    with pytest.raises(InputError, match=r"(?s)no graph matches 'denoiser'.*'nowhere' is read but never written"):
        open_bundle(folder)


def test_a_word_needs_its_prompt_and_its_embeddings():
    whole = plan()
    (text,) = whole.conditioners
    injection = Injection(0.8, at_word=True, unconditional=False)
    graphs = {"encoder", "translator.French", "denoiser", "decoder"}
    word = replace(text, inputs=(WordInput("S", 5),))
    problems = replace(whole, conditioners=(text, word)).problems(graphs)
    assert [line.split(",")[0] for line in problems] == [
        "plan: a placeholder word needs a prompt to stand in",
        "plan: a placeholder word needs the slot 'words'",
    ]
    (line,) = replace(whole, injection=injection).problems(graphs)
    assert line.startswith("plan: an attention weighted at the word needs a conditioner with a word")
    written = Conditioner((GraphCall("encoder", {}, {"words": "words"}),))
    placed = replace(text, inputs=(*text.inputs, WordInput("S", 5)))
    assert not replace(whole, conditioners=(written, placed), injection=injection).problems(graphs)


@pytest.mark.parametrize("damage", ["truncated", "altered", "missing"])
def test_damaged_files_are_named_with_their_digest(tmp_path, damage):
    folder = write_toy(tmp_path / "toy")
    victims = [folder / "denoiser.onnx", folder / "tokenizer.json"]
    for path in victims:
        data = path.read_bytes()
        if damage == "missing":
            path.unlink()
        else:
            path.write_bytes(data[:-1] if damage == "truncated" else data[:-1] + bytes([data[-1] ^ 1]))
    with pytest.raises(InputError) as caught:
        open_bundle(folder)
    assert len(caught.value.problems) == 2
    for problem, path in zip(sorted(caught.value.problems), sorted(victims), strict=True):
        assert str(path) in problem
        assert "sha256" in problem or damage == "missing"


def test_older_revision_is_read(tmp_path):
    folder = write_toy(tmp_path / "bundle")
    edit_manifest(folder, lambda data: data.update(revision=1))
    assert open_bundle(folder).manifest.plan == open_bundle(write_toy(tmp_path / "new")).manifest.plan


def test_newer_revision_is_refused_before_its_unknown_keys(tmp_path):
    folder = write_toy(tmp_path / "toy")
    edit_manifest(folder, lambda data: data.update(revision=99, novelty=1))
    with pytest.raises(InputError, match=r"revision 99.*upgrade"):
        open_bundle(folder)


@pytest.mark.parametrize("text", ["", "{", "[]", "null"])
def test_damaged_manifest(tmp_path, text):
    folder = write_toy(tmp_path / "toy")
    (folder / "manifest.json").write_text(text, "utf-8")
    with pytest.raises(InputError, match=r"manifest\.json"):
        open_bundle(folder)


def test_file_names_may_not_leave_the_bundle(tmp_path):
    folder = write_toy(tmp_path / "toy")
    edit_manifest(folder, lambda data: data["files"].update({"../outside": {"bytes": 1, "sha256": "0" * 64}}))
    with pytest.raises(InputError, match="leaves the bundle"):
        open_bundle(folder)


def test_writing_refuses_an_existing_target(tmp_path):
    write_toy(tmp_path / "toy")
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(InputError, match="exists"):
        write_toy(tmp_path / "toy")
    assert sorted(tmp_path.rglob("*")) == before


def test_failed_writing_leaves_nothing(tmp_path):
    with pytest.raises(RuntimeError), new_bundle(tmp_path / "toy") as folder:
        (folder / "denoiser.onnx").write_text("half")
        raise RuntimeError
    assert list(tmp_path.iterdir()) == []


def test_full_disk_is_one_line_and_leaves_nothing(tmp_path):
    with pytest.raises(InputError, match="No space left"), new_bundle(tmp_path / "toy") as folder:
        (folder / "denoiser.onnx").write_text("half")
        with open("/dev/full", "wb", buffering=0) as full:
            full.write(b"x")
    assert list(tmp_path.iterdir()) == []


def test_killed_writer_leaves_nothing_that_opens(tmp_path):
    script = f"""
import time
from x2i.runtime.bundle.writer import new_bundle
with new_bundle({str(tmp_path / "toy")!r}) as folder:
    (folder / "denoiser.onnx").write_text("half")
    print("ready", flush=True)
    time.sleep(60)
"""
    process = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "ready\n"
    process.kill()
    process.wait()
    time.sleep(0.01)
    assert not (tmp_path / "toy").exists()
    for folder in tmp_path.iterdir():
        with pytest.raises(InputError):
            open_bundle(folder)


def test_undeclared_file_in_use_is_refused(tmp_path):
    folder = write_toy(tmp_path / "toy")
    edit_manifest(folder, lambda data: data["files"].pop("denoiser.onnx"))
    with pytest.raises(InputError, match=r"denoiser\.onnx is used but has no digest"):
        open_bundle(folder)


def test_digest_is_sha256(tmp_path):
    folder = write_toy(tmp_path / "toy")
    record = open_bundle(folder).manifest.files["decoder.onnx"]
    assert record == File(7, "c9fbd9152b7ff1375f060ed14c4fac7b6be8709b34cd20c2aeaf8962b100c1ad")


@pytest.mark.parametrize(("key", "value", "expected"), [("processes", 7, "array"), ("presets", [], "object")])
def test_another_form_than_a_list_of_records_is_told(tmp_path, key, value, expected):
    folder = write_toy(tmp_path / "toy")
    edit_manifest(folder, lambda data: data["plan"].update({key: value}))
    with pytest.raises(InputError, match=rf"plan\.{key}: expected {expected}, got {type(value).__name__} "):
        open_bundle(folder)
