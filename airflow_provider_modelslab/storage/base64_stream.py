"""Decodes the body of a link into the bytes of the video: unchanged, or from base64 while streaming.

With the request's attribute ``base64`` the endpoint may send a text file: plain base64, or a ``data:`` URI. The content
type of such links is not reliable, so the first bytes decide.
"""

from __future__ import annotations

import binascii

from airflow_provider_modelslab.storage.media import (
    SNIFF_BYTES,
    ContainerError,
    ContainerKind,
    ContainerVerifier,
    describe_start,
    sniff,
)

__all__ = ["VideoStream"]

_HEAD_BYTES = 256
"""How much of a text is read before it counts as base64; the header of a data URI fits in."""

_PROBE_CHARACTERS = 16
"""So much base64 text contains the 8 bytes that identify the container."""

_SPACE = b" \t\r\n"
_STANDARD_ALPHABET = bytes.maketrans(b"-_", b"+/")


class VideoStream:
    """Converts raw chunks into the video's bytes, and verifies them.

    :meth:`feed` returns nothing until :attr:`kind` is known.
    """

    def __init__(self) -> None:
        self._verifier = ContainerVerifier()
        self._head = bytearray()
        self._decoder: _Base64Decoder | None = None
        self._decided = False

    @property
    def kind(self) -> ContainerKind | None:
        """``"mp4"`` or ``"gif"`` once it is known."""
        return self._verifier.kind

    @property
    def content_type(self) -> str:
        """The MIME type of the video; known once :attr:`kind` is."""
        return self._verifier.content_type

    @property
    def is_base64(self) -> bool:
        """Whether the stream is base64; known once :attr:`kind` is."""
        return self._decoder is not None

    def feed(self, chunk: bytes) -> bytes:
        """The video's bytes in this chunk.

        :raises ContainerError: when the stream is neither an mp4 or GIF nor base64 of one.
        """
        if not self._decided:
            self._head += chunk
            if not sniff(bytes(self._head[:SNIFF_BYTES])):
                if len(self._head) < _HEAD_BYTES:
                    return b""
                self._begin_base64()
            self._decided = True
            chunk = bytes(self._head)
            self._head.clear()
        return self._checked(self._decoder.feed(chunk) if self._decoder else chunk)

    def finish(self) -> bytes:
        """End the stream: the last bytes of the video, if some were held back.

        :raises ContainerError: when the video is truncated, or is not a video.
        """
        rest = b""
        if not self._decided:
            self._begin_base64()
            self._decided = True
            rest = self.feed(bytes(self._head))
        if self._decoder:
            rest += self._checked(self._decoder.finish())
        self._verifier.finish()
        return rest

    def _checked(self, data: bytes) -> bytes:
        self._verifier.feed(data)
        return data

    def _begin_base64(self) -> None:
        """Set up the decoder, and leave only base64 in the head."""
        head = bytes(self._head[:_HEAD_BYTES]).lstrip(_SPACE)
        if head[:5].lower() == b"data:":
            header, comma, _ = head.partition(b",")
            if not comma or not header.lower().endswith(b";base64"):
                raise ContainerError("the stream is a data: URI without base64")
            del self._head[: self._head.index(b",") + 1]
        probe = bytes(self._head[:_HEAD_BYTES]).translate(_STANDARD_ALPHABET, _SPACE)[:_PROBE_CHARACTERS]
        try:
            kind = sniff(binascii.a2b_base64(probe, strict_mode=True))
        except binascii.Error:
            kind = None
        if kind is None:
            raise ContainerError(f"the stream is not an mp4 or gif: it is {describe_start(head)}")
        self._decoder = _Base64Decoder()


class _Base64Decoder:
    """Base64 text in chunks of any size; line breaks, the URL-safe alphabet and missing padding are accepted."""

    def __init__(self) -> None:
        self._pending = b""
        self._ended = False

    def feed(self, text: bytes) -> bytes:
        text = self._pending + text.translate(_STANDARD_ALPHABET, _SPACE)
        whole = len(text) - len(text) % 4
        self._pending = text[whole:]
        return self._decode(text[:whole])

    def finish(self) -> bytes:
        return self._decode(self._pending + b"=" * (-len(self._pending) % 4))

    def _decode(self, text: bytes) -> bytes:
        if text and self._ended:
            raise ContainerError("the base64 text has more data after its end (=)")
        self._ended = self._ended or text.endswith(b"=")
        try:
            return binascii.a2b_base64(text, strict_mode=True)
        except binascii.Error as error:
            raise ContainerError(f"the base64 text is damaged: {error}") from None
