"""XLM-R as a plain encoder, from a folder in either published layout, and its tokenizer."""

from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING

from ..readers.loading import build_module, load_strictly
from ..readers.tokenizer_json import to_tokenizer_json
from .encoder_folder import (
    check_model_type,
    encoder_settings,
    encoder_tensors,
    open_sentencepiece,
    saved_tokenizer_json,
)

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
    from transformers import XLMRobertaConfig, XLMRobertaModel

    path = Path(path)
    tensors = encoder_tensors(path)
    settings, source = encoder_settings(path, config)
    check_model_type(settings, source, "xlm-roberta")
    model = build_module(lambda: XLMRobertaModel(XLMRobertaConfig.from_dict(settings), add_pooling_layer=False), source)
    prefix = HUB_PREFIX if any(key.startswith(HUB_PREFIX) for key in tensors) else ""
    names = {key: prefix + key for key in model.state_dict()}
    load_strictly(model, tensors, source=str(path), ignore=EXTRAS, names=names)
    return model


def xlmr_tokenizer_json(folder: str | Path) -> str:
    """The `tokenizers` serialization of XLM-R's tokenizer, without truncation and padding.

    From tokenizer.json, else converted from sentencepiece.bpe.model. Raises CheckpointError.
    """
    folder = Path(folder)
    sentencepiece = folder / "sentencepiece.bpe.model"
    return saved_tokenizer_json(folder, sentencepiece.name) or to_tokenizer_json(_converted(sentencepiece))


def _converted(path: Path) -> "Tokenizer":
    from tokenizers import AddedToken
    from transformers.convert_slow_tokenizer import XLMRobertaConverter

    ids = {"<s>": 0, "</s>": 2}
    slow = SimpleNamespace(vocab_file=str(path), convert_tokens_to_ids=ids.__getitem__)
    tokenizer = open_sentencepiece(path, lambda: XLMRobertaConverter(slow)).converted()
    plain = ("<s>", "<pad>", "</s>", "<unk>")
    tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in plain])
    tokenizer.add_special_tokens([AddedToken("<mask>", special=True, lstrip=True, normalized=True)])
    return tokenizer
