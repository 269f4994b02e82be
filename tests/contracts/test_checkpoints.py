"""Checkpoints as people have them: answers equal to transformers' own, or a reason in one line."""

import json
import re
import shutil
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from demand import need_engine
from miaotui.data.rows import Rows
from miaotui.engines.base import EngineBase
from miaotui.engines.layouts import Bucketed, Padded
from miaotui.engines.native import NativeEngine
from miaotui.engines.onnx_files import to_onnx
from miaotui.engines.onnx_saving import files_of, weights_of, write_onnx
from miaotui.engines.onnxruntime import OnnxRuntimeEngine
from miaotui.engines.openvino import OpenVinoEngine
from miaotui.engines.torch import TorchEngine
from miaotui.errors import DataError, EngineUnavailable, ModelError
from miaotui.models.load import (
    find_model,
    load_config,
    load_model,
    load_transformers,
    load_with_notes,
)
from miaotui.predictor import Predictor
from miaotui.tasks.base import Text
from miaotui.tasks.text_classification import TextClassification
from tiny import LAST_TOKEN, SENTENCES, UNKNOWN, save_tiny, tiny_tokenizer

TEXTS = (
    *SENTENCES,
    "A WARM Film, with NO wit",
    "Žižek's naïve école",
    "  the cast  ",
    " ".join(SENTENCES * 4),
)
SHORT = TEXTS[:-1]
"""What transformers need not cut, and cannot where no length is stated."""
CLOSE = 1e-4
FEW = Padded(batch=4)
PAIRED = (*TEXTS[:3], ("a dull story", "no wit"), ("bright pictures", "and an ending"))
FIRST = OnnxRuntimeEngine(layout=FEW)
"""What `optimize` begins with."""
TORCH = TorchEngine(layout=FEW)
BUCKETS = TorchEngine(layout=Bucketed(batch=4, edges=(16, 96)))
EVERY = {
    "native": NativeEngine(),
    "onnxruntime": FIRST,
    "openvino": OpenVinoEngine(layout=FEW),
    "torch": TORCH,
}

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


def ours(
    folder: Path,
    texts: tuple[Text, ...] = TEXTS,
    engine: EngineBase = FIRST,
) -> np.ndarray:
    """Scores [texts, labels] of an engine in float, padded unless it says otherwise."""
    model, place = load_model(find_model(str(folder))), folder / "engine"
    shutil.rmtree(place, ignore_errors=True)
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
        parts = text if isinstance(text, tuple) else (text,)
        given = tokenizer(*parts, truncation=True, return_tensors="pt")
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


def test_a_config_that_contradicts_its_weights_is_refused(spoilt: Spoilt) -> None:
    """DistilBERT's own word is hidden_dim; the other is not looked at by transformers."""
    folder = spoilt("distilbert", config={"intermediate_size": 1})

    assert "its config contradicts its weights" in refusal(folder)


@pytest.mark.parametrize("named", [[1, 2], 3, None, "BertModel"], ids=str)
def test_architectures_that_say_nothing_leave_a_classifier(named: Any, spoilt: Spoilt) -> None:
    folder = spoilt(config={"architectures": named})

    assert load_model(find_model(str(folder))).task.name == "text-classification"


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
    assert len(files_of(folder / "engine" / "model.onnx")) == 2, "one traced has its weights apart"


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
        ({"num_attention_heads": 0}, "zero"),
        ({"hidden_size": 0}, "0.0 cannot be raised"),
        ({"hidden_act": "wavy"}, "wavy"),
        ({"dtype": "wide"}, "wide"),
        ({"id2label": 5}, "items"),
        ({"pad_token_id": 99999}, "Padding_idx must be"),
        ({"hidden_dropout_prob": 7.0}, "dropout probability"),
        ({"num_hidden_layers": 3}, "lacks 16 of its weights, such as bert.encoder.layer.2"),
        ({"model_type": "nonesuch"}, "nonesuch"),
    ],
    ids=lambda value: json.dumps(value) if isinstance(value, dict) else "",
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


@pytest.mark.parametrize("engine", [TORCH, BUCKETS], ids=["padded", "bucketed"])
@pytest.mark.parametrize("family", ["xlnet", "t5", "bart", "mbart"])
def test_a_rows_own_last_token_is_read_wherever_the_padding_is(
    family: str, engine: EngineBase, spoilt: Spoilt
) -> None:
    """A pair has two end tokens, a text one, a blank row of a bucket none."""
    folder = spoilt(family)

    assert np.abs(ours(folder, PAIRED, engine) - theirs(folder, PAIRED)).max() < CLOSE


@pytest.mark.parametrize("summary", ["first", "mean", "cls_index"])
def test_what_xlnet_reads_of_a_row_is_its_own(summary: str, spoilt: Spoilt) -> None:
    folder = spoilt("xlnet", config={"summary_type": summary})

    assert np.abs(ours(folder, engine=TORCH) - theirs(folder)).max() < CLOSE


def test_a_model_whose_answers_hang_on_padding_is_refused(spoilt: Spoilt) -> None:
    assert "padding changes its answers" in refusal(spoilt("fnet"))


@pytest.mark.parametrize("family", ["t5", "bart"])
def test_an_end_token_that_is_read_and_never_added_is_said(family: str, spoilt: Spoilt) -> None:
    folder = spoilt(family)
    tiny_tokenizer(specials=False).save(str(folder / "tokenizer.json"))

    assert "read at the end token (eos_token_id 3), which its tokenizer does" in refusal(folder)


@pytest.mark.parametrize("settings", [True, False], ids=["settings", "no settings"])
@pytest.mark.parametrize("family", ["bert", "roberta"])
def test_a_tokenizer_that_names_no_model_type_is_read(
    family: str, settings: bool, spoilt: Spoilt
) -> None:
    """As versions of `tokenizers` before 0.10 wrote it."""
    folder = spoilt(family, vocab_size=300)
    path = folder / "tokenizer.json"
    if family == "roberta":
        byte_level().save(str(path))
    expected = Tokenizer.from_file(str(path)).encode("the film is a warm one").ids
    facts = json.loads(path.read_text(encoding="utf-8"))
    del facts["model"]["type"]
    path.write_text(json.dumps(facts), encoding="utf-8")
    if not settings:
        (folder / "tokenizer_config.json").unlink()

    ids = load_model(find_model(str(folder))).task.encode(["the film is a warm one"]).ids

    assert ids.tolist() == expected


@pytest.mark.parametrize("settings", [{"tokenizer_class": "BertTokenizer"}, None], ids=str)
def test_a_vocabulary_alone_is_a_tokenizer(settings: dict[str, Any] | None, spoilt: Spoilt) -> None:
    folder = spoilt(settings=settings)
    (folder / "tokenizer.json").unlink()
    if settings is None:
        (folder / "tokenizer_config.json").unlink()
    words = tiny_tokenizer().get_vocab()
    (folder / "vocab.txt").write_text("\n".join(sorted(words, key=words.__getitem__)))

    task = load_model(find_model(str(folder))).task

    for text in SHORT:
        assert task.encode([text]).ids.tolist() == tiny_tokenizer().encode(text).ids
    assert np.abs(ours(folder, SHORT) - theirs(folder, SHORT)).max() < CLOSE


def test_the_files_of_a_byte_level_tokenizer_are_one(spoilt: Spoilt) -> None:
    folder = without_tokenizer(spoilt("roberta", vocab_size=300))
    model = json.loads(byte_level().to_str())["model"]
    (folder / "vocab.json").write_text(json.dumps(model["vocab"]), encoding="utf-8")
    merges = "\n".join(" ".join(merge) for merge in model["merges"])
    (folder / "merges.txt").write_text(f"#version: 0.2\n{merges}\n", encoding="utf-8")

    ids = load_model(find_model(str(folder))).task.encode(["the film is warm"]).ids

    assert ids.tolist() == byte_level().encode("the film is warm").ids
    assert np.abs(ours(folder, SHORT) - theirs(folder, SHORT)).max() < CLOSE


def without_tokenizer(folder: Path) -> Path:
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (folder / name).unlink()
    return folder


@pytest.mark.skipif(
    bool(find_spec("sentencepiece")), reason="sentencepiece is here, which reads it"
)
@pytest.mark.parametrize(
    ("family", "file"), [("t5", "spiece.model"), ("roberta", "sentencepiece.bpe.model")]
)
def test_pieces_that_cannot_be_read_here_are_refused_by_name(
    family: str, file: str, spoilt: Spoilt
) -> None:
    folder = without_tokenizer(spoilt(family))
    change(folder / "config.json", {"model_type": "xlm-roberta" if family == "roberta" else family})
    (folder / file).write_bytes(b"pieces")

    assert f"tokenizer ({file}) the package sentencepiece is needed" in refusal(folder)


def test_a_tokenizer_that_is_only_slow_is_refused(spoilt: Spoilt) -> None:
    folder = spoilt(settings={"tokenizer_class": "CTRLTokenizer"})
    (folder / "tokenizer.json").unlink()
    (folder / "vocab.json").write_text('{"the": 0, "<unk>": 1}', encoding="utf-8")
    (folder / "merges.txt").write_text("#version: 0.2\n", encoding="utf-8")

    assert "its tokenizer has no fast form" in refusal(folder)


@pytest.mark.parametrize("model", [{}, {"type": "BPE"}, [], {"type": "BPE", "vocab": 3}], ids=str)
def test_a_damaged_tokenizer_is_said_so(model: Any, spoilt: Spoilt) -> None:
    folder = spoilt()
    change(folder / "tokenizer.json", {"model": model})

    assert "tokenizer.json is not a tokenizer" in refusal(folder)


WIDTHS = {
    "gelu_new": {"hidden_act": "gelu_new"},
    "relu": {"hidden_act": "relu"},
    "gelu_fast": {"hidden_act": "gelu_fast"},
    "36 wide": {"hidden_size": 36, "num_attention_heads": 3, "intermediate_size": 50},
    "33 wide": {"hidden_size": 33, "num_attention_heads": 3, "intermediate_size": 37},
}


@pytest.mark.parametrize("engine", EVERY)
@pytest.mark.parametrize("widths", WIDTHS)
def test_every_engine_takes_other_widths_and_activations(
    widths: str, engine: str, spoilt: Spoilt
) -> None:
    need_engine(engine)
    folder = spoilt(**WIDTHS[widths])

    assert np.abs(ours(folder, engine=EVERY[engine]) - theirs(folder)).max() < CLOSE


@pytest.mark.parametrize("engine", EVERY)
def test_quick_gelu_is_computed_or_refused(engine: str, spoilt: Spoilt) -> None:
    need_engine(engine)
    folder = spoilt(hidden_act="quick_gelu")

    if engine == "native":
        with pytest.raises(EngineUnavailable, match="bert has the activation quick_gelu, which"):
            ours(folder, engine=EVERY[engine])
    else:
        assert np.abs(ours(folder, engine=EVERY[engine]) - theirs(folder)).max() < CLOSE


def test_an_activation_that_is_not_known_here_is_transformers_own(spoilt: Spoilt) -> None:
    folder = spoilt(hidden_act="silu")

    assert not load_model(find_model(str(folder))).has_adapter
    assert np.abs(ours(folder, engine=TORCH) - theirs(folder)).max() < CLOSE


@pytest.mark.parametrize("size", ["5GB", "20KB"], ids=["one file", "sharded"])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_halves_and_shards_are_read(dtype: torch.dtype, size: str, spoilt: Spoilt) -> None:
    folder = spoilt()
    module = AutoModelForSequenceClassification.from_pretrained(folder, dtype=dtype)
    (folder / "model.safetensors").unlink()
    module.save_pretrained(folder, max_shard_size=size)

    assert (len(list(folder.glob("*.safetensors"))) > 1) == (size == "20KB")
    assert np.abs(ours(folder) - theirs(folder)).max() < CLOSE


def test_weights_that_are_left_out_are_said(spoilt: Spoilt) -> None:
    folder = spoilt(config={"num_hidden_layers": 1})

    assert np.abs(ours(folder) - theirs(folder)).max() < CLOSE
    (note,) = load_model(find_model(str(folder))).notes
    assert re.fullmatch(
        r"16 weights are not part of a BertForSequenceClassification and were left out, such as "
        r"bert\.encoder\.layer\.1\..*",
        note,
    )
    assert load_model(find_model(str(spoilt()))).notes == ()


def test_a_new_head_is_said(spoilt: Spoilt) -> None:
    source = find_model(str(spoilt()))
    config = load_config(source)

    def notes(labels: int) -> tuple[str, ...]:
        return load_with_notes(source, config, TextClassification, num_labels=labels).notes

    assert notes(5) == (
        "the model's head is for 2 outputs, the rows need 5: it was left out, a new one is trained",
    )
    assert notes(2) == ()
    bare = find_model(str(spoilt(weights=lambda n: None if n.startswith("classifier") else n)))
    loaded = load_with_notes(bare, load_config(bare), TextClassification, num_labels=5)
    assert loaded.notes == ("the model has no head for this task: a new one is trained",)


def test_rows_of_a_class_that_the_model_does_not_have_are_refused(spoilt: Spoilt) -> None:
    task = load_model(find_model(str(spoilt()))).task
    rows = Rows(("a", "b", "c"), ("label 0", "label 1", "label 2"), "rows.csv")

    with pytest.raises(DataError, match="label 2") as error:
        task.targets(rows, task.encode(rows.texts))
    assert "\n" not in str(error.value)


LONG = (" ".join(SENTENCES * 20), "a film")


@pytest.mark.parametrize("family", ["bert", UNKNOWN])
def test_lengths_beyond_512_are_had(family: str, spoilt: Spoilt) -> None:
    folder = spoilt(family, settings={"model_max_length": 900}, max_position_embeddings=1024)

    task = load_model(find_model(str(folder))).task
    assert task.encode(LONG).lengths.max() == 900
    assert np.abs(ours(folder, LONG, TORCH) - theirs(folder, LONG)).max() < CLOSE


def test_positions_that_begin_after_the_padding_id_are_counted(spoilt: Spoilt) -> None:
    """What transformers cannot look up is cut."""
    folder = spoilt("camembert", settings={"model_max_length": None})

    assert load_model(find_model(str(folder))).task.max_tokens == 96
    change(folder / "tokenizer_config.json", {"model_max_length": 96})
    assert np.abs(ours(folder, LONG, TORCH) - theirs(folder, LONG)).max() < CLOSE


@pytest.mark.parametrize("engine", ["onnxruntime", "openvino"])
def test_weights_lie_beside_the_graph_since_protobuf_holds_2_gib(
    engine: str, spoilt: Spoilt
) -> None:
    """So models of any size are written; tiny ones go the same way."""
    need_engine(engine)
    folder = spoilt()

    assert np.abs(ours(folder, engine=EVERY[engine]) - theirs(folder)).max() < CLOSE
    graph = folder / "engine" / "model.onnx"
    kept = onnx.load(str(graph), load_external_data=False).graph.initializer
    apart = [tensor for tensor in kept if tensor.external_data]
    assert len(apart) > 10
    assert all(len(tensor.raw_data) < 1024 for tensor in kept)
    assert weights_of(graph).stat().st_size > sum(len(tensor.raw_data) for tensor in kept)


@pytest.mark.parametrize("inline_bytes", [0, 10**6], ids=["apart", "in one file"])
def test_an_onnx_file_is_one_where_it_can_be(
    inline_bytes: int, spoilt: Spoilt, tmp_path: Path
) -> None:
    model = load_model(find_model(str(spoilt())))
    path = tmp_path / "out" / "plain.onnx"
    path.parent.mkdir()

    write_onnx(to_onnx(model, 8), path, inline_bytes)

    assert len(files_of(path)) == (1 if inline_bytes else 2)
    onnx.checker.check_model(str(path))
    assert onnxruntime.InferenceSession(str(path)).get_outputs()[0].name == "logits"
