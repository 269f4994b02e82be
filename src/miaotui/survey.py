"""What this machine is, which engines run on it, and what would use its other processors."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from miaotui.devices import Device, Use, find_devices, with_named
from miaotui.engines import ENGINES
from miaotui.engines.openvino import openvino_devices
from miaotui.hardware import Machine, probe


@dataclass(frozen=True)
class SeenDevice:
    """A device and the engines that would compute on it; none: nothing here can."""

    device: Device
    uses: tuple[Use, ...]


@dataclass(frozen=True)
class Survey:
    """`engines` that cannot run say why; `openvino_devices` by OpenVINO's names for them."""

    machine: Machine
    engines: dict[str, str | None]
    devices: tuple[SeenDevice, ...]
    openvino_devices: dict[str, str]

    def facts(self) -> dict[str, Any]:
        """As one JSON document."""
        return asdict(self.machine) | {
            "instruction_set": self.machine.instruction_set,
            "computes_bf16": self.machine.computes_bf16,
            "engines": {name: reason or "available" for name, reason in self.engines.items()},
            "devices": [
                asdict(seen.device) | {"uses": [asdict(use) for use in seen.uses]}
                for seen in self.devices
            ],
            "openvino_devices": self.openvino_devices,
        }


def survey(machine: Machine | None = None, root: Path = Path("/")) -> Survey:
    """Of this machine, or of another one whose files lie below `root`."""
    machine = machine or probe()
    engines = {name: engine.unavailable(machine) for name, engine in ENGINES.items()}
    seen = tuple(
        SeenDevice(device, uses_of(device, machine))
        for device in with_named(find_devices(root), machine.gpus)
    )
    listed = openvino_devices() if engines["openvino"] is None else {}
    return Survey(machine, engines, seen, listed)


def uses_of(device: Device, machine: Machine) -> tuple[Use, ...]:
    uses = (engine.use_of(device, machine) for engine in ENGINES.values())
    return tuple(use for use in uses if use is not None)
