"""Links live as long as the session that signs them, and that is begun as late as it can be."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

import boto3
import botocore.session
import pytest
from botocore.credentials import Credentials, RefreshableCredentials

from airflow_provider_modelslab.api.errors import StorageConfigurationError
from airflow_provider_modelslab.storage.s3_profile import S3Profile
from airflow_provider_modelslab.storage.signing import LinkSigner, session_left
from airflow_provider_modelslab.storage.uri import S3Uri

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

CLIP = S3Uri("clips", "in/a.mp4")
Make = Callable[..., "S3Client"]


@pytest.fixture
def make() -> Iterator[Make]:
    """Clients of their own session, which ends in so many seconds."""
    made: list[S3Client] = []

    def client(ends_in: float | None = None, token: str | None = None, key: str = "ASIAEXAMPLE") -> S3Client:
        core = botocore.session.Session()
        if ends_in is None:
            credentials: Any = Credentials(key, "secret", token)
        else:
            end = datetime.now(UTC) + timedelta(seconds=ends_in)
            renewed = {"access_key": key, "secret_key": "s", "token": "t", "expiry_time": end.isoformat()}
            credentials = RefreshableCredentials(key, "secret", "token", end, lambda: renewed, "assume-role")
        core._credentials = credentials  # type: ignore[attr-defined]
        config = S3Profile(region="us-east-1").client_config()
        made.append(boto3.session.Session(botocore_session=core, region_name="us-east-1").client("s3", config=config))
        return made[-1]

    yield client
    for found in made:
        found.close()


def lifetime(url: str) -> int:
    return int(parse_qs(urlsplit(url).query)["X-Amz-Expires"][0])


def key_of(url: str) -> str:
    return parse_qs(urlsplit(url).query)["X-Amz-Credential"][0].partition("/")[0]


def warnings(caplog: pytest.LogCaptureFixture) -> list[logging.LogRecord]:
    return [record for record in caplog.records if record.levelno == logging.WARNING]


def test_long_lived_keys_sign_for_as_long_as_is_asked(make: Make, caplog: pytest.LogCaptureFixture) -> None:
    link = LinkSigner(make, clock=lambda: 1000.0).sign(CLIP, 7200)
    assert (lifetime(link.url), link.expires_at) == (7200, 8200.0)
    assert warnings(caplog) == []
    assert "Signature" not in repr(link)


def test_a_link_lives_for_seven_days_at_most(make: Make) -> None:
    assert lifetime(LinkSigner(make).sign(CLIP, 30 * 24 * 3600).url) == 604_800


def test_a_session_that_is_long_enough_changes_nothing(make: Make, caplog: pytest.LogCaptureFixture) -> None:
    assert lifetime(LinkSigner(lambda: make(3600)).sign(CLIP, 1800).url) == 1800
    assert warnings(caplog) == []


def test_a_link_is_capped_at_the_life_of_the_session(make: Make, caplog: pytest.LogCaptureFixture) -> None:
    client = make(3600)
    signer = LinkSigner(lambda: client, clock=lambda: 1000.0)
    link, again = signer.sign(CLIP, 7200), signer.sign(CLIP, 7200)
    for found in (link, again):
        assert 3590 <= lifetime(found.url) <= 3600
        assert found.expires_at == 1000.0 + lifetime(found.url)
    [warning] = warnings(caplog)  # once, and not for each clip of a batch
    assert "59 min" in warning.getMessage()
    assert "120 min" in warning.getMessage()


def test_temporary_keys_of_unknown_end_are_told_of(make: Make, caplog: pytest.LogCaptureFixture) -> None:
    link = LinkSigner(lambda: make(token="token")).sign(CLIP, 7200)
    assert (lifetime(link.url), link.expires_at) == (7200, None)
    [warning] = warnings(caplog)
    assert "unknown" in warning.getMessage()


def test_an_old_session_gives_way_to_a_new_one(make: Make) -> None:
    now, old = [0.0], make(1200, key="OLD")
    signer = LinkSigner(lambda: old, lambda: make(3600, key="NEW"), clock=lambda: now[0])
    assert key_of(signer.sign(CLIP, 7200).url) == "OLD", "it was begun a moment ago"
    now[0] = 301.0
    found = signer.sign(CLIP, 7200).url
    assert (key_of(found), lifetime(found) > 3500) == ("NEW", True)
    assert key_of(signer.sign(CLIP, 60).url) == "NEW"


@pytest.mark.slow
def test_a_session_that_suffices_is_not_renewed(make: Make) -> None:
    now = [0.0]
    signer = LinkSigner(lambda: make(3600), lambda: pytest.fail("not needed"), clock=lambda: now[0])
    now[0] = 301.0
    assert lifetime(signer.sign(CLIP, 1800).url) == 1800


def test_a_new_session_that_cannot_be_had_leaves_the_old_one(make: Make) -> None:
    now = [0.0]

    def renew() -> S3Client:
        raise PermissionError("sts:AssumeRole")

    signer = LinkSigner(lambda: make(1200, key="OLD"), renew, clock=lambda: now[0])
    now[0] = 301.0
    assert key_of(signer.sign(CLIP, 7200).url) == "OLD"


def test_a_new_session_that_ends_no_later_is_not_used(make: Make) -> None:
    """As with the credentials of a machine, which all its processes share."""
    now = [0.0]
    signer = LinkSigner(lambda: make(1200, key="OLD"), lambda: make(900, key="NEW"), clock=lambda: now[0])
    now[0] = 301.0
    assert key_of(signer.sign(CLIP, 7200).url) == "OLD"


def test_a_bucket_of_another_region_is_named_before_anything_is_paid_for(make: Make) -> None:
    client = make()

    def redirected(builtins: dict[str, Any], **_: Any) -> None:
        builtins["AWS::Region"] = "eu-central-1"  # as boto does once AWS has told it

    client.meta.events.register("before-endpoint-resolution.s3", redirected)
    with pytest.raises(StorageConfigurationError, match="region to eu-central-1"):
        LinkSigner(lambda: client).sign(CLIP, 60)


def test_keys_with_dots_are_written_so_that_clients_keep_them(make: Make) -> None:
    url = LinkSigner(make).sign(S3Uri("clips", "a/../b/./c.mp4"), 60).url
    assert urlsplit(url).path == "/a/%2E%2E/b/%2E/c.mp4"


def test_how_long_a_session_has_left(make: Make) -> None:
    assert session_left(make()) == float("inf")
    assert session_left(make(token="t")) is None
    began = time.monotonic()
    left = session_left(make(3600)) or 0
    assert 3600 - (time.monotonic() - began) - 1 <= left <= 3600
