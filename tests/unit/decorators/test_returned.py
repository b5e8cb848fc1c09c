from __future__ import annotations

from typing import Any

import pytest

from airflow_provider_modelslab.api.errors import InvalidRequestError
from airflow_provider_modelslab.api.request import Video2VideoRequest
from airflow_provider_modelslab.decorators.returned import attributes_in, source_in

REQUEST = Video2VideoRequest(model_id="m", prompt="a fox", init_video="s3://clips/a.mp4", seed=7)
GIVEN = {"model_id": "m", "prompt": "a fox", "init_video": "s3://clips/a.mp4", "seed": 7}


def test_a_request_or_a_mapping_of_attributes() -> None:
    assert attributes_in(REQUEST, ()) == GIVEN  # what was given, and no default
    assert attributes_in({"seed": None, "extra_parameters": {"x": 1}}, ()) == {
        "seed": None,
        "extra_parameters": {"x": 1},
    }


@pytest.mark.parametrize(
    ("returned", "message"),
    [
        (None, "request: the function must return a mapping .* it returned nothing"),
        ("a fox", "request: .* it returned str 'a fox'"),
        (["https://host/a.mp4?sig=secret"], r"request: .* it returned list \['https://host/a.mp4"),
        ({"promt": "a fox"}, r"promt: is not an attribute of the endpoint; did you mean prompt\?"),
        ({"destination": "s3://b/"}, "destination: is an argument of the decorator"),
        ({"zzz": 1}, "zzz: is not an attribute of the endpoint; extra_parameters passes others on"),
        ({7: 1}, "7: is not an attribute"),
    ],
)
def test_what_is_no_request(returned: object, message: str) -> None:
    with pytest.raises(InvalidRequestError, match=message) as caught:
        attributes_in(returned, {"destination"})
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("returned", "source", "attributes"),
    [
        ("s3://clips/in/", "s3://clips/in/", {}),
        (["s3://clips/a.mp4"], ["s3://clips/a.mp4"], {}),
        ([REQUEST, {"init_video": "s3://clips/b.mp4"}], [GIVEN, {"init_video": "s3://clips/b.mp4"}], {}),
        ({"manifest": "s3://clips/m.jsonl"}, {"manifest": "s3://clips/m.jsonl"}, {}),
        ({"source": ["s3://clips/a.mp4"], "seed": 7}, ["s3://clips/a.mp4"], {"seed": 7}),
        ((name for name in ["s3://clips/a.mp4"]), ["s3://clips/a.mp4"], {}),
    ],
)
def test_the_source_of_a_batch(returned: object, source: object, attributes: dict[str, Any]) -> None:
    assert source_in(returned, (), stored=True) == (source, attributes)


@pytest.mark.parametrize(
    ("returned", "message"),
    [
        (None, "source: the function must return .* it returned nothing"),
        (7, "source: .* it returned int 7"),
        ({"source": None}, "source: .* it returned nothing"),
        ({"source": "s3://clips/in/", "max_failed": 3}, "max_failed: is an argument of the decorator"),
        ({"source": "s3://clips/in/", "init_video": "s3://clips/a.mp4"}, "init_video: is one clip's own"),
        ({"source": "s3://clips/in/", "webhook": "https://host/?token=secret"}, "webhook: has a query"),
    ],
)
def test_what_is_no_source(returned: object, message: str) -> None:
    with pytest.raises(InvalidRequestError, match=message) as caught:
        source_in(returned, {"max_failed"}, stored=True)
    assert "secret=" not in str(caught.value)


def test_a_query_is_no_matter_where_nothing_is_stored() -> None:
    returned = {"source": "s3://clips/in/", "webhook": "https://host/?token=secret"}
    assert source_in(returned, (), stored=False)[1] == {"webhook": "https://host/?token=secret"}
