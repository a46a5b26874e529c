"""Take a pruned model away: as packed files, a diffusers folder, a single file, a recipe, a report.

The package has the name of the library's verb: `dit_prune_viz.export(pruned, target, way)` is `ways.export`.
"""

import sys
from types import ModuleType


class _Verb(ModuleType):
    """A package that can be called."""

    def __call__(self, *args: object, **options: object) -> object:
        """See `ways.export`."""
        from dit_prune_viz.export.ways import export

        return export(*args, **options)


# Python binds a package to its name in the one around it, whatever that has under this name.
sys.modules[__name__].__class__ = _Verb
