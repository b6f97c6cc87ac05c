"""A prompt as CLIP's own code cleans it before it is split: what the library ftfy mends, HTML's entities, blanks, case.

Letters that come of UTF-8 read in another encoding stay: which ones were meant is ftfy's guess, and not followed.
"""

import html
import re
import unicodedata
from functools import cache
from html.entities import html5

ENTITY = re.compile(r"&#?[0-9A-Za-z]{1,24};")
TERMINAL_ESCAPE = re.compile("\x1b\\[[0-9;]*[a-zA-Z]")
BLANKS = re.compile(r"\s+")
C1_CONTROLS = range(0x80, 0xA0)
"""Controls of Latin-1, where Windows-1252 has quotes, dashes and letters."""
REMOVED = (
    range(0x00, 0x09),
    (0x0B,),
    range(0x0E, 0x20),
    (0x7F,),
    range(0x206A, 0x2070),
    (0xFEFF,),
    range(0xFFF9, 0xFFFD),
)
"""Controls that no text means."""
LIGATURES = "ĲĳŉǱǲǳǄǅǆǇǈǉǊǋǌﬀﬁﬂﬃﬄﬆ"
WIDE = (0x3000, *range(0xFF01, 0xFFF0))
"""The wide blank, and letters and signs of the width of Chinese ones, or of half their own."""
QUOTES = {**dict.fromkeys("ʼ‘’‚‛", "'"), **dict.fromkeys("“”„‟", '"')}


def _windows_letter(number: int) -> str:
    """What the byte stands for in Windows-1252; five of them stand for nothing, and stay."""
    return bytes([number]).decode("cp1252", "ignore") or chr(number)


@cache
def _entities() -> dict[str, str]:
    """Every entity that ends in a semicolon; those of small letters also in capitals, where these are no other's."""
    found = {f"&{name}": text for name, text in html5.items() if name.endswith(";")}
    capitals = {name.upper(): text.upper() for name, text in found.items() if name == name.lower()}
    return {name: text for name, text in capitals.items() if html.unescape(name) == name} | found


MENDED: dict[int, str | None] = (
    {number: _windows_letter(number) for number in C1_CONTROLS}
    | {number: None for numbers in REMOVED for number in numbers}
    | {ord(letter): unicodedata.normalize("NFKC", letter) for letter in LIGATURES}
    | {ord("ﬅ"): "ſt"}
    | {number: unicodedata.normalize("NFKC", chr(number)) for number in WIDE}
    | {ord(quote): plain for quote, plain in QUOTES.items()}
)


def cleaned_prompt(text: str) -> str:
    """The prompt in small letters, its entities and odd characters resolved, each run of blanks one blank.

    Source: CLIP's SimpleTokenizer (arXiv 2103.00020) with ftfy 6.
    """
    resolves, lines = True, []
    for line in text.split("\n"):
        # A line with a tag is taken for HTML, and so are those behind it.
        resolves = resolves and "<" not in line
        lines.append(_mended(line, resolves))
    resolved = html.unescape(html.unescape("\n".join(lines)))
    return BLANKS.sub(" ", resolved).strip().lower()


def _mended(line: str, resolves: bool) -> str:
    """Mended until nothing is left to mend."""
    while True:
        before = line
        if resolves:
            line = ENTITY.sub(_resolved, line)
        line = TERMINAL_ESCAPE.sub("", line).translate(MENDED)
        line = unicodedata.normalize("NFC", line)
        if line == before:
            return line


def _resolved(found: re.Match[str]) -> str:
    entity = found[0]
    if not entity.startswith("&#"):
        return _entities().get(entity, entity)
    text = html.unescape(entity)
    # Digits that are followed by letters are resolved as far as they go, and meant otherwise.
    return entity if ";" in text else text
