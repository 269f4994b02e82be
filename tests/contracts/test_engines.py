"""One suite that every engine passes, over layouts and over the precisions it can compute in."""

import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from numpy import ndarray
from torch import Tensor, nn

from demand import need_engine
from miaotui.engines import ENGINES
from miaotui.engines.base import BatchedEngine, RowRunner, Session, feeds
from miaotui.engines.layouts import Batch, Bucketed, Layout, Packed, Padded
from miaotui.engines.onnx_files import quantize_dynamically, trace
from miaotui.errors import BundleError, EngineFailed, EngineUnavailable
from miaotui.models.encoder import Encoder
from miaotui.models.model import Model, PaddedModel, linears
from miaotui.models.observe import padded
from miaotui.models.precision import Kind, LinearPrecision, Precision
from miaotui.models.shape import HeadKind, Readout
from miaotui.paths import CACHE_VARIABLE
from miaotui.tasks.base import EncodedRows, encoded_rows
from miaotui.tasks.outputs import Ragged
from tiny import LAST_TOKEN, UNKNOWN, hf_logits, random_rows, tiny_model

LENGTHS = (7, 1, 23, 40, 2, 23, 90, 12, 12, 31)
ROWS = random_rows(LENGTHS, pairs=True)
ENCODER_INPUTS = ("ids", "positions", "segments", "types", "readout")

LAYOUTS: dict[str, Layout] = {
    "padded": Padded(batch=4),
    "bucketed": Bucketed(batch=4, edges=(16, 48)),
    "packed": Packed(batch=2, block_tokens=48, block_rows=4),
}


@dataclass(frozen=True)
class Case:
    """An engine in one precision; `tolerance` is a share of the spread of eager's logits, except
    for fp32, where it is absolute."""

    engine: str
    kind: Kind
    tolerance: float

    def __str__(self) -> str:
        return f"{self.engine}-{self.kind}"


CASES = (
    Case("torch", Kind.FP32, 1e-4),
    Case("torch", Kind.BF16, 0.05),
    Case("onnxruntime", Kind.FP32, 1e-4),
    Case("onnxruntime", Kind.INT8_DYNAMIC, 0.1),
    Case("onnxruntime", Kind.INT8_STATIC, 0.1),
    Case("openvino", Kind.FP32, 1e-4),
    Case("openvino", Kind.INT8_STATIC, 0.1),
    Case("tensorrt", Kind.FP32, 1e-3),
    Case("tensorrt", Kind.INT8_STATIC, 0.1),
    Case("torch-compile", Kind.FP32, 1e-4),
    Case("torch-compile", Kind.BF16, 0.05),
    Case("torch-compile", Kind.INT8_DYNAMIC, 0.1),
    Case("native", Kind.FP32, 1e-4),
    Case("native", Kind.BF16, 0.05),
    Case("native", Kind.INT8_DYNAMIC, 0.1),
    Case("native", Kind.INT8_STATIC, 0.1),
)
REFUSED = (
    ("torch", Kind.INT8_DYNAMIC),
    ("torch", Kind.INT8_STATIC),
    ("torch-compile", Kind.INT8_STATIC),
    ("onnxruntime", Kind.BF16),
    ("openvino", Kind.INT8_DYNAMIC),
    ("tensorrt", Kind.BF16),
    ("tensorrt", Kind.INT8_DYNAMIC),
)
FLOATS = tuple(case for case in CASES if case.kind is Kind.FP32)

BATCHED = tuple(name for name, engine in ENGINES.items() if issubclass(engine, BatchedEngine))
UNPADDED = "unpadded"


def placed(cases: Sequence[Case]) -> pytest.MarkDecorator:
    """Every case in every layout; an engine that lays out nothing, once."""
    pairs = [(c, layout) for c in cases for layout in LAYOUTS if c.engine in BATCHED]
    pairs += [(c, UNPADDED) for c in cases if c.engine not in BATCHED]
    return pytest.mark.parametrize(("case", "layout"), pairs, ids=str)


each_case = pytest.mark.parametrize("case", CASES, ids=str)
each_float = pytest.mark.parametrize("case", FLOATS, ids=lambda case: case.engine)
each_engine = pytest.mark.parametrize("name", ENGINES)
each_batched = pytest.mark.parametrize("name", BATCHED)
each_layout = pytest.mark.parametrize("layout", LAYOUTS)
batched_floats = pytest.mark.parametrize(
    "case", [case for case in FLOATS if case.engine in BATCHED], ids=lambda case: case.engine
)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Model:
    return tiny_model("bert", tmp_path_factory.mktemp("bert"), labels=3)


@pytest.fixture(scope="module")
def eager(model: Model) -> ndarray:
    def runner(batch: Batch) -> ndarray:
        with torch.inference_mode():
            return model.encoder(*tensors(batch)).numpy()

    return Session(runner, Padded(batch=1)).run(ROWS).values


def tensors(batch: Batch) -> list[Tensor]:
    return [torch.from_numpy(a) for a in feeds(batch, ENCODER_INPUTS).values()]


@pytest.fixture(scope="module")
def built(model: Model, tmp_path_factory: pytest.TempPathFactory) -> Callable[[Case], Path]:
    """The folder of a case; layouts do not change what is built."""
    folders: dict[Case, Path] = {}

    def build(case: Case) -> Path:
        need_engine(case.engine)
        if case not in folders:
            folders[case] = tmp_path_factory.mktemp(str(case))
            ENGINES[case.engine]().build(in_precision(model, case.kind), None, folders[case])
        return folders[case]

    return build


def in_precision(model: Model, kind: Kind) -> Model:
    """Every linear in `kind`; static ranges are those of the rows themselves."""
    if kind is Kind.FP32:
        return model
    ranges = input_ranges(model.encoder) if kind is Kind.INT8_STATIC else {}
    chosen = {
        name: LinearPrecision(kind, *ranges.get(name, (None, None)))
        for name in linears(model.module)
    }
    return replace(model, precision=Precision(chosen))


def input_ranges(encoder: Encoder) -> dict[str, tuple[float, float]]:
    """Smallest and largest input of each linear over all rows, rounded: torch on one thread and on
    two differ in the last bit."""
    seen: dict[str, list[Tensor]] = {name: [] for name in linears(encoder)}
    hooks = [
        module.register_forward_pre_hook(lambda _, args, name=name: seen[name].append(args[0]))
        for name, module in linears(encoder).items()
    ]
    with torch.inference_mode():
        for batch in Padded(batch=1).batches(ROWS):
            encoder(*tensors(batch))
    for hook in hooks:
        hook.remove()
    return {
        name: (round(min(float(x.min()) for x in xs), 3), round(max(float(x.max()) for x in xs), 3))
        for name, xs in seen.items()
    }


def session(case: Case, folder: Path, layout: str = "padded", **settings: Any) -> RowRunner:
    return ENGINES[case.engine](**in_layout(case.engine, layout), **settings).open(folder, 2)


def in_layout(engine: str, layout: str) -> dict[str, Any]:
    """The setting of a layout, where the engine has one."""
    return {"layout": LAYOUTS[layout]} if engine in BATCHED else {}


@placed(CASES)
def test_agrees_with_eager(
    case: Case, layout: str, built: Callable[[Case], Path], eager: ndarray
) -> None:
    logits = session(case, built(case), layout).run(ROWS).values

    spread = 1.0 if case.kind is Kind.FP32 else float(np.ptp(eager, axis=0).max())
    assert logits.dtype == np.float32
    assert logits.shape == eager.shape
    assert np.abs(logits - eager).max() <= case.tolerance * spread


@each_case
def test_built_and_opened_twice_gives_identical_results(
    case: Case,
    model: Model,
    built: Callable[[Case], Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    first = session(case, built(case), "packed", threads=1).run(ROWS).values

    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "cache"))  # nothing made before is used
    again = tmp_path / "engine"
    ENGINES[case.engine]().build(in_precision(model, case.kind), None, again)
    second = session(case, again, "packed", threads=1).run(ROWS).values

    assert np.array_equal(first, second)


@each_layout
@batched_floats
def test_two_streams_give_what_one_gives(
    case: Case, layout: str, built: Callable[[Case], Path]
) -> None:
    one = session(case, built(case), layout, threads=1)
    two = session(case, built(case), layout, threads=2, streams=2)

    np.testing.assert_allclose(two.run(ROWS).values, one.run(ROWS).values, atol=1e-6)
    two.close()


@placed(FLOATS)
def test_one_row_and_no_rows(
    case: Case, layout: str, built: Callable[[Case], Path], eager: ndarray
) -> None:
    opened = session(case, built(case), layout)

    assert opened.run(encoded_rows([])).values.shape == (0, 0)
    for row in range(len(ROWS)):
        np.testing.assert_allclose(
            opened.run(ROWS.select([row])).values, eager[row : row + 1], atol=case.tolerance
        )


@placed(FLOATS)
def test_rows_of_one_token_or_none(case: Case, layout: str, built: Callable[[Case], Path]) -> None:
    opened = session(case, built(case), layout)

    ones = opened.run(encoded_rows([[5], [6], [5], [7], [9]])).values
    with_none = opened.run(encoded_rows([[5], [], [6]])).values

    np.testing.assert_allclose(ones[0], ones[2], atol=1e-6)
    assert np.isfinite(with_none).all()
    np.testing.assert_allclose(with_none[[0, 2]], ones[:2], atol=1e-5)


@pytest.mark.parametrize(("name", "kind"), REFUSED)
def test_a_precision_it_cannot_compute_in_is_refused_by_name(
    name: str, kind: Kind, model: Model, tmp_path: Path
) -> None:
    with pytest.raises(EngineUnavailable, match=f"{name} cannot compute in {kind}"):
        ENGINES[name]().build(in_precision(model, kind), None, tmp_path / "engine")

    assert not (tmp_path / "engine").exists()


def test_openvino_does_not_compute_bf16_in_fp32_unasked(model: Model, tmp_path: Path) -> None:
    mixed = Precision(
        {
            "layers.0.down": LinearPrecision(Kind.INT8_STATIC, -1.0, 1.0),
            "layers.1.down": LinearPrecision(Kind.BF16),
        }
    )

    with pytest.raises(EngineUnavailable, match="only where its setting bf16 is true"):
        ENGINES["openvino"]().build(replace(model, precision=mixed), None, tmp_path / "engine")

    assert not (tmp_path / "engine").exists()


@pytest.mark.parametrize("name", ["onnxruntime", "openvino", "tensorrt", "native"])
def test_int8_static_without_ranges_is_refused_by_the_layers_name(
    name: str, model: Model, tmp_path: Path
) -> None:
    uncalibrated = Precision({"layers.1.down": LinearPrecision(Kind.INT8_STATIC)})

    with pytest.raises(EngineFailed, match=r"layers\.1\.down is int8-static but has no observed"):
        ENGINES[name]().build(replace(model, precision=uncalibrated), None, tmp_path)


@pytest.mark.parametrize("damage", ["garbage", "cut", "empty", "missing"])
@each_float
def test_a_damaged_file_is_a_bundle_error(
    case: Case, damage: str, built: Callable[[Case], Path], tmp_path: Path
) -> None:
    for source in built(case).iterdir():
        data = source.read_bytes()
        spoilt = {"garbage": b"garbage" * 9, "cut": data[: len(data) // 2], "empty": b""}
        if damage != "missing":
            (tmp_path / source.name).write_bytes(spoilt[damage])

    with pytest.raises(BundleError) as error:
        session(case, tmp_path)

    assert "\n" not in str(error.value)


@each_engine
@pytest.mark.parametrize("settings", [{"threads": 0}, {"streams": 0}, {"thread": 1}])
def test_bad_settings_are_refused(name: str, settings: dict[str, int]) -> None:
    with pytest.raises(ValueError, match=next(iter(settings))):
        ENGINES[name](**settings)


@each_engine
def test_settings_go_through_json(name: str) -> None:
    streams = {"streams": 2} if name in BATCHED else {}
    engine = ENGINES[name](**in_layout(name, "packed"), threads=3, **streams)

    assert ENGINES[name].model_validate_json(engine.model_dump_json()) == engine


@pytest.fixture(scope="module")
def unknown(tmp_path_factory: pytest.TempPathFactory) -> tuple[Model, Path]:
    folder = tmp_path_factory.mktemp(UNKNOWN)
    return tiny_model(UNKNOWN, folder), folder


@pytest.fixture(scope="module")
def unknown_built(
    unknown: tuple[Model, Path], tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str], Path]:
    """The unknown family's folder for an engine; tracing it takes seconds, so once."""
    folders: dict[str, Path] = {}

    def build(name: str) -> Path:
        need_engine(name)
        if name not in folders:
            folders[name] = tmp_path_factory.mktemp(f"unknown-{name}")
            ENGINES[name]().build(unknown[0], None, folders[name])
        return folders[name]

    return build


@pytest.mark.parametrize("layout", ["padded", "bucketed"])
@each_batched
def test_a_family_without_adapter_runs(
    name: str, layout: str, unknown: tuple[Model, Path], unknown_built: Callable[[str], Path]
) -> None:
    opened = ENGINES[name](layout=LAYOUTS[layout]).open(unknown_built(name), 1)

    expected = hf_logits(unknown[1], ROWS, types=True)

    np.testing.assert_allclose(opened.run(ROWS).values, expected, atol=1e-4)
    np.testing.assert_allclose(opened.run(ROWS.select([3])).values, expected[3:4], atol=1e-4)


def test_a_family_without_adapter_runs_in_int8_dynamic(
    unknown: tuple[Model, Path], unknown_built: Callable[[str], Path], tmp_path: Path
) -> None:
    exported = onnx.load(unknown_built("onnxruntime") / "model.onnx")
    onnx.save(quantize_dynamically(exported, reduce_range=True), tmp_path / "model.onnx")

    logits = ENGINES["onnxruntime"](layout=LAYOUTS["bucketed"]).open(tmp_path, 1).run(ROWS).values

    expected = hf_logits(unknown[1], ROWS, types=True)
    assert np.abs(logits - expected).max() <= 0.2 * float(np.ptp(expected, axis=0).max())


@pytest.mark.parametrize("layout", ["padded", "bucketed"])
def test_a_family_that_reads_the_last_token_finds_it_among_padding(
    layout: str, tmp_path: Path
) -> None:
    model = tiny_model(LAST_TOKEN, tmp_path / "hf")
    engine = ENGINES["torch"](layout=LAYOUTS[layout])
    engine.build(model, None, tmp_path / "engine")

    logits = engine.open(tmp_path / "engine", 1).run(ROWS).values

    np.testing.assert_allclose(logits, hf_logits(tmp_path / "hf", ROWS, types=False), atol=1e-4)


@pytest.mark.parametrize("name", ["onnxruntime", "openvino"])
def test_int8_static_needs_an_adapter(
    name: str, unknown: tuple[Model, Path], unknown_built: Callable[[str], Path], tmp_path: Path
) -> None:
    static = {n: LinearPrecision(Kind.INT8_STATIC, -1, 1) for n in linears(unknown[0].module)}

    with pytest.raises(EngineUnavailable, match=f"{UNKNOWN} has no adapter: int8-static"):
        ENGINES[name]().build(replace(unknown[0], precision=Precision(static)), None, tmp_path)


class Undecided(nn.Module):
    """A classifier that no exporter can follow: what it computes hangs on what it is given."""

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Any:
        raise RuntimeError(f"cannot be traced: {len(input_ids.tolist())}")


def test_a_module_that_cannot_be_exported_is_said_so() -> None:
    with pytest.raises(EngineFailed, match="torch cannot export this model to ONNX"):
        trace(PaddedModel(Undecided(), takes_types=False).eval())


WITHOUT_TORCH = """
import sys
for name in ("torch", "transformers", "onnxscript", "nncf"):
    sys.modules[name] = None
from pathlib import Path
from miaotui.engines import ENGINES
from miaotui.engines.layouts import Packed
from miaotui.predictor import Predictor
from miaotui.paths import CACHE_VARIABLE
from miaotui.tasks.base import encoded_rows
from miaotui.tasks.saved import open_task
packed = {"layout": Packed(batch=2, block_tokens=32, block_rows=4)}
engine = ENGINES[sys.argv[1]](**({} if sys.argv[1] == "native" else packed))
print(engine.open(Path(sys.argv[2]), 1).run(encoded_rows([[5, 6, 7], [8], [9, 10]])).values.shape)
"""


@pytest.mark.parametrize("name", ["onnxruntime", "openvino", "native"])
def test_predicting_needs_no_torch_and_no_transformers(
    name: str, built: Callable[[Case], Path]
) -> None:
    folder = built(Case(name, Kind.FP32, 1e-4))

    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_TORCH, name, str(folder)],
        capture_output=True,
        text=True,
        timeout=60,
    )

    assert done.returncode == 0, done.stderr
    assert done.stdout.strip().endswith("(3, 3)")


def read_out(model: Model, readout: Readout, head: HeadKind) -> Model:
    """The model's layers under another head, or none."""
    shape = model.encoder.shape
    labels = shape.hidden if head is HeadKind.NONE else shape.labels
    encoder = Encoder(replace(shape, readout=readout, head_kind=head, labels=labels))
    encoder.load_state_dict(model.encoder.state_dict(), strict=False)
    return replace(model, module=encoder.eval())


def alone(model: Model, rows: EncodedRows = ROWS) -> ndarray:
    """What eager reads out of each row by itself."""
    with torch.inference_mode():
        each = [
            model.encoder(*padded(rows, [i]))[0, : rows.readout_starts[i + 1] - start].numpy()
            for i, start in enumerate(rows.readout_starts[:-1])
        ]
    return np.concatenate(each)


EVERY_THIRD = [list(range(length))[1 + i % 2 :: 3] for i, length in enumerate(ROWS.lengths)]
NAMED = replace(
    ROWS,
    readouts=Ragged(
        np.array([[at, at] for places in EVERY_THIRD for at in places], dtype=np.int32),
        np.cumsum([0, *map(len, EVERY_THIRD)]),
    ),
)
"""Rows that name some of their tokens to be read, the short ones none."""


@placed(FLOATS)
def test_tokens_are_read_out_where_rows_name_them(
    case: Case, layout: str, model: Model, tmp_path: Path
) -> None:
    need_engine(case.engine)
    tagger = read_out(model, Readout.TOKENS, HeadKind.LINEAR)
    ENGINES[case.engine]().build(tagger, None, tmp_path)
    opened = session(case, tmp_path, layout)

    found = opened.run(NAMED)

    assert found.starts.tolist() == NAMED.readout_starts.tolist()
    np.testing.assert_allclose(found.values, alone(tagger, NAMED), atol=1e-4)
    one = opened.run(NAMED.select([2]))
    np.testing.assert_allclose(one.values, found.select([2]).values, atol=1e-4)
    opened.close()


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("name", ["torch", "onnxruntime", "openvino"])
def test_means_are_read_out(model: Model, name: str, layout: str, tmp_path: Path) -> None:
    pooled = read_out(model, Readout.MEAN, HeadKind.NONE)
    engine = ENGINES[name](layout=LAYOUTS[layout])
    engine.build(pooled, None, tmp_path)
    found = engine.open(tmp_path, 1).run(ROWS).values
    np.testing.assert_allclose(found, alone(pooled), atol=1e-4)


@each_engine
def test_first_states_are_read_out_without_a_head(model: Model, name: str, tmp_path: Path) -> None:
    need_engine(name)
    bare = read_out(model, Readout.FIRST, HeadKind.NONE)
    engine = ENGINES[name]()
    engine.build(bare, None, tmp_path)
    np.testing.assert_allclose(engine.open(tmp_path, 1).run(ROWS).values, alone(bare), atol=1e-4)
