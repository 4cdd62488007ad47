"""`python -m covenq`: the `covenq` command, for where its script is not on the PATH."""

from __future__ import annotations

from covenq.cli.main import main

if __name__ == "__main__":
    main()
