"""What the readers of text encoders share: a folder's settings and weights, and the tokenizer that it publishes."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import CheckpointError
from ..readers.tensors import read_tensors
from ..readers.tokenizer_json import missing_files, read_tokenizer, to_tokenizer_json
from ..readers.weights_folder import read_json, read_shards, read_weights

if TYPE_CHECKING:
    from torch import Tensor


UNIGRAM = 1
"""The number of such models among sentencepiece's kinds."""
FEWEST_PIECES = 4


def encoder_settings(path: Path, config: str | Path | None = None) -> tuple[dict[str, Any], str]:
    """The settings of config.json beside the weights `path` (a folder or a file), or of `config` (that file or its
    folder), and the file's name. Raises CheckpointError where it is not there."""
    place = Path(config) if config is not None else path if path.is_dir() else path.parent
    file = place / "config.json" if place.is_dir() else place
    if not file.is_file():
        raise CheckpointError(
            f"{file}: expected the encoder's config.json, got nothing; "
            "fix: put config.json beside the weights, or name it separately"
        )
    return read_json(file), str(file)


def check_model_type(settings: Mapping[str, Any], source: str, *kinds: str) -> str:
    """The settings' `model_type`, which is one of these kinds; CheckpointError for another."""
    kind = settings.get("model_type")
    if kind not in kinds:
        raise CheckpointError(
            f"{source}: expected model_type {' or '.join(map(repr, kinds))}, got {kind!r}; "
            "fix: give the folder of such an encoder"
        )
    return kind


def encoder_tensors(path: Path) -> "dict[str, Tensor]":
    """The tensors of a folder in transformers' layout, of a weights file, or of the shards that an index names."""
    if path.is_dir():
        return read_weights(path, "model", "pytorch_model")
    return read_shards(path) if path.suffix == ".json" else read_tensors(path)


def saved_tokenizer_json(folder: Path, *others: str) -> str | None:
    """The `tokenizers` serialization in the folder's tokenizer.json, without truncation and padding; None where one of
    the `others` is there in its place. Raises CheckpointError where nothing is."""
    saved = folder / "tokenizer.json"
    if saved.is_file():
        return to_tokenizer_json(read_tokenizer(saved))
    if any((folder / name).is_file() for name in others):
        return None
    raise missing_files(folder, saved.name, *others)


def id_problems(tokenizer_json: str, vocabulary: int, source: str) -> list[str]:
    """One line where a tokenizer has more ids than its encoder has embeddings."""
    from tokenizers import Tokenizer

    ids = max(Tokenizer.from_str(tokenizer_json).get_vocab().values(), default=0) + 1
    if ids <= vocabulary:
        return []
    return [
        f"{source}: expected a tokenizer of at most {vocabulary} ids, as the encoder has embeddings, got {ids}; fix: "
        "give the tokenizer that belongs to the encoder"
    ]


def open_sentencepiece(path: Path, make: Callable[[], Any]) -> Any:
    """The converter that `make` makes of the file; raises CheckpointError where it is damaged or of another kind."""
    from google.protobuf.message import DecodeError  # type: ignore[import-untyped]

    try:
        converter = make()
    except DecodeError as error:
        raise CheckpointError(
            f"{path}: expected a sentencepiece model, got {error}; fix: download the file again"
        ) from error
    pieces = len(converter.proto.pieces)
    if converter.proto.trainer_spec.model_type != UNIGRAM or pieces < FEWEST_PIECES:
        raise CheckpointError(
            f"{path}: expected a unigram model, got another of {pieces} pieces; fix: give the encoder's own"
        )
    return converter
