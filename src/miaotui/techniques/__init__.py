"""Techniques by name. Importing this does not import torch."""

from typing import Annotated

from pydantic import Field

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
TECHNIQUES = {
    "prune-structure": PruneStructure,
    "drop-layers": DropLayers,
    "low-rank": LowRank,
    "int8-dynamic": Int8Dynamic,
    "int8-static": Int8Static,
    "bf16": BFloat16,
}
TECHNIQUE_NAMES = tuple(TECHNIQUES)

__all__ = [
    "TECHNIQUES",
    "TECHNIQUE_NAMES",
    "BFloat16",
    "DropLayers",
    "Int8Dynamic",
    "Int8Static",
    "LowRank",
    "PruneStructure",
    "Technique",
]
