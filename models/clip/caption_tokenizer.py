"""CLIP's tokenizer as UniD3 (arXiv 2211.14842) has it: no tokens around a text, and one for a word to be drawn."""

import json
from pathlib import Path

from .merges_tokenizer import NOT_MERGES, merges_tokenizer_json
from .tokenizer import END, START, WORD_END

UNKNOWN = "<mask>"
"""What stands for a token without a piece in a text, as the authors' code writes it."""
CAPTION_EXTRAS = (0, 49406, 40407)
"""Ids that are left out of a text: what pads it, and two that the authors' code means for CLIP's ends, the second with
its digits exchanged."""
END_PIECES = 256
"""How many more pieces there are than the number by which CLIP's code calls a vocabulary."""


def caption_tokenizer_json(path: Path, classes: int) -> str:
    """The JSON text of a tokenizer with the first `classes` of CLIP's pieces, and `UNKNOWN` as the id `classes`.

    The file is as in `merges_tokenizer_json`; raises CheckpointError as it does.
    """
    return captions_json(merges_tokenizer_json(path, max(classes - END_PIECES, NOT_MERGES)), classes)


def captions_json(clip_json: str, classes: int) -> str:
    """The same of the JSON text of any tokenizer of CLIP's kind: an id without a piece is written as its number.

    Of 514 or more pieces the last two open and close CLIP's own texts; none has them here. The end of a word is written
    as a blank.
    """
    content = json.loads(clip_json)
    model = content["model"]
    pieces = {number: piece for piece, number in model["vocab"].items()}
    vocab = {pieces.get(number, f"<{number}>"): number for number in range(classes)}
    model["vocab"], model["unk_token"] = vocab, None
    model["merges"] = [pair for pair in model["merges"] if all(piece in vocab for piece in (*pair, "".join(pair)))]
    content["added_tokens"] = [
        {
            "id": vocab.get(piece, classes),
            "content": piece,
            "single_word": False,
            "lstrip": False,
            "rstrip": False,
            "normalized": False,
            "special": False,
        }
        for piece in (START, END, UNKNOWN)
        if piece in vocab or piece == UNKNOWN
    ]
    content["post_processor"] = None
    content["decoder"] = {
        "type": "Sequence",
        "decoders": [
            {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": True},
            {"type": "Replace", "pattern": {"String": WORD_END}, "content": " "},
        ],
    }
    return json.dumps(content, ensure_ascii=False)
