"""What the OpenAPI document says about the facade: its refusals and its signed answers."""

from __future__ import annotations

from typing import Any, Final

from pydantic.json_schema import models_json_schema

from api_schemas.opendsr import RefusalAnswer, SubjectRequest
from api_schemas.problems import MEDIA_TYPE, Problem
from service import documentation, examples
from service.documentation import Responses
from service.opendsr import refusals
from service.opendsr.messages import JSON, OPENDSR
from service.opendsr.translate import NOT_IN_EXTENSION

_REF: Final = "#/components/schemas/{model}"
_HEADERS: Final = {
    f"{OPENDSR.prefix}-Processor-Domain": "The domain that the signing certificate is for.",
    f"{OPENDSR.prefix}-Signature": "Base64; over SHA-256 of the body as it was sent.",
}


def signed(status: int, description: str) -> Responses:
    """An answer with the headers that sign it."""
    headers = {
        name: {"description": words, "schema": {"type": "string"}}
        for name, words in _HEADERS.items()
    }
    return {status: {"description": description, "headers": headers}}


def body() -> dict[str, Any]:
    """The body of ``POST /requests``, which is read by hand."""
    forms = documentation.unlearn_body()["requestBody"]["content"]
    entry = forms[JSON]["examples"]["three pictures"]["value"]
    ours = {name: value for name, value in entry.items() if name not in NOT_IN_EXTENSION}
    content = {
        "schema": {"$ref": _REF.format(model=SubjectRequest.__name__)},
        "example": examples.SUBJECT_REQUEST | {"extensions": {examples.DOMAIN: ours}},
    }
    return {"requestBody": {"required": True, "content": {JSON: content}}}


def completed(document: dict[str, Any]) -> dict[str, Any]:
    """The document with the facade's problems in the facade's form, as they are answered."""
    _, definitions = models_json_schema(
        [(SubjectRequest, "validation"), (RefusalAnswer, "serialization")], ref_template=_REF
    )
    schemas = document["components"]["schemas"]
    for name, schema in definitions["$defs"].items():
        schemas.setdefault(name, schema)
    for path, operations in document["paths"].items():
        if refusals.belongs(path):
            for operation in operations.values():
                operation["responses"] = _translated(operation["responses"])
    return document


def _translated(responses: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for status, response in responses.items():
        known = response.get("content", {}).get(MEDIA_TYPE, {}).get("examples")
        if known is None:
            found[status] = response
            continue
        shown = {slug: {"value": _example(example["value"])} for slug, example in known.items()}
        key = str(refusals.status_of(int(status)))
        answer = found.setdefault(key, {**response, "description": "", "content": {}})
        words = f"{answer['description']} {response['description']}"
        answer["description"] = words.strip()
        content = answer["content"].setdefault(JSON, {"schema": _schema(), "examples": {}})
        content["examples"] |= shown
    return found


def _schema() -> dict[str, str]:
    return {"$ref": _REF.format(model=RefusalAnswer.__name__)}


def _example(problem: dict[str, Any]) -> dict[str, Any]:
    return refusals.refusal(Problem.model_validate(problem)).model_dump(mode="json")
