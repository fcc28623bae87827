"""`python -m tfcompact`."""

import sys

from tfcompact.cli.main import main

sys.exit(main())
