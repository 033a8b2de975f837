"""Addresses of object stores are refused where they cannot be read or written."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from builders.fetal_health import fetal_health_dataset_builder as fetal_health
from records.describe import __main__ as describe
from records.diagnose import __main__ as diagnose
from records.system.places import check_local
from records.verify import __main__ as verify
from tests.support.faults import record_fault
from train import evaluate, predict
from train import run as train

GS, S3 = "gs://bucket/data", "s3://bucket/data"
HDFS = "hdfs://bucket/data"  # of which there is no client
COMMANDS: dict[str, tuple[Callable[[list[str]], int], list[str]]] = {
    "train.run --manual-dir": (train.main, [f"--manual-dir={S3}", "--dataset=fetal_health/kaggle"]),
    "train.run --run-dir": (train.main, [f"--run-dir={HDFS}"]),
    "train.evaluate": (evaluate.main, [HDFS]),
    "train.predict": (predict.main, [HDFS, "x.csv"]),
}

READERS: dict[str, tuple[Callable[[list[str]], int], list[str]]] = {
    "train.run": (train.main, ["--data-dir="]),
    "records.describe": (describe.main, ["fetal_health", "--data-dir="]),
    "records.diagnose": (diagnose.main, ["--dataset=fetal_health", "--data-dir="]),
    "records.verify": (verify.main, [""]),
    "train.evaluate": (evaluate.main, [""]),
}


@pytest.mark.parametrize("name", COMMANDS)
def test_object_stores_are_refused(name: str, synthetic_data_dir: Path, capsys: Any) -> None:
    main, arguments = COMMANDS[name]
    if name == "train.run --run-dir":
        arguments = [*arguments, f"--data-dir={synthetic_data_dir}"]
    assert main(arguments) == 1
    message = capsys.readouterr().err
    assert message.startswith("error: place: ") and "//bucket/data" in message
    assert ("aws s3" in message) == ("s3://" in message)
    record_fault(f"{name} in an object store", message, "refused before anything is done")


def test_builders_refuse_them() -> None:
    for place, said in ((HDFS, "a folder of a local or mounted"), ("https://host/x", "a bucket")):
        with pytest.raises(ValueError, match=f"--data_dir expected {said}"):
            fetal_health.Builder(data_dir=place, config="kaggle")


def test_local_places_pass() -> None:
    for path in (None, "data", "/mnt/gs", Path("a/b"), "fetal_health/kaggle", "C:/data", "~/x"):
        check_local(path, "--data-dir")
    for path in (GS, Path(GS), "hdfs://name/x", "S3://bucket"):
        with pytest.raises(ValueError, match="expected a folder of a local or mounted"):
            check_local(path, "--data-dir")


SECRETS = ("s3://me:word@bucket/data", "https://host/data?sig=word", "gs://bucket/data#word")


@pytest.mark.parametrize("address", SECRETS)
@pytest.mark.parametrize("name", READERS)
def test_an_address_with_a_secret_is_refused(name: str, address: str, capsys: Any) -> None:
    main, arguments = READERS[name]
    assert main([*arguments[:-1], arguments[-1] + address]) == 1
    message = capsys.readouterr().err
    assert "expected an address without user, password, signature" in message
    assert "word" not in message.replace("password", "")


def test_no_message_repeats_a_secret() -> None:
    for address in SECRETS:
        with pytest.raises(ValueError, match="expected a folder of a local") as caught:
            check_local(address, "--run-dir", is_output=True)
        assert "word" not in str(caught.value)


def test_the_environment_is_looked_at(monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    monkeypatch.setenv("TFDS_DATA_DIR", "hdfs://bucket/data")
    assert train.main([]) == 1
    assert "$TFDS_DATA_DIR expected" in capsys.readouterr().err
    monkeypatch.setenv("TFDS_DATA_DIR", "s3://me:word@bucket")
    assert train.main([]) == 1
    assert "$TFDS_DATA_DIR expected an address without" in capsys.readouterr().err
