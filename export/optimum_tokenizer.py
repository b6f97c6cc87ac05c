"""A bundle's tokenizer as the files that transformers' CLIPTokenizer reads."""

import json
from typing import Any

from x2i.models.clip_tokenizer import END, START
from x2i.runtime.bundle import Bundle

from .errors import PlanError


def tokenizer_files(bundle: Bundle) -> dict[str, str]:
    """The texts by file name; raises PlanError for a tokenizer that is not CLIP's."""
    text = bundle.manifest.plan.conditioners[0].text
    assert text is not None, "a plan without a prompt"
    saved = bundle.path(text.tokenizer).read_text(encoding="utf-8")
    model: dict[str, Any] = json.loads(saved)["model"]
    vocabulary = model.get("vocab")
    if model.get("type") != "BPE" or not isinstance(vocabulary, dict) or not {START, END} <= vocabulary.keys():
        raise PlanError(
            f"{text.tokenizer}: expected CLIP's tokenizer, got one of type {model.get('type')}; "
            "Optimum's pipeline reads no other"
        )
    words = {number: word for word, number in vocabulary.items()}
    pairs = [pair if isinstance(pair, str) else " ".join(pair) for pair in model["merges"]]
    settings = {
        "tokenizer_class": "CLIPTokenizer",
        "bos_token": START,
        "eos_token": END,
        "unk_token": END,
        "pad_token": words[text.pad_id],
        "model_max_length": text.window,
        "do_lower_case": True,
    }
    return {
        "vocab.json": json.dumps(vocabulary, ensure_ascii=False),
        "merges.txt": "\n".join(["#version: 0.2", *pairs, ""]),
        "tokenizer.json": saved,
        "tokenizer_config.json": json.dumps(settings, indent=2) + "\n",
    }
