"""`bench --retune`: times what can run a bundle, checks it, and keeps the choice for this host."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from miaotui.bundle import Bundle, open_bundle, read_bundle
from miaotui.cascade import Part
from miaotui.engines.layouts import Bucketed
from miaotui.engines.native import NativeEngine
from miaotui.engines.onnxruntime import OnnxRuntimeEngine
from miaotui.errors import BudgetError, BundleError
from miaotui.hardware import probe, usable_cores
from miaotui.host import Placed, drafts, keep_choice
from miaotui.measure.retuned import Retuned
from miaotui.measure.speed import SpeedPlan
from miaotui.measure.statistics import Ratio
from miaotui.models.precision import Kind
from miaotui.paths import cache_folder
from miaotui.pipeline.retune import retune
from miaotui.report.retuned import retuned_sentence, retuned_table
from miaotui.report.terminal import show
from tiny_bundle import ROWS, in_kind, lacking, made_by

QUICK = SpeedPlan(
    rounds=10, round_seconds=0.02, max_round_seconds=0.06, latency_calls=20, warmup_calls=2,
    settle_seconds=0.0,
)  # fmt: skip
pytestmark = pytest.mark.integration
ONE_BY_ONE = Bucketed(batch=1, edges=(64,))
"""The slowest way to run many short rows."""
FEW = ("miaotui-native", "openvino")


@pytest.fixture(scope="module")
def slow(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    out = tmp_path_factory.mktemp("slow") / "fast"
    return made_by(out, OnnxRuntimeEngine(layout=ONE_BY_ONE), in_kind(Kind.INT8_DYNAMIC))


def test_what_is_clearly_faster_is_kept(slow: Bundle) -> None:
    machine = lacking(*FEW)
    before = slow.golden and open_bundle(slow, machine=machine).outputs(ROWS).values
    found = retune(slow.folder, machine=machine, plan=QUICK)
    assert found.was == "onnxruntime/bucketed of 1"
    assert found.chosen != found.was
    assert found.times_faster is not None
    assert found.times_faster.low > 1
    assert found.agreement >= 0.98
    assert found.speeds[found.chosen] > 1.5 * found.speeds[found.was]
    assert f"{found.chosen} from now on" in retuned_sentence(found)
    with open_bundle(slow, machine=machine) as predictor:
        assert predictor.runs_on in found.chosen
        assert predictor.warnings == ()
        assert abs(predictor.outputs(ROWS).values - before).max() < 0.1
    assert read_bundle(slow.folder).manifest == slow.manifest
    assert (Path(found.kept_in) / "choice.json").is_file()
    assert not list(cache_folder("bundles").glob(".draft-*"))


def test_what_is_interrupted_leaves_the_choice_before_it(slow: Bundle) -> None:
    machine = lacking(*FEW, "nncf")
    first = retune(slow.folder, machine=machine, plan=QUICK)
    kept = (Path(first.kept_in) / "choice.json").read_bytes()

    def interrupt(what: str, share: float) -> None:
        if "side by side" in what:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        retune(slow.folder, progress=interrupt, machine=machine, plan=QUICK)
    assert (Path(first.kept_in) / "choice.json").read_bytes() == kept
    assert not list(cache_folder("bundles").glob(".draft-*"))
    with open_bundle(slow, machine=machine) as predictor:
        assert predictor.runs_on in first.chosen
    assert read_bundle(slow.folder).manifest == slow.manifest


def test_another_machine_does_not_take_the_choice_over(slow: Bundle) -> None:
    machine = lacking(*FEW, "transformers")
    retune(slow.folder, machine=machine, plan=QUICK)
    with open_bundle(slow, machine=lacking(*FEW, "transformers", "tokenizers")) as predictor:
        assert predictor.runs_on == "onnxruntime/bucketed"


@pytest.mark.skipif(
    NativeEngine.unavailable(probe()) is not None, reason="the native kernels are not installed"
)
def test_a_fallback_is_tuned_and_then_says_nothing(tmp_path: Path) -> None:
    bundle = made_by(tmp_path / "fast", NativeEngine(), in_kind(Kind.INT8_DYNAMIC))
    machine = lacking("miaotui-native", "openvino")
    assert "stands in" in open_bundle(bundle, machine=machine).warnings[0]
    found = retune(bundle.folder, machine=machine, plan=QUICK)
    assert "in floats" in found.chosen or "onnxruntime" in found.chosen
    assert "native" not in found.speeds
    with open_bundle(bundle, machine=machine) as predictor:
        assert predictor.warnings == ()
        assert predictor(["w1 w2 w3"])[0].label
    folders = [path.name for path in Path(found.kept_in).iterdir() if path.is_dir()]
    choice = json.loads((Path(found.kept_in) / "choice.json").read_text(encoding="utf-8"))
    assert folders == [part["folder"] for part in choice["parts"]]


def test_single_rows_are_judged_by_their_latency(tmp_path: Path) -> None:
    engine = OnnxRuntimeEngine(layout=ONE_BY_ONE)
    bundle = made_by(tmp_path / "fast", engine, in_kind(Kind.FP32), objective="latency")
    found = retune(bundle.folder, machine=lacking(*FEW, "torch"), plan=QUICK)
    assert found.judged_by == "p99"


def test_what_answers_otherwise_is_never_chosen(tmp_path: Path) -> None:
    """The golden rows are not what the files answer: only the present way may go on."""
    engine = OnnxRuntimeEngine(layout=ONE_BY_ONE)
    bundle = made_by(tmp_path / "fast", engine, in_kind(Kind.FP32), shift=100.0)
    found = retune(bundle.folder, machine=lacking(*FEW), plan=QUICK)
    assert found.chosen == found.was
    assert found.times_faster is None
    assert any("golden rows otherwise" in reason for reason in found.refused.values())
    assert "stays" in retuned_sentence(found)


def test_without_golden_rows_nothing_is_tuned(tmp_path: Path) -> None:
    engine = OnnxRuntimeEngine(layout=ONE_BY_ONE)
    bundle = made_by(tmp_path / "fast", engine, in_kind(Kind.FP32), golden=False)
    with pytest.raises(BundleError, match="no golden rows"):
        retune(bundle.folder, plan=QUICK)


def test_what_cannot_run_any_more_is_replaced(tmp_path: Path) -> None:
    """The kept choice has lost its file. It was for all cores, the bundle for one."""
    engine, machine = OnnxRuntimeEngine(layout=ONE_BY_ONE), lacking(*FEW, "torch")
    bundle = made_by(tmp_path / "fast", engine, in_kind(Kind.FP32))
    made = bundle.made(in_kind(Kind.FP32).task)
    with drafts() as draft:
        (draft / "lost").mkdir()
        lost = Part(OnnxRuntimeEngine(), draft / "lost")
        keep_choice(made, machine, Placed((lost,), is_tuned=True, cores=machine.cores))
    found = retune(bundle.folder, machine=machine, plan=QUICK)
    assert found.cores == machine.cores
    assert found.was_refused is not None
    assert "cannot be opened" in found.was_refused
    assert found.compared_with != found.was
    assert {found.chosen, found.compared_with} <= set(found.speeds)
    said = f"{found.chosen} replaces {found.was}, which cannot run here ({found.was_refused})"
    assert retuned_sentence(found).startswith(said)
    with open_bundle(bundle, machine=machine) as predictor:
        assert predictor.runs_on in found.chosen


def test_a_gain_is_over_what_was_timed_beside_it() -> None:
    found = Retuned(
        was="one",
        was_refused="it is gone",
        compared_with="two",
        chosen="three",
        judged_by="throughput",
        times_faster=Ratio(1.1, 1.2, 1.3, 10, is_range=False),
        agreement=1.0,
        golden_inputs=60,
        cores=2,
        speeds={"two": 100.0, "three": 120.0},
        refused={"four": "no"},
        kept_in="cache",
    )
    assert "three replaces one, which cannot run here (it is gone): " in retuned_sentence(found)
    assert "the throughput of two; " in retuned_sentence(found)
    runs = replace(found, was="two", was_refused=None)
    assert retuned_sentence(runs).startswith("three from now on: ")
    stays = replace(runs, chosen="two", times_faster=None)
    assert retuned_sentence(stays).startswith("two stays: nothing is clearly faster here; ")


def test_what_looks_like_markup_is_shown_as_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    found = Retuned(
        was="one",
        was_refused=None,
        compared_with="one",
        chosen="one",
        judged_by="p99",
        times_faster=None,
        agreement=1.0,
        golden_inputs=60,
        cores=2,
        speeds={"one": 1.0},
        refused={"two": "no file runs[/old]"},
        kept_in="cache[/old]",
    )
    show(retuned_table(found), retuned_sentence(found))
    shown = capsys.readouterr().out
    assert "no file runs[/old]" in shown
    assert "cache[/old]" in shown


def test_more_cores_than_there_are_are_refused(slow: Bundle) -> None:
    with pytest.raises(BudgetError, match="choose from 1 to"):
        retune(slow.folder, cores=usable_cores() + 1, plan=QUICK)
