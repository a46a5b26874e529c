"""A real, small diffusers transformer with masks on, and dense again afterwards."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from diffusers import DiTTransformer2DModel
from torch import nn

from dit_prune_viz.errors import Cancelled, UserError
from dit_prune_viz.masks.packed_mask import pack
from dit_prune_viz.masks.pruned_layer import PrunedLayer
from dit_prune_viz.masks.running import running_pruned
from dit_prune_viz.masks.select import keep_mask
from dit_prune_viz.pipelines.layers import list_layers


def small_dit(dtype: torch.dtype = torch.float32) -> DiTTransformer2DModel:
    torch.manual_seed(0)
    model = DiTTransformer2DModel(
        num_attention_heads=2, attention_head_dim=8, in_channels=4, out_channels=4, num_layers=2, sample_size=4
    )
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.2)  # biases too: they must stay
    return model.to(dtype).eval()


def half_masks(model: nn.Module) -> dict:
    return {
        layer.name: pack(keep_mask(model.get_submodule(layer.name).weight.abs(), sparsity=0.5, granularity="row"))
        for layer in list_layers(model)
    }


def half_pruned(model: nn.Module) -> dict[str, PrunedLayer]:
    return {name: PrunedLayer(mask) for name, mask in half_masks(model).items()}


def run(model: nn.Module) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    latents = torch.randn(2, 4, 4, 4, generator=generator).to(next(model.parameters()).dtype)
    return model(latents, timestep=torch.tensor([10, 500]), class_labels=torch.tensor([3, 7])).sample


def zeroed(dtype: torch.dtype = torch.float32) -> nn.Module:
    """The same model with the same weights set to zero by hand."""
    model = small_dit(dtype)
    for name, mask in half_masks(model).items():
        weight = model.get_submodule(name).weight
        weight.data = torch.where(mask.unpack(), weight.data, torch.zeros_like(weight.data))
    return model


class Untouched:
    """Remembers a model bit by bit, and says whether it is still the same."""

    def __init__(self, model: nn.Module) -> None:
        self.model = model
        self.bits = {name: tensor.clone() for name, tensor in model.state_dict().items()}
        self.objects = dict(model.named_parameters())
        self.attributes = {name: set(vars(module)) for name, module in model.named_modules()}

    def check(self) -> None:
        now = self.model.state_dict()
        assert now.keys() == self.bits.keys()
        for name, tensor in now.items():
            same = torch.equal(tensor.view(torch.uint8), self.bits[name].view(torch.uint8))
            assert same, name
        assert all(parameter is self.objects[name] for name, parameter in self.model.named_parameters())
        assert {name: set(vars(module)) for name, module in self.model.named_modules()} == self.attributes


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("cache_bytes", [0, 700, 1 << 20])
@torch.no_grad()
def test_runs_like_a_model_with_zeroed_weights(dtype, cache_bytes):
    model = small_dit(dtype)
    dense, expected, state = run(model), run(zeroed(dtype)), Untouched(model)
    layers = half_pruned(model)
    assert len(layers) == 14
    with running_pruned(model, layers, cache_bytes=cache_bytes):
        first, second = run(model), run(model)
        with torch.inference_mode():
            third = run(model)
        fourth = run(model)
    for output in (first, second, third, fourth):
        assert output.dtype == dtype
        assert torch.equal(output, expected)
    assert not torch.equal(expected, dense)
    state.check()
    assert torch.equal(run(model), dense)


@torch.no_grad()
def test_runs_inside_autocast():
    model = small_dit()
    with torch.autocast("cpu", torch.bfloat16):
        dense, expected = run(model), run(zeroed())
        with running_pruned(model, half_pruned(model)):
            assert torch.equal(run(model), expected)
            assert torch.equal(run(model), expected)
        assert torch.equal(run(model), dense)


@torch.no_grad()
def test_pipelines_and_models_are_taken_by_their_transformer():
    model = small_dit()
    expected = run(zeroed())
    with running_pruned(SimpleNamespace(transformer=model), half_pruned(model)):
        assert torch.equal(run(model), expected)
    for nothing in (SimpleNamespace(unet=model), SimpleNamespace(transformer=None)):
        with pytest.raises(UserError, match="no transformer"), running_pruned(nothing, {}):
            pass


@torch.no_grad()
def test_one_layer_alone_and_none():
    model = small_dit()
    dense = run(model)
    name, mask = next(iter(half_masks(model).items()))
    with running_pruned(model, {}):
        assert torch.equal(run(model), dense)
    with running_pruned(model, {name: PrunedLayer(pack(torch.ones(mask.shape, dtype=torch.bool)))}):
        assert torch.equal(run(model), dense)
    linear = model.get_submodule(name)
    inputs = torch.randn(3, linear.in_features)
    with running_pruned(model, {name: PrunedLayer(pack(torch.zeros(mask.shape, dtype=torch.bool)))}):
        assert torch.equal(linear(inputs), linear.bias.expand(3, -1))  # the bias stays


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt, Cancelled, SystemExit, GeneratorExit])
@torch.no_grad()
def test_dense_again_whatever_happens_inside(error):
    model = small_dit()
    dense, state, layers = run(model), Untouched(model), half_pruned(model)

    def work():
        with running_pruned(model, layers):
            run(model)
            raise error

    with pytest.raises(error):
        work()
    state.check()
    assert torch.equal(run(model), dense)


@torch.no_grad()
def test_dense_again_when_a_layer_fails_in_mid_forward():
    model = small_dit()
    state, layers = Untouched(model), half_pruned(model)

    def fail(module, inputs):
        raise KeyboardInterrupt

    hook = model.transformer_blocks[1].ff.net[2].register_forward_pre_hook(fail)
    with pytest.raises(KeyboardInterrupt), running_pruned(model, layers):
        run(model)
    hook.remove()
    state.check()


@torch.no_grad()
def test_dense_again_when_a_generator_is_closed():
    model = small_dit()
    state, layers = Untouched(model), half_pruned(model)

    def stream():
        with running_pruned(model, layers):
            while True:
                yield run(model)

    steps = stream()
    assert torch.equal(next(steps), run(zeroed()))
    steps.close()
    state.check()


@torch.no_grad()
def test_hooks_see_the_pruned_layers():
    model = small_dit()
    layers = half_pruned(model)
    seen = []
    hook = model.get_submodule(next(iter(layers))).register_forward_hook(lambda module, args, out: seen.append(out))
    with running_pruned(model, layers):
        run(model)
    hook.remove()
    assert len(seen) == 1


def test_nesting_is_refused_and_the_outer_block_goes_on():
    model = small_dit()
    layers = half_pruned(model)
    first, *_, last = layers
    state = Untouched(model)
    with torch.no_grad(), running_pruned(model, {first: layers[first]}):
        before = run(model)
        with pytest.raises(UserError, match="pruned already"), running_pruned(model, {last: layers[last]}):
            pass
        assert torch.equal(run(model), before)
    state.check()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda layers: {"transformer_blocks.9.attn1.to_q": next(iter(layers.values()))}, "no layer called"),
        (lambda layers: {"": next(iter(layers.values()))}, "no layer called"),
        (lambda layers: {"transformer_blocks.0": next(iter(layers.values()))}, "not a plain Linear"),
        (lambda layers: {"transformer_blocks.0.attn1.to_q": PrunedLayer(pack(torch.ones(3, 4).bool()))}, "has shape"),
    ],
)
def test_what_does_not_fit_is_refused_before_anything_changes(change, message):
    model = small_dit()
    layers = half_pruned(model)
    state = Untouched(model)
    with pytest.raises(UserError, match=message), running_pruned(model, {**layers, **change(layers)}):
        pytest.fail("the block must not be entered")
    state.check()


def test_a_layer_with_a_forward_of_its_own_is_refused_and_keeps_it():
    model = small_dit()
    layers = half_pruned(model)
    linear = model.get_submodule(list(layers)[-1])
    own = linear.forward = lambda inputs: 2 * type(linear).forward(linear, inputs)
    with pytest.raises(UserError, match="not a plain Linear"), running_pruned(model, layers):
        pass
    assert vars(linear)["forward"] == own
    assert sum("forward" in vars(module) for module in model.modules()) == 1


def test_a_layer_that_hooks_have_left_is_a_plain_one():
    model = small_dit()
    layers = half_pruned(model)
    with running_pruned(model, layers):
        expected = run(model)
    linear = model.get_submodule(list(layers)[-1])
    own = linear.forward = linear.forward  # as accelerate leaves it when it takes its hooks away
    with running_pruned(model, layers):
        assert torch.equal(run(model), expected)
    assert vars(linear)["forward"] == own


def test_gradients_flow_through_the_kept_weights_only():
    model = small_dit()
    masks = half_masks(model)
    name = next(iter(masks))
    with running_pruned(model, half_pruned(model)):
        with torch.inference_mode():
            run(model)
        run(model).square().sum().backward()
    gradient = model.get_submodule(name).weight.grad
    assert not gradient[~masks[name].unpack()].any()
    assert gradient[masks[name].unpack()].any()


@torch.no_grad()
def test_a_weight_that_is_changed_inside_is_seen():
    linear = nn.Linear(4, 4)
    model = nn.Sequential(linear)
    mask = torch.eye(4).bool()
    inputs = torch.randn(2, 4)
    with running_pruned(model, {"0": PrunedLayer(pack(mask))}):
        model(inputs)
        linear.weight.mul_(2)
        assert torch.equal(model(inputs), nn.functional.linear(inputs, linear.weight * mask, linear.bias))
        linear.to(torch.bfloat16)
        assert model(inputs.bfloat16()).dtype == torch.bfloat16


def half_updated(model: nn.Module, bias: bool) -> dict[str, PrunedLayer]:
    """New random values for all kept weights, and biases if asked."""
    generator = torch.Generator().manual_seed(5)
    layers = {}
    for name, mask in half_masks(model).items():
        own = torch.randn(mask.shape[0], generator=generator) if bias else None
        layers[name] = PrunedLayer(mask, torch.randn(mask.kept, generator=generator), own)
    return layers


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("cache_bytes", [0, 1 << 20])
@pytest.mark.parametrize("bias", [False, True])
@torch.no_grad()
def test_updates_run_like_a_model_with_those_weights(dtype, cache_bytes, bias):
    model, other = small_dit(dtype), small_dit(dtype)
    layers, state = half_updated(model, bias), Untouched(model)
    for name, update in layers.items():
        linear = other.get_submodule(name)
        linear.weight.copy_(torch.zeros(update.mask.shape).masked_scatter(update.mask.unpack(), update.values))
        if bias:
            linear.bias.copy_(update.bias)
    dense, expected = run(model), run(other)
    with running_pruned(model, layers, cache_bytes=cache_bytes):
        assert torch.equal(run(model), expected)
        assert torch.equal(run(model), expected)
    state.check()
    assert torch.equal(run(model), dense)


@torch.no_grad()
def test_layers_without_new_values_keep_their_mask():
    model = small_dit()
    layers = half_pruned(model)
    name, update = next(iter(half_updated(model, False).items()))
    mask = layers[name].mask
    same = PrunedLayer(mask, model.get_submodule(name).weight[mask.unpack()])
    with running_pruned(model, {**layers, name: same}):
        assert torch.equal(run(model), run(zeroed()))
    with running_pruned(model, {**layers, name: update}):
        assert not torch.equal(run(model), run(zeroed()))


def test_values_for_another_mask_are_refused():
    model = small_dit()
    mask, state = next(iter(half_masks(model).values())), Untouched(model)
    with pytest.raises(UserError, match="does not fit"):
        PrunedLayer(mask, torch.zeros(mask.kept + 1))
    stray = {"nowhere": PrunedLayer(mask, torch.zeros(mask.kept))}
    with pytest.raises(UserError, match="no layer called"), running_pruned(model, stray):
        pytest.fail("the block must not be entered")
    state.check()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_large_layer_is_masked_piece_by_piece_with_the_same_bits(dtype):
    weight = torch.randn(2051, 4099, generator=torch.Generator().manual_seed(0)).to(dtype)  # two pieces and a rest
    keep = weight.abs() > 0.7
    product = PrunedLayer(pack(keep)).dense(weight)
    assert torch.equal(product.view(torch.uint8), (weight * keep).view(torch.uint8))
