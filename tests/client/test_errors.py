import httpx
import pytest

from client import ApiProblem


def problem(**members: object) -> ApiProblem:
    headers = {"Content-Type": "application/problem+json"}
    return ApiProblem.from_response(httpx.Response(422, json=members, headers=headers))


def test_one_field_is_named_before_the_whole_explanation() -> None:
    detail = "No cut removes 0.999. The nearest reachable target_ratio is 0.97."
    errors = [
        {"pointer": "/target_ratio", "code": "x", "message": "The nearest reachable target_ratio is 0.97."}
    ]
    assert str(problem(detail=detail, code="target_unreachable", errors=errors)) == f"/target_ratio: {detail}"


def test_several_fields_share_one_line() -> None:
    errors = [
        {"pointer": "/seed", "code": "a", "message": "too\nsmall"},
        {"pointer": "/task", "code": "b", "message": "unknown"},
    ]
    refused = problem(detail="2 fields are wrong.", code="invalid_request", errors=errors, request_id="req_1")
    assert str(refused) == "/seed: too small; /task: unknown"
    assert (refused.status, refused.code, refused.request_id) == (422, "invalid_request", "req_1")
    assert [field.pointer for field in refused.errors] == ["/seed", "/task"]


@pytest.mark.parametrize("body", ["<html>Bad gateway</html>", ""])
def test_an_answer_that_is_no_problem_document_gives_its_status(body: str) -> None:
    answer = ApiProblem.from_response(httpx.Response(502, text=body))
    assert (answer.code, str(answer)) == ("http_502", "HTTP 502 Bad Gateway")
