"""Who calls, and whether that caller may: asked by every route that shows or changes anything."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Final

from fastapi import Depends

from api_schemas.access import Scope

#: There is one tenant and no login yet: every row carries both, so that adding them moves no data.
TENANT: Final = "default"
PRINCIPAL: Final = "anonymous"


@dataclass(frozen=True, slots=True)
class Caller:
    """Somebody of a tenant. ``principal`` tells the tenant's callers apart in rows and the log."""

    tenant: str
    principal: str
    scopes: frozenset[Scope]

    def may(self, scope: Scope) -> bool:
        """Whether this caller holds the scope, or all of them."""
        return scope in self.scopes or Scope.ADMIN in self.scopes


class _Requires:
    """A dependency that gives the caller to a route which needs ``scope``."""

    def __init__(self, scope: Scope) -> None:
        self.scope = scope

    async def __call__(self) -> Caller:
        return Caller(TENANT, PRINCIPAL, frozenset(Scope))


Writer = Annotated[Caller, Depends(_Requires(Scope.UNLEARN_WRITE))]
Reader = Annotated[Caller, Depends(_Requires(Scope.UNLEARN_READ))]
Approver = Annotated[Caller, Depends(_Requires(Scope.UNLEARN_APPROVE))]
Downloader = Annotated[Caller, Depends(_Requires(Scope.PATCH_DOWNLOAD))]
Auditor = Annotated[Caller, Depends(_Requires(Scope.AUDIT_READ))]
Admin = Annotated[Caller, Depends(_Requires(Scope.ADMIN))]
