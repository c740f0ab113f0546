"""What is wished of a pool, as the command line wrote it to the store."""

from __future__ import annotations

from skyfog_core.config.pool import ServiceSpec
from skyfog_pool.spec import parse_stored
from skyfog_pool.store import Revision, Store, Wish


class Wishes:
    """As of the last read()."""

    wish: Wish
    revision: Revision  # the newest
    spec: ServiceSpec  # of that revision

    def __init__(self, store: Store) -> None:
        """Raises ConfigError for a pool that was never given a service file."""
        self._store = store
        self._read: set[int] = set()
        self._specs: dict[int, ServiceSpec] = {}  # by version: the newest of each
        self.read()

    def read(self) -> None:
        """Raises ConfigError where a later Skyfog wrote what this one does not know."""
        self.wish = self._store.wish()
        for revision in self._store.revisions():
            if revision.revision not in self._read:
                self._specs[revision.version] = parse_stored(revision.spec)
                self._read.add(revision.revision)
                self.revision = revision
        self.spec = self._specs[self.revision.version]

    def of_version(self, version: int) -> ServiceSpec:
        """What replicas of a version run."""
        return self._specs[version]
