"""CLIP's tokenizer: lower-cased byte-level pairs with an end-of-word mark, from the files it is published as."""

from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import CheckpointError
from ..readers.tokenizer_json import missing_files, read_tokenizer, to_tokenizer_json
from ..readers.weights_folder import read_json

if TYPE_CHECKING:
    from tokenizers import Tokenizer


START, END, WORD_END = "<|startoftext|>", "<|endoftext|>", "</w>"
"""The two special tokens, and the mark that a piece at a word's end carries."""
WORDS = r"<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"


def clip_tokenizer_json(path: str | Path) -> str:
    """The `tokenizers` serialization of CLIP's tokenizer, without truncation and padding.

    `path` is a tokenizer.json, or a folder with one, or with vocab.json and merges.txt. Raises CheckpointError.
    """
    path = Path(path)
    saved = path if path.is_file() else path / "tokenizer.json"
    if saved.is_file():
        return to_tokenizer_json(read_tokenizer(saved))
    vocab, merges = path / "vocab.json", path / "merges.txt"
    if not (vocab.is_file() and merges.is_file()):
        raise missing_files(path, "tokenizer.json", "vocab.json with merges.txt")
    return to_tokenizer_json(clip_tokenizer(read_json(vocab), _read_merges(merges), str(path)))


def clip_tokenizer(vocab: dict[str, int], merges: list[tuple[str, str]], source: str) -> "Tokenizer":
    """CLIP's tokenizer over a vocabulary of byte pairs, which puts START before a text and END behind it.

    `vocab` maps a piece to its id, `merges` are in their order of rank. Raises CheckpointError, in which `source` names
    the files, where a merge or a special token is not in the vocabulary. Source: CLIP (arXiv 2103.00020).
    """
    from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

    pieces = {START, END, *(piece for pair in merges for piece in (*pair, "".join(pair)))}
    unknown = sorted(piece for piece in pieces if not isinstance(vocab.get(piece), int))
    if unknown:
        raise CheckpointError(
            f"{source}: expected every merge and both special tokens in vocab.json, got {len(unknown)} absent "
            f"({', '.join(unknown[:5])}); fix: give vocab.json and merges.txt of one tokenizer"
        )
    tokenizer = Tokenizer(models.BPE(vocab=vocab, merges=merges, end_of_word_suffix=WORD_END, unk_token=END))
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.NFC(), normalizers.Replace(Regex(r"\s+"), " "), normalizers.Lowercase()]
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(WORDS), behavior="removed", invert=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in (START, END)])
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{START} $A {END}", special_tokens=[(START, vocab[START]), (END, vocab[END])]
    )
    return tokenizer


def clip_pad_token(folder: Path) -> str:
    """What the published settings in a tokenizer's folder pad with; END, as in Stable Diffusion v1, where none say it.

    Raises CheckpointError where a settings file is no JSON object.
    """
    for name in ("tokenizer_config.json", "special_tokens_map.json"):
        if (folder / name).is_file():
            token = read_json(folder / name).get("pad_token")
            if token is not None:
                return str(token["content"] if isinstance(token, dict) else token)
    return END


def _read_merges(path: Path) -> list[tuple[str, str]]:
    lines = [line for line in path.read_text(encoding="utf-8").splitlines() if line and not line.startswith("#version")]
    pairs = [tuple(line.split(" ")) for line in lines]
    bad = [line for line, pair in zip(lines, pairs, strict=True) if len(pair) != 2 or not all(pair)]
    if bad:
        raise CheckpointError(f"{path}: expected two pieces a line, got {bad[0][:40]!r}; fix: download the file again")
    return [(pair[0], pair[1]) for pair in pairs]
