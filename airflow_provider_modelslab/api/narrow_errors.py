"""Failures that are told more narrowly than by their reason: a batch has to know whether they are one clip's own."""

from __future__ import annotations

from airflow_provider_modelslab.api.errors import StorageConfigurationError, TransportError

__all__ = ["EndpointSettingsError", "EndpointUnreachableError", "InputRefusedError"]


class InputRefusedError(StorageConfigurationError):
    """S3 refuses this one object, and perhaps gives others: its ACL, its KMS key, a policy for its prefix."""


class EndpointUnreachableError(TransportError):
    """No connection to the endpoint came about, so nothing was sent: the same submit can be made again later."""


class EndpointSettingsError(TransportError):
    """What was asked is not the endpoint's API, or cannot be asked with these settings; a person has to change them."""
