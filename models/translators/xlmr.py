"""XLM-R as a plain encoder, from a folder in either published layout, and its tokenizer."""

from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING

from ..errors import CheckpointError
from ..readers.loading import build_module, load_strictly
from ..readers.tensors import read_tensors
from ..readers.tokenizer_json import missing_files, read_tokenizer, to_tokenizer_json
from ..readers.weights_folder import read_json, read_shards, read_weights

if TYPE_CHECKING:
    from tokenizers import Tokenizer
    from transformers import XLMRobertaModel


HUB_PREFIX = "roberta."
EXTRAS = ("lm_head.*", "pooler.*", "roberta.pooler.*", "*embeddings.position_ids", "*embeddings.token_type_ids")


def read_xlmr(path: str | Path, config: str | Path | None = None) -> "XLMRobertaModel":
    """XLM-R without its pooler, eval, float32: (input_ids, attention_mask) [B, T] -> last_hidden_state [B, T, width].

    `path` is a folder or a weights file, prefix-free or as the hub's masked language model (`roberta.`, whose lm_head
    is dropped). `config` is config.json or its folder where it is not beside the weights. Raises CheckpointError.
    """
    path = Path(path)
    if path.is_dir():
        tensors = read_weights(path, "model", "pytorch_model")
    else:
        tensors = read_shards(path) if path.suffix == ".json" else read_tensors(path)
    model = _empty_model(_config_file(path, config))
    prefix = HUB_PREFIX if any(key.startswith(HUB_PREFIX) for key in tensors) else ""
    names = {key: prefix + key for key in model.state_dict()}
    load_strictly(model, tensors, source=str(path), ignore=EXTRAS, names=names)
    return model


def xlmr_tokenizer_json(folder: str | Path) -> str:
    """The `tokenizers` serialization of XLM-R's tokenizer, without truncation and padding.

    From tokenizer.json, else converted from sentencepiece.bpe.model. Raises CheckpointError.
    """
    folder = Path(folder)
    saved, sentencepiece = folder / "tokenizer.json", folder / "sentencepiece.bpe.model"
    if saved.is_file():
        return to_tokenizer_json(read_tokenizer(saved))
    if sentencepiece.is_file():
        return to_tokenizer_json(_converted(sentencepiece))
    raise missing_files(folder, saved.name, sentencepiece.name)


def _config_file(path: Path, config: str | Path | None) -> Path:
    place = Path(config) if config is not None else path if path.is_dir() else path.parent
    file = place / "config.json" if place.is_dir() else place
    if not file.is_file():
        raise CheckpointError(
            f"{file}: expected XLM-R's config.json, got nothing; "
            "fix: put config.json beside the weights, or name it separately"
        )
    return file


def _empty_model(file: Path) -> "XLMRobertaModel":
    from transformers import XLMRobertaConfig, XLMRobertaModel

    settings = read_json(file)
    if settings.get("model_type") != "xlm-roberta":
        raise CheckpointError(
            f"{file}: expected model_type 'xlm-roberta', got {settings.get('model_type')!r}; fix: give XLM-R's folder"
        )
    return build_module(
        lambda: XLMRobertaModel(XLMRobertaConfig.from_dict(settings), add_pooling_layer=False), str(file)
    )


def _converted(path: Path) -> "Tokenizer":
    from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
    from tokenizers import AddedToken
    from transformers.convert_slow_tokenizer import XLMRobertaConverter

    ids = {"<s>": 0, "</s>": 2}
    try:
        converter = XLMRobertaConverter(SimpleNamespace(vocab_file=str(path), convert_tokens_to_ids=ids.__getitem__))
    except DecodeError as error:
        raise CheckpointError(
            f"{path}: expected a sentencepiece model, got {error}; fix: download the file again"
        ) from error
    pieces = len(converter.proto.pieces)
    if converter.proto.trainer_spec.model_type != 1 or pieces < 4:
        raise CheckpointError(
            f"{path}: expected a unigram model, got another of {pieces} pieces; fix: give XLM-R's own"
        )
    tokenizer = converter.converted()
    plain = ("<s>", "<pad>", "</s>", "<unk>")
    tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in plain])
    tokenizer.add_special_tokens([AddedToken("<mask>", special=True, lstrip=True, normalized=True)])
    return tokenizer
