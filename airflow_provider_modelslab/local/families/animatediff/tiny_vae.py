"""The small VAE (``AutoencoderTiny``) that can replace a model's own; see :class:`~.Optimizations`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow_provider_modelslab.local.models.hub import hub_source
from airflow_provider_modelslab.local.models.weights import read_tensors, weight_files
from airflow_provider_modelslab.local.runtime.devices import lay_out
from airflow_provider_modelslab.local.runtime.lazy_imports import load_diffusers

if TYPE_CHECKING:
    from airflow_provider_modelslab.local.models.catalog import Catalog

__all__ = ["load_tiny_vae", "tiny_vae_folder"]

_FIELD = "tiny_vae"
_CLASS = "AutoencoderTiny"
_FACTOR = 8  # pixels to a latent, along each side
_CHANNELS = 4


def tiny_vae_folder(name: str | Path, catalog: Catalog) -> Path:
    """The folder of a tiny VAE on this machine; one on the Hub is downloaded the first time.

    :raises ValueError: when ``name`` is neither a folder nor a Hub id.
    :raises InvalidRequestError: for ``tiny_vae``, when there is no such repository.
    :raises JobFailedError: when the Hub does not answer.
    """
    folder = Path(name)
    if folder.is_dir():
        return folder
    source = hub_source(str(name))
    if source is None or source.file:
        raise ValueError(f"{_FIELD} must be a folder that exists, or a Hub id such as org/name; got {str(name)!r}")
    return catalog.fetch(source, _FIELD)


def load_tiny_vae(name: str | Path, catalog: Catalog, device: str, dtype: Any) -> Any:
    """The tiny VAE of a folder or a Hub id, ready to be used.

    :raises ValueError: when it is neither, or no ``AutoencoderTiny`` with the latents of Stable Diffusion 1.5.
    :raises InvalidRequestError: for ``tiny_vae``, see :func:`tiny_vae_folder`, or when no weights may be read.
    :raises JobFailedError: when the Hub does not answer.
    """
    import torch

    folder = tiny_vae_folder(name, catalog)
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ValueError(f"{_FIELD}: {folder}/config.json cannot be read ({type(error).__name__})") from None
    if config.get("_class_name") != _CLASS:
        raise ValueError(f"{_FIELD}: {folder} contains a {config.get('_class_name')}, not an {_CLASS}")
    with torch.device("meta"):
        # diffusers saves this beside the two that it is made of, and warns of it when it reads it.
        vae = load_diffusers().AutoencoderTiny.from_config(
            {k: v for k, v in config.items() if k != "block_out_channels"}
        )
    factor = 2 ** (len(vae.config.encoder_block_out_channels) - 1)
    if factor != _FACTOR or vae.config.latent_channels != _CHANNELS:
        raise ValueError(
            f"{_FIELD}: {folder} makes {vae.config.latent_channels} channels of {factor}x{factor} pixels each; "
            f"the model's latents have {_CHANNELS} channels of {_FACTOR}x{_FACTOR}"
        )
    files = weight_files(folder, _FIELD, allow_pickle=catalog.allow_pickle)
    vae.load_state_dict(lay_out(read_tensors(files, device=device, dtype=dtype), device), assign=True)
    return vae.eval().requires_grad_(False)
