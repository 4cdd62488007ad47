"""An append-only, hash-chained, fsynced JSON Lines journal. Knows nothing of GitHub, tasks or HTTP."""
