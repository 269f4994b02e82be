"""Weights that several layers share: one tensor under several names."""

from collections.abc import Mapping

from torch import Tensor, nn


def ties(module: nn.Module) -> dict[str, str]:
    """The second and further names of each parameter, with its first."""
    first: dict[Tensor, str] = {}
    first_names = {}
    for name, parameter in module.named_parameters(remove_duplicate=False):
        if first.setdefault(parameter, name) != name:
            first_names[name] = first[parameter]
    return first_names


def tie_(module: nn.Module, names: Mapping[str, str]) -> None:
    """Puts the parameter of each value's name under the key's name too."""
    for name, first in names.items():
        owner, _, own = name.rpartition(".")
        setattr(module.get_submodule(owner), own, module.get_parameter(first))


def each_once(module: nn.Module) -> dict[str, Tensor]:
    """The module's state, a shared tensor under its first name alone."""
    again = ties(module)
    return {n: t.detach().contiguous() for n, t in module.state_dict().items() if n not in again}


def load_each_(module: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Loads what `each_once` gave of a module with the same ties."""
    shared = {name: state[first] for name, first in ties(module).items() if first in state}
    module.load_state_dict({**shared, **state})
