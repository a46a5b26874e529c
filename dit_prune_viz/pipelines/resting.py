"""Weights that rest away from the device that computes, and forwards that hooks have wrapped.

Offloading moves a layer's weight in for its forward and out again. Between two forwards the parameter may be on the
meta device (accelerate) or hold memory that was never written (diffusers, from disk). Whoever reads a weight asks here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from safetensors import safe_open
from torch import Tensor, nn


class Resting:
    """The dense tensors of a module by name, wherever they rest.

    Args:
        root: the part of a pipeline to which offloading was applied, such as the transformer.
    """

    def __init__(self, root: nn.Module) -> None:
        self._root = root
        self._groups = {}
        for module in _modules(root):
            for group in _groups(module):
                for tensor in (*getattr(group, "tensor_to_key", ()), *group.cpu_param_dict):
                    self._groups[tensor] = group

    def __call__(self, name: str) -> Tensor:
        """The parameter or buffer of that name, detached; its own storage where it is in memory, not to be written.

        Raises:
            AttributeError: there is none.
        """
        path, _, own = name.rpartition(".")
        module = self._root.get_submodule(path)
        tensor = getattr(module, own)
        group = self._groups.get(tensor)
        if group is not None and group.offload_to_disk_path is not None:
            return _from_disk(group, tensor)
        if group is not None:  # a copy that stays where it is, while the parameter comes and goes
            return group.cpu_param_dict[tensor].detach()
        if not tensor.is_meta:
            return tensor.detach()
        return _from_hook(self._root, name).detach()

    def parameters(self) -> Iterator[tuple[str, Tensor]]:
        """(name, tensor) of all parameters, one after the other."""
        for name, _ in self._root.named_parameters():
            yield name, self(name)


def put_forward(module: nn.Module, forward: Callable) -> Callable[[], None]:
    """Let a forward stand in for the module's own, inside of all hooks that have the weights moved in for it.

    Args:
        module: one that `plain_forward` is true of.
        forward: called with the inputs alone.

    Returns:
        What takes it away again.
    """
    references = _diffusers_references(module)
    if "_old_forward" in vars(module) and _is_own(module, module._old_forward):
        holder, place = module, "_old_forward"
    elif references and _is_own(module, references[0].forward):
        holder, place = references[0], "forward"
    else:
        holder, place = module, "forward"
    before = vars(holder).get(place)
    setattr(holder, place, forward)

    def undo() -> None:
        if before is None:
            vars(holder).pop(place, None)
        else:
            setattr(holder, place, before)

    return undo


def inner_forwards(module: nn.Module) -> Iterator[object]:
    """Everything that a call of the module goes through, as far as it was set on the module itself."""
    yield from (vars(module)[place] for place in ("forward", "_old_forward") if place in vars(module))
    yield from (reference.forward for reference in _diffusers_references(module))


def plain_forward(module: nn.Module) -> bool:
    """Whether the forward of the module's class runs in the end, alone or inside of hooks that only move weights."""
    return "forward" not in vars(module) or any(_is_own(module, one) for one in inner_forwards(module))


def _is_own(module: nn.Module, forward: object) -> bool:
    return getattr(forward, "__self__", None) is module and forward.__func__ is type(module).forward


def _diffusers_references(module: nn.Module) -> list:
    return getattr(vars(module).get("_diffusers_hook"), "_fn_refs", [])


def _modules(root: nn.Module) -> Iterator[nn.Module]:
    """As `root.modules()`, in any order: a tenth of the time, because no generator stands in another."""
    waiting, seen = [root], {id(root)}
    while waiting:
        module = waiting.pop()
        yield module
        for child in module._modules.values():
            if child is not None and id(child) not in seen:
                seen.add(id(child))
                waiting.append(child)


def _groups(module: nn.Module) -> Iterator:
    """The group of modules that diffusers moves together with this one."""
    registry = vars(module).get("_diffusers_hook")
    hook = registry and registry.get_hook("group_offloading")
    if hook is not None:
        yield hook.group


def _from_disk(group, tensor: Tensor) -> Tensor:
    with safe_open(group.safetensors_file_path, "pt") as file:
        return file.get_tensor(group.tensor_to_key[tensor])


def _from_hook(root: nn.Module, name: str) -> Tensor:
    """What an accelerate hook of the module or of one around it keeps under the name."""
    inside = name.split(".")
    for cut in range(len(inside) - 1, -1, -1):
        hook = getattr(root.get_submodule(".".join(inside[:cut])), "_hf_hook", None)
        for one in getattr(hook, "hooks", (hook,)):
            weights = getattr(one, "weights_map", None)
            if weights is not None:
                return weights[".".join(inside[cut:])]
    raise RuntimeError(f"The weights of {name} are in no memory and in no file.")


def keep_while_learning() -> torch.autograd.graph.saved_tensors_hooks:
    """Inside, a backward pass sees the weights that its forward pass saw, also those that have moved out since."""

    def pack(tensor: Tensor) -> Tensor:
        # Autograd keeps a parameter, not what is in it; its storage is replaced when it moves out.
        return tensor.detach() if isinstance(tensor, nn.Parameter) and not tensor.requires_grad else tensor

    return torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor)
