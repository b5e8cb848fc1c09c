"""The connection form in a real Airflow and a real Chromium: filled in, saved, and tested well and badly."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import pytest
import requests

from airflow_provider_modelslab.connection_form import FIELDS
from tests.support.browser import keep_screenshot
from tools.stack.process import free_port, wait_until
from tools.stack.whole import LOCAL_KEY, WholeStack

if TYPE_CHECKING:
    from playwright.sync_api import Locator, Page

pytestmark = [pytest.mark.system, pytest.mark.slow]

NAME = "made_in_the_form"


@pytest.fixture(scope="module")
def connection(site: WholeStack) -> str:
    """The connection that the first test makes is gone before it."""
    site.airflow.call("DELETE", f"connections/{NAME}", accept=(204, 404))
    return NAME


def open_form(page: Page) -> Locator:
    page.goto("/connections")
    page.get_by_role("button", name="Add Connection").click()
    form = page.get_by_role("dialog")
    form.get_by_role("combobox").first.click()
    page.keyboard.type("ModelsLab")
    form.get_by_role("option", name="ModelsLab", exact=True).wait_for()
    page.keyboard.press("Enter")
    form.get_by_text("Base URL", exact=True).wait_for()
    return form


def press_test(page: Page) -> str:
    """What the page says after "Test Connection"."""
    page.goto("/connections")
    row = page.get_by_role("row").filter(has_text=NAME)
    row.get_by_role("button", name="Test Connection").click()
    # It is there for seconds alone, so it is read in the moment in which it is found.
    toast = "() => document.querySelector('[data-scope=toast][data-part=root]')?.innerText"
    return str(page.wait_for_function(toast).json_value())


def test_the_form_is_filled_in_and_saved(site: WholeStack, page: Page, connection: str) -> None:
    page.set_viewport_size({"width": 1280, "height": 1500})
    form = open_form(page)
    for label in ("Base URL", "Port", "API key"):
        assert form.get_by_text(label, exact=True).is_visible()
    for label in ("Login", "Schema"):
        assert form.get_by_text(label, exact=True).count() == 0
    assert form.locator("[name=host]").get_attribute("placeholder") == "https://modelslab.com/api/v1"
    assert form.locator("[name=password]").get_attribute("type") == "password"
    where = urlsplit(site.endpoint.url)
    form.locator("[name=connection_id]").fill(connection)
    form.locator("[name=host]").fill(f"http://{where.hostname}")
    form.locator("[name=port]").fill(str(where.port))
    form.locator("[name=password]").fill(LOCAL_KEY)

    form.get_by_text("Extra Fields", exact=True).click()
    form.locator("[name=element_bucket]").wait_for()
    for name, field in FIELDS.items():
        shown = form.locator(f"[name=element_{name}]")
        assert shown.is_visible()
        assert shown.get_attribute("type") == ("password" if field["schema"].get("format") == "password" else None)
        assert shown.input_value() == (field["schema"].get("default") or "")
        assert form.get_by_text(field["label"], exact=True).is_visible()
        assert form.get_by_text(field["description"], exact=True).is_visible()
    proposed = form.locator("datalist#list_element_region option, datalist option").all()
    assert "eu-central-1" in {option.get_attribute("value") for option in proposed}
    form.locator("[name=element_bucket]").fill(site.bucket)
    form.locator("[name=element_prefix]").fill("clips/styled")
    form.locator("[name=element_region]").fill(site.s3.region)
    form.locator("[name=element_endpoint_url]").fill(site.s3.endpoint_url)
    page.wait_for_timeout(400)  # the accordion's animation, for the picture
    keep_screenshot(page, "connection-form")
    form.get_by_role("button", name="Save").click()
    form.wait_for(state="hidden")

    saved: dict[str, Any] = site.airflow.call("GET", f"connections/{connection}")
    assert (saved["conn_type"], saved["password"]) == ("modelslab", "***")
    filled = {name: value for name, value in json.loads(saved["extra"]).items() if value is not None}
    assert filled == {
        "bucket": site.bucket,
        "prefix": "clips/styled",
        "aws_conn_id": "aws_default",
        "region": site.s3.region,
        "endpoint_url": site.s3.endpoint_url,
    }


def test_a_good_connection_is_tested(site: WholeStack, page: Page) -> None:
    said = press_test(page)
    keep_screenshot(page, "connection-tested-well")
    assert said.startswith("Test Connection Successful")
    assert f"The video server at {site.endpoint.url}/api/v1 answers" in said
    assert f"The bucket {site.bucket} can be reached with the AWS connection aws_default" in said


def test_bad_connections_are_tested(site: WholeStack, page: Page) -> None:
    def change(**fields: Any) -> None:
        mask = "&".join(f"update_mask={name}" for name in fields)
        body = {"connection_id": NAME, "conn_type": "modelslab", **fields}
        site.airflow.call("PATCH", f"connections/{NAME}?{mask}", body)

    change(password="a-key-that-nobody-gave")
    said = press_test(page)
    keep_screenshot(page, "connection-tested-badly")
    assert said.startswith("Test Connection Failed")
    assert f"Compare it with the one with which {site.endpoint.url}/api/v1 was started" in said
    assert "a-key-that" not in said

    change(password=LOCAL_KEY, port=free_port())
    assert "/api/v1 cannot be reached" in press_test(page)

    extra = json.dumps({"bucket": "nobodys", "endpoint_url": site.s3.endpoint_url})
    change(password=LOCAL_KEY, port=urlsplit(site.endpoint.url).port, extra=extra)
    said = press_test(page)
    assert "The video server at" in said
    assert "the bucket 'nobodys' does not exist" in said


def test_a_worker_tests_it_as_well(site: WholeStack) -> None:
    """Airflow 3.3 can have a connection tested where tasks run."""
    body = {
        "connection_id": "tested_on_a_worker",
        "conn_type": "modelslab",
        "host": site.endpoint.url,
        "password": LOCAL_KEY,
        "extra": json.dumps({"bucket": site.bucket, "endpoint_url": site.s3.endpoint_url}),
    }
    for _ in range(3):
        answer = _tested_on_a_worker(site, body)
        # Airflow gives a test up when its own API server is slow to answer the worker; then nothing of ours was asked.
        if not answer["result_message"].startswith("Connection test failed unexpectedly"):
            break
    assert answer["state"] == "success", answer["result_message"]
    assert f"The video server at {site.endpoint.url}/api/v1 answers" in answer["result_message"]
    assert f"The bucket {site.bucket} was not checked" in answer["result_message"]


def _tested_on_a_worker(site: WholeStack, body: dict[str, Any]) -> dict[str, Any]:
    token = site.airflow.call("POST", "connections/enqueue-test", body, accept=(202,))["token"]
    answers: list[dict[str, Any]] = [{}]

    def ended() -> bool:
        url, headers = f"{site.airflow.url}/api/v2/connections/enqueue-test", {"Airflow-Connection-Test-Token": token}
        with requests.Session() as session:
            session.trust_env = False
            answers.append(session.get(url, headers=headers, timeout=30).json())
        return answers[-1]["state"] in {"success", "failed"}

    wait_until(ended, [], what="the test on a worker", interval=0.5)
    return answers[-1]
