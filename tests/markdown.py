"""Reads Markdown pages: their fenced blocks, links, anchors and lines of prose."""

import re
from dataclasses import dataclass
from pathlib import Path

FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\(([^()\s]+)\)|\b(?:src|href)=\"([^\"]+)\"|^\[[^\]]+\]: (\S+)$", re.MULTILINE)
SPAN = re.compile(r"`(x2i [^`\n]+)`")
MARK = "<!-- run -->"


@dataclass(frozen=True)
class Block:
    """One fenced block: where it stands, its language, its text, and whether `<!-- run -->` stands right above it."""

    page: Path
    line: int
    language: str
    text: str
    run: bool

    def commands(self) -> list[str]:
        """The commands of a shell block, each in one line."""
        joined = re.sub(r"\s*\\\n\s*", " ", self.text)
        return [line for line in joined.splitlines() if line.strip() and not line.startswith("#")]


def blocks(page: Path) -> list[Block]:
    """Every fenced block of a page."""
    text = page.read_text("utf-8")
    found = []
    for match in FENCE.finditer(text):
        before = text[: match.start()]
        marked = before.rstrip("\n").endswith(MARK)
        found.append(Block(page, before.count("\n") + 1, match[1], match[2], marked))
    return found


def prose(page: Path) -> str:
    """The page with its fenced blocks left empty, so that lines keep their numbers."""
    return FENCE.sub(lambda match: "\n" * match[0].count("\n"), page.read_text("utf-8"))


def spans(page: Path) -> list[str]:
    """Command lines of x2i that stand within the text, as in a table; a table's `\\|` is a `|`."""
    return [span.replace("\\|", "|") for span in SPAN.findall(prose(page))]


def links(page: Path) -> list[str]:
    """Targets of links and pictures that are no web addresses."""
    found = [next(filter(None, groups)) for groups in LINK.findall(prose(page))]
    return [target for target in found if not re.match(r"[a-z]+:", target)]


def anchors(page: Path) -> set[str]:
    """What `#...` may name on a page: its headings as GitHub writes them, and elements with an id."""
    found: set[str] = set()
    for heading in re.findall(r"^#{1,6} +(.+?)\s*$", prose(page), re.MULTILINE):
        text = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).lower()
        slug = re.sub(r"[^\w\- ]", "", text).replace(" ", "-")
        number = sum(1 for name in found if re.fullmatch(re.escape(slug) + r"(-\d+)?", name))
        found.add(f"{slug}-{number}" if number else slug)
    return found | set(re.findall(r"<a (?:id|name)=\"([^\"]+)\"", prose(page)))


def long_lines(page: Path, limit: int = 120) -> list[int]:
    """Numbers of the lines over `limit` characters that are neither a table's row nor hold a link or a picture."""

    def may_be_long(line: str) -> bool:
        return line.startswith("|") or bool(re.search(r"\]\(|https?://|<img ", line))

    return [n for n, line in enumerate(prose(page).splitlines(), 1) if len(line) > limit and not may_be_long(line)]
