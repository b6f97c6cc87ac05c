"""Engines in a bundle: which serves, why the others do not, and what a call must fit into."""

from dataclasses import replace
from pathlib import Path

import pytest
from x2i.runtime.bundle.reader import open_bundle
from x2i.runtime.engines import store, tensorrt_key
from x2i.runtime.engines.gpu import Gpu
from x2i.runtime.engines.key import EngineKey
from x2i.runtime.engines.shape_ranges import shape_ranges
from x2i.runtime.errors import InputError
from x2i.runtime.sessions.session import GraphFile

KEY = EngineKey("decoder", "ab", "fp16", "tensorrt_rtx", "1.7.1", "any GPU", {"batch": (1, 2, 4)}, {"plugin": "cd"})
ADA = Gpu("GeForce RTX 4090", (8, 9), 24 << 30)


def keep(folder: Path, key: EngineKey, content: bytes = b"engine") -> Path:
    with store.staging_dir(folder) as scratch:
        made = scratch / "made"
        made.write_bytes(content)
        store.save_engine(scratch, key, made, seconds=1.5, peak_bytes=7)
        store.publish_engines(scratch, folder)
    return folder / f"{key.stem}.engine"


def test_an_engine_is_found_under_its_key_alone(tmp_path: Path) -> None:
    path = keep(tmp_path / "engines", KEY)
    assert store.find_engine(tmp_path / "engines", KEY) == path and not store.why_none_fits(tmp_path / "engines", KEY)
    assert sorted(file.name for file in path.parent.iterdir()) == [path.name, path.with_suffix(".json").name]
    assert store.find_engine(None, KEY) is None and store.find_engine(tmp_path, KEY) is None


@pytest.mark.parametrize(
    ("field", "value", "reason"),
    [
        ("digest", "ef", "built from another export of the graph"),
        ("precision", "fp32", "built at fp16, this graph is fp32"),
        ("version", "1.8.0", "built by tensorrt_rtx 1.7.1, this is tensorrt_rtx 1.8.0"),
        ("device", "sm_89", "built for any GPU, this is sm_89"),
        ("shapes", {"batch": (1, 2, 8)}, "built for batch 1..4, wanted 1..8"),
        ("shapes", {}, "built for batch 1..4, wanted of any size"),
        ("options", {}, "built with plugin cd, wanted unset"),
    ],
)
def test_a_stale_engine_is_never_found(tmp_path: Path, field: str, value: object, reason: str) -> None:
    path = keep(tmp_path, KEY)
    wanted = replace(KEY, **{field: value})
    assert wanted.sha256() != KEY.sha256()
    assert store.find_engine(tmp_path, wanted) is None
    assert store.why_none_fits(tmp_path, wanted) == [f"{path.name}: {reason}"]


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"engin", "cut short: 5 of 6 bytes"),
        (b"engine!", "altered: too long"),
        (b"Engine", "altered: its SHA-256"),
        (None, "missing"),
    ],
)
def test_a_damaged_engine_is_never_found(tmp_path: Path, content: bytes | None, reason: str) -> None:
    path = keep(tmp_path, KEY)
    path.unlink()
    if content is not None:
        path.write_bytes(content)
    assert store.find_engine(tmp_path, KEY) is None
    (why,) = store.why_none_fits(tmp_path, KEY)
    assert reason in why


def test_a_record_that_is_none_is_passed_over(tmp_path: Path) -> None:
    path = keep(tmp_path, KEY)
    path.with_suffix(".json").write_text('{"key": 1}')
    assert store.find_engine(tmp_path, KEY) is None and store.why_none_fits(tmp_path, KEY) == []


def test_what_is_unfinished_goes_whatever_happens(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), store.staging_dir(tmp_path / "engines") as scratch:
        (scratch / "half").write_bytes(b"x")
        raise KeyboardInterrupt
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("library", "device", "fits"),
    [
        ("tensorrt_rtx", "any GPU", True),
        ("tensorrt_rtx", "sm_86 sm_89", True),
        ("tensorrt_rtx", "sm_86 sm_120", False),
        ("tensorrt", "GeForce RTX 4090 (sm_89)", True),
        ("tensorrt", "GeForce RTX 4080 (sm_89)", False),
    ],
)
def test_tensorrt_takes_an_engine_for_this_gpu_whatever_its_sizes(
    tmp_path: Path, library: str, device: str, fits: bool
) -> None:
    path = keep(tmp_path, replace(KEY, library=library, device=device))
    graph = GraphFile("decoder", tmp_path / "decoder.onnx", "fp16", "ab", tmp_path)
    assert tensorrt_key.find_tensorrt_engine(graph, library, "1.7.1", ADA) == (path if fits else None)
    if not fits:
        why = tensorrt_key.why_no_tensorrt_engine(graph, library, "1.7.1", ADA)
        assert f"built for {device}, this is " in why and "x2i build BUNDLE --for" in why


def test_of_several_engines_the_newest_is_taken(tmp_path: Path) -> None:
    graph = GraphFile("decoder", tmp_path / "decoder.onnx", "fp16", "ab", tmp_path)
    keep(tmp_path, KEY)
    newer = keep(tmp_path, replace(KEY, shapes={"batch": (1, 4, 4)}))
    record = newer.with_suffix(".json")
    made = store.read_record(record).made
    record.write_text(record.read_text().replace(made, "2999-01-01T00:00:00+00:00"))
    assert tensorrt_key.find_tensorrt_engine(graph, "tensorrt_rtx", "1.7.1", ADA) == newer


def test_a_graph_without_an_engine_names_the_command(tmp_path: Path) -> None:
    graph = GraphFile("decoder", tmp_path / "decoder.onnx", "fp16", "ab", tmp_path)
    assert tensorrt_key.why_no_tensorrt_engine(graph, "tensorrt_rtx", "1.7.1", ADA) == (
        "decoder has no engine; build it with `x2i build BUNDLE --for rtx`"
    )


def test_sizes_follow_the_plan(elite_bundle: Path) -> None:
    manifest = open_bundle(elite_bundle, check_files=False).manifest
    profiles = shape_ranges(manifest, [(72, 40), (64, 128)], count=3)
    assert profiles["denoiser"] == {
        "batch": (1, 6, 6),
        "height": (8, 9, 9),
        "width": (5, 5, 16),
        "tokens": (77, 77, 231),
        "patches": (49, 49, 49),
    }
    assert profiles["decoder"] == {"batch": (1, 3, 3), "height": (8, 9, 9), "width": (5, 5, 16)}
    assert profiles["text_encoder"] == {"batch": (1, 2, 2), "words": (1, 1, 5), "learned": (1, 1, 75)}
    assert profiles["local_mapper"] == {"batch": (1, 1, 1)}
    assert profiles.keys() == manifest.graphs.keys() - manifest.plan.side_graphs()


@pytest.mark.parametrize("system", ["ip_adapter", "fastcomposer", "sound", "tiny"])
def test_every_free_size_of_every_system_is_known(system: str, request: pytest.FixtureRequest) -> None:
    manifest = open_bundle(request.getfixturevalue(f"{system}_bundle"), check_files=False).manifest
    for name, free in shape_ranges(manifest).items():
        sizes = {size for tensor in manifest.graphs[name].inputs for size in tensor.shape if isinstance(size, str)}
        assert free.keys() == sizes, name
        assert all(1 <= least <= usual <= most for least, usual, most in free.values()), (name, free)


def test_pictures_and_channels_may_be_several(ip_adapter_bundle: Path, sound_bundle: Path) -> None:
    pictures = shape_ranges(open_bundle(ip_adapter_bundle, check_files=False).manifest)
    assert pictures["image_encoder"] == {"pictures": (1, 1, 4)} and pictures["denoiser"]["patches"] == (4, 4, 16)
    sound = shape_ranges(open_bundle(sound_bundle, check_files=False).manifest)
    assert sound["audio_encoder"] == {"channels": (2, 2, 8)} and sound["translator"] == {}


def test_sizes_that_cannot_be_drawn_are_refused_together(tiny_bundle: Path) -> None:
    manifest = open_bundle(tiny_bundle, check_files=False).manifest
    with pytest.raises(InputError) as refused:
        shape_ranges(manifest, [(64, 64), (65, 64), (0, 8)], count=0)
    assert len(refused.value.problems) == 3
