"""The page that the server shows: one text of HTML with its style and script inside, and the policy it runs under."""

from base64 import b64encode
from functools import cache
from hashlib import sha256
from importlib.resources import files

SCRIPTS = ("elements", "store", "api", "pictures", "mask", "sound", "controls", "form", "cards", "jobs", "main")
"""The script's files in the order in which they are joined: each uses those before it."""


@cache
def page() -> tuple[str, str]:
    """The HTML, and the value of its Content-Security-Policy header.

    The policy admits the page's own style and script by their digests, and nothing from any other address: what the
    page shows comes from this server, or from the files that a person gives to it.
    """
    folder = files(__package__)
    style = folder.joinpath("page.css").read_text(encoding="utf-8")
    script = "\n".join(folder.joinpath(f"{name}.js").read_text(encoding="utf-8") for name in SCRIPTS)
    # Either would end its element in the middle.
    assert "</style" not in style and "</script" not in script
    text = folder.joinpath("page.html").read_text(encoding="utf-8")
    for mark, inside in (("{{ style }}", style), ("{{ script }}", script)):
        assert text.count(mark) == 1
        text = text.replace(mark, inside)
    return text, _policy(style, script)


def _policy(style: str, script: str) -> str:
    allowed = {
        "default-src": "'none'",
        "script-src": _digest(script),
        "style-src": _digest(style),
        "img-src": "'self' data: blob:",
        "media-src": "'self' blob:",
        "connect-src": "'self'",
        "form-action": "'none'",
        "base-uri": "'none'",
        "frame-ancestors": "'none'",
    }
    return "; ".join(f"{kind} {where}" for kind, where in allowed.items())


def _digest(text: str) -> str:
    return f"'sha256-{b64encode(sha256(text.encode()).digest()).decode()}'"
