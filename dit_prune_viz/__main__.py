"""`python -m dit_prune_viz`; see `command`."""

import sys

from dit_prune_viz.command import main

if __name__ == "__main__":
    sys.exit(main())
