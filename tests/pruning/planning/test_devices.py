import pytest

from pruning.errors import InvalidSpec
from pruning.options import Finetune, Recover
from pruning.planning.devices import check_devices
from tests.pruning.planning.test_plan import CONFIG, plan

LEAP = {"method": "leap", "settings": {"max_steps": 100}}


def refused(**request):
    with pytest.raises(InvalidSpec) as caught:
        plan(**request)
    return caught.value.param, caught.value.remedy


@pytest.mark.parametrize("method", ["magnitude", "kprune"])
def test_devices_have_nothing_to_share_where_nothing_is_trained(method):
    param, remedy = refused(method=method, recover=False, devices=2)
    assert param == "/devices"
    assert "recover" in remedy
    assert plan(method=method, recover=False, devices=1).spec.devices == 1
    assert plan(method=method, recover=True, devices=2).spec.devices == 2


@pytest.mark.parametrize(
    ("request_", "param", "remedy"),
    [
        ({"target_ratio": 0, "finetune": Finetune(batch_size=10)}, "/finetune/batch_size", "9 or 12, "),
        ({"method": "magnitude", "recover": Recover(batch_size=2)}, "/recover/batch_size", "Use 3."),
        (LEAP | {"recover": False}, "/method/batch_size", "30 or 33"),
        (
            LEAP | {"recover": False, "settings": {"max_steps": 100, "batch_size": 16}},
            "/method/batch_size",
            "15 or 18",
        ),
    ],
)
def test_batches_that_do_not_divide_are_refused_with_sizes_that_do(request_, param, remedy):
    found, said = refused(**request_, devices=3)
    assert found == param
    assert remedy in said


def test_every_stage_that_trains_must_divide():
    fine = {"finetune": Finetune(batch_size=8), "recover": Recover(batch_size=16)}
    settings = {"max_steps": 100, "batch_size": 12}
    assert plan(method="leap", settings=settings, devices=4, **fine).spec.devices == 4
    assert plan(CONFIG, target_ratio=0, finetune=True, devices=8).spec.devices == 8
    assert refused(method="leap", settings=settings, devices=8, **fine)[0] == "/method/batch_size"


def test_one_device_takes_any_batch():
    spec = plan(method="leap", settings={"max_steps": 100, "batch_size": 7}).spec
    check_devices(spec, None)
