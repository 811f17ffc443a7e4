"""`python -m yiagent`."""

import sys

from yiagent.cli import main

sys.exit(main())
