"""Weights from the Hugging Face Hub: just the files that are used, kept in its own cache (``HF_HOME``)."""

from __future__ import annotations

import importlib
import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from airflow_provider_modelslab.api.errors import InvalidRequestError, JobFailedError
from airflow_provider_modelslab.local.models.specs import Source

__all__ = ["HUB_FILE", "HUB_REPO", "fetch", "fetch_configs", "hub_source", "is_cached"]

log = logging.getLogger(__name__)

HUB_REPO = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*", re.ASCII)
"""``org/name``."""

HUB_FILE = re.compile(
    r"([A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*)/((?:[\w.-]+/)*[\w.-]+\.(?:safetensors|bin|ckpt|pt))", re.ASCII
)
"""``org/name/path/of/a/file.safetensors``."""

_CONFIGS = ["model_index.json", "*/config.json"]
_TEXTS = ["*.json", "*.txt", "*.model"]
# Parts that no pipeline here uses, and second copies of the same weights.
_UNWANTED = ["safety_checker/*", "image_encoder/*", "assets/*", "*.non_ema.*", "*.msgpack", "*.onnx"]
_HALF = ["*.fp16.*", "*.bf16.*"]


def fetch(source: Source, field: str, *, offline: bool, allow_pickle: bool) -> Path:
    """The folder or file of a source, downloaded when the Hub's cache has it not.

    A repository without a file's name is taken without the copies in other formats or half precision.

    :param field: the attribute of the request that asked for it, for the error.
    :raises InvalidRequestError: for ``field``, when there is no such repository or file, or ``offline`` and it was
        never downloaded.
    :raises JobFailedError: when the Hub cannot be reached, or access to the repository has to be asked for there.
    """
    if source.path is not None:
        return source.path
    hub: Any = importlib.import_module("huggingface_hub")
    common = {"repo_id": source.repo, "revision": source.revision, "local_files_only": offline}
    with _errors_explained(source, field, offline=offline):
        if source.file is not None:
            return Path(hub.hf_hub_download(filename=source.file, **common))
        # A model's parts are in folders; what lies beside them is the same again, as a checkpoint in one file.
        place = "*/*" if field == "model_id" else "*"
        kinds = [*_TEXTS, f"{place}.safetensors", *([f"{place}.bin"] if allow_pickle else [])]
        folder = Path(hub.snapshot_download(allow_patterns=kinds, ignore_patterns=[*_UNWANTED, *_HALF], **common))
        if not _has_weights(folder):  # some repositories have nothing but half precision
            folder = Path(hub.snapshot_download(allow_patterns=kinds, ignore_patterns=_UNWANTED, **common))
    if offline and not _has_weights(folder):  # only :func:`fetch_configs` was there
        raise InvalidRequestError.of(field, offline_problem(source))
    return folder


def fetch_configs(source: Source, *, offline: bool) -> Path:
    """The files of a model's repository that say what it is, without weights: a few kB.

    :raises InvalidRequestError: for ``model_id``, see :func:`fetch`.
    :raises JobFailedError: see :func:`fetch`.
    """
    hub: Any = importlib.import_module("huggingface_hub")
    with _errors_explained(source, "model_id", offline=offline):
        folder = hub.snapshot_download(
            allow_patterns=_CONFIGS, repo_id=source.repo, revision=source.revision, local_files_only=offline
        )
    return Path(folder)


def hub_source(name: str) -> Source | None:
    """The source for ``org/name`` or ``org/name/file.safetensors``, if it is one."""
    if HUB_REPO.fullmatch(name):
        return Source(repo=name)
    found = HUB_FILE.fullmatch(name)
    return Source(repo=found[1], file=found[2]) if found and ".." not in name else None


def is_cached(source: Source, *, allow_pickle: bool) -> bool:
    """Whether a source can be had without the network."""
    try:
        fetch(source, "", offline=True, allow_pickle=allow_pickle)
    except (InvalidRequestError, JobFailedError):
        return False
    return True


def offline_problem(source: Source) -> str:
    """Why an offline engine cannot have it."""
    return f"{source} is not on this machine, and the engine is offline, so it cannot be downloaded"


@contextmanager
def _errors_explained(source: Source, field: str, *, offline: bool) -> Iterator[None]:
    errors: Any = importlib.import_module("huggingface_hub.errors")
    try:
        yield
    except errors.LocalEntryNotFoundError as error:
        if offline:
            raise InvalidRequestError.of(field, offline_problem(source)) from None
        raise JobFailedError(f"{source} could not be downloaded from the Hub: {_line(error)}") from None
    except errors.GatedRepoError:
        raise JobFailedError(
            f"{source} is gated: accept its terms on https://huggingface.co/{source.repo} and set HF_TOKEN"
        ) from None
    except (errors.RepositoryNotFoundError, errors.RevisionNotFoundError, errors.EntryNotFoundError):
        raise InvalidRequestError.of(
            field, f"{source} is not on the Hub; or it is private: then set HF_TOKEN"
        ) from None
    except Exception as error:  # noqa: BLE001  # the Hub's client lets its http library's errors through
        raise JobFailedError(f"{source} could not be downloaded from the Hub: {_line(error)}") from None


def _has_weights(folder: Path) -> bool:
    return any(folder.rglob("*.safetensors")) or any(folder.rglob("*.bin"))


def _line(error: Exception) -> str:
    return f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"[:300]
