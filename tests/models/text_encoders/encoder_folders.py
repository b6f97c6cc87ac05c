"""Tiny folders of text encoders with random weights, as transformers writes them, at sizes that no release has."""

import json
from pathlib import Path
from typing import Any

import sentencepiece
import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import (
    BertConfig,
    BertForMaskedLM,
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTokenizer,
    MT5Config,
    MT5ForConditionalGeneration,
    PreTrainedTokenizerFast,
    RobertaConfig,
    RobertaForMaskedLM,
    T5Config,
    T5ForConditionalGeneration,
    T5Tokenizer,
    UMT5Config,
    UMT5ForConditionalGeneration,
)
from x2i.models.random.byte_tokenizer import byte_clip_json
from x2i.models.random.weights import draw_weights

PIECES, SENTINELS = 50, 7
T5 = {
    "t5": (T5Config, T5ForConditionalGeneration),
    "mt5": (MT5Config, MT5ForConditionalGeneration),
    "umt5": (UMT5Config, UMT5ForConditionalGeneration),
}
SIZES = {
    "vocab_size": 131,
    "d_model": 28,
    "d_kv": 9,
    "num_heads": 3,
    "d_ff": 31,
    "num_layers": 2,
    "num_decoder_layers": 1,
    "relative_attention_num_buckets": 10,
    "relative_attention_max_distance": 13,
    "dropout_rate": 0.3,
    "decoder_start_token_id": 0,
}
SENTENCES = [
    "a red apple on a blue background",
    "the small house by the sea",
    "zwei gelbe Vögel über dem Wald",
    "un café noir, s'il vous plaît",
    "3 (three) old ships: one sank in 1912!",
] * 20
TEXTS = [
    "a red apple on a blue background",
    "",
    "  the   sea ",
    "un CAFÉ ＮＯＩＲ, 日本",
    "one\ttwo\nthree",
    "ships <extra_id_1> sank </s> here",
    "the house " * 30,
]


def publish_t5(folder: Path, kind: str = "t5", whole: bool = True, **changed: Any) -> Path:
    """A T5 with both its halves, or its encoder alone, and its tokenizer in both published forms."""
    config, model = T5[kind]
    made = draw_weights(model(config(**{**SIZES, **changed})), 3).eval()
    (made if whole else encoder_half(made)).save_pretrained(folder)
    write_spiece(folder / "spiece.model")
    (folder / "tokenizer_config.json").write_text(json.dumps({"extra_ids": SENTINELS}), "utf-8")
    T5Tokenizer.from_pretrained(folder).save_pretrained(folder)
    return folder


def encoder_half(model: Any) -> Any:
    """transformers' model of the encoder alone, with the weights of the whole."""
    import transformers

    kind = {"t5": "T5EncoderModel", "mt5": "MT5EncoderModel", "umt5": "UMT5EncoderModel"}[model.config.model_type]
    half = getattr(transformers, kind)(model.config)
    half.load_state_dict({key: model.state_dict()[key] for key in half.state_dict()})
    return half.eval()


def write_spiece(path: Path) -> None:
    """A unigram model with T5's special tokens under T5's ids."""
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(SENTENCES),
        model_prefix=str(path.with_suffix("")),
        vocab_size=PIECES,
        model_type="unigram",
        normalization_rule_name="nmt_nfkc",
        pad_id=0,
        eos_id=1,
        unk_id=2,
        bos_id=-1,
        minloglevel=2,
    )
    path.with_suffix(".vocab").unlink()


def publish_bert(folder: Path, kind: str = "bert", old_names: bool = False) -> Path:
    """BERT or RoBERTa with the head of its training, and a tokenizer of whole words."""
    sizes = {
        "vocab_size": 60,
        "hidden_size": 28,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "intermediate_size": 31,
        "max_position_embeddings": 37,
    }
    roberta = kind == "roberta"
    model = RobertaForMaskedLM(RobertaConfig(**sizes)) if roberta else BertForMaskedLM(BertConfig(**sizes))
    model = draw_weights(model, 4).eval()
    model.save_pretrained(folder)
    if old_names:
        (folder / "model.safetensors").unlink()
        names = {"LayerNorm.weight": "LayerNorm.gamma", "LayerNorm.bias": "LayerNorm.beta"}
        renamed = {}
        for key, value in model.state_dict().items():
            end = next((end for end in names if key.endswith(end)), "")
            renamed[key.removesuffix(end) + names.get(end, "")] = value
        torch.save(renamed, folder / "pytorch_model.bin")
    word_tokenizer(
        ("<s>", "<pad>", "</s>", "<unk>") if roberta else ("[PAD]", "[UNK]", "[CLS]", "[SEP]")
    ).save_pretrained(folder)
    return folder


def word_tokenizer(special: tuple[str, ...]) -> PreTrainedTokenizerFast:
    """A tokenizer of whole words between two of the special tokens, which have the first ids."""
    words = sorted({word for sentence in SENTENCES for word in sentence.split()})
    vocabulary = {piece: number for number, piece in enumerate([*special, *words])}
    roles = ("bos", "pad", "eos", "unk") if special[0] == "<s>" else ("pad", "unk", "bos", "eos")
    named = dict(zip(roles, special, strict=True))
    tokenizer = Tokenizer(models.WordLevel(vocabulary, named["unk"]))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{named['bos']} $A {named['eos']}",
        special_tokens=[(named[role], vocabulary[named[role]]) for role in ("bos", "eos")],
    )
    tokens = {
        "unk_token": named["unk"],
        "pad_token": named["pad"],
        "cls_token": named["bos"],
        "sep_token": named["eos"],
    }
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, **tokens)


def publish_clip(folder: Path) -> Path:
    """CLIP's text tower of another width and length, with its tokenizer."""
    sizes = {"vocab_size": 514, "hidden_size": 20, "intermediate_size": 31, "num_hidden_layers": 2}
    ends = {"num_attention_heads": 4, "max_position_embeddings": 19, "bos_token_id": 512, "eos_token_id": 513}
    draw_weights(CLIPTextModel(CLIPTextConfig(**sizes, **ends)), 5).eval().save_pretrained(folder)
    Tokenizer.from_str(byte_clip_json(514)).save(str(folder / "tokenizer.json"))
    CLIPTokenizer.from_pretrained(folder, model_max_length=19).save_pretrained(folder)
    return folder
