"""Dense and pruned generation: the same noise, the pipeline's own picture, and nothing left behind."""

from __future__ import annotations

import itertools
import threading

import numpy as np
import pytest
import torch

from dit_prune_viz.calibration.calibrate import calibrate
from dit_prune_viz.calibration.statistics import Statistics
from dit_prune_viz.errors import Cancelled, UserError
from dit_prune_viz.generation.preview import decode, predicted_clean
from dit_prune_viz.generation.request import Request, check_request
from dit_prune_viz.generation.stream import generate, stream, stream_batch
from dit_prune_viz.masks.packed_mask import pack
from dit_prune_viz.masks.pruned_layer import PrunedLayer
from dit_prune_viz.pipelines.model import load_model
from dit_prune_viz.pipelines.steps import Denoised, watch_steps
from dit_prune_viz.pruning.prune import prune

REQUEST = Request("a cat", seed=7, steps=4)


def pixels(image) -> np.ndarray:
    return np.asarray(image)


def weights(model) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in model.transformer.state_dict().items()}


def is_as_before(model, before) -> bool:
    """Weights bit for bit, no masked forward, no watched scheduler, no worker left, lock free."""
    after = model.transformer.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert not [name for name, module in model.transformer.named_modules() if "forward" in vars(module)]
    assert "step" not in vars(model.pipeline.scheduler)
    assert not [thread for thread in threading.enumerate() if "generation" in thread.name]
    assert model.lock.free
    return True


@pytest.fixture(scope="module")
def masks(flux):
    generator = torch.Generator().manual_seed(0)
    return {layer.name: pack(torch.rand(layer.shape, generator=generator) > 0.5) for layer in flux.layers}


@pytest.fixture(scope="module")
def layers(masks):
    return {name: PrunedLayer(mask) for name, mask in masks.items()}


def draw(model, request, layers=None):
    """The finished picture and its latents."""
    *_, last = stream(model, request, layers=layers, preview_every=0)
    return last.image, last.latents


def test_the_picture_is_the_pipelines_own(flux):
    image, latents = generate(flux, REQUEST)
    call = {"prompt": "a cat", "negative_prompt": "", "true_cfg_scale": 3.0, "num_inference_steps": 4}
    sizes = {"height": 64, "width": 64, "max_sequence_length": 16}
    plain = flux.pipeline(**call, **sizes, generator=torch.Generator().manual_seed(7))
    assert np.array_equal(pixels(image), pixels(plain.images[0]))
    raw = flux.pipeline(**call, **sizes, generator=torch.Generator().manual_seed(7), output_type="latent")
    assert torch.equal(latents, raw.images)


def test_steps_come_in_order_and_the_last_is_final(flux):
    steps = list(stream(flux, REQUEST, preview_every=2))
    assert [step.index for step in steps] == [1, 2, 3, 4]
    assert {step.steps for step in steps} == {4}
    assert [step.final for step in steps] == [False, False, False, True]
    assert [step.image is not None for step in steps] == [False, True, False, True]
    assert steps[-1].image.size == (64, 64)
    assert steps[0].latents is None
    assert steps[-1].latents.dtype == torch.float32


def test_repeats_are_bit_identical_and_seeds_differ(flux, layers):
    for chosen in (None, layers):
        first, latents = draw(flux, REQUEST, chosen)
        again, same = draw(flux, REQUEST, chosen)
        assert torch.equal(latents, same)
        assert np.array_equal(pixels(first), pixels(again))
    assert not torch.equal(generate(flux, Request("a cat", seed=8, steps=4))[1], generate(flux, REQUEST)[1])


def test_dense_and_pruned_start_from_the_same_noise(flux, layers):
    noises = []

    class Seen(Exception):
        pass

    def first_input(module, args, kwargs):
        noises.append(kwargs["hidden_states"].clone())
        raise Seen

    handle = flux.transformer.register_forward_pre_hook(first_input, with_kwargs=True)
    for chosen in (None, layers):
        with pytest.raises(Seen):  # what the worker raises reaches the caller
            draw(flux, REQUEST, chosen)
    handle.remove()
    assert torch.equal(*noises)


def test_masks_change_the_picture_and_nothing_else(flux, layers):
    before = weights(flux)
    dense, _ = generate(flux, REQUEST)
    pruned, _ = draw(flux, REQUEST, layers)
    assert not np.array_equal(pixels(dense), pixels(pruned))
    assert is_as_before(flux, before)
    assert np.array_equal(pixels(generate(flux, REQUEST)[0]), pixels(dense))


def test_masks_equal_zeroed_weights(tiny_flux, flux, masks, layers):
    zeroed = load_model(tiny_flux, device="cpu")
    for name, mask in masks.items():
        zeroed.weight(name).mul_(mask.unpack())
    torch.testing.assert_close(generate(zeroed, REQUEST)[1], draw(flux, REQUEST, layers)[1])


def test_new_values_take_the_place_of_kept_weights(tiny_flux, flux, masks, layers):
    before = weights(flux)
    other = load_model(tiny_flux, device="cpu")
    updates = {}
    for name, mask in masks.items():
        updates[name] = PrunedLayer(mask, 1.5 * flux.weight(name)[mask.unpack()])
        other.weight(name).copy_(updates[name].dense(other.weight(name)))
    expected = generate(other, REQUEST)[1]
    torch.testing.assert_close(draw(flux, REQUEST, updates)[1], expected)
    assert not torch.allclose(expected, draw(flux, REQUEST, layers)[1])
    assert is_as_before(flux, before)


def test_a_pruned_model_is_drawn_with(flux):
    pruned = prune(flux, "magnitude", sparsity=0.5, statistics=Statistics(flux, calibrate(flux, samples=4)))
    _, latents = generate(flux, REQUEST, pruned=pruned)
    assert torch.equal(latents, draw(flux, REQUEST, pruned.layers)[1])
    assert not torch.equal(latents, generate(flux, REQUEST)[1])


def test_bad_masks_are_refused(flux):
    before = weights(flux)
    with pytest.raises(UserError):
        draw(flux, REQUEST, {"nowhere": PrunedLayer(pack(torch.ones(2, 2, dtype=torch.bool)))})
    assert is_as_before(flux, before)


@pytest.mark.parametrize("how", ["close", "cancel"])
def test_stopping_midway_leaves_the_model_as_it_was(flux, layers, how):
    before = weights(flux)
    cancel = threading.Event()
    run = stream(flux, Request("a cat", seed=1, steps=200), layers=layers, cancel=cancel)
    assert next(run).index == 1
    if how == "close":
        run.close()
    else:
        cancel.set()
        with pytest.raises(Cancelled):
            list(run)
    assert is_as_before(flux, before)


def test_a_waiting_run_can_be_cancelled(flux):
    cancel, held, done = (threading.Event() for _ in range(3))

    def other_work():
        with flux.lock.hold():
            held.set()
            done.wait(30)

    other = threading.Thread(target=other_work)
    other.start()
    assert held.wait(30)
    cancel.set()
    try:
        with pytest.raises(Cancelled):
            list(stream(flux, REQUEST, cancel=cancel))
        assert not flux.lock.free  # it gave up while the other still worked
    finally:
        done.set()
        other.join()


def test_who_holds_the_lock_may_draw(flux):
    with flux.lock.hold():
        _, latents = generate(flux, REQUEST)
        assert not flux.lock.free
    assert flux.lock.free
    assert torch.equal(latents, generate(flux, REQUEST)[1])


def test_two_runs_on_one_model_do_not_mix(flux, layers):
    alone = [draw(flux, REQUEST, chosen)[1] for chosen in (None, layers)]
    together = [stream(flux, REQUEST, layers=chosen, preview_every=0) for chosen in (None, layers)]
    last = list(itertools.zip_longest(*together))[-1]
    assert [step.final for step in last] == [True, True]
    assert all(torch.equal(step.latents, latents) for step, latents in zip(last, alone, strict=True))


def test_running_out_of_memory_is_one_sentence(flux):
    def fail(module, args):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20 GiB")

    before = weights(flux)
    handle = flux.transformer.register_forward_pre_hook(fail)
    with pytest.raises(UserError, match="does not fit into the memory"):
        generate(flux, REQUEST)
    handle.remove()
    assert is_as_before(flux, before)


@pytest.mark.parametrize(
    ("family", "prompts"),
    [
        ("flux", ("a cat", "the moon")),
        ("sd3", ("a cat", "the moon")),
        ("pixart", ("a cat", "the moon")),
        ("dit", ("golden retriever", "7")),
    ],
)
def test_a_batch_previews_every_picture_and_draws_each_as_alone(request, family, prompts):
    model = load_model(request.getfixturevalue(f"tiny_{family}"), device="cpu")
    asked = [Request(prompt, seed=2, steps=3) for prompt in prompts]
    steps = list(stream_batch(model, asked, preview_every=1))
    assert [(step.index, step.final) for step in steps] == [(1, False), (2, False), (3, True)]
    assert [[image.size for image in step.images] for step in steps] == [[(64, 64)] * 2] * 3
    first, second = steps[0].images
    assert not np.array_equal(pixels(first), pixels(second))
    assert not np.array_equal(pixels(first), pixels(steps[1].images[0]))  # a look at another step, not a still
    for place, one in enumerate(asked):
        image, latents = generate(model, one)
        torch.testing.assert_close(steps[-1].latents[place], latents[0], rtol=1e-3, atol=1e-3)
        assert np.abs(pixels(steps[-1].images[place]).astype(int) - pixels(image)).max() <= 3


def test_pictures_of_different_sizes_are_no_batch(flux):
    with pytest.raises(UserError, match="agree in steps"):
        stream_batch(flux, [REQUEST, Request("a cat", seed=7, steps=5)])
    with pytest.raises(UserError, match="no prompt"):
        stream_batch(flux, [])


@pytest.mark.parametrize(("family", "prompt"), [("sd3", "a cat"), ("pixart", "a cat"), ("dit", "golden retriever")])
def test_other_families(request, family, prompt):
    model = load_model(request.getfixturevalue(f"tiny_{family}"), device="cpu")
    asked = Request(prompt, seed=2, steps=3)
    steps = list(stream(model, asked, preview_every=1))
    assert [step.index for step in steps] == [1, 2, 3]
    assert all(step.image.size == (64, 64) for step in steps)
    assert steps[-1].latents.shape[0] == 1
    image, latents = generate(model, asked)
    assert torch.equal(latents, steps[-1].latents)
    assert np.array_equal(pixels(image), pixels(steps[-1].image))
    layer = model.layers[0]
    _, pruned = draw(model, asked, {layer.name: PrunedLayer(pack(torch.zeros(layer.shape, dtype=torch.bool)))})
    assert not torch.equal(pruned, latents)


def test_the_last_prediction_decodes_to_the_final_picture(flux):
    """At the last flow-matching step x0 is where the sampler lands, so preview and picture must agree."""
    seen = []
    with watch_steps(flux.pipeline, seen.append):
        image, _ = generate(flux, REQUEST)
    last = seen[-1]
    assert (last.index, last.steps) == (4, 4)
    (preview,) = decode(flux.pipeline, predicted_clean(flux.pipeline.scheduler, last), 64, 64)
    assert np.abs(pixels(preview).astype(int) - pixels(image)).max() <= 1


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
def test_clean_prediction_of_a_variance_preserving_sampler(prediction):
    from diffusers import DDIMScheduler

    scheduler = DDIMScheduler(prediction_type=prediction)
    scheduler.set_timesteps(10)
    clean, noise = torch.randn(2, 1, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    timestep = scheduler.timesteps[3]
    noisy = scheduler.add_noise(clean, noise, timestep[None])
    output = noise if prediction == "epsilon" else scheduler.get_velocity(clean, noise, timestep[None])
    done = Denoised(4, 10, float(timestep) / 1000, output, noisy, noisy)
    torch.testing.assert_close(predicted_clean(scheduler, done), clean, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"prompt": ""}, "prompt is empty"),
        ({"prompt": " \n"}, "prompt is empty"),
        ({"prompt": None}, "prompt is empty"),
        ({"prompt": "x" * 10_000}, "10,000 characters"),
        ({"steps": 0}, "from 1 to 200"),
        ({"steps": 10_000}, "from 1 to 200"),
        ({"steps": 2.5}, "from 1 to 200"),
        ({"steps": "four"}, "from 1 to 200"),
        ({"steps": float("nan")}, "from 1 to 200"),
        ({"seed": -1}, "The seed"),
        ({"seed": 2**32}, "The seed"),
        ({"seed": True}, "The seed"),
        ({"guidance_scale": float("nan")}, "guidance scale"),
        ({"guidance_scale": -1}, "guidance scale"),
        ({"height": 65}, "multiple of 16"),
        ({"width": 8}, "The width"),
        ({"height": 10_000}, "The height"),
    ],
)
def test_bad_requests_are_refused_at_once(flux, change, words):
    asked = Request(**{**vars(REQUEST), **change})
    with pytest.raises(UserError, match=words):
        stream(flux, asked)


def test_a_request_is_completed_with_the_models_defaults(flux):
    asked = check_request(flux, Request("a" * 2000, seed=3.0, steps=20.0))
    assert (asked.guidance_scale, asked.height, asked.width) == (3.0, 64, 64)
    assert asked.steps == 20
    assert isinstance(asked.seed, int)


def test_class_conditional_requests(tiny_dit):
    model = load_model(tiny_dit, device="cpu")
    with pytest.raises(UserError, match="classes, not texts"):
        check_request(model, Request("a cat on a mat", seed=0, steps=2))
    with pytest.raises(UserError, match="64 pixels of height only"):
        check_request(model, Request("7", seed=0, steps=2, height=128))


def test_size_and_guidance_are_followed(flux):
    image, _ = generate(flux, Request("a cat", seed=7, steps=2, height=32, width=96))
    assert image.size == (96, 32)
    free, _ = generate(flux, Request("a cat", seed=7, steps=2, guidance_scale=1.0))
    guided, _ = generate(flux, Request("a cat", seed=7, steps=2))
    assert not np.array_equal(pixels(free), pixels(guided))
