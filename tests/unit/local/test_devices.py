from __future__ import annotations

import pytest
import torch

from airflow_provider_modelslab.local.runtime.devices import pick_device, pick_dtype


def test_device_and_type(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert (pick_device("auto"), pick_device("cuda:1")) == ("cpu", "cuda:1")
    assert (pick_dtype("auto", "cpu"), pick_dtype("float16", "cpu")) == (torch.float32, torch.float16)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda: False)
    assert (pick_device("auto"), pick_dtype("auto", "cuda")) == ("cuda", torch.float16)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda: True)
    assert pick_dtype("auto", "cuda:0") == torch.bfloat16
