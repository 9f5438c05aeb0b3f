"""The client carries its own copy of the service's list of file names; the two must not drift apart."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from client.selection import dataset_files, takes_model_file
from core.assets.names import DATASET_FILES, MODEL_FILES

NAMES = (
    st.from_regex(MODEL_FILES, fullmatch=True)
    | st.from_regex(DATASET_FILES, fullmatch=True)
    | st.text(max_size=20)
)


@given(NAMES)
def test_the_client_offers_what_the_service_takes(name: str) -> None:
    assert takes_model_file(name) == bool(MODEL_FILES.fullmatch(name))


@pytest.mark.parametrize("suffix", [".jsonl", ".csv", ".parquet"])
@pytest.mark.parametrize("split", ["train", "validation", "test"])
def test_every_split_gets_a_name_that_the_service_takes(tmp_path: Path, split: str, suffix: str) -> None:
    path = tmp_path / f"data{suffix}"
    path.touch()
    files, _ = dataset_files({split: path})
    assert all(DATASET_FILES.fullmatch(name) for name in files)
