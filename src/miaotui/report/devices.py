"""Processors beside the CPU, and what would use them, in words."""

from collections.abc import Mapping, Sequence

from miaotui.devices import Device, Use


def device_words(device: Device) -> str:
    """Its name, number and place."""
    number = f" [{device.pci_id}]" if device.pci_id else ""
    place = f" at {device.address}" if device.address else ""
    return f"{device.name}{number}{place}"


def use_words(uses: Sequence[Use]) -> str:
    """What computes on it, what would if something were there, or that nothing can."""
    return "; ".join(map(_use, uses)) or "nothing here can compute on it"


def _use(use: Use) -> str:
    untried = "written to its documentation, never run on one" if use.untried else ""
    if use.missing is None:
        return f"{use.engine} ({use.setting})" + (f", {untried}" if untried else "")
    return f"{use.engine} ({use.setting}) would: missing is {use.missing}"


def device_facts(devices: Sequence[tuple[Device, Sequence[Use]]]) -> Mapping[str, str] | str:
    """For a table of facts: a line each, by kind."""
    if not devices:
        return "none seen beside the processor"
    counts: dict[str, int] = {}
    told = {}
    for device, uses in devices:
        counts[device.kind] = number = counts.get(device.kind, 0) + 1
        told[f"{device.kind}{number}"] = f"{device_words(device)}: {use_words(uses)}"
    return told
