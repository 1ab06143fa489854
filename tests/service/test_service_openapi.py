"""The document tells the truth: complete, and no answer that it does not describe."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from typing import Any

import pytest
import schemathesis
from fastapi.testclient import TestClient
from front_world import MODEL, World, bearer, world
from hypothesis import HealthCheck, Phase, given, settings
from jsonschema_rs import Draft202012Validator
from opendsr_world import DOMAIN, sent
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi import checks

from api_schemas.opendsr import RefusalAnswer, SubjectRequest
from api_schemas.problems import MEDIA_TYPE
from api_schemas.requests import UnlearnRequest, UnlearnRequestWithImages
from service import examples, problems

OPERATIONS = {
    ("POST", "/unlearn"),
    ("GET", "/jobs"),
    ("GET", "/jobs/{job_id}"),
    ("POST", "/jobs/{job_id}/cancel"),
    ("GET", "/jobs/{job_id}/events"),
    ("POST", "/jobs/{job_id}/retry"),
    ("POST", "/jobs/{job_id}/approve"),
    ("POST", "/jobs/{job_id}/decline"),
    ("POST", "/jobs/{job_id}/extend"),
    ("GET", "/jobs/{job_id}/evaluation"),
    ("GET", "/jobs/{job_id}/report.html"),
    ("GET", "/jobs/{job_id}/evidence"),
    ("HEAD", "/jobs/{job_id}/evidence"),
    ("GET", "/audit"),
    ("GET", "/audit/checkpoint"),
    ("GET", "/audit/proof/{index}"),
    ("GET", "/audit/consistency"),
    ("GET", "/audit/key"),
    ("GET", "/models"),
    ("POST", "/models"),
    ("GET", "/models/{model_id}"),
    ("GET", "/models/{model_id}/versions"),
    ("GET", "/models/{model_id}/versions/{number}/weights"),
    ("HEAD", "/models/{model_id}/versions/{number}/weights"),
    ("POST", "/models/{model_id}/versions/{number}/revoke"),
    ("GET", "/methods"),
    ("GET", "/patches/{patch_id}"),
    ("GET", "/patches/{patch_id}/patch.safetensors"),
    ("HEAD", "/patches/{patch_id}/patch.safetensors"),
    ("GET", "/patches/{patch_id}/weights"),
    ("HEAD", "/patches/{patch_id}/weights"),
    ("GET", "/webhooks"),
    ("POST", "/webhooks"),
    ("GET", "/webhooks/{webhook_id}"),
    ("PATCH", "/webhooks/{webhook_id}"),
    ("DELETE", "/webhooks/{webhook_id}"),
    ("POST", "/webhooks/{webhook_id}/rotate-secret"),
    ("POST", "/webhooks/{webhook_id}/test"),
    ("GET", "/webhooks/{webhook_id}/deliveries"),
    ("POST", "/webhooks/{webhook_id}/deliveries/{delivery_id}/replay"),
    ("GET", "/opendsr/v2/discovery"),
    ("GET", "/opendsr/v2/certificate"),
    ("POST", "/opendsr/v2/requests"),
    ("GET", "/opendsr/v2/requests/{subject_request_id}"),
    ("DELETE", "/opendsr/v2/requests/{subject_request_id}"),
    ("GET", "/problems/{slug}"),
    ("GET", "/metrics"),
    ("GET", "/healthz"),
    ("GET", "/readyz"),
    ("GET", "/version"),
}
FACADE = "/opendsr/"


@pytest.fixture(scope="module")
def front(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    # Nothing is sent to the addresses that a generator makes up.
    with world(
        tmp_path_factory.mktemp("openapi"),
        webhook_seconds=3600.0,
        opendsr_seconds=3600.0,
        opendsr_domain=DOMAIN,
    ) as made:
        made.finished()
        yield made


@pytest.fixture
def http(front: World) -> TestClient:
    assert front.http is not None
    return front.http


@pytest.fixture
def document(http: TestClient) -> dict[str, Any]:
    found: dict[str, Any] = http.get("/openapi.json").json()
    return found


def operations(document: dict[str, Any]) -> dict[tuple[str, str], dict[str, Any]]:
    return {
        (method.upper(), path): operation
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
    }


def test_every_route_is_described(document: dict[str, Any]) -> None:
    found = operations(document)
    assert found.keys() == OPERATIONS
    ids = [operation["operationId"] for operation in found.values()]
    assert len(set(ids)) == len(ids)
    for operation in found.values():
        assert operation["summary"]
        assert operation["description"]
        for parameter in operation.get("parameters", []):
            assert (
                parameter["in"] == "path"
                or not parameter["required"]
                or ("422" in operation["responses"])
            )


def bodies(operation: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Every body of a call and of its successes: where, media type, content."""
    for media_type, content in operation.get("requestBody", {}).get("content", {}).items():
        yield "request", media_type, content
    for status, answer in operation["responses"].items():
        for media_type, content in answer.get("content", {}).items():
            if media_type != MEDIA_TYPE:
                yield status, media_type, content


def is_text(media_type: str) -> bool:
    return media_type.startswith("text/") or media_type.partition(";")[0].endswith(
        ("json", "pem-file", "form-data", "urlencoded")
    )


def skeleton(schema: dict[str, Any], schemas: dict[str, Any], depth: int = 0) -> Any:
    """Something of the schema's shape, to start an example from."""
    if depth > 6:
        return None
    if "$ref" in schema:
        schema = schemas[schema["$ref"].rpartition("/")[2]]
    if "properties" in schema:
        fields = schema["properties"].items()
        return {name: skeleton(field, schemas, depth + 1) for name, field in fields}
    if schema.get("type") == "array":
        return [skeleton(schema.get("items", {}), schemas, depth + 1)]
    for several in ("anyOf", "oneOf", "allOf"):
        if several in schema:
            return skeleton(schema[several][0], schemas, depth + 1)
    if "enum" in schema or "const" in schema:
        return schema.get("const", schema.get("enum", [None])[0])
    plain = {"string": "...", "integer": 0, "number": 0.0, "boolean": False, "object": {}}
    return plain.get(schema.get("type", ""))


def test_every_call_belongs_to_a_group_that_is_described(document: dict[str, Any]) -> None:
    described = {tag["name"] for tag in document["tags"]}
    for place, operation in operations(document).items():
        assert operation.get("tags"), f"{place}: give its router a tag"
        for tag in operation["tags"]:
            assert tag in described, f"add the tag {tag!r} to TAGS in service/documentation.py"


def test_every_body_has_an_example(document: dict[str, Any]) -> None:
    schemas = document["components"]["schemas"]
    for place, operation in operations(document).items():
        for where, media_type, content in bodies(operation):
            if not is_text(media_type):
                assert content["schema"].get("format") == "binary", (place, media_type)
                continue
            if "example" in content or "examples" in content:
                continue
            schema = content.get("schema", {})
            reference = schema.get("items", schema).get("$ref", "")
            if reference:
                name = reference.rpartition("/")[2]
                hint = f"add to service/examples.py: {name!r}: {skeleton(schema, schemas)}"
            else:
                hint = "give its content an `example`, as documentation.text and .page do"
            pytest.fail(f"{place} has no example of {where} as {media_type}; {hint}")


def test_every_example_is_one_of_its_schema(document: dict[str, Any]) -> None:
    """Complete too: a field that the example leaves out is a field that nobody sees."""
    schemas = document["components"]["schemas"]
    checked = 0
    for name, example in examples.BY_SCHEMA.items():
        assert name in schemas, f"no call has {name} any more; drop it from service/examples.py"
        schema = {**schemas[name], "components": {"schemas": schemas}}
        wrong = [error.message for error in Draft202012Validator(schema).iter_errors(example)]
        assert not wrong, (name, wrong)
        assert example.keys() == schemas[name]["properties"].keys(), name
        checked += 1
    assert checked > 10


def test_a_wrong_example_would_be_noticed(document: dict[str, Any]) -> None:
    schemas = document["components"]["schemas"]
    schema = {**schemas["Version"], "components": {"schemas": schemas}}
    wrong = examples.BY_SCHEMA["Version"] | {"patch_format": "one"}
    assert not Draft202012Validator(schema).is_valid(wrong)


def test_every_refusal_is_a_problem_with_examples(document: dict[str, Any]) -> None:
    for place, operation in operations(document).items():
        refusals = {
            status: answer
            for status, answer in operation["responses"].items()
            if int(status) >= 400 and (place, status) != (("GET", "/readyz"), "503")
        }
        assert "500" in refusals
        if place[1].startswith(FACADE):
            check_facade(refusals)
            continue
        for status, answer in refusals.items():
            content = answer["content"][MEDIA_TYPE]
            assert content["schema"] == {"$ref": "#/components/schemas/Problem"}
            for slug, example in content["examples"].items():
                assert example["value"]["type"] == problems.PREFIX + slug
                assert example["value"]["status"] == int(status)


def check_facade(refusals: dict[str, Any]) -> None:
    """The facade's callers know its specification's form, which knows one status for all."""
    assert not {"409", "422"} & refusals.keys()
    for status, answer in refusals.items():
        assert set(answer["content"]) == {"application/json"}
        content = answer["content"]["application/json"]
        assert content["schema"] == {"$ref": "#/components/schemas/RefusalAnswer"}
        assert answer["description"]
        for slug, example in content["examples"].items():
            shown = RefusalAnswer.model_validate(example["value"]).error
            assert shown.code == int(status)
            assert [detail.domain for detail in shown.errors] == [slug]


def test_references_lead_somewhere(document: dict[str, Any]) -> None:
    text = json.dumps(document)
    assert "HTTPValidationError" not in text
    for part in text.split('"$ref": "')[1:]:
        name = part.split('"')[0].removeprefix("#/components/schemas/")
        assert name in document["components"]["schemas"]


def test_both_bodies_are_described_and_the_example_can_be_sent(
    http: TestClient, document: dict[str, Any]
) -> None:
    body = document["paths"]["/unlearn"]["post"]["requestBody"]
    assert body["required"]
    assert set(body["content"]) == {"multipart/form-data", "application/json"}
    form = body["content"]["multipart/form-data"]
    assert form["encoding"]["request"]["contentType"] == "application/json"
    assert form["schema"]["properties"]["samples"]["maxItems"] == 8 * 50
    schemas = document["components"]["schemas"]
    for cls in (UnlearnRequest, UnlearnRequestWithImages):
        assert set(schemas[cls.__name__]["properties"]) == set(cls.model_fields)
    examples = body["content"]["application/json"]["examples"]
    assert {key for example in examples.values() for key in example["value"]} > {
        "target",
        "targets",
    }
    for example in examples.values():
        assert http.post("/unlearn", json=example["value"]).status_code == 202


def test_the_facades_example_can_be_sent_and_is_complete(
    http: TestClient, document: dict[str, Any]
) -> None:
    body = document["paths"][f"{FACADE}v2/requests"]["post"]["requestBody"]
    assert body["required"]
    example = body["content"]["application/json"]["example"]
    assert example.keys() == SubjectRequest.model_fields.keys()
    assert http.post(f"{FACADE}v2/requests", json=example).status_code == 201


#: Requests in all, shared between the calls: the more calls there are, the fewer each gets.
REQUESTS = 500
LEAST_REQUESTS = 5
#: Calls that are known to take wrong requests; so a filter that finds none is noticed.
CAN_BE_WRONG = {
    ("post", "/unlearn"),
    ("get", "/jobs"),
    ("get", "/jobs/{job_id}"),
    ("get", "/audit"),
    ("post", "/opendsr/v2/requests"),
}
CHECKS = (
    not_a_server_error,
    checks.status_code_conformance,
    checks.content_type_conformance,
    checks.response_schema_conformance,
    checks.response_headers_conformance,
    checks.unsupported_method,
    checks.negative_data_rejection,
)


@pytest.fixture
def schema(front: World) -> Any:
    config = schemathesis.Config()
    # Every request carries a key; made-up ones are for test_service_access.py.
    config.projects.default.generation.update(with_security_parameters=False)
    return schemathesis.openapi.from_asgi("/openapi.json", front.app, config=config)


def test_no_answer_is_undocumented(front: World, schema: Any) -> None:
    statuses = {
        status
        for found in schema.get_all_operations()
        for status in attempt(found.ok(), GenerationMode.POSITIVE, bearer(front.key))
    }
    assert {200, 404, 422} <= statuses


def test_wrong_requests_are_refused_as_documented(front: World, schema: Any) -> None:
    """Of every call that has a query or a body: any text is a possible id, and a possible ETag."""
    tried = set()
    for found in schema.get_all_operations():
        operation = found.ok()
        if not operation.query and not operation.body:
            continue
        tried.add((operation.method, operation.path))
        statuses = attempt(operation, GenerationMode.NEGATIVE, bearer(front.key))
        assert statuses & {400, 422}, (operation.method, operation.path, statuses)
        assert not {status for status in statuses if status < 400}
    assert tried >= CAN_BE_WRONG


def attempt(operation: Any, mode: GenerationMode, headers: dict[str, str]) -> set[int]:
    """Send requests made from the operation's schema, right or wrong ones."""
    statuses: set[int] = set()

    @given(case=operation.as_strategy(generation_mode=mode))
    @settings(
        max_examples=max(LEAST_REQUESTS, REQUESTS // len(OPERATIONS)),
        deadline=None,
        derandomize=True,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    def send(case: Any) -> None:
        if isinstance(case.query.get("wait"), int | float):
            # What a minute's wait answers is the same as what a short one does.
            case.query["wait"] = min(case.query["wait"], 0.1)
        if any(isinstance(value, list) and len(value) < 2 for value in case.query.values()):
            # A list of one is wrong in the schema, and on the wire the same as its one value.
            return
        statuses.add(case.call_and_validate(checks=CHECKS, headers=headers).status_code)

    send()
    return statuses


def test_ids_that_exist_are_answered_as_documented(front: World, schema: Any) -> None:
    """The random ids of the other test name nothing; these do."""
    assert front.http is not None
    job = front.http.get("/jobs?limit=1&status=succeeded").json()["items"][0]
    hook = front.http.post("/webhooks", json={"url": "https://example.org/hook"}).json()
    hook_id = hook["webhook"]["id"]
    ping = front.http.post(f"/webhooks/{hook_id}/test").json()
    # Made before, without the limit on time that the generator's calls have: it loads a library.
    assert front.http.get(f"/jobs/{job['id']}/evidence").status_code == 200
    known = {
        "webhook_id": hook_id,
        "delivery_id": ping["id"],
        "subject_request_id": sent(front.http),
        "job_id": job["id"],
        "patch_id": job["result"]["patch_id"],
        "model_id": MODEL,
        "slug": "unknown-model",
        "index": str(front.http.get("/audit?limit=1").json()["items"][0]["index"]),
        "number": "0",
    }
    asked = {"from": 1, "to": 1}
    seen = 0
    every = [found.ok() for found in schema.get_all_operations()]
    # What removes comes last, or the others would find nothing.
    for operation in sorted(every, key=lambda one: one.method.upper() == "DELETE"):
        if operation.body:
            continue
        names = [parameter.name for parameter in operation.path_parameters]
        lacking = set(names) - known.keys()
        assert not lacking, f"{operation.path}: give `known` an id that exists for {lacking}"
        query = {p.name: asked[p.name] for p in operation.query if p.is_required}
        case = operation.Case(path_parameters={name: known[name] for name in names}, query=query)
        response = case.call_and_validate(checks=CHECKS[:5], headers=bearer(front.key))
        assert response.status_code in (200, 202, 204, 409), (operation.path, response.status_code)
        seen += 1
    assert seen >= 20


def test_a_form_that_a_generator_makes_is_read(http: TestClient) -> None:
    """Files without content and fields without names reach the checks of the service."""
    answer = http.post("/unlearn", files=[("samples", ("", io.BytesIO(b"x")))])
    assert answer.status_code == 422
