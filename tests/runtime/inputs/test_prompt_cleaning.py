"""Prompts are cleaned as CLIP's code and ftfy 6.3.1 clean them, from which the expected texts are."""

import pytest
from x2i.runtime.media.prompts.cleaning import cleaned_prompt

CLEANED = {
    "A  Cat\t\n sits ": "a cat sits",
    "don’t “quote” ‚x‛": "don't \"quote\" 'x'",
    "ﬁne ﬀ ŉ Ǆ ﬅ": "fine ff 'n dž ſt",
    "Ｆｕｌｌ　ｗｉｄｔｈ ｱ": "full width ア",
    "a &amp; b &lt; c": "a & b < c",
    "&amp;amp;amp;amp;": "&",
    "<b>&amp;amp;amp;amp;": "<b>&amp;amp;",
    "one <b>\n&amp;amp;amp;": "one <b> &amp;",
    "P&EACUTE;REZ &eacute; &#233; &#xE9; &copy 2": "pérez é é é © 2",
    "&notit; &gt": "¬it; >",
    "&#39;x&#39; &nbsp;y": "'x' y",
    "re\x1b[31md\x07\ufeff\u206a": "red",
    "\x93dots\x85\x94": '"dots…"',
    "cafe\u0301 İ ΟΔΟΣ ß": "café i̇ οδος ß",
    "&#0;": "\ufffd",
    "½ Ⅳ 日本 😀": "½ ⅳ 日本 😀",
    "": "",
}


@pytest.mark.parametrize("prompt", CLEANED, ids=ascii)
def test_a_prompt_is_cleaned_as_clip_does(prompt: str) -> None:
    assert cleaned_prompt(prompt) == CLEANED[prompt]


def test_a_long_prompt_is_cleaned_at_once() -> None:
    assert cleaned_prompt("&amp; " * 20_000 + "\x1b[" * 20_000).startswith("& & ")
