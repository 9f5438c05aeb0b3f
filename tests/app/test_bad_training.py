"""What cannot be trained, or not to what was asked, is refused when the job is made, with its place and remedy."""

import json
from collections.abc import Mapping
from typing import Any

import pytest

from tests.app.conftest import Service, problem
from tests.support.uploads import model_files

LONG = {"max_steps": 1000}
LEAP = {"name": "leap"} | LONG
LEARNED = ("leap", "movement", "soft_movement", "gradual_magnitude", "l0", "cofi")


def lines(*rows: Mapping[str, Any]) -> dict[str, bytes]:
    return {"train.jsonl": "\n".join(json.dumps(row) for row in rows).encode()}


def labelled(*labels: Any) -> dict[str, bytes]:
    return lines(*({"text": f"row {index}", "label": labels[index % len(labels)]} for index in range(20)))


def tagged(*tags: Any) -> dict[str, bytes]:
    return lines(*[{"tokens": list("abc"), "tags": tags}, {"tokens": list("abc"), "tags": tags[:1] * 3}] * 5)


def asked(**answers: Any) -> dict[str, bytes]:
    row = {"context": "the cat sat", "question": "who", "answers": {"text": ["cat"], "answer_start": [4]}}
    return lines(row, row | {"answers": answers})


def refused(service: Service, says: str, pointer: str, code: str = "invalid_spec", **fields: Any) -> None:
    """The refusal of a job names its place and says so; `model`, `teacher` and `dataset` are files."""
    for kind, collection in (("model", "models"), ("teacher", "models"), ("dataset", "datasets")):
        if kind in fields:
            fields[kind] = service.complete(collection, fields[kind])
    reply = service.client.post("/v1/jobs", json=service.request(**fields))
    document = problem(reply, 422, code, pointer)
    assert any(
        says in text for text in (document["detail"], *(error["message"] for error in document["errors"]))
    )
    assert service.count_jobs() == 0


class TestMethods:
    @pytest.mark.parametrize(
        ("granularity", "first"),
        [
            ("unstructured", "alps or"),
            ("row", "gradual_magnitude or"),
            ("block:4x4", "alps or"),
            ("hybrid:4x4", "gradual_magnitude or"),
        ],
    )
    def test_a_granularity_that_cofi_has_no_gates_for(
        self, service: Service, granularity: str, first: str
    ) -> None:
        says = f"For {granularity.partition(':')[0]} use {first}"
        refused(service, says, "/granularity", method={"name": "cofi"} | LONG, granularity=granularity)

    @pytest.mark.parametrize("granularity", ["layer", "2:4"])
    def test_a_granularity_that_no_method_has(self, service: Service, granularity: str) -> None:
        refused(
            service, "It supports block, head, hybrid", "/granularity", method=LEAP, granularity=granularity
        )

    @pytest.mark.parametrize("granularity", ["block:5x7", "hybrid:5x7"])
    def test_blocks_that_do_not_divide_name_those_that_do(self, service: Service, granularity: str) -> None:
        says = "Rows can be 1, 2, 4, 8, 16 or 32; columns can be 1, 2, 4, 8, 16 or 32."
        refused(service, says, "/granularity", method=LEAP, granularity=granularity)

    def test_usual_blocks_that_do_not_divide_this_model(self, service: Service) -> None:
        model = model_files(hidden_size=24, intermediate_size=36)
        says = "Rows can be 1, 2, 3, 4, 6 or 12"
        refused(service, says, "/granularity", method=LEAP, granularity="block", model=model)

    @pytest.mark.parametrize("name", LEARNED)
    def test_a_run_too_short_for_its_schedule_says_the_minimum(self, service: Service, name: str) -> None:
        least = {"leap": 6, "movement": 64, "gradual_magnitude": 64}.get(name, 126)
        short = {"name": name, "max_steps": least - 1}
        refused(service, f"It needs at least {least} steps", "/method/max_steps", method=short)
        assert service.job(method=short | {"max_steps": least})["status"] == "queued"

    @pytest.mark.parametrize(
        ("name", "setting"),
        [
            ("movement", "temperature"),
            ("l0", "threshold"),
            ("soft_movement", "scope"),
            ("gradual_magnitude", "score_learning_rate"),
            ("cofi", "regrow"),
            ("leap", "gate_learning_rate"),
            ("kprune", "max_steps"),
        ],
    )
    def test_a_setting_of_another_method(self, service: Service, name: str, setting: str) -> None:
        says = f"Method {name} has no setting '{setting}'. It has "
        refused(service, says, f"/method/{setting}", method={"name": name, setting: 1})

    @pytest.mark.parametrize(
        ("schedule", "at"),
        [
            ({"prune_from": 0.7}, "prune_until"),
            ({"prune_until": 0.9}, "freeze_at"),
            ({"freeze_at": 0.3}, "freeze_at"),
        ],
    )
    def test_a_schedule_that_contradicts_itself(
        self, service: Service, schedule: dict[str, float], at: str
    ) -> None:
        refused(service, "must", f"/method/{at}", method={"name": "movement"} | LONG | schedule)


class TestDistillation:
    @pytest.mark.parametrize(
        ("distill", "says"),
        [
            ({"layers": "nearest"}, "set hidden above 0"),
            ({"projection": True}, "set hidden above 0"),
            ({"weight": 0}, "distill to false"),
        ],
    )
    def test_options_that_would_do_nothing(
        self, service: Service, distill: dict[str, Any], says: str
    ) -> None:
        refused(service, says, "/distill", "invalid_request", method=LEAP, distill=distill)

    @pytest.mark.parametrize(
        ("config", "distill", "says"),
        [
            ({"num_hidden_layers": 3}, {"hidden": 1}, 'Set distill.layers to "nearest"'),
            ({"num_hidden_layers": 3}, {"attention": 1}, "Set distill.attention to 0"),
            ({"num_hidden_layers": 4}, {"hidden": 1, "layers": "nearest_in_order"}, "and the model has 2"),
            ({"num_attention_heads": 2}, {"attention": 1}, "the teacher has 2 in a layer, the model 4"),
        ],
    )
    def test_features_without_a_counterpart(
        self, service: Service, config: dict[str, int], distill: dict[str, Any], says: str
    ) -> None:
        refused(service, says, "/teacher", method=LEAP, distill=distill, teacher=model_files(**config))

    def test_a_teacher_of_another_family(self, service: Service) -> None:
        sizes = {"dim": 32, "n_layers": 2, "n_heads": 4, "hidden_dim": 64}
        kind = {"model_type": "distilbert", "architectures": ["DistilBertForSequenceClassification"]}
        teacher = model_files(**kind, **sizes)
        refused(service, "Use a teacher of the same family", "/teacher", method=LEAP, teacher=teacher)


class TestLabels:
    @pytest.mark.parametrize(
        ("labels", "fields", "pointer", "says"),
        [
            (("a", "b"), {"task": "regression"}, "/task", "Use task sequence-classification"),
            ((0.5, 1.5), {"task": "sequence-classification"}, "/task", "Use task regression"),
            ((0, 1), {"task": "token-classification"}, "/task", "rows of tokens and tags"),
            ((0, 1), {"task": "question-answering"}, "/task", "rows of context, question and answers"),
        ],
    )
    def test_labels_that_do_not_fit_the_task(
        self, service: Service, labels: Any, fields: dict[str, Any], pointer: str, says: str
    ) -> None:
        refused(service, says, pointer, "invalid_data", method=LEAP, dataset=labelled(*labels), **fields)

    @pytest.mark.parametrize(
        ("labels", "says"),
        [
            ((0, 1, 2), "the dataset has the label 2"),
            ((-1, 0), "the dataset has the label -1"),
            (("a", "b"), "label_names is for labels that are whole numbers"),
            ((0.5, 1.5), "label_names has no meaning for regression"),
        ],
    )
    def test_names_that_do_not_fit_the_labels(self, service: Service, labels: Any, says: str) -> None:
        dataset = labelled(*labels)
        refused(service, says, "/label_names", method=LEAP, dataset=dataset, label_names=["no", "yes"])

    def test_a_tag_set_that_is_neither_prefixed_nor_plain(self, service: Service) -> None:
        says = "'O', 'X' have none"
        refused(service, says, "/columns/tags", "invalid_data", method=LEAP, dataset=tagged("O", "B-Y", "X"))
        names = {"dataset": tagged(0, 1, 2), "label_names": ["O", "B-Y", "X"]}
        refused(service, says, "/label_names", "invalid_data", method=LEAP, **names)


@pytest.mark.parametrize(
    ("files", "field", "says"),
    [
        (tagged("O", "B-X"), "tags", "Give every token one tag"),
        (tagged(0, 1.5, 0), "tags", "neither a name nor a whole number: 1.5"),
        (asked(text=["dog"], answer_start=[4]), "answers", "does not stand in the context at character 4"),
        (
            asked(text=["cat"], answer_start=[400]),
            "answers",
            "does not stand in the context at character 400",
        ),
        (asked(text=[""], answer_start=[4]), "answers", "Give an empty list to a question without an answer"),
        (asked(text=["cat"], answer_start=[]), "answers", "at which character it starts"),
        (labelled(1, "x"), "label", "mixes texts and numbers"),
        (
            labelled("x", "y") | {"validation.jsonl": labelled("z")["train.jsonl"]},
            "label",
            "no training row has",
        ),
    ],
)
def test_rows_that_cannot_be_learnt_from(
    service: Service, files: dict[str, bytes], field: str, says: str
) -> None:
    dataset = service.upload("datasets", files)
    reply = service.client.post(f"/v1/datasets/{dataset}/complete")
    assert says in problem(reply, 422, "invalid_data", f"/columns/{field}")["detail"]
