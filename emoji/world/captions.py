"""Captions of a scene in eight languages: the one canonical form, and the many that a reader may write instead."""

from functools import cache
from pathlib import Path
from xml.etree import ElementTree

import numpy as np

from .vocabulary import vocabulary_table


def caption(language: str, key: str, background: str | None = None) -> str:
    """The canonical caption, such as "a red apple on a blue background"; without a background it names none."""
    entry, words = _picture(key), vocabulary_table()["languages"][language]
    item = _with_article(entry["articles"].get(language, ""), entry["names"][language])
    if background is None:
        return words["plain"][0].format(item=item)
    return words["scene"][0].format(item=item, background=_background(background)["names"][language])


def variant(language: str, key: str, background: str | None, rng: np.random.Generator) -> str:
    """One of the forms a caption may take: synonyms, every article, other templates and capitals."""
    entry, words = _picture(key), vocabulary_table()["languages"][language]
    names = [entry["names"][language]] * 3 + entry["synonyms"][language]
    articles = [entry["articles"].get(language, "")] * 2 + [""] * 2 + words["articles"]
    item = _with_article(_any(articles, rng), _any(names, rng))
    if background is None:
        text = _any(words["plain"], rng).format(item=item)
    else:
        colour = _background(background)
        names = [colour["names"][language]] * 2 + colour["synonyms"][language]
        text = _any(words["scene"], rng).format(item=item, background=_any(names, rng))
    capital = rng.integers(4)
    return text[:1].upper() + text[1:] if capital == 0 else text.lower() if capital == 1 else text


def _with_article(article: str, name: str) -> str:
    return article + name if article.endswith("’") or not article else f"{article} {name}"


def _picture(key: str) -> dict:
    return next(entry for entry in vocabulary_table()["pictures"] if entry["key"] == key)


def _background(key: str) -> dict:
    return next(entry for entry in vocabulary_table()["backgrounds"] if entry["key"] == key)


def _any(choices: list[str], rng: np.random.Generator) -> str:
    return choices[rng.integers(len(choices))]


ANNOTATIONS = Path("/usr/share/unicode/cldr/common/annotations/en.xml")


@cache
def cldr_names() -> dict[str, str]:
    """Short name of each character."""
    return {node.attrib["cp"]: node.text or "" for node in _cldr_nodes() if node.get("type") == "tts"}


@cache
def cldr_keywords() -> dict[str, tuple[str, ...]]:
    """What else each character is found by, in the file's order."""
    found = ((node.attrib["cp"], node.text or "") for node in _cldr_nodes() if node.get("type") is None)
    return {character: tuple(word.strip() for word in text.split("|")) for character, text in found}


@cache
def _cldr_nodes() -> tuple[ElementTree.Element, ...]:
    if not ANNOTATIONS.exists():
        raise FileNotFoundError(f"captions need {ANNOTATIONS}; install the Debian package unicode-cldr-core")
    return tuple(ElementTree.parse(ANNOTATIONS).iter("annotation"))
