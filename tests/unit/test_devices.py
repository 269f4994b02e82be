"""Processors of other machines, told by the files that their systems show."""

from pathlib import Path

import pytest
from test_hardware import machine

from miaotui.devices import Device, find_devices, with_named
from miaotui.engines.openvino import openvino_devices
from miaotui.report.devices import device_facts, use_words
from miaotui.survey import survey

CPU_ONLY = machine()
GPU_HOST = machine(
    gpus=("NVIDIA H100",),
    versions={"tensorrt": "11", "cuda-bindings": "13", "onnxruntime-gpu": "1.22"},
)


def pci(root: Path, address: str, numbers: str, driver: str = "") -> None:
    """A device of `vendor device class`, as in "8086 7d1d 120000"."""
    folder = root / "sys/bus/pci/devices" / address
    folder.mkdir(parents=True)
    for name, number in zip(("vendor", "device", "class"), numbers.split(), strict=True):
        (folder / name).write_text(f"0x{number}\n")
    if driver:
        (root / "sys/drivers" / driver).mkdir(parents=True, exist_ok=True)
        (folder / "driver").symlink_to(root / "sys/drivers" / driver)


def in_class(root: Path, name: str, entry: str, device: Path) -> None:
    folder = root / "sys/class" / name / entry
    folder.mkdir(parents=True)
    device.mkdir(parents=True, exist_ok=True)
    (folder / "device").symlink_to(device)


@pytest.mark.parametrize(
    ("numbers", "kind", "name"),
    [
        ("10de 2330 030200", "gpu", "NVIDIA GPU"),
        ("1002 74a1 120000", "gpu", "AMD GPU"),
        ("1002 744c 030000", "gpu", "AMD GPU"),
        ("8086 7d55 030000", "gpu", "Intel GPU"),
        ("8086 7d1d 120000", "npu", "Intel NPU"),
        ("1022 17f0 118000", "npu", "AMD NPU"),
        ("1ae0 0063 088000", "tpu", "Google TPU v5e"),
        ("1ac1 089a 0880ff", "tpu", "Coral Edge TPU"),
        ("10ee 5001 120000", "fpga", "Xilinx FPGA"),
        ("1172 2494 ff0000", "fpga", "Altera FPGA"),
        ("8086 0b2b 120000", "fpga", "Intel FPGA"),
        ("1d0f 7264 088000", "accelerator", "AWS Inferentia2"),
        ("1da3 1020 120000", "accelerator", "Habana accelerator"),
        ("1e60 2864 120000", "accelerator", "accelerator"),
    ],
)
def test_a_device_on_the_bus(tmp_path: Path, numbers: str, kind: str, name: str) -> None:
    pci(tmp_path, "0000:01:00.0", numbers)

    (device,) = find_devices(tmp_path)

    assert (device.kind, device.name, device.address) == (kind, name, "0000:01:00.0")
    assert device.pci_id == ":".join(numbers.split()[:2])


@pytest.mark.parametrize(
    "numbers",
    [
        "8086 1533 020000",  # a network card
        "1a03 2000 030000",  # the screen adapter of a server's own maintenance processor
        "1234 1111 030000",  # that of a virtual machine
        "1ae0 0042 020000",  # Google's network card
        "1d0f 8061 010802",  # Amazon's disk
        "10de 22a3 068000",  # NVIDIA's switch
        "1022 14c9 088000",  # part of every AMD processor
    ],
)
def test_what_does_not_compute_is_none(tmp_path: Path, numbers: str) -> None:
    pci(tmp_path, "0000:01:00.0", numbers)

    assert find_devices(tmp_path) == ()


def test_a_new_npu_is_known_by_its_driver(tmp_path: Path) -> None:
    pci(tmp_path, "0000:00:0b.0", "8086 ffff 120000", driver="intel_vpu")
    pci(tmp_path, "0000:c5:00.1", "1022 ffff 118000", driver="amdxdna")

    assert [d.name for d in find_devices(tmp_path)] == ["Intel NPU", "AMD NPU"]


def test_names_that_the_system_knows(tmp_path: Path) -> None:
    pci(tmp_path, "0000:01:00.0", "10de 2330 030200")
    pci(tmp_path, "0000:02:00.0", "10de 2331 030200")
    pci(tmp_path, "0000:03:00.0", "1002 744c 030000")
    information = tmp_path / "proc/driver/nvidia/gpus/0000:01:00.0/information"
    information.parent.mkdir(parents=True)
    information.write_text("Model: \t\t NVIDIA H100 80GB HBM3\nIRQ: 1\n")
    ids = tmp_path / "usr/share/misc/pci.ids"
    ids.parent.mkdir(parents=True)
    ids.write_text(
        "1002  AMD/ATI\n\t744c  Navi 31 [Radeon RX 7900]\n"
        "10de  NVIDIA Corporation\n\t2331  GH100 [H100 PCIe]\n\t\t10de 1626  a board\n"
    )

    names = [device.name for device in find_devices(tmp_path)]

    assert names == [
        "NVIDIA H100 80GB HBM3",
        "NVIDIA Corporation GH100 [H100 PCIe]",
        "AMD/ATI Navi 31 [Radeon RX 7900]",
    ]


def test_a_card_of_two_functions_is_one(tmp_path: Path) -> None:
    pci(tmp_path, "0000:65:00.0", "10ee 5000 120000")
    pci(tmp_path, "0000:65:00.1", "10ee 5001 120000")
    pci(tmp_path, "0000:66:00.0", "10ee 5000 120000")

    assert [d.address for d in find_devices(tmp_path)] == ["0000:65:00.0", "0000:66:00.0"]


def test_devices_that_are_on_no_bus(tmp_path: Path) -> None:
    pci(tmp_path, "0000:00:0b.0", "8086 7d1d 120000", driver="intel_vpu")
    in_class(tmp_path, "accel", "accel0", tmp_path / "sys/bus/pci/devices/0000:00:0b.0")
    in_class(tmp_path, "accel", "accel1", tmp_path / "sys/devices/platform/fdab0000.npu")
    pci(tmp_path, "0000:00:02.0", "1af4 1050 038000")
    screen = tmp_path / "sys/bus/pci/devices/0000:00:02.0/virtio0"
    in_class(tmp_path, "drm", "renderD127", screen)
    rocket = tmp_path / "sys/drivers/rocket"
    rocket.mkdir(parents=True)
    (tmp_path / "sys/devices/platform/fdab0000.npu/driver").symlink_to(rocket)
    in_class(tmp_path, "drm", "renderD128", tmp_path / "sys/devices/platform/mali")
    in_class(tmp_path, "fpga_manager", "fpga0", tmp_path / "sys/devices/platform/pcap")
    (tmp_path / "sys/class/fpga_manager/fpga0/name").write_text("Xilinx Zynq FPGA Manager\n")

    found = [(device.kind, device.name, device.address) for device in find_devices(tmp_path)]

    assert found == [
        ("npu", "Intel NPU", "0000:00:0b.0"),
        ("npu", "NPU with driver rocket", "accel1"),
        ("gpu", "GPU", "renderD128"),
        ("fpga", "Xilinx Zynq FPGA Manager", "fpga0"),
    ]


def test_the_gpu_of_a_windows_host(tmp_path: Path) -> None:
    (tmp_path / "dev").mkdir()
    (tmp_path / "dev/dxg").write_text("")

    assert [device.kind for device in find_devices(tmp_path)] == ["gpu"]


def test_a_gpu_that_only_its_tool_shows_is_named_once(tmp_path: Path) -> None:
    (device,) = with_named(find_devices(tmp_path), ("NVIDIA A10",))
    assert (device.kind, device.name, device.vendor) == ("gpu", "NVIDIA A10", "nvidia")

    pci(tmp_path, "0000:01:00.0", "10de 2330 030200")
    assert len(with_named(find_devices(tmp_path), ("NVIDIA H100",))) == 1


def told(root: Path, host: object) -> dict[str, list[str]]:
    """Of each kind the engines that would compute on it, with what is missing."""
    return {
        seen.device.kind: [f"{u.engine} {u.setting}: {u.missing}" for u in seen.uses]
        for seen in survey(host, root).devices  # type: ignore[arg-type]
    }


def test_an_nvidia_gpu_is_for_tensorrt_and_onnxruntime(tmp_path: Path) -> None:
    pci(tmp_path, "0000:01:00.0", "10de 2330 030200")

    assert told(tmp_path, GPU_HOST)["gpu"] == [
        "onnxruntime provider: cuda: None",
        "tensorrt --engines tensorrt: None",
    ]
    assert told(tmp_path, CPU_ONLY)["gpu"] == [
        "onnxruntime provider: cuda: its driver",
        "tensorrt --engines tensorrt: its driver",
    ]


@pytest.mark.parametrize(("numbers", "kind"), [("7d55 030000", "gpu"), ("7d1d 120000", "npu")])
def test_intels_own_are_for_openvino_where_it_sees_them(
    tmp_path: Path, numbers: str, kind: str
) -> None:
    pci(tmp_path, "0000:00:0b.0", f"8086 {numbers}")
    name = kind.upper()
    seen = any(device.startswith(name) for device in openvino_devices())

    (use,) = told(tmp_path, machine(versions={"openvino": "2026"}))[kind]
    assert use == f"openvino device: {name}: " + (
        "None" if seen else f"openvino sees no {name}: its driver"
    )
    (use,) = told(tmp_path, CPU_ONLY)[kind]
    assert use == f"openvino device: {name}: openvino is not installed"


def test_where_nothing_can_use_a_device_it_is_said(tmp_path: Path) -> None:
    pci(tmp_path, "0000:01:00.0", "1ae0 0063 088000")
    pci(tmp_path, "0000:02:00.0", "10ee 5001 120000")
    pci(tmp_path, "0000:03:00.0", "1022 17f0 118000")

    found = survey(CPU_ONLY, tmp_path)

    assert told(tmp_path, CPU_ONLY) == {"tpu": [], "fpga": [], "npu": []}
    lines = device_facts([(seen.device, seen.uses) for seen in found.devices])
    assert lines["tpu1"] == (  # type: ignore[index]
        "Google TPU v5e [1ae0:0063] at 0000:01:00.0: nothing here can compute on it"
    )
    assert device_facts([]) == "none seen beside the processor"


def test_what_was_never_run_is_said(tmp_path: Path) -> None:
    pci(tmp_path, "0000:01:00.0", "10de 2330 030200")
    (seen,) = survey(GPU_HOST, tmp_path).devices

    assert "never run on one" in use_words(seen.uses)
    (seen,) = survey(CPU_ONLY, tmp_path).devices
    assert use_words(seen.uses) == (
        "onnxruntime (provider: cuda) would: missing is its driver; "
        "tensorrt (--engines tensorrt) would: missing is its driver"
    )


def test_the_document_has_it_all(tmp_path: Path) -> None:
    pci(tmp_path, "0000:01:00.0", "10de 2330 030200")

    (device,) = survey(GPU_HOST, tmp_path).facts()["devices"]

    assert Device(**{k: v for k, v in device.items() if k != "uses"}).vendor == "nvidia"
    assert [use["engine"] for use in device["uses"]] == ["onnxruntime", "tensorrt"]
    assert survey(CPU_ONLY, tmp_path).facts()["openvino_devices"] == {}
