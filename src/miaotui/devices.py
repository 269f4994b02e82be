"""Processors beside the CPU that this machine shows: GPUs, NPUs, TPUs, FPGAs, other accelerators.

Seen in the files of Linux below a root folder, so that other machines can be tested on this one;
no driver, tool or library is asked. Numbers are those that the drivers themselves list: intel_vpu,
amdxdna, dfl-pci and apex of Linux, AWS's neuron, and for TPUs jax.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from miaotui.cgroups import read_text

Kind = Literal["gpu", "npu", "tpu", "fpga", "accelerator"]


@dataclass(frozen=True)
class Device:
    """`vendor` in small letters, empty where unknown. `address`: on its bus, or the file that
    stands for it; `pci_id` its vendor's and its own number there."""

    kind: Kind
    name: str
    vendor: str
    address: str
    pci_id: str | None = None


@dataclass(frozen=True)
class Use:
    """What would compute on a device: an engine, its setting, and what is missing for it here (None
    where nothing is). `untried`: written to its library's documentation, never run on a device."""

    engine: str
    setting: str
    missing: str | None
    untried: bool = True


_VENDORS = {
    "10de": "nvidia",
    "1002": "amd",
    "1022": "amd",
    "8086": "intel",
    "1ae0": "google",
    "1ac1": "google",
    "10ee": "xilinx",
    "1172": "altera",
    "1d0f": "amazon",
    "1da3": "habana",
}
_SHOWN = {"nvidia": "NVIDIA", "amd": "AMD", "amazon": "AWS"}
_DISPLAY, _COMPUTE_ONLY, _ACCELERATOR = "03", "0302", "12"
_GPU_VENDORS = ("nvidia", "amd", "intel")
"""Of displays those that compute: a server's own screen adapter does not."""
_LISTED: tuple[tuple[Kind, str, str, str], ...] = (
    ("npu", "Intel NPU", "8086", "7d1d ad1d 643e b03e"),
    ("fpga", "Intel FPGA", "8086", "bcbd bcbf bcc0 bcc1 09c4 09c5 0b30 0b2b 0b2c bcce bccf"),
    ("npu", "AMD NPU", "1022", "1502 17f0 17f1 17f2 17f3 1b0a 1b0b 1b0c"),
    ("tpu", "Google TPU v2 or v3", "1ae0", "0027"),
    ("tpu", "Google TPU v4", "1ae0", "005e"),
    ("tpu", "Google TPU v5p", "1ae0", "0062"),
    ("tpu", "Google TPU v5e", "1ae0", "0063"),
    ("tpu", "Google TPU v6e", "1ae0", "006f"),
    ("tpu", "Google TPU7x", "1ae0", "0076"),
    ("tpu", "Coral Edge TPU", "1ac1", "089a"),
    ("accelerator", "AWS Inferentia", "1d0f", "7064 7065 7066 7067"),
    ("accelerator", "AWS Trainium", "1d0f", "7164"),
    ("accelerator", "AWS Inferentia2", "1d0f", "7264"),
    ("accelerator", "AWS Trainium2", "1d0f", "7364"),
)
"""Kind, name, vendor's number and the devices' numbers: their classes do not tell them apart."""
_IDS: dict[str, tuple[Kind, str]] = {
    f"{vendor}:{number}": (kind, name)
    for kind, name, vendor, numbers in _LISTED
    for number in numbers.split()
}
_DRIVERS: dict[str, tuple[Kind, str]] = {
    "intel_vpu": ("npu", "Intel NPU"),
    "amdxdna": ("npu", "AMD NPU"),
    "dfl-pci": ("fpga", "FPGA"),
}
_NAMES = ("usr/share/misc/pci.ids", "usr/share/hwdata/pci.ids")


def find_devices(root: Path = Path("/")) -> tuple[Device, ...]:
    """In the order of their addresses; none where the system shows no such files."""
    on_bus = list(_on_bus(root))
    addresses = {path.name for path in (root / "sys/bus/pci/devices").glob("*")}
    elsewhere = [
        *_class_devices(root, "accel", "accel*", "npu", addresses),
        *_class_devices(root, "drm", "renderD*", "gpu", addresses),
        *_class_devices(root, "fpga_manager", "*", "fpga", addresses),
    ]
    if (root / "dev/dxg").exists() and not any(d.kind == "gpu" for d in on_bus):
        elsewhere.append(Device("gpu", "GPU of the Windows host", "", "/dev/dxg"))
    return (*on_bus, *elsewhere)


def _on_bus(root: Path) -> Iterator[Device]:
    """PCI devices, of each card the first function alone."""
    seen: set[tuple[str, Kind]] = set()
    for folder in sorted((root / "sys/bus/pci/devices").glob("*")):
        device = _pci_device(root, folder)
        if device is None:
            continue
        card = (folder.name.rpartition(".")[0], device.kind)
        if card not in seen:
            seen.add(card)
            yield device


def _pci_device(root: Path, folder: Path) -> Device | None:
    number = {name: _hex(folder / name) for name in ("vendor", "device", "class")}
    pci_id = f"{number['vendor']}:{number['device']}"
    vendor = _VENDORS.get(number["vendor"], "")
    found = _IDS.get(pci_id) or _DRIVERS.get((folder / "driver").resolve().name)
    found = found or _by_class(vendor, number["class"])
    if found is None:
        return None
    kind, usual = found
    name = _nvidia_name(root, folder.name) if vendor == "nvidia" else None
    return Device(kind, name or _listed_name(root, pci_id) or usual, vendor, folder.name, pci_id)


def _by_class(vendor: str, number: str) -> tuple[Kind, str] | None:
    maker = _SHOWN.get(vendor, vendor.capitalize())
    if vendor in ("xilinx", "altera"):
        return "fpga", f"{maker} FPGA"
    computes = vendor in _GPU_VENDORS or number.startswith(_COMPUTE_ONLY)
    if number.startswith(_DISPLAY) and computes:
        return "gpu", f"{maker} GPU".strip()
    if not number.startswith(_ACCELERATOR):
        return None
    # AMD's GPUs without a display are of this class; its NPUs are told by their numbers.
    return (
        ("gpu", "AMD GPU") if vendor == "amd" else ("accelerator", f"{maker} accelerator".strip())
    )


def _class_devices(
    root: Path, name: str, pattern: str, kind: Kind, known: set[str]
) -> Iterator[Device]:
    """Devices of one of the system's classes that are not on the PCI bus."""
    for folder in sorted((root / "sys/class" / name).glob(pattern)):
        if known & set((folder / "device").resolve().parts):
            continue
        driver = (folder / "device/driver").resolve().name
        told = (read_text(folder / "name") or "").strip()
        usual = f"{kind.upper()} with driver {driver}" if driver != "driver" else kind.upper()
        yield Device(kind, told or usual, "", folder.name)


def _hex(path: Path) -> str:
    return (read_text(path) or "").strip().lower().removeprefix("0x")


def _nvidia_name(root: Path, address: str) -> str | None:
    text = read_text(root / "proc/driver/nvidia/gpus" / address / "information") or ""
    match = re.search(r"^Model:\s*(.+?)\s*$", text, re.MULTILINE)
    return match[1] if match else None


def _listed_name(root: Path, pci_id: str) -> str | None:
    """By the system's own list of PCI ids, where it has one."""
    vendor, _, device = pci_id.partition(":")
    text = next((text for path in _NAMES if (text := read_text(root / path))), "")
    block = re.search(rf"^{vendor}  (.+)\n((?:[\t#].*\n)*)", text, re.MULTILINE)
    name = block and re.search(rf"^\t{device}  (.+)$", block[2], re.MULTILINE)
    return f"{block[1]} {name[1]}" if block and name else None


def with_named(devices: Sequence[Device], gpus: Sequence[str]) -> tuple[Device, ...]:
    """Adds NVIDIA GPUs that a tool named, where the system's files show none."""
    if any(device.vendor == "nvidia" for device in devices):
        return tuple(devices)
    return (*devices, *(Device("gpu", name, "nvidia", "") for name in gpus))
