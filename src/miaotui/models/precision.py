"""How each linear of a model computes. Quantization techniques write this; engines lower it."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from pydantic import TypeAdapter

from miaotui.errors import ModelError


class Kind(StrEnum):
    """Number format of a linear's product."""

    FP32 = "fp32"
    BF16 = "bf16"
    INT8_DYNAMIC = "int8-dynamic"
    """int8 weights per output channel; activations quantized when they come."""
    INT8_STATIC = "int8-static"
    """int8 weights per output channel; activations quantized with an observed range."""


@dataclass(frozen=True)
class LinearPrecision:
    """One linear's format; `low` and `high` bound its input where that was observed."""

    kind: Kind
    low: float | None = None
    high: float | None = None


PRECISION_FILE = "precision.json"
_FP32 = LinearPrecision(Kind.FP32)


@dataclass(frozen=True)
class Precision(Mapping[str, LinearPrecision]):
    """From a linear's module name to its format; a name that is not there is fp32."""

    linears: Mapping[str, LinearPrecision] = field(default_factory=dict)
    calibrator: str | None = None

    def __getitem__(self, name: str) -> LinearPrecision:
        return self.linears.get(name, _FP32)

    def __iter__(self) -> Iterator[str]:
        return iter(self.linears)

    def __len__(self) -> int:
        return len(self.linears)

    @property
    def kinds(self) -> frozenset[Kind]:
        """The formats in use, fp32 where none is set."""
        return frozenset(p.kind for p in self.linears.values()) or frozenset({Kind.FP32})

    def without(self, prefixes: tuple[str, ...], kind: Kind = Kind.FP32) -> "Precision":
        """The same with the linears under `prefixes` back at fp32, or in bf16."""
        floating = LinearPrecision(kind)
        changed = {n: floating if n.startswith(prefixes) else p for n, p in self.linears.items()}
        return Precision({n: p for n, p in changed.items() if p != _FP32}, self.calibrator)

    def to_json(self) -> str:
        return _PRECISION.dump_json(_Facts(dict(self.linears), self.calibrator), indent=1).decode()

    @staticmethod
    def from_json(text: str) -> "Precision":
        """What `to_json` gave; anything else is a ModelError."""
        try:
            facts = _PRECISION.validate_json(text)
        except ValueError as error:
            raise ModelError(f"not the precision of a model: {error}") from error
        return Precision(facts.linears, facts.calibrator)


@dataclass(frozen=True)
class _Facts:
    """A precision as it is saved."""

    linears: dict[str, LinearPrecision]
    calibrator: str | None = None


_PRECISION = TypeAdapter(_Facts)
