"""``python -m unified_storage_cli`` is the command ``unified-storage``."""

import sys

from unified_storage_cli.app import main

if __name__ == "__main__":
    sys.exit(main())
