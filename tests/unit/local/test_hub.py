from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx2
import huggingface_hub
import pytest
from huggingface_hub import errors

from airflow_provider_modelslab.api.errors import InvalidRequestError, JobFailedError
from airflow_provider_modelslab.local.models.catalog import Catalog
from airflow_provider_modelslab.local.models.hub import fetch, is_cached
from airflow_provider_modelslab.local.models.specs import Source


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The Hub's cache with one repository in it, as its client lays it out."""
    root = tmp_path / "hub"
    repo = root / "models--org--name"
    commit = "0123456789abcdef0123456789abcdef01234567"
    (repo / "refs").mkdir(parents=True)
    (repo / "refs" / "main").write_text(commit)
    (repo / "snapshots" / commit / "unet").mkdir(parents=True)
    (repo / "snapshots" / commit / "unet" / "a.safetensors").touch()
    (repo / "snapshots" / commit / "one.safetensors").touch()
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(root))
    return repo / "snapshots" / commit


def test_what_was_downloaded_before_needs_no_network(cache: Path) -> None:
    assert fetch(Source("org/name"), "model_id", offline=True, allow_pickle=False) == cache
    one = fetch(Source("org/name", file="one.safetensors"), "lora_models", offline=True, allow_pickle=False)
    assert one == cache / "one.safetensors"
    assert is_cached(Source("org/name"), allow_pickle=False)


def test_what_was_not_is_an_error_that_names_the_attribute(cache: Path) -> None:
    for source in (Source("org/other"), Source("org/name", file="two.safetensors")):
        assert not is_cached(source, allow_pickle=False)
        with pytest.raises(InvalidRequestError, match=r"motion_module: .*is not on this machine"):
            fetch(source, "motion_module", offline=True, allow_pickle=False)


def test_a_path_is_taken_as_it_is(tmp_path: Path) -> None:
    assert fetch(Source("org/name", path=tmp_path), "model_id", offline=True, allow_pickle=False) == tmp_path


@pytest.mark.parametrize(("allow_pickle", "wanted"), [(False, False), (True, True)])
def test_a_repository_is_taken_without_pickles_and_second_copies(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, allow_pickle: bool, wanted: bool
) -> None:
    asked: list[dict[str, Any]] = []

    def download(**options: Any) -> str:
        asked.append(options)
        if len(asked) > 1:
            (tmp_path / "a.fp16.safetensors").touch()
        return str(tmp_path)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    fetch(Source("org/name", revision="1a2b"), "model_id", offline=False, allow_pickle=allow_pickle)
    first, second = asked  # the first brought no weights: there is nothing but half precision
    assert (first["repo_id"], first["revision"], first["local_files_only"]) == ("org/name", "1a2b", False)
    assert ("*/*.bin" in first["allow_patterns"]) is wanted
    assert "*/*.safetensors" in first["allow_patterns"]  # in folders; a checkpoint beside them is the same again
    assert "*.ckpt" not in first["allow_patterns"]
    assert "*.fp16.*" in first["ignore_patterns"]
    assert "*.fp16.*" not in second["ignore_patterns"]


def test_a_part_lies_in_the_top_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.safetensors").touch()
    asked: list[dict[str, Any]] = []

    def download(**options: Any) -> str:
        asked.append(options)
        return str(tmp_path)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    catalog = Catalog(None, tmp_path)
    for _ in range(2):
        assert catalog.fetch(Source("org/name"), "lora_models") == tmp_path
    assert [options["allow_patterns"][-1] for options in asked] == ["*.safetensors"]


def answer(status: int) -> httpx2.Response:
    return httpx2.Response(status, request=httpx2.Request("GET", "https://huggingface.co/org/name"))


@pytest.mark.parametrize(
    ("error", "expected", "text"),
    [
        (
            errors.RepositoryNotFoundError("x", response=answer(404)),
            InvalidRequestError,
            "org/name is not on the Hub",
        ),
        (errors.GatedRepoError("x", response=answer(403)), JobFailedError, "is gated: accept its terms"),
        (errors.LocalEntryNotFoundError("no network"), JobFailedError, "could not be downloaded"),
        (httpx2.ConnectError("refused"), JobFailedError, "ConnectError: refused"),
    ],
)
def test_what_goes_wrong_is_told(
    monkeypatch: pytest.MonkeyPatch, error: Exception, expected: type[Exception], text: str
) -> None:
    def fail(**_: Any) -> str:
        raise error

    monkeypatch.setattr(huggingface_hub, "snapshot_download", fail)
    with pytest.raises(expected, match=text):
        fetch(Source("org/name"), "model_id", offline=False, allow_pickle=False)
