"""Padding that attention masks does not count: naive float64 sums over hand-picked tokens, and padding exchanged."""

from __future__ import annotations

import functools
import re
from dataclasses import replace

import pytest
import torch
from diffusers.models.transformers.transformer_hidream_image import MOEFeedForwardSwiGLU
from masked_models import FAMILIES, LENGTHS, PICTURE, TEXT, build, mask

from dit_prune_viz.calibration import unread_tokens
from dit_prune_viz.calibration.batch_rows import split
from dit_prune_viz.calibration.calibrate import calibrate
from dit_prune_viz.calibration.call_masks import find_masks
from dit_prune_viz.calibration.input_sums import Sums, watch_inputs
from dit_prune_viz.calibration.recorded_inputs import Call, RecordedInputs, record_inputs
from dit_prune_viz.calibration.second_moments import collect_moments
from dit_prune_viz.calibration.stored import VERSION, calibration_key, counting_version
from dit_prune_viz.experiments.convergence import measure_convergence
from dit_prune_viz.masks.packed_mask import pack
from dit_prune_viz.masks.pruned_layer import PrunedLayer
from dit_prune_viz.masks.running import running_pruned
from dit_prune_viz.pipelines.layers import list_layers
from dit_prune_viz.pipelines.model import load_model

PROMPTS = ("a", "a red bus", "two dogs and a cat", "moon")
SETTINGS = {"samples": 16, "seed": 3, "steps": 3, "prompts": PROMPTS, "bins": 4}
TEXT_LAYER = re.compile(r"attn2\.to_[kv]$")


@pytest.fixture(scope="module")
def pixart(tiny_pixart):
    return load_model(tiny_pixart, device="cpu", dtype="float32")


@pytest.fixture(scope="module")
def calibration(pixart):
    return calibrate(pixart, **SETTINGS)


@pytest.fixture(scope="module")
def inputs(pixart, calibration):
    return record_inputs(pixart, calibration)


@pytest.fixture
def other_padding(pixart, monkeypatch):
    """PixArt with noise where its text encoder put padding."""
    encode = pixart.pipeline.encode_prompt

    @functools.wraps(encode)
    def noisy(*args, **kwargs):
        found = list(encode(*args, **kwargs))
        for place in (0, 2):
            padding = found[place + 1][..., None] == 0
            found[place] = torch.where(padding, 7 * torch.randn(found[place].shape), found[place])
        return tuple(found)

    monkeypatch.setattr(pixart.pipeline, "encode_prompt", noisy)
    return pixart


def seen(transformer, names, call: dict) -> dict[str, torch.Tensor]:
    """What each layer sees in a call, in float64."""
    found = {}

    def note(name):
        def hook(module, args):
            found[name] = args[0].double()

        return hook

    handles = [transformer.get_submodule(name).register_forward_pre_hook(note(name)) for name in names]
    with torch.no_grad():
        transformer(**call)
    for handle in handles:
        handle.remove()
    return found


def attended(model, inputs: RecordedInputs) -> dict[str, dict[int, torch.Tensor]]:
    """Layer -> timestep bin -> the tokens (n, d_in) float64 that PixArt attends to, of the rows that count."""
    names = [layer.name for layer in model.layers]
    found = {name: {} for name in names}
    for call in inputs.calls:
        args, kwargs = split(call.arguments)
        assert not args or set(kwargs) >= {"encoder_attention_mask"}
        read = kwargs["encoder_attention_mask"].bool()
        layers = seen(model.transformer, names, {**dict(zip(["hidden_states"], args, strict=False)), **kwargs})
        for name, values in layers.items():
            for row, place in zip(call.rows, call.bins, strict=True):
                tokens = values[row]
                if len(tokens.shape) == 1:
                    tokens = tokens[None]
                if TEXT_LAYER.search(name):
                    tokens = tokens[read[row]]
                found[name].setdefault(place, []).append(tokens)
    return {name: {place: torch.cat(parts) for place, parts in bins.items()} for name, bins in found.items()}


def test_pixart_norms_and_means_are_of_attended_tokens(pixart, calibration, inputs):
    naive = attended(pixart, inputs)
    assert inputs.samples == 16
    assert {int(one.sum()) for one in calibration.tokens.values()} >= {16 * 16}  # the picture's, 16 of each input
    for layer in pixart.layers:
        for place in range(4):
            tokens = naive[layer.name].get(place, torch.zeros(0, layer.shape[1], dtype=torch.float64))
            assert int(calibration.tokens[layer.name][place]) == len(tokens)
            squares, totals = calibration.sum_squares[layer.name][place], calibration.sums[layer.name][place]
            torch.testing.assert_close(squares, tokens.square().sum(0), rtol=1e-5, atol=1e-6)
            torch.testing.assert_close(totals, tokens.sum(0), rtol=1e-4, atol=1e-4)
        every = torch.cat(list(naive[layer.name].values()))
        torch.testing.assert_close(calibration.norm(layer.name), every.square().sum(0).sqrt().float())
        torch.testing.assert_close(calibration.mean(layer.name), every.mean(0).float(), rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(calibration.mean_square(layer.name), every.square().mean(0).float())


def test_pixart_second_moments_are_of_attended_tokens(pixart, calibration, inputs):
    names = [layer.name for layer in pixart.layers]
    naive = attended(pixart, inputs)
    weights = (0.5, 2.0, 1.0, 4.0)
    for name, moments in collect_moments(pixart, names, like=calibration, weights=weights, inputs=inputs).items():
        parts = [(weights[place], tokens) for place, tokens in naive[name].items()]
        hessian = sum(weight * tokens.T @ tokens for weight, tokens in parts)
        torch.testing.assert_close(moments.hessian.double(), hessian, rtol=1e-4, atol=1e-3)
        total = sum(weight * tokens.sum(0) for weight, tokens in parts)
        torch.testing.assert_close(moments.total.double(), total, rtol=1e-4, atol=1e-3)
        assert moments.tokens == pytest.approx(sum(weight * len(tokens) for weight, tokens in parts))


def test_other_padding_changes_no_number_of_pixart(calibration, inputs, other_padding):
    again = calibrate(other_padding, **SETTINGS)
    for kind in ("sum_squares", "sums", "tokens"):
        for name, values in getattr(calibration, kind).items():
            assert torch.equal(values, getattr(again, kind)[name]), (kind, name)
    recorded = record_inputs(other_padding, again)
    texts = [torch.cat([call.arguments["encoder_hidden_states"] for call in of.calls]) for of in (inputs, recorded)]
    assert not torch.equal(*texts)  # the padding is other
    names = [layer.name for layer in other_padding.layers if "attn2" in layer.name]
    first, second = (collect_moments(other_padding, names, like=calibration, inputs=of) for of in (inputs, recorded))
    for name in names:
        assert torch.equal(first[name].hessian, second[name].hessian)
        assert torch.equal(first[name].total, second[name].total)
        assert first[name].tokens == second[name].tokens


def test_second_moments_of_a_pruned_pixart_leave_the_same_padding_out(pixart, calibration, inputs):
    key, query = "transformer_blocks.1.attn2.to_k", "transformer_blocks.0.attn1.to_q"
    pruned = {query: PrunedLayer(pack(torch.rand(32, 32, generator=torch.Generator().manual_seed(0)) > 0.5))}
    moments = collect_moments(
        pixart, [key], like=calibration, inputs=inputs, altered=lambda: running_pruned(pixart, pruned)
    )[key]
    every = torch.cat(list(attended(pixart, inputs)[key].values()))  # the text does not know about the picture
    assert moments.tokens == pytest.approx(len(every))
    for table in (moments.hessian, moments.cross):
        torch.testing.assert_close(table.double(), every.T @ every, rtol=1e-4, atol=1e-3)


def test_convergence_counts_as_a_calibration_does(pixart, calibration):
    made = []

    def build_masks(found):
        made.append(found)
        return {name: pack(squares.sum(0)[None] > 1) for name, squares in found.sum_squares.items()}

    measure_convergence(pixart, build_masks, sizes=(4, 16), seed=3, prompts=PROMPTS, steps=3, bins=4)
    for name, squares in calibration.sum_squares.items():
        torch.testing.assert_close(made[-1].sum_squares[name], squares, rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(made[-1].sums[name], calibration.sums[name], rtol=1e-4, atol=1e-4)
        assert torch.equal(made[-1].tokens[name], calibration.tokens[name])


def expected(family: str, name: str, shape: tuple[int, ...]) -> torch.Tensor | None:
    """Which tokens of a layer count, (rows, tokens), by hand from the source of each family; None is all."""
    text, picture = mask(), torch.ones(2, PICTURE, dtype=torch.bool)
    if family in ("hunyuan-dit", "chroma") or len(shape) < 3:
        return None
    if family == "lumina2" and name.startswith("layers"):
        return torch.arange(5 + PICTURE) < torch.tensor(LENGTHS)[:, None] + PICTURE  # padded to the longest text
    if family == "z-image":
        size = {"context_refiner": 0, "layers": 32}.get(name.split(".")[0])
        return None if size is None else torch.arange(size + 64) < torch.tensor([size + 32, size + 64])[:, None]
    if family == "omnigen":
        return torch.cat([text.flip(1), torch.ones(2, 1, dtype=torch.bool), picture], 1)
    if family == "ideogram":
        return torch.cat([text.flip(1), picture], 1) if shape[1] > 1 else None
    if family == "hunyuan-image":  # the second text's tokens that are read, the first's, then what of both is not
        text = torch.arange(TEXT + 5) < torch.tensor([LENGTHS[0], 2 + LENGTHS[1]])[:, None]
    if shape[1] == text.shape[1]:
        return text
    if shape[1] == text.shape[1] + PICTURE:
        return torch.cat([text, picture] if family == "fibo" else [picture, text], 1)
    return None


def watched(model, call: dict, rows=(0, 1)) -> Sums:
    layers = list_layers(model)
    sums = Sums(layers, 1, torch.device("cpu"))
    with torch.no_grad(), watch_inputs(model, layers, sums, lambda batch: (rows, 0)):
        model(**call)
    return sums


@pytest.mark.parametrize("rows", [(0, 1), (1,)])
@pytest.mark.parametrize("family", sorted(set(FAMILIES) - {"ernie"}))
def test_families_with_masks_count_what_they_read(family, rows):
    model, call = build(family)
    sums, names = watched(model, call, rows), [layer.name for layer in list_layers(model)]
    left_out = 0
    for name, values in seen(model, names, call).items():
        read = expected(family, name, tuple(values.shape))
        tokens = values.reshape(2, -1, values.shape[-1])
        tokens = torch.cat([tokens[row] if read is None else tokens[row][read[row]] for row in rows])
        left_out += len(rows) * values[0].numel() // values.shape[-1] - len(tokens)
        assert int(sums.tokens[name]) == len(tokens), name
        torch.testing.assert_close(sums.squares[name][0], tokens.square().sum(0), rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(sums.totals[name][0], tokens.sum(0), rtol=1e-4, atol=1e-5)
    padded = family not in ("hunyuan-dit", "chroma") and (rows == (0, 1) or family != "z-image")
    assert bool(left_out) == padded


def test_lengths_are_masks_as_well():
    model, call = build("ernie")
    sums, padding = watched(model, call), sum(TEXT - length for length in LENGTHS)
    for name, values in seen(model, [layer.name for layer in list_layers(model)], call).items():
        assert int(sums.tokens[name]) == values.numel() // values.shape[-1] - padding
        tokens = values if values.shape[0] == 2 else values.transpose(0, 1)  # feed-forward layers see (tokens, rows)
        read = torch.cat([torch.ones(2, PICTURE, dtype=torch.bool), mask()], 1)
        torch.testing.assert_close(sums.squares[name][0], tokens[read].square().sum(0), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("family", ["qwen", "lumina2", "hunyuan-dit", "ltx", "hunyuan-video", "mochi", "fibo", "ernie"])
def test_other_padding_changes_no_number_of_a_family(family):
    model, call = build(family)
    sums = watched(model, call)
    masks = {name: ~read for name, read in find_masks(model, (), call).items()}
    other = dict(call)
    for name in ("encoder_hidden_states", "text_bth"):  # HunyuanDiT pools all of its second text, padding too
        if name in call:
            size = call[name].shape[1]
            padding = next(one[:, :size] for one in masks.values() if one.shape[1] in (size, size + PICTURE))
            other[name] = torch.where(padding[..., None], 5 * torch.randn(call[name].shape), call[name])
            assert not torch.equal(other[name], call[name])
    again = watched(model, other)
    for name, squares in sums.squares.items():
        assert torch.equal(squares, again.squares[name]), name
        assert torch.equal(sums.totals[name], again.totals[name]), name
        assert torch.equal(sums.tokens[name], again.tokens[name]), name


@pytest.mark.parametrize("family", ["qwen", "lumina2", "mochi", "z-image"])
def test_half_precision_leaves_the_same_tokens_out(family):
    """Mochi's attention answers in a layout of its own, for which other kernels run in bfloat16."""

    def halved(value):
        if isinstance(value, list):
            return [halved(item) for item in value]
        real = isinstance(value, torch.Tensor) and value.is_floating_point() and value.ndim > 1
        return value.bfloat16() if real else value

    model, call = build(family)
    sums = watched(model, call)
    again = watched(model.bfloat16(), {name: halved(value) for name, value in call.items()})
    assert {name: int(tokens) for name, tokens in again.tokens.items()} == {
        name: int(tokens) for name, tokens in sums.tokens.items()
    }


def test_a_text_without_any_token_counts_where_attention_reads_its_padding():
    """Where all keys are masked alike by an additive bias, attention takes their mean."""
    model, call = build("ltx")
    call["encoder_attention_mask"] = mask((0, 5)).long()
    assert int(watched(model, call).tokens["transformer_blocks.0.attn2.to_k"]) == TEXT + 5


@pytest.mark.parametrize("form", ["bool", "zeros and ones", "additive", "additive with queries"])
def test_masks_of_any_form_are_understood(form):
    model, call = build("qwen")
    made = {
        "bool": mask(),
        "zeros and ones": mask().half(),
        "additive": (1 - mask().float()) * -10000.0,
        "additive with queries": ((1 - mask().float()) * torch.finfo(torch.float32).min)[:, None],
    }[form]
    found = find_masks(model, (), {**call, "encoder_hidden_states_mask": made})
    assert torch.equal(found["encoder_hidden_states_mask"], mask())


def with_experts(family: str = "qwen"):
    model, call = build(family)
    torch.manual_seed(1)
    for block in model.transformer_blocks:
        block.txt_mlp = MOEFeedForwardSwiGLU(32, 48, num_routed_experts=4, num_activated_experts=2).eval()
    return model.requires_grad_(False), call


def routed_tokens(model, call: dict) -> dict[str, torch.Tensor]:
    """Expert's layer -> the tokens that come from text, found again among those that the mixture receives."""
    names = [layer.name for layer in list_layers(model) if layer.routed]
    found = seen(model, [*names, *{name.split(".experts")[0] for name in names}], call)
    kept = {}
    for name in names:
        if name in found and not name.endswith("w2"):
            text = found[name.split(".experts")[0]][mask()]
            tokens = found[name].reshape(-1, 32)
            kept[name] = tokens[[any(torch.equal(token, one) for one in text) for token in tokens]]
            assert name.split(".")[0] == "transformer_blocks"
    return kept


def test_experts_do_not_count_padding_either():
    model, call = with_experts()
    sums, naive = watched(model, call), routed_tokens(model, call)
    assert sum(len(tokens) for tokens in naive.values()) == 2 * 2 * 2 * sum(LENGTHS)  # blocks × w1, w3 × experts
    for name, tokens in naive.items():
        assert int(sums.tokens[name]) == int(sums.tokens[name.replace("w1", "w2").replace("w3", "w2")]) == len(tokens)
        torch.testing.assert_close(sums.squares[name][0], tokens.square().sum(0), rtol=1e-5, atol=1e-6)


def test_second_moments_of_experts_in_a_pruned_model_do_not_count_padding(pixart, calibration):
    transformer, call = with_experts()
    layers = list_layers(transformer)
    pipeline = type("Pipeline", (), {"transformer": transformer})()
    model = replace(pixart, pipeline=pipeline, layers=layers)
    unread = unread_tokens.UnreadTokens(transformer, layers)
    with torch.no_grad():
        recorded = Call(call, 2, (0, 1), (0, 0), unread=unread.of((), call))
    names = [layer.name for layer in layers if layer.routed]
    query = "transformer_blocks.0.attn.add_v_proj"
    pruned = {query: PrunedLayer(pack(torch.rand(32, 32, generator=torch.Generator().manual_seed(0)) > 0.7))}
    found = collect_moments(
        model,
        names,
        like=calibration,
        inputs=RecordedInputs((recorded,), calibration.edges, 0),
        altered=lambda: running_pruned(model, pruned),
    )
    with running_pruned(model, pruned):
        naive = routed_tokens(transformer, call)
    assert naive
    for name, tokens in naive.items():
        assert found[name].tokens == pytest.approx(len(tokens)), name
        torch.testing.assert_close(found[name].hessian.double(), tokens.T @ tokens, rtol=1e-4, atol=1e-4)


def test_models_without_masks_run_no_more_often(flux, monkeypatch):
    """FLUX is counted as ever: nothing is looked for, and each step of a batch is one call."""
    monkeypatch.setattr(unread_tokens, "find_unread", lambda *args: pytest.fail("there is nothing to look for"))
    assert counting_version(flux) == VERSION == 1  # calibrations on disk, the shipped one too, stay recognised
    calls = []
    forward = flux.transformer.forward

    @functools.wraps(forward)
    def count(*args, **kwargs):
        calls.append(1)
        return forward(*args, **kwargs)

    monkeypatch.setattr(flux.transformer, "forward", count)
    found = calibrate(flux, samples=8, seed=1, steps=4, prompts=PROMPTS)
    assert len(calls) == 2 * (1 + 4)  # both halves under guidance: a step to see the plan, and four of one batch
    record_inputs(flux, found)
    assert len(calls) == 4 * (1 + 4)


def test_a_mask_that_masks_nothing_costs_nothing(monkeypatch):
    model, call = build("qwen")
    monkeypatch.setattr(unread_tokens, "find_unread", lambda *args: pytest.fail("there is nothing to look for"))
    whole = {**call, "encoder_hidden_states_mask": torch.ones(2, TEXT, dtype=torch.bool)}
    assert int(watched(model, whole).tokens["transformer_blocks.0.attn.add_k_proj"]) == 2 * TEXT


def test_the_same_masks_are_looked_through_once(pixart, monkeypatch):
    made = []
    find = unread_tokens.find_unread
    monkeypatch.setattr(unread_tokens, "find_unread", lambda *args: made.append(1) or find(*args))
    calibrate(pixart, samples=16, seed=3, steps=8, prompts=PROMPTS)
    assert len(made) == 1


def test_calibrations_that_counted_padding_are_not_taken_from_disk(pixart, flux, monkeypatch):
    def key(model):
        return calibration_key(model, samples=8, seed=0, steps=3, bins=4)

    new = key(pixart), key(flux)
    for model in (pixart, flux):
        monkeypatch.setitem(vars(model), "can_mask", False)  # as it was
    assert key(pixart) != new[0]
    assert key(flux) == new[1]
