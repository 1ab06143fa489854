"""``/models``: what can be edited, and each model's line of versions. ``/methods``: by what."""

from __future__ import annotations

from fastapi import APIRouter
from starlette.responses import Response

from api_schemas import methods
from api_schemas.methods import MethodView
from api_schemas.shelf import ModelList, ModelView, VersionList
from registry import models
from registry.errors import ModelNotFound
from service import answers, documentation, views
from service.access import Reader
from service.parameters import ModelId
from service.parts import PartsOf

router = APIRouter(tags=["shelf"])


@router.get(
    "/models",
    response_model=ModelList,
    summary="Every model that can be edited",
    responses=documentation.problems_of(),
)
def list_models(parts: PartsOf, _: Reader) -> Response:
    """The models on the shelf, by id."""
    with parts.database.transaction() as session:
        found = models.all_models(session)
    return answers.json_answer(ModelList(items=[views.model_view(model) for model in found]))


@router.get(
    "/models/{model_id}",
    response_model=ModelView,
    summary="One model",
    responses=documentation.problems_of(ModelNotFound),
)
def read_model(parts: PartsOf, _: Reader, model_id: ModelId) -> Response:
    """The model, its thresholds and the methods that can edit it."""
    with parts.database.transaction() as session:
        model = models.get(session, model_id)
    return answers.json_answer(views.model_view(model))


@router.get(
    "/models/{model_id}/versions",
    response_model=VersionList,
    summary="A model's line of versions",
    responses=documentation.problems_of(ModelNotFound),
)
def list_versions(parts: PartsOf, _: Reader, model_id: ModelId) -> Response:
    """Version 0 is the weights as registered; each later one adds a patch to its parent."""
    with parts.database.transaction() as session:
        line = models.versions(session, model_id)
    return answers.json_answer(VersionList(items=line))


@router.get(
    "/methods",
    response_model=list[MethodView],
    summary="Every unlearning method",
    responses=documentation.problems_of(),
)
async def list_methods(_: Reader) -> list[MethodView]:
    """The methods, the families each supports, and the JSON schema of its parameters."""
    return methods.catalog()
