"""The families of encoders that are known inside out: one file each."""

from typing import Any

from miaotui.errors import ModelError
from miaotui.models.encoder import Encoder
from miaotui.models.families.albert import ALBERT
from miaotui.models.families.bert import BERT
from miaotui.models.families.deberta import DEBERTA
from miaotui.models.families.distilbert import DISTILBERT
from miaotui.models.families.electra import ELECTRA
from miaotui.models.families.family import Family
from miaotui.models.families.modernbert import MODERNBERT
from miaotui.models.families.mpnet import MPNET
from miaotui.models.families.roberta import ROBERTA
from miaotui.models.shape import EncoderShape

FAMILIES: tuple[Family, ...] = (
    BERT,
    ROBERTA,
    DISTILBERT,
    ELECTRA,
    ALBERT,
    MPNET,
    DEBERTA,
    MODERNBERT,
)
FAMILY_NAMES = tuple(name for family in FAMILIES for name in family.model_types)
"""As transformers has them (`model_type`)."""


def family_of(config: Any) -> Family | None:
    """The family that a transformers config belongs to; None where there is no adapter for it."""
    named = (family for family in FAMILIES if config.model_type in family.model_types)
    return next((family for family in named if family.fits(config)), None)


def blank_encoder(shape: EncoderShape) -> Encoder:
    """An encoder to fill, of the family that its shape names."""
    for family in FAMILIES:
        if family.name == shape.family:
            return Encoder(shape, family.parts)
    known = ", ".join(family.name for family in FAMILIES)
    raise ModelError(f"no family is called {shape.family}; families: {known}")


__all__ = ["FAMILIES", "FAMILY_NAMES", "Family", "blank_encoder", "family_of"]
