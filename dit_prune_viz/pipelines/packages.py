"""Packages that not everybody has: named with the command that installs them, before anything is loaded."""

from __future__ import annotations

import importlib.util
import inspect
import sys
from collections.abc import Iterable, Iterator, Mapping
from importlib.metadata import version
from types import CodeType, FunctionType, ModuleType

from dit_prune_viz.errors import UserError


def require(package: str, what: str, command: str | None = None) -> None:
    """Refuse what needs a package that is not installed.

    Args:
        package: by the name it is imported under.
        what: that needs it, the beginning of the sentence.
        command: that installs it; None is `pip install` and the package's name.

    Raises:
        UserError: it is absent.
    """
    if not installed(package):
        if package == "torchvision":  # the newest one would bring another torch along
            command = f"pip install torchvision torch=={version('torch').partition('+')[0]}"
        raise UserError(f"{what} needs the package {package}; install it with: {command or f'pip install {package}'}.")


def installed(package: str) -> bool:
    """Whether a package can be imported, without importing it."""
    try:
        return importlib.util.find_spec(package) is not None
    except (ImportError, ValueError):
        return False


def check_packages(index: Mapping[str, object], name: str) -> None:
    """Refuse a pipeline one of whose parts needs a package that is not installed.

    transformers and diffusers put a placeholder in the place of such a class, or find out in the middle of a call.

    Args:
        index: the pipeline's class and its parts, as in `model_index.json`.
        name: of the model, for people.

    Raises:
        UserError: that.
    """
    import diffusers
    import transformers

    homes = {"diffusers": diffusers, "transformers": transformers}
    pipeline = getattr(diffusers, str(index.get("_class_name")), None)
    if pipeline is not None:
        for package in _of_pipeline(pipeline):
            require(package, f"{name} ({pipeline.__name__})")
        _lend_classes(pipeline, index)
    for part, entry in index.items():
        if isinstance(entry, list) and len(entry) == 2 and entry[0] in homes and isinstance(entry[1], str):
            for package in _of_part(getattr(homes[entry[0]], entry[1], None)):
                command = None if package.isidentifier() else f"pip install {package}"
                require(package.replace("-", "_"), f"The {part} of {name} ({entry[1]})", command)


def _lend_classes(pipeline: type, index: Mapping[str, object]) -> None:
    """Put a pipeline's own classes where its index says they are.

    diffusers adds PRX's text encoder to transformers when it imports that pipeline. If transformers is not fully
    imported by then, it puts another module in its place, and the class is gone.
    """
    import transformers

    package = sys.modules.get(pipeline.__module__.rpartition(".")[0])
    for entry in index.values():
        if isinstance(entry, list) and len(entry) == 2 and entry[0] == "transformers" and isinstance(entry[1], str):
            own = getattr(package, entry[1], None)
            if isinstance(own, type) and getattr(transformers, entry[1], None) is None:
                setattr(transformers, entry[1], own)


def _of_pipeline(kind: type) -> Iterator[str]:
    """What a pipeline's own code uses without asking whether it is there."""
    backends = getattr(kind, "_backends", None)
    if backends:
        yield from _packages(backends)
        return
    module = sys.modules[kind.__module__]
    if hasattr(module, "is_torchvision_available"):
        yield "torchvision"
    # With `clean_caption` there is a choice, and diffusers leaves the cleaning out where it cannot be done.
    names = [set(code.co_names) for code in _codes(module)]
    used = any("ftfy" in one and "is_ftfy_available" not in one for one in names)
    if used and "clean_caption" not in inspect.signature(kind.__call__).parameters:
        yield "ftfy"


def _codes(module: ModuleType) -> Iterator[CodeType]:
    """The code of a module's own functions and methods."""
    own = [one for one in vars(module).values() if getattr(one, "__module__", None) == module.__name__]
    classes = [one for one in own if isinstance(one, type)]
    for one in (*own, *(method for kind in classes for method in vars(kind).values())):
        if isinstance(one, FunctionType):
            yield one.__code__


def _of_part(kind: object) -> Iterator[str]:
    import transformers

    yield from _packages(getattr(kind, "_backends", None) or ())
    processor = isinstance(kind, type) and issubclass(kind, transformers.ProcessorMixin)
    if processor and "video_processor" in inspect.signature(kind.__init__).parameters:
        yield "torchvision"


def _packages(backends: Iterable[str]) -> Iterator[str]:
    """Backends as transformers and diffusers call them, those that are packages of their own."""
    return (one for one in backends if one not in ("torch", "vision", "transformers"))
