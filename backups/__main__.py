"""`./bot backups`: the command line."""

from __future__ import annotations

import sys

from shared.interpreter import explain_missing_packages

if __name__ == "__main__":
    explain_missing_packages()
    from backups.cli.main import main

    sys.exit(main(sys.argv[1:]))
