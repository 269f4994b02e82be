"""Each family computes what transformers computes, whole, cut, saved and opened again."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy import ndarray

from miaotui.errors import ModelError
from miaotui.models.encoder import Encoder
from miaotui.models.families import FAMILIES, blank_encoder, family_of
from miaotui.models.families.deberta import entry_of
from miaotui.models.families.mpnet import bucket_of
from miaotui.models.load import find_model, load_model, save_model
from miaotui.models.model import copy_of
from miaotui.models.observe import padded, read
from miaotui.models.surgery import factorize, keep_heads_and_neurons, keep_layers
from miaotui.models.ties import ties
from miaotui.tasks.base import EncodedRows
from tiny import ADAPTED, FFN, HEADS, random_rows, save_tiny, tiny_config, tiny_model

LENGTHS = (7, 1, 23, 40, 2, 31, 96)
WIDER = {"hidden_size": 48, "num_attention_heads": 3, "intermediate_size": 80}
V3 = {
    "relative_attention": True,
    "norm_rel_ebd": "layer_norm",
    "share_att_key": True,
    "pos_att_type": "p2c|c2p",
    "position_biased_input": False,
}
VARIANTS: dict[str, tuple[str, dict[str, Any]]] = {
    **{family: (family, {}) for family in ADAPTED},
    "albert of two groups": (
        "albert",
        {"num_hidden_layers": 4, "num_hidden_groups": 2, **WIDER},
    ),
    "albert of two layers a group": ("albert", {"num_hidden_layers": 2, "inner_group_num": 2}),
    "mpnet of three layers": ("mpnet", {"num_hidden_layers": 3, **WIDER}),
    "deberta with linears for distances": (
        "deberta-v2",
        {"share_att_key": False, "position_biased_input": True, "type_vocab_size": 2},
    ),
    "deberta that looks one way": ("deberta-v2", {"pos_att_type": "c2p", "norm_rel_ebd": "none"}),
    "deberta that looks the other way": ("deberta-v2", {"pos_att_type": "p2c", **WIDER}),
    "deberta without buckets": ("deberta-v2", {"position_buckets": -1}),
    "modernbert that takes the mean": ("modernbert", {"classifier_pooling": "mean"}),
    "modernbert of four layers": (
        "modernbert",
        {
            "num_hidden_layers": 4,
            "layer_types": ["sliding_attention", "full_attention"] * 2,
            **WIDER,
        },
    ),
    "modernbert in tanh": (
        "modernbert",
        {"hidden_activation": "gelu_pytorch_tanh", "classifier_activation": "tanh"},
    ),
}
each_variant = pytest.mark.parametrize(("family", "config"), VARIANTS.values(), ids=VARIANTS)
each_family = pytest.mark.parametrize("family", ADAPTED)


def transformers_module(family: str, kind: str, **config: Any) -> Any:
    """A random model of transformers for that kind of task."""
    import transformers

    name, made = tiny_config(family, labels=3, **config)
    torch.manual_seed(0)
    module = getattr(transformers, f"{name}For{kind}")(made)
    for parameter in module.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    return module.eval()


def theirs(module: Any, rows: EncodedRows, types: bool) -> torch.Tensor:
    """Logits of transformers on a padded batch with its mask."""
    ids, _, mask, type_ids, _ = padded(rows, list(range(len(rows))))
    given = {"token_type_ids": type_ids} if types else {}
    pad = module.config.pad_token_id or 0
    ids = torch.where(mask > 0, ids, pad)
    with torch.inference_mode():
        return module(input_ids=ids, attention_mask=mask, **given).logits  # type: ignore[no-any-return]


def ours(encoder: Encoder, rows: EncodedRows) -> ndarray:
    """Logits of every readout, one after another."""
    with torch.inference_mode():
        found = encoder(*padded(rows, list(range(len(rows)))))
    return found[read(rows)].numpy()  # type: ignore[no-any-return]


@pytest.mark.parametrize("pairs", [False, True], ids=["single", "pairs"])
@each_variant
def test_a_classifier_of_rows_is_that_of_transformers(
    family: str, config: dict[str, Any], pairs: bool
) -> None:
    module = transformers_module(family, "SequenceClassification", **config)
    rows = random_rows(LENGTHS, pairs)
    adapter = family_of(module.config)

    expected = theirs(module, rows, types=_typed(module, adapter))

    assert adapter is not None
    np.testing.assert_allclose(ours(adapter.encoder(module), rows), expected, atol=1e-4)


@each_variant
def test_a_classifier_of_tokens_is_that_of_transformers(
    family: str, config: dict[str, Any]
) -> None:
    module = transformers_module(family, "TokenClassification", **config)
    rows = random_rows(LENGTHS, pairs=True)
    adapter = family_of(module.config)
    encoder = adapter.encoder(module, reads_tokens=True)
    ids, positions, segments, types, _ = padded(rows, list(range(len(rows))))
    every = torch.arange(ids.shape[1]).expand(ids.shape)

    with torch.inference_mode():
        found = encoder(ids, positions, segments, types, every)

    expected = theirs(module, rows, types=_typed(module, adapter))
    real = segments > 0
    torch.testing.assert_close(found[real], expected[real], atol=1e-4, rtol=1e-4)


def _typed(module: Any, adapter: Any) -> bool:
    return adapter.shape(module.config).types > 1  # type: ignore[no-any-return]


@each_variant
def test_neighbours_in_a_block_change_nothing(family: str, config: dict[str, Any]) -> None:
    module = transformers_module(family, "SequenceClassification", **config)
    encoder = family_of(module.config).encoder(module)
    rows = random_rows((9, 20, 31), pairs=True)
    ids, types = (torch.from_numpy(a.astype(np.int64))[None] for a in (rows.ids, rows.type_ids))
    positions, segments = (
        torch.tensor([[v for i, n in enumerate((9, 20, 31)) for v in value(i, n)]])
        for value in (lambda i, n: range(n), lambda i, n: [i + 1] * n)
    )

    with torch.inference_mode():
        packed = encoder(ids, positions, segments, types, torch.tensor([[0, 9, 29]]))

    np.testing.assert_allclose(packed[0].numpy(), ours(encoder, rows), atol=1e-5)


@each_variant
def test_removed_heads_and_neurons_are_as_if_they_gave_zero(
    family: str, config: dict[str, Any]
) -> None:
    module = transformers_module(family, "SequenceClassification", **config)
    encoder, rows = family_of(module.config).encoder(module), random_rows(LENGTHS)
    kept = [(torch.tensor([2, 0]), torch.arange(5, 33)) for _ in encoder.layers]
    silenced = _untied(encoder)
    for i, (heads, neurons) in enumerate(kept):
        _silence_(silenced, f"layers.{i}.output.weight", heads, encoder.shape.head_dim)
        _silence_(silenced, f"layers.{i}.down.weight", neurons, 1)

    smaller = keep_heads_and_neurons(encoder, *zip(*kept, strict=True))

    assert {(layer.heads, layer.ffn) for layer in smaller.shape.layers} == {(2, 28)}
    assert [x.traits for x in smaller.shape.layers] == [x.traits for x in encoder.shape.layers]
    np.testing.assert_allclose(ours(smaller, rows), ours(silenced, rows), atol=1e-4)


def _untied(encoder: Encoder) -> Encoder:
    copy = encoder.blank(encoder.shape)
    copy.load_state_dict(encoder.state_dict())
    return copy.eval()


def _silence_(encoder: Encoder, name: str, kept: torch.Tensor, width: int) -> None:
    weight = encoder.get_parameter(name)
    count = weight.shape[1] // width
    silent = torch.tensor([i for i in range(count) if i not in kept.tolist()])
    with torch.no_grad():
        weight.view(len(weight), count, width)[:, silent] = 0


@each_family
def test_a_pruned_model_saved_and_opened_again_gives_the_same(family: str, tmp_path: Path) -> None:
    model, rows = tiny_model(family, tmp_path / "hf", num_hidden_layers=3, **_of_three(family)), ()
    encoder, rows = model.encoder, random_rows(LENGTHS)
    heads = [torch.tensor([1, 3]), torch.tensor([], dtype=torch.long), torch.arange(HEADS)]
    neurons = [torch.arange(0, FFN, 2), torch.arange(FFN), torch.tensor([], dtype=torch.long)]

    pruned = keep_layers(keep_heads_and_neurons(encoder, heads, neurons), (1, 2))
    save_model(model.with_module(pruned), tmp_path / "ours")
    opened = load_model(find_model(str(tmp_path / "ours")))

    assert opened.encoder.shape == pruned.shape
    assert np.isfinite(ours(pruned, rows)).all()
    assert np.array_equal(ours(opened.encoder, rows), ours(pruned, rows))


def _of_three(family: str) -> dict[str, Any]:
    kinds = ["full_attention", "sliding_attention", "sliding_attention"]
    return {"layer_types": kinds} if family == "modernbert" else {}


@each_family
def test_a_factorized_model_at_full_rank_is_the_same(family: str, tmp_path: Path) -> None:
    model, rows = tiny_model(family, tmp_path / "hf"), random_rows(LENGTHS)
    encoder = model.encoder
    factors = {}
    for name in ("layers.0.query", "layers.1.up", "layers.1.down"):
        weight = encoder.get_parameter(f"{name}.weight").detach()
        u, s, v = torch.linalg.svd(weight, full_matrices=False)
        factors[name] = (s[:, None] * v, u)

    factorized = factorize(encoder, factors)
    save_model(model.with_module(factorized), tmp_path / "ours")
    opened = load_model(find_model(str(tmp_path / "ours"))).encoder

    np.testing.assert_allclose(ours(opened, rows), ours(encoder, rows), atol=1e-3)


@each_family
def test_what_was_trained_goes_back_into_transformers(family: str) -> None:
    module = transformers_module(family, "SequenceClassification")
    adapter = family_of(module.config)
    encoder, rows = copy_of(adapter.encoder(module)), random_rows(LENGTHS)
    optimizer = torch.optim.SGD([p for p in encoder.parameters() if p.requires_grad], lr=1e-3)
    encoder(*padded(rows, list(range(len(rows))))).square().sum().backward()
    optimizer.step()

    before = theirs(module, rows, types=False)
    module.load_state_dict(adapter.restored(encoder, module.state_dict()))
    after = theirs(module, rows, types=False)

    np.testing.assert_allclose(ours(encoder, rows), after, atol=1e-4)
    assert (after - before).abs().max() > 1e-2


@pytest.mark.parametrize("family", ["albert", "mpnet"])
def test_what_layers_share_is_stored_and_held_once(family: str, tmp_path: Path) -> None:
    model, rows = tiny_model(family, tmp_path / "hf"), random_rows(LENGTHS)

    save_model(model, tmp_path / "ours")
    opened = load_model(find_model(str(tmp_path / "ours")))

    assert ties(model.encoder)
    for held in (copy_of(model.encoder), opened.encoder):
        assert ties(held) == ties(model.encoder)
        assert np.array_equal(ours(held, rows), ours(model.encoder, rows))
    assert opened.parameters == model.parameters
    stored = (tmp_path / "ours" / "model.safetensors").stat().st_size
    assert stored < 4 * model.parameters + 10_000


def test_surgery_parts_what_layers_share(tmp_path: Path) -> None:
    encoder = tiny_model("albert", tmp_path).encoder
    heads, neurons = (torch.arange(HEADS), torch.arange(2)), (torch.arange(FFN),) * 2

    smaller = keep_heads_and_neurons(encoder, heads, neurons)

    assert not ties(smaller)
    assert [layer.heads for layer in smaller.shape.layers] == [HEADS, 2]


@each_family
def test_a_gradient_reaches_all_that_is_trained(family: str, tmp_path: Path) -> None:
    encoder = tiny_model(family, tmp_path, hidden_dropout_prob=0.0).encoder.train()
    trained = {n: p for n, p in encoder.named_parameters() if p.requires_grad}

    encoder(*padded(random_rows(LENGTHS, pairs=True), range(7))).square().sum().backward()

    assert [n for n, p in trained.items() if p.grad is None] == []


@pytest.mark.parametrize(
    ("family", "config"),
    [
        ("albert", {"embedding_size": 32}),
        ("deberta-v2", {"conv_kernel_size": 3}),
        ("deberta-v2", {"relative_attention": False}),
        ("modernbert", {"mlp_bias": True}),
        ("modernbert", {"hidden_activation": "silu"}),
    ],
)
def test_what_a_family_would_get_wrong_runs_without_surgery(
    family: str, config: dict[str, Any], tmp_path: Path
) -> None:
    model = load_model(find_model(str(save_tiny(family, tmp_path, **config))))

    assert not model.has_adapter
    assert model.family == family


def test_a_shape_of_no_family_is_refused_by_name(tmp_path: Path) -> None:
    shape = tiny_model("bert", tmp_path).encoder.shape

    with pytest.raises(ModelError, match="no family is called gru; families: bert, roberta"):
        blank_encoder(replace(shape, family="gru"))


def test_families_and_their_model_types_have_names_of_their_own() -> None:
    types = [name for family in FAMILIES for name in family.model_types]

    assert len(set(types)) == len(types)
    assert len({family.name for family in FAMILIES}) == len(FAMILIES)


def test_distances_are_counted_as_transformers_does() -> None:
    from transformers.models.deberta_v2.modeling_deberta_v2 import make_log_bucket_position
    from transformers.models.mpnet.modeling_mpnet import MPNetEncoder

    far = torch.arange(-511, 512)

    assert torch.equal(bucket_of(far), MPNetEncoder.relative_position_bucket(far))
    expected = (make_log_bucket_position(far, 256, 512).long() + 256).clamp(0, 511)
    assert torch.equal(entry_of(far, 256, 512), expected)
