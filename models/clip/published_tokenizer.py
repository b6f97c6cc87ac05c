"""CLIP's tokenizer as a folder publishes it: pieces, merges, added tokens, what pads a prompt, and the window's length.

What each file means, and which one decides, is transformers' `CLIPTokenizer.from_pretrained` (version 5): the same
tokens get the same ids.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import CheckpointError
from ..readers.byte_pairs import is_piece, read_byte_pairs
from ..readers.tokenizer_json import to_tokenizer_json
from ..readers.weights_folder import read_json
from .tokenizer import END, START, ClipEnds, clip_tokenizer

if TYPE_CHECKING:
    from tokenizers import AddedToken

NAMED = ("bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token")
"""The settings that name one token each, in the order in which transformers adds them."""
DEFAULTS = {"bos_token": START, "eos_token": END, "unk_token": END, "pad_token": END}
EXTRA, OLD_EXTRA = "extra_special_tokens", "additional_special_tokens"
"""The setting that lists further tokens, and its name before version 5."""
NO_LIMIT = 10**20
"""From here on transformers takes a `model_max_length` for none; it writes 10^30 where nobody set one."""
# What a tokenizer.json cannot carry, with the only value that the runtime draws with.
ONLY = {"padding_side": "right", "truncation_side": "right", "split_special_tokens": False}


@dataclass(frozen=True, slots=True)
class PublishedTokenizer:
    """`json` is the `tokenizers` serialization without truncation and padding, `size` one more than its largest id.

    `pad_token` fills what is left of a window, and `pad_id` is its id. `window` counts a prompt's tokens, the two
    around it included; it is None where the folder states no limit. `source` names the folder in messages.
    """

    json: str
    size: int
    pad_token: str
    pad_id: int
    window: int | None
    source: str


def read_clip_tokenizer(path: str | Path) -> PublishedTokenizer:
    """The tokenizer of a folder with tokenizer.json, or with vocab.json and merges.txt; or of a tokenizer.json.

    tokenizer_config.json, special_tokens_map.json and added_tokens.json beside them count as they do in transformers.
    Raises CheckpointError with every setting that cannot be drawn with.
    """
    path = Path(path)
    folder = path.parent if path.is_file() else path
    saved = path if path.is_file() else folder / "tokenizer.json"
    pairs = read_byte_pairs(folder, saved)
    added_there = [(number, _token(value, str(saved))) for number, value in pairs.added]
    settings = _settings(folder)
    named, added = _special_tokens(settings, [*_added_tokens(folder, settings), *added_there], str(folder))
    window = settings.get("model_max_length", settings.get("max_len"))
    problems = _problems(settings, named, window, folder)
    if problems:
        raise CheckpointError(*problems)
    ends = ClipEnds(named["bos_token"], named["eos_token"], named.get("unk_token", named["eos_token"]))
    tokenizer = clip_tokenizer(pairs.vocab, pairs.merges, str(folder), ends, added)
    pad = tokenizer.token_to_id(named["pad_token"])
    assert pad is not None, "a padding token is one of those added"
    size = max(tokenizer.get_vocab().values()) + 1
    limit = None if window is None or window > NO_LIMIT else window
    return PublishedTokenizer(to_tokenizer_json(tokenizer), size, named["pad_token"], pad, limit, str(folder))


def clip_tokenizer_json(path: str | Path) -> str:
    """The `json` of `read_clip_tokenizer`."""
    return read_clip_tokenizer(path).json


def clip_pad_token(path: str | Path) -> str:
    """The `pad_token` of `read_clip_tokenizer`."""
    return read_clip_tokenizer(path).pad_token


def _settings(folder: Path) -> dict[str, Any]:
    """tokenizer_config.json; where it lists no added tokens itself, special_tokens_map.json comes over it."""
    names = ("tokenizer_config.json", "special_tokens_map.json")
    config, special = (read_json(folder / name) if (folder / name).is_file() else {} for name in names)
    if OLD_EXTRA in config and not config.get(EXTRA):
        config[EXTRA] = config.pop(OLD_EXTRA)
    if "added_tokens_decoder" in config:
        return config
    if isinstance(config.get(EXTRA), list) and isinstance(special.get(EXTRA), list):
        special[EXTRA] = config[EXTRA] + special[EXTRA]
    return config | special


def _added_tokens(folder: Path, settings: Mapping[str, Any]) -> "list[tuple[int, AddedToken]]":
    """The added tokens by the ids that the settings state, or else added_tokens.json."""
    from tokenizers import AddedToken

    where = f"{folder / 'tokenizer_config.json'}, added_tokens_decoder"
    decoder = settings.get("added_tokens_decoder")
    if isinstance(decoder, Mapping):
        return [(_whole(number, where), _token(value, where)) for number, value in decoder.items()]
    if decoder is not None:
        raise CheckpointError(f"{where}: expected tokens by their ids, got {decoder!r}; fix: give the original file")
    file = folder / "added_tokens.json"
    if not file.is_file():
        return []
    # A named token that is marked as one of transformers' own objects is not looked at there.
    values = [value for value in map(settings.get, NAMED) if not (isinstance(value, Mapping) and "__type" in value)]
    special = {_content(value) for value in (*values, *_listed(settings.get(EXTRA)))}
    return [
        (_whole(number, str(file)), AddedToken(token, special=token in special, normalized=token not in special))
        for token, number in read_json(file).items()
    ]


def _special_tokens(
    settings: Mapping[str, Any], added: "list[tuple[int, AddedToken]]", source: str
) -> "tuple[dict[str, str], list[AddedToken]]":
    """The named tokens, and all that are found before a text is split, in the order in which they get their ids."""
    by_id = dict(added)
    tokens = [by_id[number] for number in sorted(by_id)]
    stated = {token.content for token in tokens}
    own = {key: value for key, value in settings.items() if key.endswith("_token") and key not in NAMED}
    # A setting of no token at all, such as `add_bos_token`, only ends in the same letters.
    wanted = {key: settings.get(key, DEFAULTS.get(key)) for key in NAMED} | own
    named = {key: content for key, value in wanted.items() if (content := _content(value)) is not None}
    given = [(wanted[key], f"{source}, {key}") for key in named]
    given += [(value, source) for value in _listed(settings[EXTRA] if EXTRA in settings else settings.get(OLD_EXTRA))]
    # Of several tokens with one content the last counts, as in `tokenizers`; what stands there already is not repeated.
    seen = set[str]()
    for value, where in given:
        if _content(value) not in stated and repr(value) not in seen:
            tokens.append(_token(value, where, special=True))
        seen.add(repr(value))
    for token in tokens:
        token.special = token.special or token.content in named.values()
    return named, tokens


def _problems(settings: Mapping[str, Any], named: Mapping[str, str], window: Any, folder: Path) -> list[str]:
    fix = "fix: give the tokenizer as it was published"
    problems = [
        f"{folder}: expected {key} to be a token, got {settings.get(key)!r}; {fix}"
        for key in ("bos_token", "eos_token", "pad_token")
        if key not in named
    ]
    problems += [
        f"{folder}: expected {key} {value!r}, which alone can be drawn with, got {settings[key]!r}; {fix}"
        for key, value in ONLY.items()
        if settings.get(key, value) != value
    ]
    whole = isinstance(window, int) and not isinstance(window, bool)
    if window is not None and not (whole and window >= 2) and not (isinstance(window, float) and window > NO_LIMIT):
        problems.append(f"{folder}: expected model_max_length as a whole number of 2 or more, got {window!r}; {fix}")
    return problems


def _listed(value: Any) -> list[Any]:
    if isinstance(value, Mapping) and "content" not in value:
        return list(value.values())
    return list(value) if isinstance(value, list | tuple) else [] if value is None else [value]


def _content(value: Any) -> str | None:
    content = value.get("content") if isinstance(value, Mapping) else value
    return content if isinstance(content, str) and content and is_piece(content) else None


def _token(value: Any, where: str, special: bool = False) -> "AddedToken":
    """The token that a string or a JSON object describes."""
    from tokenizers import AddedToken

    content = _content(value)
    if content is None:
        raise CheckpointError(f"{where}: expected a token, got {value!r}; fix: give the original file")
    if isinstance(value, str):
        return AddedToken(content, special=special, normalized=not special)
    flags = {key: value[key] for key in ("single_word", "lstrip", "rstrip", "normalized") if key in value}
    if not all(isinstance(flag, bool) for flag in flags.values()):
        raise CheckpointError(f"{where}: expected true or false in {content!r}, got {flags}; fix: give the original")
    return AddedToken(content, special=special or value.get("special") is True, **flags)


def _whole(number: Any, where: str) -> int:
    try:
        return int(number)
    except (TypeError, ValueError) as error:
        raise CheckpointError(f"{where}: expected a token's id, got {number!r}; fix: give the original file") from error
