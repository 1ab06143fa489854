"""``/models``: what can be edited. ``/methods``: by what."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from fastapi import APIRouter
from starlette.responses import Response

from api_schemas import methods
from api_schemas.methods import MethodView
from api_schemas.problems import FieldProblem
from api_schemas.shelf import ModelList, ModelRecord, ModelView, RetainSet
from patches.digests import checkpoint_digest
from patches.errors import PatchError
from patches.paths import regular_files
from registry import models, shelving
from registry.errors import ModelExists, ModelNotFound, RecordUnfit
from service import answers, documentation, errors, views
from service.access import Admin, Reader
from service.parameters import ModelId
from service.parts import PartsOf, now

router = APIRouter(tags=["shelf"])

#: What is wrong with a record's field, without a path of the server.
UNFIT: Final = {
    "digest": "The checkpoint has another digest; correct the record or fetch the weights again.",
    "judge": "A picture generator needs a folder with safetensors weights as its judge.",
    "retain": "The folder needs an index.csv in UTF-8 with the columns path, name, caption and one "
    "for each domain of the prompts or questions.",
}


@router.get(
    "/models",
    response_model=ModelList,
    summary="Every model that can be edited",
    responses=documentation.problems_of(),
)
def list_models(parts: PartsOf, _: Reader) -> Response:
    """The models on the shelf, by id."""
    with parts.database.reading() as session:
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
    with parts.database.reading() as session:
        model = models.get(session, model_id)
    return answers.json_answer(views.model_view(model))


@router.post(
    "/models",
    status_code=201,
    response_model=ModelView,
    summary="Put a model on the shelf",
    responses=documentation.created("The model.", "On the shelf, now or before.")
    | documentation.problems_of(
        errors.RegistrationOff,
        errors.UnsafeModelPath,
        errors.ModelTooLarge,
        errors.UnfitRecord,
        ModelExists,
        *documentation.BODY,
    ),
)
def add_model(parts: PartsOf, caller: Admin, record: ModelRecord) -> Response:
    """Register a model whose files lie in the operator's models folder on the server.

    The record is that of `razor models add`, its paths relative to that folder and inside it. The
    checkpoint is read once, whole, for its digest, so weights of gigabytes take their seconds, and
    more than the operator allows (`RAZOR_MAX_MODEL_BYTES`, 16 GiB) are refused at once. The same
    record again changes nothing.
    """
    home = parts.settings.models_folder
    if home is None:
        raise errors.RegistrationOff
    placed = _placed(record, home.resolve())
    digest = _digest(Path(placed.checkpoint), parts.settings.max_model_bytes)
    try:
        with parts.database.transaction() as session:
            model = shelving.register(
                session, placed, digest=digest, principal=caller.principal, now=now()
            )
    except RecordUnfit as unfit:
        field = FieldProblem(pointer=f"/{unfit.field}", code="unfit", detail=UNFIT[unfit.field])
        raise errors.UnfitRecord([field]) from None
    view = views.model_view(model)
    return answers.json_answer(view, status=201, headers={"location": f"/models/{view.id}"})


def _digest(checkpoint: Path, max_bytes: int) -> str:
    """The checkpoint's digest. Raises ``UnsafeModelPath``, ``ModelTooLarge``."""
    try:
        if sum(path.stat().st_size for _, path in regular_files(checkpoint)) > max_bytes:
            detail = f"The folder holds more than {max_bytes} bytes."
            raise errors.ModelTooLarge(
                [FieldProblem(pointer="/checkpoint", code="too_large", detail=detail)]
            )
        return checkpoint_digest(checkpoint)
    except PatchError:
        raise errors.UnsafeModelPath([_unsafe("/checkpoint")]) from None
    except OSError as exc:
        raise errors.StorageUnavailable from exc


def _placed(record: ModelRecord, home: Path) -> ModelRecord:
    """The record with absolute paths inside ``home``, links followed.

    Raises ``UnsafeModelPath``.
    """
    asked = {
        "/checkpoint": record.checkpoint,
        "/retain/folder": record.retain.folder,
        "/judge": record.judge,
    }
    found = {place: _inside(home, path) for place, path in asked.items() if path is not None}
    unsafe = [_unsafe(place) for place, path in found.items() if path is None]
    if unsafe:
        raise errors.UnsafeModelPath(unsafe)
    return record.model_copy(
        update={
            "checkpoint": found["/checkpoint"],
            "retain": RetainSet(folder=str(found["/retain/folder"])),
            "judge": found.get("/judge"),
        }
    )


def _inside(home: Path, path: str) -> str | None:
    """The folder that the path leads to, None unless that is one below ``home``."""
    try:
        found = (home / path).resolve()
        fits = home in found.parents and found.is_dir()
    except (OSError, ValueError, RuntimeError):  # a name too long, a NUL, a loop of links
        return None
    return str(found) if fits else None


def _unsafe(place: str) -> FieldProblem:
    return FieldProblem(
        pointer=place,
        code="unsafe_path",
        detail="This is no folder of plain files inside the models folder.",
    )


@router.get(
    "/methods",
    response_model=list[MethodView],
    summary="Every unlearning method",
    responses=documentation.problems_of(),
)
async def list_methods(_: Reader) -> list[MethodView]:
    """The methods, the families each supports, and the JSON schema of its parameters."""
    return methods.catalog()
