"""`python -m dit_prune_viz.experiments`; see `cli`."""

import sys

from dit_prune_viz.experiments.cli import main

if __name__ == "__main__":
    sys.exit(main())
