"""ELECTRA: embeddings may be narrower than the layers."""

from miaotui.models.families.family import BERT_EMBEDDINGS, BERT_LAYER, ROBERTA_HEAD, Family
from miaotui.models.shape import HeadKind

ELECTRA = Family(
    name="electra",
    model_types=("electra",),
    prefix="electra",
    layers_prefix="encoder.layer",
    layer_names=BERT_LAYER,
    other_names=BERT_EMBEDDINGS | ROBERTA_HEAD | {"embeddings_project": "embeddings.projection"},
    head_kind=HeadKind.GELU,
)
