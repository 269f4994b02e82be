"""Makes a physically smaller encoder out of another; the other is left as it was."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from jaxtyping import Float, Int
from torch import Tensor, nn

from miaotui.errors import ModelError
from miaotui.models.encoder import Encoder


def keep_heads_and_neurons(
    encoder: Encoder, heads: Sequence[Int[Tensor, " kept"]], neurons: Sequence[Int[Tensor, " kept"]]
) -> Encoder:
    """Keeps those heads and feed-forward neurons of each layer, by index, in that order."""
    refuse_factorized(encoder)
    layers = tuple(
        replace(layer, heads=len(h), ffn=len(n))
        for layer, h, n in zip(encoder.shape.layers, heads, neurons, strict=True)
    )
    smaller = encoder.blank(replace(encoder.shape, layers=layers))
    state = encoder.state_dict()
    for i, (h, n) in enumerate(zip(heads, neurons, strict=True)):
        layer: Any = encoder.layers[i]
        for name, (kept, axis) in layer.cuts(h, n).items():
            if f"layers.{i}.{name}" in state:
                cut = state[f"layers.{i}.{name}"].index_select(axis, kept.long())
                state[f"layers.{i}.{name}"] = cut
    smaller.load_state_dict({k: v for k, v in state.items() if k in smaller.state_dict()})
    return smaller.eval()


def refuse_factorized(encoder: Encoder) -> None:
    if any(layer.ranks for layer in encoder.shape.layers):
        raise ModelError("heads and neurons of factorized layers cannot be removed; prune first")


def keep_layers(encoder: Encoder, kept: Sequence[int]) -> Encoder:
    """Keeps whole layers, by index, in that order."""
    shape = replace(encoder.shape, layers=tuple(encoder.shape.layers[i] for i in kept))
    smaller = encoder.blank(shape)
    state = {n: t for n, t in encoder.state_dict().items() if not n.startswith("layers.")}
    for new, old in enumerate(kept):
        layer: nn.Module = encoder.layers[old]
        state |= {f"layers.{new}.{name}": tensor for name, tensor in layer.state_dict().items()}
    smaller.load_state_dict(state)
    return smaller.eval()


Factors = tuple[Float[Tensor, "rank inputs"], Float[Tensor, "outputs rank"]]


def factorize(encoder: Encoder, factors: Mapping[str, Factors]) -> Encoder:
    """Puts `second @ first` in place of the weight of each named linear."""
    layers = list(encoder.shape.layers)
    state = encoder.state_dict()
    for name, (first, second) in factors.items():
        _, index, linear = name.split(".")
        layer = layers[int(index)]
        layers[int(index)] = replace(layer, ranks=layer.ranks | {linear: len(first)})
        del state[f"{name}.weight"]
        state[f"{name}.first.weight"] = first
        state[f"{name}.second.weight"] = second
        if f"{name}.bias" in state:
            state[f"{name}.second.bias"] = state.pop(f"{name}.bias")
    smaller = encoder.blank(replace(encoder.shape, layers=tuple(layers)))
    smaller.load_state_dict(state)
    return smaller.eval()
