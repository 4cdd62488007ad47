"""What the configuration says of an installation: which familiars work for it, and what may call them there."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from covenq.config.familiar import Installation, RepoScope, TriggerKind
from covenq.config.familiar_table import Familiars
from covenq.model.cave import InstallationRouting, RepositoryTriggers, Triggers

_CLOSED = Triggers(assignment=False, labels=False, commands=False, reviews=False)


@dataclass(frozen=True, slots=True)
class ConfiguredFamiliars:
    """Of the familiars of one configuration."""

    familiars: Familiars

    def names(self) -> Mapping[str, str]:
        """The display name of each, by its id."""
        return {one.id: one.display_name for one in self.familiars.all}

    def routing(self, installation: int) -> InstallationRouting:
        """Without a list every installation is open to all; with one, what isn't on it is closed."""
        listed = self.familiars.scope.installations
        found = listed.get(installation)
        ids = [one.id for one in self.familiars.all]
        if found is None:
            open_to_all = not listed
            return InstallationRouting(
                installation_id=installation,
                account=None,
                familiars=ids if open_to_all else [],
                triggers=Triggers() if open_to_all else _CLOSED,
                repos={},
                listed=False,
            )
        return InstallationRouting(
            installation_id=installation,
            account=found.account,
            familiars=[one for one in ids if not found.familiars or one in found.familiars],
            triggers=Triggers(**{str(kind): found.lanes.get(kind, True) for kind in TriggerKind}),
            repos={name: _of_repository(found, repo) for name, repo in found.repos.items()},
            listed=True,
        )


def _of_repository(installation: Installation, repo: RepoScope) -> RepositoryTriggers:
    """What it says itself, else what its installation says; where it isn't enabled, nothing is open."""
    lanes = {
        str(kind): repo.enabled and repo.lanes.get(kind, installation.lanes.get(kind, True)) for kind in TriggerKind
    }
    return RepositoryTriggers(enabled=repo.enabled, **lanes)
