"""`python -m tfcompact`."""

import sys

from tfcompact.cli import main

sys.exit(main())
