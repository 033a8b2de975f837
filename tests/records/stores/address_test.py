"""Addresses, and where credentials come from."""

from __future__ import annotations

from pathlib import Path

import pytest

from records.stores.address import is_address, parse_address
from records.stores.credentials import store_settings


def test_addresses_are_taken_apart() -> None:
    found = parse_address("s3://bucket/a//b/", "x")
    assert (found.scheme, found.bucket, found.key, str(found)) == (
        *("s3", "bucket", "a/b"),
        "s3://bucket/a/b",
    )
    assert str(parse_address(Path("gs://bucket"), "x") / "c") == "gs://bucket/c"
    assert is_address("https://host/a") and is_address("az://c/a") and is_address("S3://b")
    assert not any(map(is_address, (None, "data", "hdfs://a/b", "fetal_health/kaggle", "C:/x")))


@pytest.mark.parametrize("place", ["s3://", "s3://bucket/../x", "http://host/a", "gs:///"])
def test_what_is_none_is_refused(place: str) -> None:
    with pytest.raises(ValueError, match="place: --data-dir expected"):
        parse_address(place, "--data-dir")


@pytest.fixture
def profiles(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the two files of AWS's own tools, and nothing in the environment."""
    (tmp_path / "credentials").write_text(
        "[default]\naws_access_key_id = A\naws_secret_access_key = B\n"
        "[other]\naws_access_key_id = C\naws_secret_access_key = D%\n"
    )
    (tmp_path / "config").write_text(
        "[default]\nregion = eu-west-1\n[profile other]\nregion = us-west-2\n"
        "endpoint_url = https://store.example\n[profile sso]\nsso_session = x\n"
    )
    for name in ("ACCESS_KEY_ID", "PROFILE", "REGION", "DEFAULT_REGION", "SKIP_SIGNATURE"):
        monkeypatch.delenv(f"AWS_{name}", raising=False)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
    return tmp_path


def test_profiles_of_aws_are_read(profiles: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = {"access_key_id": "A", "secret_access_key": "B", "region": "eu-west-1"}
    assert store_settings("s3") == first
    monkeypatch.setenv("AWS_PROFILE", "other")
    other = {"access_key_id": "C", "secret_access_key": "D%", "region": "us-west-2"}
    assert store_settings("s3") == other | {"endpoint": "https://store.example"}
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "E")  # with its own secret, not with D%
    monkeypatch.setenv("AWS_REGION", "x")
    assert store_settings("s3") == {"endpoint": "https://store.example"}
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.setenv("AWS_PROFILE", "sso")
    with pytest.raises(ValueError, match="export-credentials --profile sso"):
        store_settings("s3")
