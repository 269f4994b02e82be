"""A tiny random encoder, rows of random ids, and what it says of them."""

import numpy as np
import torch
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import WhitespaceSplit

from miaotui.models.encoder import Encoder
from miaotui.models.model import Calibration, Model
from miaotui.models.observe import padded, read
from miaotui.models.shape import Activation, EncoderShape, HeadKind, LayerShape
from miaotui.tasks.base import EncodedRows, encoded_rows
from miaotui.tasks.outputs import Outputs, one_a_row
from miaotui.tasks.problems import Problem
from miaotui.tasks.text_classification import TextClassification

VOCAB = 64


def shape(layers: int = 3, labels: int = 2) -> EncoderShape:
    return EncoderShape(
        family="bert",
        vocab=VOCAB,
        embedding=32,
        hidden=32,
        head_dim=8,
        positions=64,
        position_offset=0,
        types=2,
        layers=(LayerShape(4, 64),) * layers,
        activation=Activation.GELU,
        norm_eps=1e-12,
        head_kind=HeadKind.TANH,
        labels=labels,
    )


def model(
    layers: int = 3, problem: Problem = Problem.SINGLE_LABEL, labels: int = 2, seed: int = 0
) -> Model:
    """Weights of unit-like scale, so that every part matters."""
    torch.manual_seed(seed)
    encoder = Encoder(shape(layers, labels))
    with torch.no_grad():
        for name, parameter in encoder.named_parameters():
            if name.endswith("weight") and "norm" not in name:
                parameter.normal_(0, 0.25)
    words = {f"w{i}": i for i in range(VOCAB - 1)} | {"[UNK]": VOCAB - 1}
    tokenizer = Tokenizer(WordLevel(words, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = WhitespaceSplit()
    names = [f"label {i}" for i in range(labels)]
    return Model(encoder.eval(), TextClassification.of(tokenizer, names, problem, 64), "bert")


def rows(count: int, seed: int = 0) -> EncodedRows:
    random = np.random.default_rng(seed)
    lengths = random.integers(2, 20, count)
    return encoded_rows([random.integers(0, VOCAB, n).tolist() for n in lengths])


def calibration(rows: int = 40, seed: int = 1) -> Calibration:
    encoded = globals()["rows"](rows, seed)
    return Calibration(encoded, one_a_row(np.random.default_rng(seed).integers(0, 2, rows)))


def logits(model: Model, rows: EncodedRows) -> np.ndarray:
    return outputs(model, rows).values


def outputs(model: Model, rows: EncodedRows) -> Outputs:
    """What the encoder says, by padding all rows to the longest."""
    with torch.inference_mode():
        found = model.encoder(*padded(rows, list(range(len(rows)))))
    return Outputs(found[read(rows)].numpy(), rows.readout_starts)


def states(model: Model, rows: EncodedRows) -> np.ndarray:
    """The readout tokens' last hidden states."""
    with torch.inference_mode():
        return model.encoder.states(*padded(rows, list(range(len(rows)))))[-1][:, 0].numpy()
