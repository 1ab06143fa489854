"""Who calls, and whether that caller may: asked by every route that shows or changes anything.

A route takes one of the annotated types below; it then answers 401 to whom nobody knows, 403 to
whom lacks the scope and 429 to whom asks too often, before it reads its body. The OpenAPI document
names the scope. Routes that take none are open: health, readiness, version, figures, the types of
problems, the document itself.
"""

from __future__ import annotations

from typing import Annotated, Final

from fastapi import Request, Security
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer, SecurityScopes
from starlette.concurrency import run_in_threadpool

from api_schemas.access import Scope
from api_schemas.problems import FieldProblem
from service import errors
from service.callers import Caller
from service.guard import CHALLENGE
from service.parts import PartsOf

__all__ = ["Admin", "Approver", "Auditor", "Caller", "Downloader", "Reader", "Writer"]

SCHEME: Final = "bearer"
_BEARER: Final = HTTPBearer(
    scheme_name=SCHEME,
    bearerFormat="API key or JWT",
    description="An API key (`rzr_...`, made by `razor keys create`) or, where the operator has "
    "named an identity provider, a token of that provider. The names beside it are the scopes "
    "that the call needs; `admin` holds every scope of its tenant.",
    auto_error=False,
)


async def _caller(
    request: Request,
    parts: PartsOf,
    needed: SecurityScopes,
    credentials: Annotated[HTTPAuthorizationCredentials | None, Security(_BEARER)],
) -> Caller:
    token = credentials.credentials if credentials else ""
    caller = parts.guard.recent(token)
    if caller is None:
        # In the thread pool: it looks into the database.
        address = request.client.host if request.client else ""
        caller = await run_in_threadpool(parts.guard.admit, token, address)
    for scope in map(Scope, needed.scopes):
        if not caller.may(scope):
            raise _insufficient(scope)
    return caller


def _insufficient(scope: Scope) -> errors.InsufficientScope:
    field = FieldProblem(
        pointer="/header/authorization",
        code="insufficient_scope",
        detail=f"This call needs the scope {scope}.",
    )
    challenge = f'{CHALLENGE}, error="insufficient_scope", scope="{scope}"'
    return errors.InsufficientScope([field], {"www-authenticate": challenge})


Writer = Annotated[Caller, Security(_caller, scopes=[Scope.UNLEARN_WRITE.value])]
Reader = Annotated[Caller, Security(_caller, scopes=[Scope.UNLEARN_READ.value])]
Approver = Annotated[Caller, Security(_caller, scopes=[Scope.UNLEARN_APPROVE.value])]
Downloader = Annotated[Caller, Security(_caller, scopes=[Scope.PATCH_DOWNLOAD.value])]
Auditor = Annotated[Caller, Security(_caller, scopes=[Scope.AUDIT_READ.value])]
Admin = Annotated[Caller, Security(_caller, scopes=[Scope.ADMIN.value])]
