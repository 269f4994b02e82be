"""BERT."""

from miaotui.models.families.family import BERT_EMBEDDINGS, BERT_LAYER, Family
from miaotui.models.shape import HeadKind

BERT = Family(
    name="bert",
    model_types=("bert",),
    prefix="bert",
    layers_prefix="encoder.layer",
    layer_names=BERT_LAYER,
    other_names=BERT_EMBEDDINGS | {"pooler.dense": "head.dense", "classifier": "head.classifier"},
    head_kind=HeadKind.TANH,
)
