"""Techniques by name. Importing this does not import torch."""

from typing import Annotated, get_args

from pydantic import Field

from miaotui.models.precision import Kind
from miaotui.techniques.base import TechniqueBase
from miaotui.techniques.bf16 import BFloat16
from miaotui.techniques.drop_layers import DropLayers
from miaotui.techniques.int8_dynamic import Int8Dynamic
from miaotui.techniques.int8_static import Int8Static
from miaotui.techniques.low_rank import LowRank
from miaotui.techniques.prune_structure import PruneStructure

Technique = Annotated[
    PruneStructure | DropLayers | LowRank | Int8Dynamic | Int8Static | BFloat16,
    Field(discriminator="name"),
]
TECHNIQUES: dict[str, type[TechniqueBase]] = {
    technique.model_fields["name"].default: technique
    for technique in get_args(get_args(Technique)[0])
}
QUANTIZERS: dict[Kind, type[TechniqueBase]] = {
    technique.quantizes: technique for technique in TECHNIQUES.values() if technique.quantizes
}
"""By the number format that they put linears in."""

__all__ = [
    "QUANTIZERS",
    "TECHNIQUES",
    "BFloat16",
    "DropLayers",
    "Int8Dynamic",
    "Int8Static",
    "LowRank",
    "PruneStructure",
    "Technique",
]
