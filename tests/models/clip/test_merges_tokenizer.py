"""CLIP's tokenizer from its file of merges, cut to a model's vocabulary, against the ids of the authors' code."""

import gzip
import json
import os
from pathlib import Path

import pytest
from x2i.models.clip.merges_tokenizer import merges_tokenizer_json
from x2i.models.errors import CheckpointError
from x2i.runtime.media.tokenizer import Tokenizer

from tests.goldens import golden

SYSTEMS = ("vq_diffusion", "cdcd", "diffsound")
CLIP_MERGES = "X2I_CLIP_MERGES"
"""Names CLIP's whole bpe_simple_vocab_16e6.txt.gz, for the rows of the released vocabulary."""


@pytest.mark.parametrize("vocabulary", ["tiny", "released"])
@pytest.mark.parametrize("system", SYSTEMS)
def test_ids_are_the_authors(system: str, vocabulary: str, tmp_path: Path) -> None:
    recorded = json.loads(golden(f"{system}/tokenization.json").read_text("utf-8"))[vocabulary]
    if vocabulary == "released" and CLIP_MERGES not in os.environ:
        pytest.skip(f"{CLIP_MERGES} names no file of all merges")
    merges = Path(os.environ[CLIP_MERGES]) if vocabulary == "released" else golden(f"{system}/bpe_tiny.txt.gz")
    path = tmp_path / "tokenizer.json"
    path.write_text(merges_tokenizer_json(merges, recorded["end_idx"]), encoding="utf-8")
    window = len(recorded["rows"][0]["token"])
    tokenizer = Tokenizer(path, window, 0, cleans=True)
    assert tokenizer.ends() == (recorded["start_id"], recorded["end_id"])
    for row in recorded["rows"]:
        assert tokenizer([row["prompt"]]).input_ids[0].tolist() == row["token"], row["prompt"]
    # Without the cleaning, quotes and entities would be other tokens; padding with the closing token, other rows.
    assert (
        Tokenizer(path, window, 0)(["don’t &amp;"]).input_ids.tolist() != tokenizer(["don’t &amp;"]).input_ids.tolist()
    )


@pytest.fixture
def merges(tmp_path: Path) -> Path:
    path = tmp_path / "merges.txt"
    path.write_text("#version: 0.2\nt h\nth e</w>\na n\n", encoding="utf-8")
    return path


def test_a_file_of_merges_may_be_packed_or_in_a_folder(merges: Path, tmp_path: Path) -> None:
    expected = merges_tokenizer_json(merges, 260)
    packed = tmp_path / "bpe.txt.gz"
    packed.write_bytes(gzip.compress(merges.read_bytes()))
    assert merges_tokenizer_json(packed, 260) == expected
    (tmp_path / "clip").mkdir()
    content = merges_tokenizer_json(merges, 261)
    (tmp_path / "clip" / "tokenizer.json").write_text(content, encoding="utf-8")
    assert merges_tokenizer_json(tmp_path / "clip", 260) == expected
    assert json.loads(content)["model"]["vocab"]["an"] == 514
    assert json.loads(expected)["model"]["vocab"]["<|endoftext|>"] == 515


BAD = {
    "expected at least 4 merges .*got 3": b"#version: 0.2\nt h\nth e</w>\na n\n",
    "first line says #version, got 't h'": b"t h\nth e</w>\n",
    "two pieces a line": b"#version: 0.2\nt h e\n",
    "no UTF-8 text": b"#version\n\xff\xfe",
}


@pytest.mark.parametrize("message", BAD)
def test_other_files_are_refused(message: str, tmp_path: Path) -> None:
    path = tmp_path / "bpe.txt"
    path.write_bytes(BAD[message])
    with pytest.raises(CheckpointError, match=message):
        merges_tokenizer_json(path, 262)


def test_what_is_not_packed_is_refused(merges: Path, tmp_path: Path) -> None:
    path = merges.rename(tmp_path / "merges.txt.gz")
    for given in (path, tmp_path / "absent.txt.gz"):
        with pytest.raises(CheckpointError, match="expected CLIP's merges, packed"):
            merges_tokenizer_json(given, 260)
