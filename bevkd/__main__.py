"""`python -m bevkd`, also under torchrun."""

import sys

from bevkd.cli import main

sys.exit(main())
