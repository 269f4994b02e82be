"""Nothing leaves our processes: shown in fresh ones, with an empty home and watched calls."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from miaotui.quiet import SWITCHES, silence_telemetry

WATCH = """
import json, sys
attempts = []
WATCHED = ("socket.connect", "socket.getaddrinfo", "urllib.Request", "subprocess.Popen")
sys.addaudithook(lambda name, args: attempts.append(name) if name in WATCHED else None)
"""

REPORT = """
print(json.dumps({"attempts": attempts, "senders": senders}))
"""

USE_OPENVINO = """
import openvino
from openvino.tools.ovc import telemetry
senders = [type(telemetry).__module__]
openvino.convert_model({model!r})
"""

USE_ONNXRUNTIME = """
import onnxruntime
options = onnxruntime.SessionOptions()
options.intra_op_num_threads = options.inter_op_num_threads = 1
onnxruntime.InferenceSession({model!r}, options, providers=["CPUExecutionProvider"])
senders = []
"""

USE_NNCF = """
from nncf.telemetry import telemetry
telemetry.send_event("a", "b", "c")
senders = [type(telemetry).__module__]
"""

SILENCE = "from miaotui.quiet import silence_telemetry\nsilence_telemetry()\n"


@pytest.fixture
def relu_model(tmp_path: Path) -> Path:
    onnx = pytest.importorskip("onnx", reason="the package onnx is not installed")
    x, y = (onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [2]) for name in "xy")
    graph = onnx.helper.make_graph([onnx.helper.make_node("Relu", ["x"], ["y"])], "relu", [x], [y])
    opset = onnx.helper.make_opsetid("", 17)
    path = tmp_path / "relu.onnx"
    onnx.save(onnx.helper.make_model(graph, opset_imports=[opset], ir_version=10), path)
    return path


def run_fresh(script: str, home: Path) -> dict[str, list[str]]:
    """Runs `script` in a process that has the switches only if it sets them itself."""
    hidden = {*SWITCHES, "CI", "TF_BUILD", "JENKINS_URL", "NNCF_DEV", "XDG_CACHE_HOME"}
    environment = {name: value for name, value in os.environ.items() if name not in hidden}
    environment["HOME"] = str(home)
    done = subprocess.run(
        [sys.executable, "-c", WATCH + SILENCE + script + REPORT],
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.fixture
def home(tmp_path: Path) -> Path:
    folder = tmp_path / "home"
    folder.mkdir()
    return folder


def test_openvino_gets_its_stub_and_writes_no_client_id(home: Path, relu_model: Path) -> None:
    seen = run_fresh(USE_OPENVINO.format(model=str(relu_model)), home)
    assert seen["senders"] == ["openvino.tools.ovc.telemetry_stub"]
    assert seen["attempts"] == []
    assert list(home.iterdir()) == []


def test_onnxruntime_starts_no_uploader_and_writes_no_device_id(
    home: Path, relu_model: Path
) -> None:
    seen = run_fresh(USE_ONNXRUNTIME.format(model=str(relu_model)), home)
    assert seen["attempts"] == []
    assert list(home.rglob("*")) == []


def test_nncf_gets_its_stub(home: Path) -> None:
    pytest.importorskip("nncf", reason="the package nncf is not installed (extra: optimize)")
    seen = run_fresh(USE_NNCF, home)
    assert seen["senders"] == ["unittest.mock"]
    assert seen["attempts"] == []
    assert not (home / "intel").exists()


def test_packages_imported_too_early_are_silenced_through_their_own_means(home: Path) -> None:
    early = """
import openvino_telemetry.utils.sender as late_sender
import huggingface_hub.constants as hub
hub.HF_HUB_DISABLE_TELEMETRY = False
silence_telemetry()
sender = late_sender.TelemetrySender()
sender.send(None, None)
senders = [sender.queue_size, hub.HF_HUB_DISABLE_TELEMETRY]
"""
    unblocked = "import sys\nsys.modules.pop('openvino_telemetry')\n"
    assert run_fresh(unblocked + early, home)["senders"] == [0, True]


def test_the_switches_reach_child_processes() -> None:
    silence_telemetry()
    silence_telemetry()
    assert {name: os.environ.get(name) for name in SWITCHES} == SWITCHES


def test_the_hub_reads_the_switch() -> None:
    constants = pytest.importorskip(
        "huggingface_hub.constants", reason="the package huggingface_hub is not installed"
    )
    assert constants.HF_HUB_DISABLE_TELEMETRY
