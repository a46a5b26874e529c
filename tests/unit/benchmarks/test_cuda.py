"""The cuda benchmark's driver, on the CPU with a toy: every part runs, a slow or broken one stops no other."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


def module(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"benchmark_under_test_{name}", BENCHMARKS / f"{name}.py")
    found = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = found  # dataclasses look their module up there
    spec.loader.exec_module(found)
    return found


cuda, run, parts = module("cuda"), module("run"), module("cuda_parts")


@pytest.fixture(scope="module")
def small():
    return parts.Setup(torch.device("cpu"), small=True)


def test_all_parts_have_a_limit_and_fit_into_eight_minutes():
    assert list(cuda.PART_LIMITS) == list(parts.PARTS)
    assert sum(cuda.PART_LIMITS.values()) <= 480
    assert cuda.TOTAL_LIMIT < 480


@pytest.mark.parametrize("name", parts.PARTS)
def test_every_part_runs_on_a_toy(small, name):
    torch.manual_seed(0)
    answer = json.loads(json.dumps(parts.PARTS[name](small)))
    assert set(answer) == {"value", "unit", "goal", "held", "detail"}
    assert isinstance(answer["value"], float | int)
    if name == "placement":
        assert answer["detail"]["same_output"]
    if name in ("kernels", "step"):  # no kernel runs on the CPU, and that is no error
        assert not answer["held"]
    if name == "kernels":
        assert all(trial["failure"] for trial in answer["detail"]["trials"])


def test_the_weights_are_those_of_flux():
    """19 double and 38 single blocks; the whole transformer has 11.90 B parameters, embedders and biases included."""
    counted, weights = parts.shapes_of_one_block(parts.Setup(torch.device("cpu"), small=False))
    with torch.device("meta"):
        from diffusers import FluxTransformer2DModel

        whole = FluxTransformer2DModel(guidance_embeds=True)
    blocks = (whole.transformer_blocks, whole.single_transformer_blocks)
    linears = [one for stack in blocks for one in stack.modules() if isinstance(one, torch.nn.Linear)]
    assert weights == sum(one.weight.numel() for one in linears)
    assert sum(number for _, number in counted) == len(linears)


def test_tokens_are_those_that_arrive(small):
    model = parts.flux(small, (1, 1))
    layers = parts.list_layers(model)
    seen: dict[str, int] = {}
    for layer in layers:
        model.get_submodule(layer.name).register_forward_pre_hook(
            lambda module, args, name=layer.name: seen.__setitem__(name, args[0].numel() // args[0].shape[-1])
        )
    with torch.no_grad():
        model(**parts.call_of(small, model))
    assert parts.tokens_of(small, layers) == seen


def test_the_driver_goes_on_after_a_slow_and_a_broken_part(tmp_path, monkeypatch):
    monkeypatch.setattr(cuda, "HERE", tmp_path)
    (tmp_path / "cuda_parts.py").write_text(
        "import json, sys, time\n"
        "name = sys.argv[1]\n"
        "if name == 'slow': time.sleep(60)\n"
        "if name == 'broken': raise RuntimeError('no such | card')\n"
        "print('noise'); print(json.dumps({'value': 2.0, 'unit': 's', 'goal': '', 'held': True, 'detail': {'a': 1}}))\n"
    )
    limits = {"slow": 1, "broken": 20, "good": 20, "late": 20}
    found = cuda.run("cpu", "small", limits=limits)
    told = found["detail"]["parts"]
    assert told["slow"]["detail"] == "took longer than 1 s"
    assert told["broken"]["detail"] == "RuntimeError: no such | card"
    assert told["good"]["held"]
    assert (found["value"], found["held"]) == (2, False)
    assert "| broken | – |  | no |" in found["markdown"]
    assert "no such / card" in found["markdown"]
    assert cuda.run("cpu", "small", limits={"good": 20}, total=0)["detail"]["parts"]["good"]["detail"] == (
        "no time was left"
    )


def test_trials_are_tabulated():
    shown = {"shape": "(3072, 3072, 4096)", "kernel": "CUTLASS", "dense_ms": 1.0, "failure": ""}
    trials = [{**shown, "ms": 0.5, "error": 0.001}, {**shown, "ms": None, "error": None, "failure": "not on this card"}]
    part = {"value": 2.0, "unit": "×", "goal": "", "held": True, "seconds": 1, "detail": {"trials": trials}}
    text = cuda.markdown("Card", {"kernels": part})
    assert "| 3072, 3072, 4096 | CUTLASS | 1.000 | 0.500 | 2.00 | 1.0e-03 |" in text
    assert "| – | – | not on this card |" in text


def test_without_a_gpu_it_is_a_sentence_and_status_2(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.chdir(tmp_path)
    assert run.main(["--only", "cuda"]) == 2
    monkeypatch.setattr(run, "find_benchmarks", lambda: cuda.BENCHMARKS)
    assert "cuda: needs a CUDA GPU" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
    assert run.main([]) == 0


def test_results_and_table_are_written(monkeypatch, tmp_path, capsys):
    answer = {"value": 1, "unit": "of 1 parts", "goal": "all", "held": True, "detail": {}, "markdown": "| a |\n"}
    monkeypatch.setattr(run, "find_benchmarks", lambda: {"cuda": lambda: dict(answer)})
    monkeypatch.chdir(tmp_path)
    assert run.main(["--only", "cuda"]) == 0
    assert (tmp_path / "cuda.md").read_text() == "| a |\n"
    assert json.loads((tmp_path / "cuda.json").read_text())["cuda"]["value"] == 1
    assert run.main(["--only", "cuda", "--json", "out/r.json"]) == 0
    assert (tmp_path / "out/r.md").is_file()
    assert "| a |" in capsys.readouterr().out
