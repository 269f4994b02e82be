"""RoBERTa and XLM-R: positions begin after the padding id."""

from miaotui.models.families.family import BERT_EMBEDDINGS, BERT_LAYER, ROBERTA_HEAD, Family
from miaotui.models.shape import HeadKind

ROBERTA = Family(
    name="roberta",
    model_types=("roberta", "xlm-roberta"),
    prefix="roberta",
    layers_prefix="encoder.layer",
    layer_names=BERT_LAYER,
    other_names=BERT_EMBEDDINGS | ROBERTA_HEAD,
    head_kind=HeadKind.TANH,
    position_offset=None,
)
