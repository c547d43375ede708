"""`python -m isobench_tui`."""

import sys

from isobench_tui.cli.main import main

sys.exit(main())
