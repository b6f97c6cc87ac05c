"""English names and keywords of emoji from the Unicode CLDR (training only; needs Debian's unicode-cldr-core)."""

from functools import cache
from pathlib import Path
from xml.etree import ElementTree

ANNOTATIONS = Path("/usr/share/unicode/cldr/common/annotations/en.xml")


@cache
def names() -> dict[str, str]:
    """Short name of each character."""
    return {node.attrib["cp"]: node.text or "" for node in _nodes() if node.get("type") == "tts"}


@cache
def keywords() -> dict[str, tuple[str, ...]]:
    """What else each character is found by, in the file's order."""
    found = ((node.attrib["cp"], node.text or "") for node in _nodes() if node.get("type") is None)
    return {character: tuple(word.strip() for word in text.split("|")) for character, text in found}


@cache
def _nodes() -> tuple[ElementTree.Element, ...]:
    if not ANNOTATIONS.exists():
        raise FileNotFoundError(f"captions need {ANNOTATIONS}; install the Debian package unicode-cldr-core")
    return tuple(ElementTree.parse(ANNOTATIONS).iter("annotation"))
