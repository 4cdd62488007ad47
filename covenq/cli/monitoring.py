"""What ships for Prometheus and Grafana: alerts on covenq's metrics, and a dashboard of them, each a file to take as it is."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.resources import files


@dataclass(frozen=True, slots=True)
class Shipped:
    """A file of this package, and what is to be done with it."""

    name: str
    next: str

    def text(self) -> str:
        return files("covenq.cli").joinpath(self.name).read_text("utf-8")


ALERTS = Shipped(
    "covenq-alerts.yml",
    "Name it in rule_files of prometheus.yml, and scrape /metrics: [metrics] in covenq.toml(5) gives it an address.",
)
DASHBOARD = Shipped("covenq-dashboard.json", "Import it in Grafana: Dashboards, New, Import. It asks which Prometheus.")
