"""CLIP's tokenizer as UniD3 reads prompts and writes captions with it, against the authors' ids and texts."""

import json
import os
from pathlib import Path

import pytest
from x2i.models.clip.caption_tokenizer import CAPTION_EXTRAS, UNKNOWN, caption_tokenizer_json
from x2i.models.errors import CheckpointError
from x2i.runtime.media.detokenizer import Detokenizer
from x2i.runtime.media.tokenizer import Tokenizer

from tests.goldens import golden
from tests.models.clip.test_merges_tokenizer import CLIP_MERGES

MERGES = "#version: 0.2\nr e\nre d</w>\nb i\nbi d</w>\nÃ ©</w>\n"
CLASSES = 512 + 5 + 2


def write(path: Path, merges: Path, classes: int) -> Path:
    path.write_text(caption_tokenizer_json(merges, classes), encoding="utf-8")
    return path


@pytest.fixture
def small(tmp_path: Path) -> Path:
    (tmp_path / "merges.txt").write_text(MERGES, encoding="utf-8")
    return write(tmp_path / "tokenizer.json", tmp_path / "merges.txt", CLASSES)


def encoded(path: Path, prompt: str, window: int = 8) -> list[int]:
    return Tokenizer(path, window, 0, cleans=True)([prompt]).input_ids[0].tolist()


def written(path: Path, ids: list[int]) -> str:
    return Detokenizer(path, CAPTION_EXTRAS, UNKNOWN)(ids)


@pytest.mark.skipif(CLIP_MERGES not in os.environ, reason=f"{CLIP_MERGES} names no file of all merges")
def test_ids_and_texts_are_the_authors(tmp_path: Path) -> None:
    recorded = json.loads(golden("unid3/tokenization.json").read_text("utf-8"))
    path = write(tmp_path / "tokenizer.json", Path(os.environ[CLIP_MERGES]), recorded["vocab_size"])
    for row, text in zip(recorded["rows"], recorded["decoded"], strict=True):
        assert encoded(path, row["prompt"], len(row["ids"])) == row["ids"], row["prompt"]
        assert written(path, row["ids"]) == text
    assert written(path, recorded["decode_extra"]["ids"]) == recorded["decode_extra"]["text"]


def test_nothing_stands_around_a_text_and_zeros_behind_it(small: Path) -> None:
    assert encoded(small, "Red, bid RED") == [513, 256 + 11, 515, 513, 0, 0, 0, 0]
    assert encoded(small, "") == [0] * 8


def test_a_long_text_is_cut_at_the_window(small: Path) -> None:
    tokens = Tokenizer(small, 3, 0, cleans=True)(["red red, bid red"])
    assert tokens.input_ids.tolist() == [[513, 513, 256 + 11]]
    assert tokens.cut == ("bid red",)


def test_a_word_to_be_drawn_is_the_id_behind_all_pieces(small: Path) -> None:
    assert encoded(small, "red <mask><MASK> bid")[:4] == [513, CLASSES, CLASSES, 515]


def test_texts_are_written_as_the_authors_write_them(small: Path) -> None:
    """Ends of words are blanks, letters of several bytes come together, padding and two more ids are left out."""
    assert written(small, [513, 514, 256 + 67, 0, 49406, 40407]) == "red bid "
    assert written(small, [127, 102, 127, 358]) == "éé "
    assert written(small, [CLASSES, 513, CLASSES + 3, -1]) == "<mask>red <mask><mask>"
    assert written(small, [CLASSES - 2, CLASSES - 1, 5]) == "<|startoftext|><|endoftext|>&"


def test_bytes_that_are_no_letter_are_written_all_the_same(small: Path) -> None:
    assert written(small, [127, 513]) == "\N{REPLACEMENT CHARACTER}red "


@pytest.mark.parametrize("classes", [1, 13, 300, 512, 513, 514])
def test_a_vocabulary_may_end_anywhere_among_the_pieces(classes: int, tmp_path: Path) -> None:
    (tmp_path / "merges.txt").write_text(MERGES, encoding="utf-8")
    path = write(tmp_path / "tokenizer.json", tmp_path / "merges.txt", classes)
    assert encoded(path, "<mask> red")[0] == classes
    assert all(number <= classes for number in encoded(path, 'a "red" <|endoftext|> bid, $'))
    assert written(path, [0, classes]) == UNKNOWN
    if classes > 3:
        assert written(path, [3, 0, 2]) == "$#"


def test_too_few_merges_are_refused(tmp_path: Path) -> None:
    (tmp_path / "merges.txt").write_text(MERGES, encoding="utf-8")
    with pytest.raises(CheckpointError, match="expected at least 6 merges"):
        caption_tokenizer_json(tmp_path / "merges.txt", CLASSES + 1)
