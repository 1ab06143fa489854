"""Who calls: what every route learns about it."""

from __future__ import annotations

from dataclasses import dataclass

from api_schemas.access import Scope


@dataclass(frozen=True, slots=True)
class Caller:
    """Somebody of a tenant. ``principal`` tells the tenant's callers apart in rows and the log."""

    tenant: str
    principal: str
    scopes: frozenset[Scope]

    def may(self, scope: Scope) -> bool:
        """Whether this caller holds the scope, or all of them."""
        return scope in self.scopes or Scope.ADMIN in self.scopes

    def name(self) -> dict[str, str]:
        """Whose it is and who did it, as everything in the registry takes it."""
        return {"tenant": self.tenant, "principal": self.principal}
