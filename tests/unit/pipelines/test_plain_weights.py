"""Quantised layers and LoRA adapters are refused in one sentence, before anything is made of them."""

from __future__ import annotations

import json
import shutil
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from dit_prune_viz.calibration.calibrate import calibrate
from dit_prune_viz.calibration.statistics import Statistics
from dit_prune_viz.errors import UserError
from dit_prune_viz.masks.packed_mask import pack
from dit_prune_viz.masks.pruned_layer import PrunedLayer
from dit_prune_viz.masks.running import running_pruned
from dit_prune_viz.pipelines.model import load_model
from dit_prune_viz.pipelines.plain_weights import check_layer, check_transformer
from dit_prune_viz.pruning.prune import prune

QUANTISED = r"^The transformer of .+ is quantised \(.+\), so .+; load .+ float32, bfloat16 or float16\.$"
ADAPTER = r"^The \w+ of .+ has a LoRA adapter, .+fuse_lora\(\) .+unload_lora_weights\(\), .+\.$"


@pytest.fixture
def copy(tiny_flux, tmp_path):
    return shutil.copytree(tiny_flux, tmp_path / "pipeline")


@pytest.fixture
def model(tiny_flux):
    return load_model(tiny_flux, device="cpu", dtype="float32")


def made_by(package: str, base: type, **extra) -> type:
    return type("StandIn", (base,), {"__module__": package, **extra})


def with_weight(weight: torch.Tensor, kind: type = nn.Linear) -> nn.Module:
    linear = kind(64, 64)
    linear.weight = weight if isinstance(weight, nn.Parameter) else nn.Parameter(weight, requires_grad=False)
    return linear


def four_bit() -> nn.Module:
    """As bitsandbytes' Linear4bit holds it: codes of two weights in a byte, (2048, 1) for 64×64."""
    parameter = made_by("bitsandbytes.nn.modules", nn.Parameter)
    codes = torch.zeros(2048, 1, dtype=torch.uint8)
    return with_weight(parameter(codes, requires_grad=False), made_by("bitsandbytes.nn.modules", nn.Linear))


def tensor_subclass(package: str) -> nn.Module:
    kind = made_by(package, torch.Tensor)
    linear = nn.Linear(64, 64)
    linear.weight = nn.Parameter(torch.zeros(64, 64).as_subclass(kind), requires_grad=False)
    return linear


LAYERS = {
    "bitsandbytes 4 bit": four_bit(),
    "bitsandbytes 8 bit before it is moved": made_by("bitsandbytes.nn.modules", nn.Linear)(64, 64),
    "a class derived from it": type("Mine", (made_by("bitsandbytes.nn.modules", nn.Linear),), {})(64, 64),
    "quanto": made_by("optimum.quanto.nn.qlinear", nn.Linear)(64, 64),
    "torchao": tensor_subclass("torchao.quantization.quantize_.workflows.int8.int8_tensor"),
    "torchao, shortened": tensor_subclass("torchao.quantization"),
    "gguf": made_by("diffusers.quantizers.gguf.utils", nn.Linear)(64, 64),
    "no Linear at all": made_by("awq.modules.linear.gemm", nn.Module)(),
    "fp8 e4m3": with_weight(torch.zeros(64, 64).to(torch.float8_e4m3fn)),
    "fp8 e5m2": with_weight(torch.zeros(64, 64).to(torch.float8_e5m2)),
    "int8": with_weight(torch.zeros(64, 64, dtype=torch.int8)),
    "uint8": with_weight(torch.zeros(64, 64, dtype=torch.uint8)),
}


@pytest.mark.parametrize("layer", LAYERS.values(), ids=list(LAYERS))
def test_quantised_layers_are_refused_wherever_they_stand(layer):
    with pytest.raises(UserError, match=QUANTISED):
        check_layer(layer, "tiny")
    with pytest.raises(UserError, match=QUANTISED):
        check_transformer(nn.ModuleDict({"blocks": nn.ModuleList([nn.Linear(4, 4), layer])}), "tiny")


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
def test_plain_layers_pass(dtype):
    blocks = nn.Sequential(nn.Linear(4, 4), nn.LayerNorm(4), nn.Embedding(4, 4), nn.MultiheadAttention(4, 2)).to(dtype)
    check_transformer(blocks, "tiny")


@pytest.mark.parametrize(
    "config", [{"quant_method": "bitsandbytes"}, SimpleNamespace(quant_method="torchao"), {"a": 1}]
)
def test_a_transformer_that_says_it_is_quantised_is_refused(config):
    transformer = nn.Linear(4, 4)
    transformer.config = {"quantization_config": config}
    with pytest.raises(UserError, match=QUANTISED):
        check_transformer(transformer, "tiny")
    other = nn.Linear(4, 4)
    other.hf_quantizer = object()
    with pytest.raises(UserError, match=QUANTISED):
        check_transformer(other, "tiny")


def test_a_folder_with_a_quantisation_in_its_config_is_not_opened(copy, monkeypatch):
    file = copy / "transformer" / "config.json"
    config = json.loads(file.read_text()) | {"quantization_config": {"quant_method": "bitsandbytes"}}
    file.write_text(json.dumps(config))
    monkeypatch.setattr("diffusers.DiffusionPipeline.from_pretrained", None)
    with pytest.raises(UserError, match=r"quantised \(by bitsandbytes\)"):
        load_model(copy, device="cpu")


@pytest.mark.parametrize("dtype", [torch.float8_e4m3fn, torch.int8])
def test_a_folder_with_stored_codes_is_refused(copy, dtype):
    """diffusers would read fp8 as float32, and nothing of the loaded model would show it."""
    (file,) = (copy / "transformer").glob("*.safetensors")
    tensors = load_file(file)
    name = "transformer_blocks.0.attn.to_q.weight"
    save_file({**tensors, name: tensors[name].to(dtype)}, file)
    with pytest.raises(UserError, match=r"quantised \(weights stored as (F8_E4M3|I8)\)"):
        load_model(copy, device="cpu")


def test_another_variant_beside_the_weights_does_not_matter(copy):
    (file,) = (copy / "transformer").glob("*.safetensors")
    fp8 = {name: tensor.to(torch.float8_e4m3fn) for name, tensor in load_file(file).items()}
    save_file(fp8, file.with_name("diffusion_pytorch_model.fp8.safetensors"))
    assert load_model(copy, device="cpu").layers


def test_fp8_storage_after_loading_is_refused_when_pruning(model):
    calibration = calibrate(model, samples=2)
    model.transformer.enable_layerwise_casting(storage_dtype=torch.float8_e4m3fn, compute_dtype=torch.float32)
    with pytest.raises(UserError, match=QUANTISED):
        prune(model, "magnitude", statistics=Statistics(model, calibration))


class Adapted(nn.Module):
    """What peft puts in place of a Linear."""

    def __init__(self, base: nn.Linear) -> None:
        super().__init__()
        self.base_layer = base
        self.lora_A = nn.ModuleDict({"default": nn.Linear(base.in_features, 2, bias=False)})
        self.lora_B = nn.ModuleDict({"default": nn.Linear(2, base.out_features, bias=False)})

    @property
    def weight(self):
        return self.base_layer.weight

    @property
    def bias(self):
        return self.base_layer.bias

    def forward(self, input):
        return self.base_layer(input) + self.lora_B["default"](self.lora_A["default"](input))


@pytest.mark.parametrize("adapted", ["transformer_blocks.0.attn.to_q", "x_embedder"])
def test_an_adapter_loaded_after_the_model_is_refused_when_pruning(model, adapted):
    calibration = calibrate(model, samples=2)
    name = model.layers[0].name
    mask = pack(torch.ones(model.layer(name).shape, dtype=torch.bool))
    model.transformer.set_submodule(adapted, Adapted(model.transformer.get_submodule(adapted)))
    model.transformer.peft_config = {"default": object()}
    with pytest.raises(UserError, match=ADAPTER):
        prune(model, "magnitude", statistics=Statistics(model, calibration))
    with pytest.raises(UserError, match=ADAPTER), running_pruned(model, {name: PrunedLayer(mask)}):
        pass
    with pytest.raises(UserError, match=ADAPTER):
        check_transformer(model.transformer, "tiny")
    del model.transformer.peft_config
    with pytest.raises(UserError, match=ADAPTER):  # put there by other means than diffusers'
        check_transformer(model.transformer, "tiny")


def test_a_folder_saved_with_an_adapter_is_refused(copy):
    """diffusers would start those layers from random numbers."""
    (file,) = (copy / "transformer").glob("*.safetensors")
    tensors, layer = load_file(file), "transformer_blocks.0.attn.to_q"
    tensors[f"{layer}.base_layer.weight"] = tensors.pop(f"{layer}.weight")
    tensors[f"{layer}.lora_A.default.weight"] = torch.zeros(2, 64)
    save_file(tensors, file)
    with pytest.raises(UserError, match=ADAPTER):
        load_model(copy, device="cpu")


@pytest.mark.parametrize("form", ["variant", "shards"])
def test_an_adapter_is_seen_in_whichever_files_are_loaded(copy, form):
    (file,) = (copy / "transformer").glob("*.safetensors")
    tensors, layer = load_file(file), "transformer_blocks.0.attn.to_q"
    tensors[f"{layer}.base_layer.weight"] = tensors.pop(f"{layer}.weight")
    tensors[f"{layer}.lora_A.default_0.weight"] = torch.zeros(2, 64)
    file.unlink()
    if form == "variant":
        save_file(tensors, file.with_name("diffusion_pytorch_model.fp16.safetensors"))
    else:
        places = {key: f"part-{index % 2}.safetensors" for index, key in enumerate(sorted(tensors))}
        for place in set(places.values()):
            save_file({key: tensors[key] for key in tensors if places[key] == place}, file.with_name(place))
        file.with_name(f"{file.name}.index.json").write_text(json.dumps({"metadata": {}, "weight_map": places}))
    with pytest.raises(UserError, match=ADAPTER):
        load_model(copy, device="cpu")


@pytest.mark.parametrize(
    "key",
    [
        "encoder.layers.0.self_attn.q_proj.lora_A.default.weight",
        "encoder.layers.0.self_attn.q_proj.base_layer.weight",
        "encoder.layers.0.self_attn.q_proj.lora_magnitude_vector.default.weight",
        "encoder.layers.0.self_attn.processor.to_q_lora.down.weight",
    ],
)
def test_an_adapter_in_a_text_encoder_is_refused(copy, key):
    file = copy / "text_encoder" / "model.safetensors"
    save_file({**load_file(file), key: torch.zeros(2, 32)}, file, {"format": "pt"})
    with pytest.raises(UserError, match=ADAPTER):
        load_model(copy, device="cpu")


@pytest.mark.parametrize("part", ["transformer", "text_encoder_2"])
@pytest.mark.parametrize("whole", [True, False])
def test_a_part_saved_as_an_adapter_alone(copy, part, whole):
    """peft and transformers keep the name of the base model in its settings, and would load that one."""
    (copy / part / "adapter_config.json").write_text('{"base_model_name_or_path": "org/base", "peft_type": "LORA"}')
    if not whole:
        (file,) = (copy / part).glob("*.safetensors")
        file.rename(file.with_name("adapter_model.safetensors"))
    if whole and part == "transformer":  # diffusers reads no such settings
        assert load_model(copy, device="cpu").layers
        return
    with pytest.raises(UserError, match=ADAPTER):
        load_model(copy, device="cpu")


def test_a_module_with_lora_in_its_name_is_no_adapter(copy):
    """Cosmos has modules of that kind of its own; this key is refused for another reason."""
    (file,) = (copy / "transformer").glob("*.safetensors")
    save_file({**load_file(file), "norm.adaln_lora.weight": torch.zeros(2, 2)}, file)
    with pytest.raises(UserError, match="no layer for"):
        load_model(copy, device="cpu")
