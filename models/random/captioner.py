"""DDCap with random weights, and a tokenizer of single bytes."""

from ..readers.byte_pairs import BytePairs
from ..readers.loading import build_module
from ..readers.tokenizer_json import to_tokenizer_json
from ..token_transformers.ddcap import Ddcap, DdcapSizes
from ..token_transformers.gpt2_tokenizer import GPT2_END, Gpt2Tokenizer, gpt2_tokenizer
from .sizes import chosen_sizes
from .weights import draw_weights

DDCAP_SIZES = {
    "ddcap": DdcapSizes(),
    "tiny": DdcapSizes(
        width=60,
        inner=84,
        layers=2,
        heads=3,
        vocab=300,
        positions=13,
        tokens=11,
        steps=7,
        vision_width=64,
        vision_layers=2,
        patch=7,
        grid=3,
        embed=10,
        project_hidden=14,
        length_hidden=6,
    ),
}
"""`ddcap` is the authors' on CLIP ViT-B/16; of `tiny` captions of up to 7 tokens have a call for each."""


def random_ddcap(variant: str = "ddcap", seed: int = 0) -> tuple[Ddcap, Gpt2Tokenizer]:
    """The model in eval mode and float32, and a tokenizer whose ids are single bytes as far as there are any."""
    sizes = chosen_sizes(DDCAP_SIZES, variant)
    model = draw_weights(build_module(lambda: Ddcap(sizes), variant), seed)
    return model, byte_gpt2(sizes.vocab)


def byte_gpt2(size: int) -> Gpt2Tokenizer:
    """GPT-2's tokenizer without a merge: 256 bytes, and the end with the last of its `size` ids, 257 or more."""
    from tokenizers import pre_tokenizers

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    assert size > len(alphabet)
    vocab = {piece: number for number, piece in enumerate(alphabet)} | {GPT2_END: size - 1}
    return Gpt2Tokenizer(to_tokenizer_json(gpt2_tokenizer(BytePairs(vocab, [], []))), size)
