"""A connection to S3 that cannot work is told in words, by the gallery and by the links on tasks."""

from __future__ import annotations

from pathlib import Path

import pytest

from airflow_provider_modelslab.api.errors import StorageConfigurationError
from airflow_provider_modelslab.plugins.gallery import store
from airflow_provider_modelslab.plugins.gallery.data import Media
from airflow_provider_modelslab.plugins.gallery.store import open_store
from tests.support.connections import set_connection, set_modelslab


@pytest.fixture(autouse=True)
def nothing_to_find(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A machine on which boto finds no credentials by itself."""
    monkeypatch.setattr(store, "_stores", {})
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
        monkeypatch.setenv(name, str(tmp_path / "none"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    set_modelslab(monkeypatch, conn_id="ml", bucket="clips", region="eu-central-1", aws_conn_id="aws_x")


@pytest.mark.parametrize(
    ("connection", "words"),
    [
        (
            {"extra": {"profile_name": "not-there"}},
            "No S3 client can be made from the AWS connection aws_x: ProfileNotFound",
        ),
        ({"extra": {"config_kwargs": {"signature_version": 5, "no_such": 1}}}, "No S3 client can be made from"),
    ],
)
def test_no_client_can_be_made(connection: dict[str, object], words: str, monkeypatch: pytest.MonkeyPatch) -> None:
    set_connection(monkeypatch, "aws_x", "aws", **connection)
    with pytest.raises(StorageConfigurationError) as refused:
        open_store("ml")
    assert str(refused.value).startswith(words)


def test_settings_that_cannot_work(monkeypatch: pytest.MonkeyPatch) -> None:
    set_modelslab(monkeypatch, conn_id="ml", bucket="No Bucket")
    with pytest.raises(StorageConfigurationError, match="'No Bucket'"):
        open_store("ml")


def test_nothing_to_sign_with(monkeypatch: pytest.MonkeyPatch) -> None:
    set_connection(monkeypatch, "aws_x", "aws")
    told = Media("s3://clips/a.mp4").link(open_store("ml"))
    assert told == {"why": told["why"]}
    assert "Unable to locate credentials" in told["why"]
