"""Checkpoints as people have them: answers equal to transformers' own, or a reason in one line."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from miaotui.engines.layouts import Padded
from miaotui.engines.onnxruntime import OnnxRuntimeEngine
from miaotui.errors import ModelError
from miaotui.models.load import find_model, load_config, load_model, load_transformers
from miaotui.predictor import Predictor
from miaotui.tasks.base import Text
from miaotui.tasks.text_classification import TextClassification
from tiny import LAST_TOKEN, SENTENCES, save_tiny

TEXTS = (
    *SENTENCES,
    "A WARM Film, with NO wit",
    "Žižek's naïve école",
    "  the cast  ",
    " ".join(SENTENCES * 4),
)
CLOSE = 1e-4

Spoilt = Callable[..., Path]


@pytest.fixture
def spoilt(tmp_path: Path) -> Spoilt:
    """A tiny model whose config, tokenizer's settings or weights are as told."""

    def make(
        family: str = "bert",
        config: dict[str, Any] | None = None,
        settings: dict[str, Any] | None = None,
        weights: Callable[[str], str | None] = lambda name: name,
        **more: Any,
    ) -> Path:
        folder = save_tiny(family, tmp_path / "model", **more)
        change(folder / "config.json", config or {})
        change(folder / "tokenizer_config.json", settings or {})
        path = folder / "model.safetensors"
        named = {weights(name): tensor for name, tensor in load_file(path).items()}
        kept = {name: tensor for name, tensor in named.items() if name is not None}
        save_file(kept, path, metadata={"format": "pt"})
        return folder

    return make


def change(path: Path, facts: dict[str, Any]) -> None:
    """A value of None takes the entry out."""
    known = json.loads(path.read_text(encoding="utf-8")) | facts
    left = {key: value for key, value in known.items() if value is not None}
    path.write_text(json.dumps(left), encoding="utf-8")


def ours(folder: Path, texts: tuple[Text, ...] = TEXTS, work: Path | None = None) -> np.ndarray:
    """Scores [texts, labels] of what `optimize` begins with: ONNX Runtime in float, padded."""
    model, place = load_model(find_model(str(folder))), (work or folder / "engine")
    engine = OnnxRuntimeEngine(layout=Padded(batch=4))
    engine.build(model, None, place)
    with Predictor(model.task, engine.open(place, 1)) as predictor:
        answers = predictor(list(texts))
    return np.array([list(answer.scores.values()) for answer in answers])


def theirs(folder: Path, texts: tuple[Text, ...] = TEXTS) -> np.ndarray:
    """transformers' own, a text alone, nothing padded."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    module = AutoModelForSequenceClassification.from_pretrained(folder, dtype=torch.float32).eval()
    rows = []
    for text in texts:
        given = tokenizer(text, truncation=True, return_tensors="pt")
        given.pop("token_type_ids", None)
        with torch.inference_mode():
            rows.append(module(**given).logits[0].softmax(-1).numpy())
    return np.stack(rows)


@pytest.mark.parametrize(
    "settings",
    [
        {"do_lower_case": True},
        {"do_lower_case": False},
        {"do_lower_case": False, "strip_accents": True},
        {"strip_accents": False},
        {"truncation_side": "left"},
        {"model_max_length": 12},
        {"tokenizer_class": "PreTrainedTokenizerFast"},
    ],
    ids=str,
)
def test_the_tokenizers_settings_are_obeyed(settings: dict[str, Any], spoilt: Spoilt) -> None:
    folder = spoilt(settings={"tokenizer_class": "BertTokenizerFast"} | settings)

    assert np.abs(ours(folder) - theirs(folder)).max() < CLOSE


@pytest.mark.parametrize("space", [True, False])
def test_the_space_before_the_first_word_is_obeyed(space: bool, spoilt: Spoilt) -> None:
    settings = {"tokenizer_class": "RobertaTokenizerFast", "add_prefix_space": space}
    folder = spoilt("roberta", settings=settings, vocab_size=300)
    byte_level().save(str(folder / "tokenizer.json"))

    ids = load_model(find_model(str(folder))).task.encode(["the film"]).ids

    assert ids.tolist() == AutoTokenizer.from_pretrained(folder)("the film").input_ids
    known = byte_level().token_to_id("\u0120the" if space else "the")
    assert ids.tolist()[1] == known
    assert np.abs(ours(folder) - theirs(folder)).max() < CLOSE


def byte_level() -> Tokenizer:
    """Byte-level BPE that knows two words, each with the space before it."""
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    merges = [("t", "h"), ("th", "e"), ("\u0120", "the"), ("f", "i"), ("l", "m")]
    merges += [("fi", "lm"), ("\u0120", "film")]
    words = ["<s>", "<pad>", "</s>", "<unk>", "<mask>", *letters, *(a + b for a, b in merges)]
    vocab = {word: i for i, word in enumerate(words)}
    tokenizer = Tokenizer(models.BPE(vocab, merges))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.post_processor = processors.RobertaProcessing(
        ("</s>", 2), ("<s>", 0), add_prefix_space=False
    )
    return tokenizer


def test_settings_change_answers_here(spoilt: Spoilt) -> None:
    """Else the test above would show nothing."""
    named = {"tokenizer_class": "BertTokenizerFast"}
    lower = theirs(spoilt(settings=named | {"do_lower_case": True}))
    assert np.abs(lower - theirs(spoilt(settings=named | {"do_lower_case": False}))).max() > CLOSE
    assert (
        np.abs(lower - theirs(spoilt(settings=named | {"truncation_side": "left"}))).max() > CLOSE
    )


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        ({"3": "neg", "7": "pos"}, ("neg", "pos")),
        ({"10": "c", "2": "b", "1": "a"}, ("a", "b", "c")),
        (["neg", "pos"], ("neg", "pos")),
    ],
    ids=["gaps", "strings that sort as numbers", "a list"],
)
def test_labels_are_in_the_order_of_their_ids(
    names: Any, expected: tuple[str, ...], spoilt: Spoilt
) -> None:
    folder = spoilt(config={"id2label": names}, labels=len(expected))

    assert load_model(find_model(str(folder))).task.labels == expected
    assert ours(folder).shape == (len(TEXTS), len(expected))


def test_two_classes_of_one_name_are_refused(spoilt: Spoilt) -> None:
    folder = spoilt(config={"id2label": {"0": "neg", "1": "pos", "2": "neg"}}, labels=3)

    assert "classes 0 and 2 of the model are both named 'neg'" in refusal(folder)


def test_numbers_in_quotes_are_read(spoilt: Spoilt) -> None:
    plain = ours(spoilt())
    quoted = {"hidden_size": "32", "num_attention_heads": "4", "layer_norm_eps": "1e-12"}

    assert np.array_equal(ours(spoilt(config=quoted)), plain)


@pytest.mark.parametrize("family", [LAST_TOKEN, "llama"])
def test_without_a_padding_token_the_last_real_token_is_read(family: str, spoilt: Spoilt) -> None:
    end = {"pad_token_id": None, "eos_token_id": 3, "bos_token_id": 2}
    folder = spoilt(family, config=end)

    assert np.abs(ours(folder) - theirs(folder)).max() < CLOSE


@pytest.mark.parametrize("wrapper", ["module.", "model."])
def test_a_wrappers_name_before_every_weight_is_taken_off(wrapper: str, spoilt: Spoilt) -> None:
    plain = ours(spoilt())

    assert np.array_equal(ours(spoilt(weights=lambda name: wrapper + name)), plain)


def test_weights_that_are_not_there_are_named(spoilt: Spoilt) -> None:
    def lost(name: str) -> str | None:
        return None if name.endswith("layer.1.intermediate.dense.weight") else name

    message = refusal(spoilt(weights=lost))

    assert re.search(r"lacks 1 of its weights, such as bert\.encoder.*intermediate", message)


def test_a_model_to_train_needs_its_body(spoilt: Spoilt) -> None:
    """Its head, with the pooler, may be new."""
    head = ("classifier", "bert.pooler")
    folder = spoilt(weights=lambda name: None if name.startswith(head) else name)
    source = find_model(str(folder))
    assert load_transformers(source, load_config(source), TextClassification, num_labels=5)

    folder = spoilt(weights=lambda name: name if name.startswith(head) else None)
    source = find_model(str(folder))
    with pytest.raises(ModelError, match="of its weights, such as bert"):
        load_transformers(source, load_config(source), TextClassification, num_labels=5)


@pytest.mark.parametrize(
    ("config", "reason"),
    [
        ({"quantization_config": {"quant_method": "gptq", "bits": 4}}, "quantized by gptq"),
        ({"position_embedding_type": "relative_key"}, "relative positions"),
        ({"hidden_size": "wide"}, "hidden_size"),
        ({"num_attention_heads": 5}, "not a multiple of the number of attention heads"),
    ],
    ids=["a foreign quantizer", "relative positions", "no number", "heads that do not fit"],
)
def test_what_cannot_be_used_is_refused_by_name(
    config: dict[str, Any], reason: str, spoilt: Spoilt
) -> None:
    assert reason in refusal(spoilt(config=config))


@pytest.fixture
def adapter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    """A LoRA adapter of a tiny model, as peft saves one: rank 3, a head of three classes."""
    monkeypatch.setenv("MIAOTUI_CACHE", str(tmp_path / "cache"))

    def make(**more: Any) -> Path:
        base, folder = save_tiny("bert", tmp_path / "base"), tmp_path / "adapter"
        folder.mkdir(exist_ok=True)
        facts = {"peft_type": "LORA", "task_type": "SEQ_CLS", "lora_alpha": 6, "r": 3}
        facts |= {"base_model_name_or_path": str(base)} | more
        (folder / "adapter_config.json").write_text(json.dumps(facts), encoding="utf-8")
        torch.manual_seed(5)
        tensors = {"classifier.weight": torch.randn(3, 32), "classifier.bias": torch.randn(3)}
        for name in ADAPTED:
            tensors |= {f"{name}.lora_A.weight": torch.randn(3, 32) / 3}
            tensors |= {f"{name}.lora_B.weight": torch.randn(32, 3) / 3}
        named = {f"base_model.model.{name}": tensor for name, tensor in tensors.items()}
        save_file(named, folder / "adapter_model.safetensors")
        return folder

    return make


ADAPTED = [
    f"bert.encoder.layer.{i}.attention.self.{which}" for i in (0, 1) for which in ("query", "value")
]


@pytest.mark.parametrize(
    ("settings", "scale"),
    [
        ({}, 2.0),
        ({"use_rslora": True}, 6 / 3**0.5),
        ({"alpha_pattern": {"query": 9, "value": 9}}, 3.0),
    ],
    ids=str,
)
def test_an_adapter_is_merged_into_its_model(
    settings: dict[str, Any], scale: float, adapter: Callable[..., Path]
) -> None:
    folder = adapter(**settings)
    parts = load_file(folder / "adapter_model.safetensors")
    source = find_model(str(folder))

    whole = load_file(source.folder / "model.safetensors")
    before = load_file(folder.parent / "base" / "model.safetensors")
    changed = {name for name in before if not torch.equal(before[name], whole[name].float())}
    assert changed == {f"{name}.weight" for name in ADAPTED} | {
        "classifier.weight",
        "classifier.bias",
    }
    for name in ADAPTED:
        key = f"base_model.model.{name}"
        change = parts[f"{key}.lora_B.weight"] @ parts[f"{key}.lora_A.weight"]
        expected = before[f"{name}.weight"] + scale * change
        assert torch.allclose(whole[f"{name}.weight"], expected, atol=1e-6)
    assert torch.equal(whole["classifier.weight"], parts["base_model.model.classifier.weight"])
    assert np.abs(ours(folder) - theirs(source.folder)).max() < CLOSE
    assert find_model(str(folder)) == source, "made once"


def test_an_adapter_that_cannot_be_merged_says_why(
    adapter: Callable[..., Path], tmp_path: Path
) -> None:
    assert "of the kind IA3; merge it into its model with peft" in refusal(adapter(peft_type="IA3"))
    assert "of the kind DoRA" in refusal(adapter(use_dora=True))
    assert "for CAUSAL_LM; known: SEQ_CLS" in refusal(adapter(task_type="CAUSAL_LM"))
    assert "is an adapter of ./nowhere, which is needed: ./nowhere is not a folder" in refusal(
        adapter(base_model_name_or_path="./nowhere")
    )
    other = save_tiny("distilbert", tmp_path / "other")
    assert "which its model does not have" in refusal(adapter(base_model_name_or_path=str(other)))
    (adapter() / "adapter_model.safetensors").write_bytes(b"spoilt")
    assert "adapter_model.safetensors" in refusal(tmp_path / "adapter")


def test_a_tokenizer_of_another_model_is_refused(spoilt: Spoilt) -> None:
    assert "the two do not belong together" in refusal(spoilt(vocab_size=20))


def test_a_vocabulary_larger_than_the_tokenizers_works(spoilt: Spoilt) -> None:
    folder = spoilt(vocab_size=500)

    assert np.abs(ours(folder) - theirs(folder)).max() < CLOSE


def refusal(folder: Path) -> str:
    """The line that refuses the model."""
    with pytest.raises(ModelError) as error:
        load_model(find_model(str(folder)))
    message = str(error.value)
    assert "\n" not in message
    return message
