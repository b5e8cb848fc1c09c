from __future__ import annotations

import json
from typing import Any

import pytest

from airflow_provider_modelslab.api.errors import AuthenticationError, InvalidRequestError
from airflow_provider_modelslab.api.request import Video2VideoRequest
from airflow_provider_modelslab.client.requests import S3_SETTINGS, ApiRequest, RequestFactory

KEY = "hush-hush"
BASE = "https://modelslab.com/api/v1"
S3 = {name: f"<{name}>" for name in S3_SETTINGS}


@pytest.fixture
def calls() -> RequestFactory:
    return RequestFactory(f" {KEY}\n")


def body(call: ApiRequest) -> Any:
    return json.loads(call.body)


def request_with(**extra: Any) -> Video2VideoRequest:
    return Video2VideoRequest(model_id="m", prompt="p", init_video="https://example.com/a.mp4", extra_parameters=extra)


@pytest.mark.parametrize("key", ["", " ", None])
def test_no_key(key: Any) -> None:
    with pytest.raises(AuthenticationError, match="password of the Airflow connection"):
        RequestFactory(key)


def test_every_call_has_its_path_and_the_key_in_its_body(calls: RequestFactory) -> None:
    made = {
        f"{BASE}/enterprise/video/video2video": calls.submit(request_with()),
        f"{BASE}/enterprise/video/fetch/147": calls.fetch("147"),
        f"{BASE}/enterprise/video/clear_queue": calls.video_server("clear_queue"),
        f"{BASE}/enterprise/update_s3": calls.update_s3(S3),
        f"{BASE}/enterprise/reset_s3": calls.reset_s3(),
    }
    for url, call in made.items():
        assert call.url == url
        assert call.host == "modelslab.com"
        assert body(call)["key"] == KEY
        assert KEY not in repr(call)
        assert S3["aws_secret_access_key"] not in repr(call)
    assert KEY not in repr(calls)


WIDE = Video2VideoRequest(model_id="m", prompt="p", init_video="https://example.com/a.mp4", width=832)


@pytest.mark.parametrize("base_url", [BASE, "https://MODELSLAB.com", "https://eu.modelslab.com/api/v7"])
def test_the_limits_of_the_vendor_hold_at_the_vendor(base_url: str) -> None:
    with pytest.raises(InvalidRequestError) as caught:
        RequestFactory(KEY, base_url).submit(WIDE)
    assert set(caught.value.fields) == {"width"}


def test_extensions_of_a_served_endpoint_are_sent_to_one_alone() -> None:
    whole = request_with(x_clip_mode="whole", x_audio="drop", mine=1)
    with pytest.raises(InvalidRequestError) as caught:
        RequestFactory(KEY, BASE).submit(whole)
    assert set(caught.value.fields) == {"x_clip_mode", "x_audio"}
    sent = body(RequestFactory(KEY, "https://gpu-box").submit(whole))
    assert (sent["x_clip_mode"], sent["x_audio"], sent["mine"]) == ("whole", "drop", 1)


@pytest.mark.parametrize("base_url", ["http://127.0.0.1:8188", "https://gpu-box", "https://notmodelslab.com"])
def test_the_limits_of_the_vendor_do_not_hold_elsewhere(base_url: str) -> None:
    assert body(RequestFactory(KEY, base_url).submit(WIDE))["width"] == 832


@pytest.mark.parametrize(
    ("job_id", "quoted"),
    [(147, "147"), (" 147 ", "147"), ("../a?b#c", "..%2Fa%3Fb%23c"), ("ü", "%C3%BC"), ("0a-1b", "0a-1b")],
)
def test_ids_are_quoted(calls: RequestFactory, job_id: Any, quoted: str) -> None:
    assert calls.fetch(job_id).url == f"{BASE}/enterprise/video/fetch/{quoted}"


@pytest.mark.parametrize("job_id", ["", "  ", ".", "..", None])
def test_no_id(calls: RequestFactory, job_id: Any) -> None:
    with pytest.raises(InvalidRequestError, match="job_id: "):
        calls.fetch(job_id)


def test_extra_parameters_that_are_no_json(calls: RequestFactory) -> None:
    for value in (object(), float("nan"), {1, 2}):
        with pytest.raises(InvalidRequestError, match="extra_parameters: must be plain JSON") as caught:
            calls.submit(request_with(odd=value))
        assert caught.value.__context__ is None


def test_s3_settings(calls: RequestFactory) -> None:
    assert body(calls.update_s3(S3)) == {**S3, "deploy_type": "video", "key": KEY}
    assert body(calls.update_s3(S3, deploy_type="text_to_image"))["deploy_type"] == "text_to_image"
    assert body(calls.reset_s3(deploy_type="flux")) == {"deploy_type": "flux", "key": KEY}
    assert calls.update_s3(S3).secrets == (KEY, S3["aws_access_key_id"], S3["aws_secret_access_key"])


@pytest.mark.parametrize("name", S3_SETTINGS)
def test_each_s3_setting_is_needed_and_its_value_never_shown(calls: RequestFactory, name: str) -> None:
    rest = {other: value for other, value in S3.items() if other != name}
    wrong: list[tuple[dict[str, Any], str]] = [
        (rest, "is required"),
        ({**S3, name: " "}, "must not be empty"),
        ({**S3, name: ["hush"]}, "must be text; got list"),
    ]
    for settings, problem in wrong:
        with pytest.raises(InvalidRequestError) as caught:
            calls.update_s3(settings)
        assert caught.value.fields == {name: [problem]}


def test_unknown_s3_settings_get_a_hint(calls: RequestFactory) -> None:
    with pytest.raises(InvalidRequestError) as caught:
        calls.update_s3({**S3, "region": "x", "zzz": "x", "key": "x"}, deploy_type="")
    assert caught.value.fields["region"] == ["is not an S3 setting; did you mean region_name?"]
    assert caught.value.fields["zzz"] == [f"is not an S3 setting; allowed: {', '.join(S3_SETTINGS)}"]
    assert set(caught.value.fields) == {"region", "zzz", "key", "deploy_type"}
    with pytest.raises(InvalidRequestError, match="deploy_type: must not be empty"):
        calls.reset_s3(deploy_type=" ")
