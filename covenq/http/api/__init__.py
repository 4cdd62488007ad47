"""/api/v1: deliveries, tasks, claims and the operators' actions, as Falcon resources."""
