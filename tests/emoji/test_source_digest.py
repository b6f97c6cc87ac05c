"""A bundle of the reference world is made again when what made it has changed, and nobody else's is ever removed."""

from pathlib import Path

import pytest
from x2i.emoji import embedded, source_digest
from x2i.emoji.source_digest import record_file, remake, up_to_date
from x2i.runtime.commands.console import Refusal


@pytest.fixture
def made(tmp_path):
    """Asks for a bundle of a source; the reports so far, and the bundle's text."""
    bundle, reports, makes = tmp_path / "bundle", [], []

    def make():
        makes.append(1)
        bundle.mkdir()
        (bundle / "manifest.json").write_text(f"made {len(makes)}")

    def ask(source: str, again: bool = False) -> str:
        (remake if again else up_to_date)(bundle, source, make, reports.append)
        return (bundle / "manifest.json").read_text()

    ask.bundle, ask.reports = bundle, reports
    return ask


def test_it_is_made_once_for_one_source(made):
    assert made("a") == made("a") == "made 1"
    assert not made.reports and record_file(made.bundle).name == ".bundle.source"


def test_another_source_makes_it_again_and_says_so(made):
    made("a")
    assert made("b") == "made 2" and made("b") == "made 2"
    (line,) = made.reports
    assert line.startswith(str(made.bundle)) and line.endswith("making it again")
    assert {path.name for path in made.bundle.parent.iterdir()} == {"bundle", ".bundle.source"}


def test_it_can_be_made_again_for_the_same_source(made):
    made("a")
    assert made("a", again=True) == "made 2"


def test_somebody_elses_folder_stays(made):
    made.bundle.mkdir()
    (made.bundle / "manifest.json").write_text("mine")
    with pytest.raises(Refusal, match=r"got one that is not made by this command; remove it, or name another"):
        made("a")
    assert (made.bundle / "manifest.json").read_text() == "mine" and not made.reports


def test_what_was_changed_since_stays(made):
    """Such as a bundle with a preset that was tuned, or another one put in its place."""
    made("a")
    (made.bundle / "manifest.json").write_text("tuned")
    assert made("a") == "tuned"
    with pytest.raises(Refusal, match="got one that is changed since it was made"):
        made("b")
    assert (made.bundle / "manifest.json").read_text() == "tuned"


def test_a_failed_making_leaves_no_record(made):
    made("a")
    with pytest.raises(ZeroDivisionError):
        remake(made.bundle, "b", lambda: 1 / 0, made.reports.append)
    assert not list(made.bundle.parent.iterdir())


def changed_digest(path: Path, weights: Path) -> bool:
    """Whether the digest of the weights and all sources differs after `path` has one byte more."""
    before = source_digest.source_digest(weights)
    path.write_bytes(path.read_bytes() + b"\n")
    return source_digest.source_digest(weights) != before


def test_the_digest_follows_weights_and_sources(tmp_path, monkeypatch):
    """The rooms are copied, so that one of their files may change."""
    weights = tmp_path / "weights"
    weights.mkdir()
    (weights / "a.ckpt").write_bytes(b"weights")
    for room in source_digest.ROOMS:
        (tmp_path / room).mkdir()
        (tmp_path / room / "__init__.py").write_text("")
        (tmp_path / room / "deep.py").write_text("x = 1\n")

    def spec(name):
        return type("Spec", (), {"origin": str(tmp_path / name.removeprefix("x2i.") / "__init__.py")})

    monkeypatch.setattr(source_digest, "find_spec", spec)
    assert source_digest.source_digest(weights) == source_digest.source_digest(weights)
    assert changed_digest(weights / "a.ckpt", weights)
    for room in source_digest.ROOMS:
        assert changed_digest(tmp_path / room / "deep.py", weights), room
    (tmp_path / "runtime" / "new.py").write_text("")
    assert source_digest.source_digest(weights, settings="a") != source_digest.source_digest(weights, settings="b")


def test_the_digest_follows_the_libraries(monkeypatch):
    before = source_digest.source_digest()
    real = source_digest.version
    monkeypatch.setattr(source_digest, "version", lambda name: "0" if name == "onnx" else real(name))
    assert source_digest.source_digest() != before


def test_changed_weights_are_exported_again(tmp_path, monkeypatch):
    """The defect: the old bundle was judged after its weights had changed."""
    weights = tmp_path / "weights"
    weights.mkdir()
    (weights / "a.ckpt").write_bytes(b"first")
    monkeypatch.setattr(embedded, "WEIGHTS", weights)

    def export(plan, report):
        plan.mkdir()
        (plan / "manifest.json").write_text((weights / "a.ckpt").read_text())

    monkeypatch.setattr(embedded, "export_bundle", export)
    bundle = embedded.embedded(lambda out: out, tmp_path / "demo", print)
    assert (bundle / "manifest.json").read_text() == "first"
    (weights / "a.ckpt").write_bytes(b"second")
    embedded.embedded(lambda out: out, tmp_path / "demo", print)
    assert (bundle / "manifest.json").read_text() == "second"
