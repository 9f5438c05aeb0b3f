"""Plan before run: what is answered, what it goes by, and that it agrees with what a job is refused for."""

from typing import Any

import pytest

from app.jobs import plan as plan_module
from app.jobs.request import JobRequest
from app.services import Services
from core.accounts.repository import Caller
from pruning.errors import TargetUnreachable
from tests.app.conftest import Service, problem
from tests.support.hub_server import HubServer
from tests.support.uploads import dataset_files, model_files

PLAN = "/v1/jobs/plan"


def planned(service: Service, **fields: Any) -> dict[str, Any]:
    reply = service.client.post(PLAN, json=service.request(**fields))
    assert reply.status_code == 200, reply.text
    found = reply.json()
    assert isinstance(found, dict)
    return found


def test_a_plan_says_what_goes_and_what_is_needed_and_makes_nothing(service: Service) -> None:
    found = planned(service, method="magnitude", granularity="neuron", target_ratio=0.3)
    assert found["target"] == {"asked": 0.3, "reachable": True, "nearest": 0.3, "message": None}
    (neurons,) = found["forecast"]["units"]
    assert (neurons["unit"], neurons["layers"], neurons["per_layer"], neurons["step"]) == ("neuron", 2, 64, 8)
    assert (neurons["weights"], neurons["parameters"], neurons["stay_per_layer"]) == (64, 65, 8)
    removed = neurons["removed"]["least"]
    assert removed == neurons["removed"]["most"]
    assert removed % 8 == 0
    before, after = found["forecast"]["before"], found["forecast"]["after"]
    assert before["weights"]["least"] == 2 * (4 * 32 * 32 + 2 * 32 * 64)
    assert before["weights"]["least"] - after["weights"]["least"] == removed * 64
    left = after["flops"]["least"] / before["flops"]["least"]
    assert 0.7 - 8 * neurons["flops"] / before["flops"]["least"] < left <= 0.7
    assert before["parameters"]["least"] < before["parameters"]["most"]  # the file holds one table alone
    assert found["forecast"]["grid"]["round_to"] == [1, 2, 4, 8, 16, 32, 64]
    assert found["forecast"]["grid"]["block_rows"] == [1, 2, 4, 8, 16, 32]
    assert found["forecast"]["memory"]["job"] > 3 * before["bytes"]["most"]
    assert found["duration"]["basis"] == "assumed_rate"
    assert {warning["code"] for warning in found["warnings"]} >= {"no_validation"}
    assert service.count_jobs() == 0


def test_a_plan_has_the_choice_that_the_job_has(service: Service) -> None:
    body = service.request(method="kprune")
    found = service.client.post(PLAN, json=body).json()
    job = service.client.post("/v1/jobs", json=body).json()
    same = ("method", "task", "granularity", "target_ratio", "target_measure", "spec", "plan", "warnings")
    assert {name: found[name] for name in same} == {name: job[name] for name in same}


def test_a_ratio_out_of_reach_is_answered_with_the_nearest(service: Service) -> None:
    body = service.request(target_ratio=0.999, method="kprune")
    refused = problem(service.client.post("/v1/jobs", json=body), 422, "target_unreachable")
    found = service.client.post(PLAN, json=body).json()
    target = found["target"]
    assert (target["asked"], target["reachable"]) == (0.999, False)
    assert target["nearest"] == refused["nearest"] == found["target_ratio"]
    assert str(target["nearest"]) in target["message"]
    assert found["forecast"]["after"]["weights"]["least"] > 0


@pytest.mark.parametrize("nearest", [0.0, 0.4])
def test_a_target_without_a_nearest_that_can_be_had_is_refused(
    service: Service, monkeypatch: pytest.MonkeyPatch, nearest: float
) -> None:
    def unreachable(services: Services, caller: Caller, request: JobRequest) -> Any:
        raise TargetUnreachable(f"Not {request.target_ratio}.", nearest=nearest)

    monkeypatch.setattr(plan_module, "propose", unreachable)
    refused = service.client.post(PLAN, json=service.request(target_ratio=0.9))
    assert problem(refused, 422, "target_unreachable")["detail"].startswith("Not 0.9.")


def test_without_a_trained_head_parameters_are_counted_between_bounds(service: Service) -> None:
    model = service.complete("models", model_files(architectures=["BertModel"]))
    before = planned(service, model=model, method={"name": "leap", "max_steps": 100})["forecast"]["before"]
    assert before["parameters"]["least"] < before["parameters"]["most"]


def test_where_nothing_can_be_reached_it_is_refused(service: Service) -> None:
    body = service.request(target_ratio=0.3, granularity="5:6", method="magnitude")
    problem(service.client.post(PLAN, json=body), 422, "invalid_spec", "/granularity")


@pytest.mark.parametrize(
    ("fields", "code", "pointer"),
    [
        ({"target_ratio": 2}, "invalid_request", "/target_ratio"),
        ({"method": "nothing"}, "invalid_spec", "/method"),
        ({"granularity": "block:5x5"}, "invalid_spec", "/granularity"),
        ({"columns": {"label": "nope"}}, "invalid_data", "/columns/label"),
    ],
)
def test_what_a_job_is_refused_for_a_plan_is_too(
    service: Service, fields: dict[str, Any], code: str, pointer: str
) -> None:
    body = service.request(**fields)
    for path in (PLAN, "/v1/jobs"):
        problem(service.client.post(path, json=body), 422, code, pointer)


def test_what_the_job_finds_out_is_null(service: Service) -> None:
    for fields in ({"max_quality_drop": 1.0, "target_ratio": None}, {"target_measure": "latency"}):
        found = planned(service, method="kprune", **fields)["forecast"]
        assert found["after"] is None
        assert [group["removed"] for group in found["units"]] == [None, None]
    dense = planned(service, target_ratio=0)["forecast"]
    assert (dense["units"], dense["after"]) == ([], dense["before"])


def test_a_dataset_on_the_hub_is_not_counted_yet(with_hub: Service, hub_server: HubServer) -> None:
    hub_server.add("dataset", "tiny/text", dataset_files())
    found = planned(with_hub, dataset={"hub": "tiny/text"}, method="magnitude")
    assert (found["plan"], found["forecast"], found["duration"]) == (None, None, None)


def test_time_goes_by_ones_own_jobs_of_the_same_method_and_size(service: Service) -> None:
    body = service.request(method="kprune", device="cpu")
    assert service.client.post(PLAN, json=body).json()["duration"] == {
        "seconds": None,
        "least": None,
        "most": None,
        "basis": "none",
        "jobs": 0,
        "flops_per_second": None,
    }
    for seconds in (10.0, 20.0, 60.0):
        job = service.client.post("/v1/jobs", json=body).json()
        report = {
            "plan": {**job["plan"], "spec": job["spec"]},
            "seconds": {"pruning": seconds, "loading": 2.0},
        }
        service.finish(service.claim(), {}, **report)
    service.client.post("/v1/jobs", json=body)
    service.finish(service.claim(), {}, plan={"of": "another version"})
    found = service.client.post(PLAN, json=body).json()["duration"]
    assert (found["basis"], found["jobs"]) == ("earlier_jobs", 3)
    assert (found["seconds"], found["least"], found["most"]) == (22.0, 12.0, 62.0)
    for other in ({"device": "auto"}, {"method": "fisher"}):
        assert service.client.post(PLAN, json=body | other).json()["duration"]["jobs"] == 0
    larger = {"hidden_size": 128, "intermediate_size": 256}
    assert (
        planned(service, method="kprune", device="cpu", model=_bert(service, **larger))["duration"]["jobs"]
        == 0
    )
    _, other = service.owner("second")
    theirs = service.client.post(
        PLAN, json=service.request(other, method="kprune", device="cpu"), headers=other
    )
    assert theirs.json()["duration"]["jobs"] == 0


def _bert(service: Service, **config: Any) -> str:
    return service.complete("models", model_files(**config))


def test_other_methods_of_the_address_are_refused(service: Service) -> None:
    for method in ("GET", "DELETE"):
        assert problem(service.client.request(method, PLAN), 405, "method_not_allowed")
