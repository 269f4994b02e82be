"""DistilBERT: no types."""

from miaotui.models.families.family import BERT_EMBEDDINGS, Family
from miaotui.models.shape import HeadKind

DISTILBERT = Family(
    name="distilbert",
    model_types=("distilbert",),
    prefix="distilbert",
    layers_prefix="transformer.layer",
    layer_names={
        "attention.q_lin": "query",
        "attention.k_lin": "key",
        "attention.v_lin": "value",
        "attention.out_lin": "output",
        "sa_layer_norm": "attention_norm",
        "ffn.lin1": "up",
        "ffn.lin2": "down",
        "output_layer_norm": "ffn_norm",
    },
    other_names=BERT_EMBEDDINGS | {"pre_classifier": "head.dense", "classifier": "head.classifier"},
    head_kind=HeadKind.RELU,
    has_types=False,
)
