"""Tiny random models and tokenizers, built on the spot, saved as transformers would save them."""

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

from miaotui.models.load import find_model, load_model
from miaotui.models.model import Model
from miaotui.tasks.base import EncodedRows, encoded_rows

SENTENCES = (
    "the film is a quiet wonder and the cast is splendid",
    "a dull story told slowly, with no wit and no warmth",
    "i laughed twice; my friend slept through the second half",
    "bright pictures, clever words, and an ending that stays with you",
    "nothing happens, and then it happens again for two hours",
)
CHINESE = ("这部电影很好看", "剧情拖沓,演员也不行", "画面漂亮,音乐动人", "我不想再看第二遍")
PLAIN = ("bert", "roberta", "distilbert", "electra", "albert")
"""Families of plain encoders, which every engine runs."""
ADAPTED = (*PLAIN, "mpnet", "deberta-v2", "modernbert")
TYPED = ("bert", "electra", "albert")
"""Those of them whose rows have types."""
UNKNOWN = "megatron-bert"
"""A family that has no adapter here."""
NOT_EXPORTED = "canine"
"""A family that torch cannot export to ONNX."""
TAGS = ("O", "I-LOC", "I-PER")
"""Of IO, where any tags are possible ones."""
LAST_TOKEN = "gpt2"
"""A family that finds the token to read by its padding id."""
HIDDEN, LAYERS, HEADS, FFN, MAX_TOKENS = 32, 2, 4, 48, 96


def tiny_tokenizer(chinese: bool = False, types: bool = True, specials: bool = True) -> Tokenizer:
    """WordPiece over a few English sentences, or one token a character over Chinese ones."""
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]
    if chinese:
        characters = sorted(set("".join(CHINESE)))
        vocab = {word: i for i, word in enumerate(words + characters)}
        tokenizer = Tokenizer(models.WordLevel(vocab, unk_token="[UNK]"))
        tokenizer.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    else:
        vocab = {word: i for i, word in enumerate(words + _english_pieces())}
        tokenizer = Tokenizer(models.WordPiece(vocab, unk_token="[UNK]"))
        tokenizer.normalizer = normalizers.BertNormalizer()
        tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    if specials:
        second = "$B:1 [SEP]:1" if types else "$B:0 [SEP]:0"
        tokenizer.post_processor = processors.TemplateProcessing(
            single="[CLS] $A [SEP]",
            pair=f"[CLS] $A [SEP] {second}",
            special_tokens=[(w, tokenizer.token_to_id(w)) for w in ("[CLS]", "[SEP]")],
        )
    return tokenizer


def save_tiny(
    family: str,
    folder: Path,
    labels: int = 2,
    problem: str = "single_label_classification",
    seed: int = 0,
    tags: Sequence[str] = (),
    **config: Any,
) -> Path:
    """A random classifier of `family` in `folder`, weights wide enough for logits to differ; with
    `tags` a tagger of words."""
    import transformers

    tokenizer = tiny_tokenizer(chinese=config.pop("chinese", False))
    names, kind = (list(tags), "Token") if tags else (_names(labels), "Sequence")
    given = {"vocab_size": tokenizer.get_vocab_size(), "id2label": dict(enumerate(names))} | config
    name, made = tiny_config(family, len(names), None if tags else problem, **given)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        module = getattr(transformers, f"{name}For{kind}Classification")(made)
        for parameter in module.parameters():
            torch.nn.init.normal_(parameter, std=0.3)
        for norm in (m for m in module.modules() if isinstance(m, torch.nn.LayerNorm)):
            torch.nn.init.normal_(norm.weight, mean=1.0, std=0.3)
    folder.mkdir(parents=True, exist_ok=True)
    module.eval().save_pretrained(folder)
    tokenizer.save(str(folder / "tokenizer.json"))
    facts = {"tokenizer_class": "PreTrainedTokenizerFast", "model_max_length": MAX_TOKENS}
    (folder / "tokenizer_config.json").write_text(json.dumps(facts), encoding="utf-8")
    return folder


def tiny_config(
    family: str, labels: int = 2, problem: str | None = None, **config: Any
) -> tuple[str, Any]:
    """What the classes of `family` are called after, and a config of a few small layers."""
    import transformers

    name, settings = _FAMILIES[family]
    given = {"id2label": dict(enumerate(_names(labels))), **_COMMON, **settings, **config}
    if family in _UNBOUND and "max_position_embeddings" not in config:
        del given["max_position_embeddings"]
    made = getattr(transformers, f"{name}Config")(num_labels=labels, problem_type=problem, **given)
    return name, made


def tiny_model(family: str, folder: Path, **settings: Any) -> Model:
    """What `load_model` makes of `save_tiny`."""
    return load_model(find_model(str(save_tiny(family, folder, **settings))))


def hf_logits(folder: Path, rows: EncodedRows, types: bool) -> np.ndarray:
    """transformers' own answers, one unpadded row at a time: [rows, labels], of a tagger
    [rows, tokens, labels]."""
    import transformers

    written = json.loads((folder / "config.json").read_text(encoding="utf-8"))["architectures"][0]
    module = getattr(transformers, written).from_pretrained(folder, dtype=torch.float32).eval()
    found = []
    for i in range(len(rows)):
        row = rows.select([i])
        inputs = {"input_ids": torch.from_numpy(row.ids.astype(np.int64))[None]}
        if types and row.type_ids is not None:
            inputs["token_type_ids"] = torch.from_numpy(row.type_ids.astype(np.int64))[None]
        with torch.inference_mode():
            found.append(module(**inputs).logits[0].numpy())
    return np.stack(found)


def random_rows(lengths: Sequence[int], pairs: bool = False, seed: int = 0) -> EncodedRows:
    """Rows of ordinary tokens (no padding id); with `pairs` the latter half has type 1."""
    draw = np.random.default_rng(seed)
    ids = [draw.integers(4, 60, size=length).tolist() for length in lengths]
    types = [[0] * (n - n // 2) + [1] * (n // 2) for n in lengths] if pairs else None
    return encoded_rows(ids, types)


def _english_pieces() -> list[str]:
    """Every word of the sentences, and single characters for all others; a trainer would break
    ties by chance, and tests must not."""
    words = set(re.findall(r"\w+|[^\w\s]", " ".join(SENTENCES)))
    characters = set("abcdefghijklmnopqrstuvwxyz0123456789")
    return sorted(words | characters) + [f"##{c}" for c in sorted(characters)]


def _names(labels: int) -> list[str]:
    return [f"label {i}" for i in range(labels)]


_COMMON = {
    "vocab_size": 64,
    "hidden_size": HIDDEN,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": HEADS,
    "intermediate_size": FFN,
    "max_position_embeddings": MAX_TOKENS + 2,
    "pad_token_id": 0,
}
_DISTILBERT = {"dim": HIDDEN, "n_layers": LAYERS, "n_heads": HEADS, "hidden_dim": FFN}
_DEBERTA_V3 = {
    "relative_attention": True,
    "position_buckets": 8,
    "norm_rel_ebd": "layer_norm",
    "share_att_key": True,
    "pos_att_type": "p2c|c2p",
    "position_biased_input": False,
}
_MODERNBERT = {
    "layer_types": ["full_attention", "sliding_attention"],
    "local_attention": 12,
    "cls_token_id": 2,
    "sep_token_id": 3,
    "bos_token_id": 2,
    "eos_token_id": 3,
}
_ENCODER_DECODER = {
    "d_model": HIDDEN,
    "eos_token_id": 3,
    "decoder_start_token_id": 0,
    "forced_eos_token_id": None,
}
_T5 = _ENCODER_DECODER | {"d_kv": 8, "d_ff": FFN, "num_layers": LAYERS, "num_heads": HEADS}
_BART = _ENCODER_DECODER | {
    f"{part}_{name}": value
    for part in ("encoder", "decoder")
    for name, value in {"layers": LAYERS, "attention_heads": HEADS, "ffn_dim": FFN}.items()
}
_XLNET = {"d_model": HIDDEN, "n_layer": LAYERS, "n_head": HEADS, "d_inner": FFN}
_CANINE = {"num_hash_buckets": 128, "downsampling_rate": 2, "upsampling_kernel_size": 2}
_UNBOUND = ("t5", "xlnet")
"""Rows may be of any length, and config has no word for one."""
_FAMILIES: dict[str, tuple[str, dict[str, Any]]] = {
    "bert": ("Bert", {}),
    "roberta": ("Roberta", {"pad_token_id": 1, "type_vocab_size": 1}),
    "distilbert": ("DistilBert", _DISTILBERT),
    "electra": ("Electra", {"embedding_size": 16}),
    "albert": ("Albert", {"embedding_size": 16}),
    "mpnet": ("MPNet", {"pad_token_id": 1}),
    "deberta-v2": ("DebertaV2", _DEBERTA_V3),
    "modernbert": ("ModernBert", _MODERNBERT),
    "megatron-bert": ("MegatronBert", {}),
    "gpt2": ("GPT2", {"pad_token_id": 1}),
    "llama": ("Llama", {"num_key_value_heads": 2, "bos_token_id": 2, "eos_token_id": 3}),
    "canine": ("Canine", _CANINE),
    "camembert": ("Camembert", {"pad_token_id": 1, "type_vocab_size": 1}),
    "t5": ("T5", _T5),
    "bart": ("Bart", _BART),
    "mbart": ("MBart", _BART),
    "xlnet": ("XLNet", _XLNET),
    "fnet": ("FNet", {}),
}
