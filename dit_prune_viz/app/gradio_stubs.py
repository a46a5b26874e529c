"""Import gradio without waiting for the type stubs that it renders again at each import."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.abc import MetaPathFinder
from importlib.machinery import PathFinder

_WRITER = "gradio.component_meta"


@contextmanager
def without_stubs() -> Iterator[None]:
    """While gradio is imported in here, it leaves its `.pyi` files as they are.

    They help editors only and come with the installed package. To check them takes half of gradio's import: it parses
    every component's source and renders its stub, to find that nothing has changed. There is no setting for it.
    """
    finder = _Finder()
    sys.meta_path.insert(0, finder)
    try:
        yield
    finally:
        sys.meta_path.remove(finder)


class _Finder(MetaPathFinder):
    """Finds the file that writes the stubs and takes its function away once it has run."""

    def find_spec(self, name, path=None, target=None):
        if name != _WRITER:
            return None
        spec = PathFinder.find_spec(name, path, target)
        if spec is None or spec.loader is None:
            return spec
        run = spec.loader.exec_module

        def run_without_stubs(module) -> None:
            run(module)
            module.create_or_modify_pyi = lambda *_: None

        spec.loader.exec_module = run_without_stubs
        return spec
