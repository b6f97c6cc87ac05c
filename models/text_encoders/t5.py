"""The encoder half of T5, from the folder of an encoder or of a whole model, and its tokenizers.

T5 1.0 (relu), 1.1 and Flan-T5 (gated), mT5 and UMT5 (a position bias in every layer) are read alike. Source:
transformers' `T5EncoderModel`, `MT5EncoderModel` and `UMT5EncoderModel`.
"""

from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import torch

from ..clip.merges_tokenizer import byte_pieces
from ..errors import CheckpointError
from ..readers.loading import build_module, load_strictly
from ..readers.tokenizer_json import to_tokenizer_json
from ..readers.weights_folder import read_json
from .encoder_folder import (
    check_model_type,
    encoder_settings,
    encoder_tensors,
    open_sentencepiece,
    saved_tokenizer_json,
)

if TYPE_CHECKING:
    from tokenizers import AddedToken, Tokenizer
    from torch import Tensor
    from transformers import PreTrainedModel

T5_KINDS = ("t5", "mt5", "umt5")
EMBEDDINGS = ("shared.weight", "encoder.embed_tokens.weight")
"""Both are the same matrix; files hold either or both."""
OTHER_HALF = ("decoder.*", "lm_head.weight")
SPECIAL = ("<pad>", "</s>", "<unk>")
"""Under the ids 0 to 2."""
SENTINELS = 100
"""How many `<extra_id_...>` a tokenizer has that does not say."""
MOST_SENTINELS = 10_000
BYTE_SENTINELS = 125
SENTENCEPIECE = "spiece.model"


def read_t5(path: str | Path) -> "PreTrainedModel":
    """The encoder, eval, float32: (input_ids, attention_mask) [B, T] -> last_hidden_state [B, T, width], for any T.

    `path` is a folder; a decoder and its head are dropped. Positions are told apart by the bias of the attention alone.
    Raises CheckpointError.
    """
    path = Path(path)
    settings, source = encoder_settings(path)
    check_model_type(settings, source, *T5_KINDS)
    tensors = encoder_tensors(path)
    model = build_module(lambda: _encoder(settings), source)
    names = {key: f"encoder.{key}" for key in model.state_dict()} | {"embed_tokens.weight": _embedding(tensors, path)}
    load_strictly(model, tensors, source=str(path), ignore=(*EMBEDDINGS, *OTHER_HALF), names=names)
    return model


def _encoder(settings: dict[str, Any]) -> "PreTrainedModel":
    import transformers

    config, model = {
        "t5": (transformers.T5Config, transformers.T5EncoderModel),
        "mt5": (transformers.MT5Config, transformers.MT5EncoderModel),
        "umt5": (transformers.UMT5Config, transformers.UMT5EncoderModel),
    }[settings["model_type"]]
    return model(config.from_dict(settings)).encoder


def _embedding(tensors: "dict[str, Tensor]", path: Path) -> str:
    """The name of the embedding matrix; raises CheckpointError where its two names stand for two."""
    found = [name for name in EMBEDDINGS if name in tensors]
    if len(found) == 2 and not torch.equal(*(tensors[name] for name in found)):
        raise CheckpointError(
            f"{path}: expected {found[0]} and {found[1]} to be one matrix, got two; fix: give the checkpoint as it was "
            "published"
        )
    return found[0] if found else EMBEDDINGS[0]


def t5_tokenizer_json(folder: str | Path) -> str:
    """The `tokenizers` serialization of T5's tokenizer, which closes a text with `</s>` and opens it with nothing,
    without truncation and padding.

    From tokenizer.json, else converted from spiece.model; ByT5's, of which there is no file, is made where
    tokenizer_config.json names it. Raises CheckpointError.
    """
    folder = Path(folder)
    config = folder / "tokenizer_config.json"
    stated = read_json(config) if config.is_file() else {}
    if stated.get("tokenizer_class") == "ByT5Tokenizer":
        return byte_tokenizer_json(_sentinels(stated, BYTE_SENTINELS, config))
    sentinels, file = _sentinels(stated, SENTINELS, config), folder / SENTENCEPIECE
    return saved_tokenizer_json(folder, file.name) or to_tokenizer_json(_converted(file, sentinels))


def _sentinels(stated: dict[str, Any], usual: int, config: Path) -> int:
    count = stated.get("extra_ids", usual)
    if type(count) is not int or not 0 <= count <= MOST_SENTINELS:
        raise CheckpointError(
            f"{config}: expected extra_ids as a whole number from 0 to {MOST_SENTINELS}, got {count!r}; fix: give the "
            "original file"
        )
    return count


def _converted(path: Path, sentinels: int) -> "Tokenizer":
    from transformers.convert_slow_tokenizer import T5Converter

    slow = SimpleNamespace(
        vocab_file=str(path), _extra_ids=sentinels, convert_tokens_to_ids={"</s>": SPECIAL.index("</s>")}.__getitem__
    )
    converter = open_sentencepiece(path, lambda: T5Converter(slow))
    first = tuple(piece.piece for piece in converter.proto.pieces[: len(SPECIAL)])
    if first != SPECIAL:
        raise CheckpointError(
            f"{path}: expected the pieces {', '.join(SPECIAL)} first, as T5 numbers them, got {', '.join(first)}; fix: "
            "give the encoder's own"
        )
    tokenizer = converter.converted()
    tokenizer.add_special_tokens(_special(*SPECIAL, *sentinel_tokens(sentinels)))
    return tokenizer


def sentinel_tokens(count: int) -> list[str]:
    """`<extra_id_0>` and so on: what stands for a masked part of a text."""
    return [f"<extra_id_{number}>" for number in range(count)]


def _special(*tokens: str, strips: bool = False) -> "list[AddedToken]":
    from tokenizers import AddedToken

    return [AddedToken(token, lstrip=strips, rstrip=strips, special=True, normalized=False) for token in tokens]


def byte_tokenizer_json(sentinels: int = BYTE_SENTINELS) -> str:
    """The `tokenizers` serialization of ByT5's: the bytes of a text as the ids from 3 on, `</s>` behind them."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors

    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    numbers = [*plain, *(byte for byte in range(256) if byte not in plain)]
    letters = dict(zip(numbers, byte_pieces(), strict=True))
    pieces = [*SPECIAL, *(letters[byte] for byte in range(256))]
    tokenizer = Tokenizer(models.BPE(vocab={piece: number for number, piece in enumerate(pieces)}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.add_special_tokens(_special(*SPECIAL, strips=True) + _special(*sentinel_tokens(sentinels)))
    tokenizer.post_processor = processors.TemplateProcessing(
        single="$A </s>", special_tokens=[("</s>", SPECIAL.index("</s>"))]
    )
    return to_tokenizer_json(tokenizer)
