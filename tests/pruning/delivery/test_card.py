import ast
import json
import re

import pytest

from pruning.delivery.card import card
from pruning.planning.latency import LatencyTable
from pruning.report import (
    Candidate,
    Latency,
    LatencyResult,
    LayerKept,
    LoadCheck,
    Notice,
    Quality,
    Report,
    Search,
    Size,
)
from pruning.spec import PruneSpec

SPEC = PruneSpec(target_ratio=0.5, method="kprune", target_measure="flops", seed=7)
LATENCY = Latency(
    batch_size=8,
    sequence_length=128,
    rounds=20,
    threads=1,
    dense_ms=100.0,
    pruned_ms=52.0,
    dense_min_ms=99.0,
    pruned_min_ms=50.0,
    speedup=1.92,
    dense_cpu_ms=101.0,
    pruned_cpu_ms=51.0,
    cpu_speedup=1.98,
)


def report(**changes):
    fields = {
        "kind": "shrunk",
        "spec": SPEC,
        "plan": {"task": "sequence-classification"},
        "method": "kprune",
        "asked": 0.5,
        "measure": "flops",
        "delivered": {"flops": 0.5003, "weights": 0.49},
        "quality": Quality(
            split="validation",
            rows=872,
            primary="accuracy",
            before={"accuracy": 0.898, "f1": 0.9},
            after={"accuracy": 0.891, "f1": 0.89},
        ),
        "before": Size(parameters=22_713_986, weights=10_616_832, flops=4.5e8, bytes=45_439_980),
        "after": Size(parameters=17_000_000, weights=5_400_000, flops=2.25e8, bytes=30_000_000),
        "layers": [LayerKept(heads=6, of_heads=12, neurons=700, of_neurons=1536, weights=0.47)],
        "latency": [LATENCY],
        "load_check": LoadCheck(
            differences={"plain": 2e-7, "remote_code": 1e-7},
            parameters={"plain": 20_000_000, "remote_code": 17_000_000},
            tolerance=1e-4,
        ),
        "stages": {},
        "details": {},
        "warnings": [Notice(code="no_validation", message="A part of the training rows is held out.")],
        "seed": 7,
        "device": "cpu",
        "mean_length": 25.16,
        "versions": {"torch": "2.13.0", "transformers": "5.23.0"},
        "hashes": {"model/config.json": "ab" * 32},
        "seconds": {},
        "peak_memory_bytes": 1,
    }
    return Report(**fields | changes)


def code(text, language):
    return re.search(rf"```{language}\n(.*?)```", text, re.DOTALL)[1]


def test_it_says_what_was_removed_and_what_it_brought():
    text = card(report())
    assert "# Encoder pruned with kprune: 50.0% of the layers' FLOPs removed" in text
    assert "**removed**" in text
    assert "| accuracy (validation, 872 rows) | 0.8980 | 0.8910 |" in text
    assert "| parameters | 22,713,986 | 17,000,000 |" in text
    assert "| 8 x 128 | 100.0 ms | 52.0 ms | 1.92x | 1.98x |" in text
    assert "> A part of the training rows is held out." in text


def test_it_says_what_was_asked_and_what_was_delivered():
    assert "Asked: 50.0% of the layers' FLOPs removed. Delivered: 50.0%." in card(report())
    assert "Asked:" not in card(report(kind="dense", latency=[]))


@pytest.mark.parametrize("missed", [True, False])
def test_it_says_whether_the_latency_was_met(missed):
    table = LatencyTable(
        batch_size=8, sequence_length=128, rounds=20, threads=1, dense_ms=110.0, heads=(), neurons=()
    )
    found = LatencyResult(
        table=table,
        asked=0.5,
        predicted=0.51,
        measured=0.42,
        asked_ms=55.0,
        predicted_ms=53.9,
        dense_ms=100.0,
        measured_ms=58.0,
        tolerance=0.05,
        missed=missed,
    )
    text = card(report(measure="latency", delivered={"latency": 0.42}, latency_target=found))
    assert "Asked: 50.0% of the latency removed. Delivered: 42.0%." in text
    assert "8 x 128: 100.0 ms dense, 58.0 ms measured; 51.0% was predicted" in text
    assert ("The target was missed" in text) == missed


def test_it_says_how_a_cut_was_found():
    tried = [Candidate(ratio=ratio, quality=0.89, drop=0.8, weights=5, within=True) for ratio in (0.25, 0.5)]
    search = Search(
        max_drop=1.0,
        split="validation",
        rows=436,
        primary="accuracy",
        dense=0.898,
        reach=0.99,
        chosen=0.5,
        candidates=tuple(tried),
    )
    text = card(report(search=search))
    assert "at most 1 points of accuracy lost" in text
    assert (
        "Found among 2 cuts: 50.0% of the layers' FLOPs removed, 0.80 points lost on 436 validation rows"
        in text
    )


def lost(heads, neurons):
    return [
        LayerKept(heads=12, of_heads=12, neurons=1536, of_neurons=1536, weights=1.0),
        LayerKept(heads=12 - heads, of_heads=12, neurons=1536 - neurons, of_neurons=1536, weights=0.9),
    ]


@pytest.mark.parametrize(
    ("layers", "words"),
    [
        (lost(1, 0), "Attention heads were **removed**"),
        (lost(0, 1), "FFN neurons were **removed**"),
        (lost(1, 1), "Attention heads and FFN neurons were **removed**"),
    ],
)
@pytest.mark.parametrize("kind", ["shrunk", "mixed"])
def test_it_names_what_was_removed_and_nothing_else(kind, layers, words):
    text = card(report(kind=kind, layers=layers))
    assert f"\n{words}" in text
    assert ("set to zero in matrices of the same size" in text) == (kind == "mixed")


def test_a_model_with_zeros_claims_no_speed():
    plain = LoadCheck(differences={"plain": 0.0}, parameters={"plain": 20_000_000}, tolerance=1e-4)
    text = card(report(kind="zeros", latency=[], load_check=plain))
    assert "set to zero in matrices of the same size" in text
    assert "nothing runs faster" in text
    assert "speed-up" not in text
    assert "trust_remote_code" not in text


def test_a_model_with_code_says_which_load_gives_which_speed():
    text = card(report())
    assert "20,000,000 parameters" in text
    assert "`trust_remote_code=True` for its full speed with 17,000,000" in text
    assert "largest difference of a logit is 2e-07 (allowed 0.0001)" in text


def test_its_code_is_python_and_its_request_is_the_spec():
    text = card(report())
    assert ast.parse(code(text, "python"))
    assert PruneSpec.model_validate(json.loads(code(text, "json"))) == SPEC
    assert "Seed 7 on cpu with torch 2.13.0, transformers 5.23.0." in text
    assert "| `model/config.json` | `" + "ab" * 32 in text


@pytest.mark.parametrize("kind", ["shrunk", "mixed", "zeros", "dense"])
def test_it_is_whole_for_every_kind(kind):
    quality = report().quality.model_copy(update={"untrained": True})
    text = card(report(kind=kind, quality=quality))
    assert text.startswith("---\nlibrary_name: transformers\n")
    assert "untrained head" in text
    assert text.endswith("|\n")
    assert "None" not in text.replace("null", "")
