"""All ledgers below a root, page by page, for commands that read many of them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, NamedTuple

from airflow_provider_modelslab.ledger.model import ENTRY_NAME
from airflow_provider_modelslab.storage.s3_removal import DatedObject, list_dated
from airflow_provider_modelslab.storage.uri import S3Uri

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

__all__ = ["ListedLedger", "list_ledgers"]

_ENTRY = re.compile(
    r"(?P<folder>(?:results/(?:[0-9a-f]{8}/){1,16}|tasks/)[0-9a-f]{64})"
    rf"/(?P<name>{ENTRY_NAME})\.json"
)
"""Keys of ledger entries below the root, see :mod:`~airflow_provider_modelslab.ledger.listing`."""


class ListedLedger(NamedTuple):
    """One ledger, as it was listed.

    :param folder: its folder.
    :param entries: its objects by the entries' names, such as ``0001-claim``.
    """

    folder: S3Uri
    entries: Mapping[str, DatedObject]


def list_ledgers(s3: S3Client, root: S3Uri) -> Iterator[ListedLedger]:
    """Each ledger below ``root``; objects that are no entries are skipped. Keeps one page in memory.

    :param root: the folder of all ledgers, see ``S3Profile.ledger_root``.
    :raises StorageConfigurationError: when the store refuses.
    """
    head = f"{root.key}/"
    folder, entries = "", dict[str, DatedObject]()
    for part in ("results/", "tasks/"):
        for page in list_dated(s3, S3Uri(root.bucket, f"{head}{part}")):
            for item in page:
                found = _ENTRY.fullmatch(item.key[len(head) :])
                if found is None:
                    continue
                if found["folder"] != folder:
                    if entries:
                        yield ListedLedger(root.child(folder), entries)
                    folder, entries = found["folder"], {}
                entries[found["name"]] = item
    if entries:
        yield ListedLedger(root.child(folder), entries)
