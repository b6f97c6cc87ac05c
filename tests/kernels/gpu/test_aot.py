"""Machine code for GPUs that are not here: what a launch is told about it is what the compiler has written."""

import re
from dataclasses import replace
from pathlib import Path

import pytest
import triton
from click.testing import CliRunner
from x2i.kernels.biased_attention.op import BIASED, PART_ROWS
from x2i.kernels.build import build_kernels
from x2i.kernels.errors import KernelError
from x2i.kernels.gpu import cubins
from x2i.kernels.gpu.aot import Compiled, compile_pass
from x2i.kernels.gpu.cubins import TARGETS, Cubin
from x2i.kernels.gpu.kernel_op import KernelOp
from x2i.kernels.gpu_ops import GPU_OPS
from x2i.kernels.injected_attention.op import INJECTED

pytest.importorskip("triton", reason="Triton is not installed")
PTX_TYPES = {"i32": ".u32", "fp32": ".f32"}
# ELF's number for NVIDIA's machine code.
CUDA = 190


@pytest.fixture(scope="module", autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> None:
    triton.knobs.cache.dir = str(tmp_path_factory.mktemp("triton"))


@pytest.fixture(
    scope="module",
    params=[
        (INJECTED, "global_pass", "sm_89", "float16", 40),
        (INJECTED, "local_pass", "sm_120", "bfloat16", 36),
        (BIASED, "statistics_pass", "sm_90", "float16", 80),
        (BIASED, "raised_pass", "sm_86", "float32", 40),
    ],
    ids=lambda words: "-".join(map(str, words[1:])),
)
def compiled(request: pytest.FixtureRequest, own_cache: None) -> Compiled:
    return compile_pass(*request.param)


def test_it_is_machine_code(compiled: Compiled) -> None:
    image = compiled.cubin.image
    assert image[:4] == b"\x7fELF" and int.from_bytes(image[18:20], "little") == CUDA
    assert compiled.cubin.symbol.encode() in image
    assert b"triton_kernel.py" not in image, "line tables name the folders of the machine that compiled it"


def test_the_arguments_are_the_code_s(compiled: Compiled) -> None:
    """And the two pointers that Triton adds are never read, so that a launch may leave them null."""
    parameters = re.findall(r"\.param (\.\w+)[^,\n]* (\w+_param_\d+)", compiled.ptx)
    expected = [PTX_TYPES.get(kind, ".u64") for _, kind in compiled.cubin.arguments]
    assert [kind for kind, _ in parameters] == [*expected, ".u64", ".u64"]
    read = {name for _, name in parameters if f"[{name}]" in compiled.ptx}
    assert read == {name for _, name in parameters[:-2]}


def test_an_argument_may_be_fixed() -> None:
    """As the ahead-of-time plugin of TensorRT wants it, which passes whole numbers alone."""
    names = [
        name
        for name, _ in compile_pass(INJECTED, "local_pass", "sm_89", "float16", 12, {"scale": 0.25}).cubin.arguments
    ]
    assert names == [
        *("query", "local_key", "local_value", "token_index", "strength"),
        *("columns", "peaks", "heads", "queries", "local_tokens", "output"),
    ]


@pytest.mark.parametrize("op", GPU_OPS, ids=lambda op: op.name)
def test_whole_numbers_of_1_are_constants_of_a_launch(op: KernelOp) -> None:
    """Triton compiles a launch on tensors anew where heads, queries or tokens are 1."""
    for kernel in op.passes:
        taken = {name for name, _ in compile_pass(op, kernel, "sm_89", "float16", 12).cubin.arguments}
        ones = dict.fromkeys(taken & {"heads", *op.lengths}, 1)
        rest = [name for name, _ in compile_pass(op, kernel, "sm_89", "float16", 12, ones).cubin.arguments]
        assert len(ones) == 3 and set(rest) == taken - ones.keys()


def test_a_part_of_the_statistics_is_the_same_rows_everywhere() -> None:
    """Its number of parts is what the workspace and the second pass count on."""
    assert {tile.rows for tile in BIASED.tiles["statistics_pass"].values()} == {PART_ROWS}


def test_the_command_keeps_what_is_there_and_true(tmp_path: Path) -> None:
    words = ["--out", str(tmp_path), "--target", "sm_86", "--dtype", "float16", "--head-width", "12"]
    first = CliRunner().invoke(build_kernels, words)
    assert first.exit_code == 0 and "4 kernels" in first.output and "0 were there" in first.output
    assert {file.suffix for file in tmp_path.iterdir()} == {".cubin", ".ptx", ".json"}
    assert "4 were there" in CliRunner().invoke(build_kernels, words).output
    index = tmp_path / cubins.INDEX
    index.write_text(re.sub(r'"source": "....', '"source": "0000', index.read_text(encoding="utf-8")), encoding="utf-8")
    assert "0 were there" in CliRunner().invoke(build_kernels, words).output, "kernels of another source were kept"
    assert [cubin.kernel for cubin in cubins.read_cubins(tmp_path)] == [name for op in GPU_OPS for name in op.passes]


def test_float32_is_compiled_where_an_op_takes_it(tmp_path: Path) -> None:
    words = ["--out", str(tmp_path), "--target", "sm_86", "--dtype", "float32", "--head-width", "12"]
    assert "2 kernels" in CliRunner().invoke(build_kernels, words).output
    assert {cubin.kernel for cubin in cubins.read_cubins(tmp_path)} == set(BIASED.passes)


def test_a_damaged_file_is_named(compiled: Compiled, tmp_path: Path) -> None:
    with pytest.raises(KernelError, match=r"expected index\.json, found none"):
        cubins.read_cubins(tmp_path)
    file = tmp_path / f"{compiled.cubin.stem}.cubin"
    file.write_bytes(compiled.cubin.image)
    cubins.write_index(tmp_path, [compiled.cubin])
    assert cubins.read_cubins(tmp_path) == cubins.read_undamaged_cubins(tmp_path) == (compiled.cubin,)
    file.write_bytes(compiled.cubin.image[:-1] + b"x")
    with pytest.raises(KernelError, match=file.name):
        cubins.read_cubins(tmp_path)
    # So that the command makes it again.
    assert cubins.read_undamaged_cubins(tmp_path) == ()


def test_what_an_engine_holds(compiled: Compiled) -> None:
    two = (compiled.cubin, replace(compiled.cubin, target="sm_80"))
    packed = cubins.pack_cubins(two)
    assert cubins.unpack_cubins(packed) == two
    with pytest.raises(KernelError, match="build the engine again"):
        cubins.unpack_cubins(packed[:-1] + b"x")


def fakes(*targets: str) -> list[Cubin]:
    common = {"dtype": "float16", "head_width": 40, "symbol": "", "arguments": (), "rows": 64, "columns": 32}
    rest = {"warps": 4, "shared": 0, "source": "", "sha256": "", "image": b""}
    return [Cubin(kernel=kernel, target=target, **common, **rest) for target in targets for kernel in INJECTED.passes]


@pytest.mark.parametrize(
    ("capability", "target"),
    [
        ((8, 0), "sm_80"),
        ((8, 6), "sm_86"),
        ((8, 7), "sm_87"),
        ((8, 8), "sm_87"),
        ((9, 0), "sm_90"),
        ((12, 0), "sm_120"),
    ],
)
def test_the_kernels_for_a_device(capability: tuple[int, int], target: str) -> None:
    chosen = cubins.cubins_for_device(reversed(fakes(*TARGETS)), INJECTED.passes, capability)
    assert {name: cubin.target for name, cubin in chosen.items()} == dict.fromkeys(INJECTED.passes, target)


@pytest.mark.parametrize("capability", [(7, 5), (8, 0), (9, 0), (10, 0), (12, 1)])
def test_a_device_without_kernels(capability: tuple[int, int]) -> None:
    target = f"sm_{capability[0]}{capability[1]}"
    with pytest.raises(
        KernelError, match=f"expected kernels for {target}, got sm_120, sm_86, sm_89; build with --target"
    ):
        cubins.cubins_for_device(fakes("sm_86", "sm_89", "sm_120"), INJECTED.passes, capability)
