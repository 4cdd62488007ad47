"""/api/v1: deliveries, tasks, claims and what operators do, as Falcon resources."""
