"""CTranslate2's int8 encoder, with the classifier's own head in NumPy after its pooled output."""

from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

import numpy as np
from jaxtyping import Float32
from numpy import ndarray

from miaotui.engines.base import Runner
from miaotui.engines.layouts import Batch
from miaotui.errors import EngineUnavailable
from miaotui.hardware import Machine
from miaotui.rivals.base import Rival, StockModel


@dataclass(frozen=True)
class CTranslate2(Rival):
    """Only BERT's kind of classifier: CTranslate2 gives a pooled output, the head is one linear."""

    name = "ctranslate2-int8"

    def unavailable(self, machine: Machine) -> str | None:
        return None if find_spec("ctranslate2") else "ctranslate2 is not installed"

    def runner(self, stock: StockModel) -> Runner:
        import ctranslate2
        from ctranslate2.converters import TransformersConverter

        model: Any = stock.module.module
        if model.config.model_type != "bert" or not hasattr(model, "classifier"):
            raise EngineUnavailable("ctranslate2: only BERT's kind of classifier is compared")
        head = model.classifier
        source, folder = stock.folder / "transformers", stock.folder / "ctranslate2"
        if not folder.exists():
            # Its converter reads what transformers 5 no longer sets.
            model.config.position_embedding_type = "absolute"
            model.save_pretrained(source)
            TransformersConverter(str(source)).convert(str(folder), quantization="int8")
        encoder = ctranslate2.Encoder(
            str(folder), device="cpu", compute_type="int8", intra_threads=stock.cores
        )
        weight, bias = (t.detach().float().numpy() for t in (head.weight, head.bias))

        def run(batch: Batch) -> Float32[ndarray, "blocks labels"]:
            real = (batch.segments > 0).sum(axis=1)
            rows = [ids[:count].tolist() for ids, count in zip(batch.ids, real, strict=True)]
            kinds = [own[:count].tolist() for own, count in zip(batch.types, real, strict=True)]
            encoded = encoder.forward_batch(rows, token_type_ids=kinds)
            pooled: Any = np.array(encoded.pooler_output)
            return pooled @ weight.T + bias  # type: ignore[no-any-return]

        return run
