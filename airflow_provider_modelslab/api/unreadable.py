"""Tell whether the text of a failed job says that the clip itself cannot be read.

Only a text that clearly blames the file counts: a clip that is called unreadable is not paid for again. One that tells
of a download, a timeout, memory, a model or the like says nothing about the clip.
"""

from __future__ import annotations

import re

__all__ = ["blames_clip"]

_FILE = (
    r"(?:(?:the|this|your|an?|input|source|uploaded|provided|given|init|init_) ?)*"
    r"(?:video|clip|mp4|gif|media)(?: (?:file|stream|frames?|data))?"
)
_CANNOT = r"(?:cannot|can ?not|can't|could ?not|couldn't)"
_BLAMES = re.compile(
    "|".join(
        (
            rf"\b(?:{_CANNOT}|failed to|unable to) (?:decode|open|read|parse|demux) (?:{_FILE}|(?:the |your )?input)\b",
            rf"\berror (?:while )?(?:decoding|opening|reading|parsing|demuxing) (?:{_FILE}|(?:the |your )?input)\b",
            rf"\b(?:{_FILE}|input(?: file)?) {_CANNOT} be (?:decoded|opened|read|parsed)\b",
            rf"\b{_FILE} (?:is|was|are|seems|appears)(?: to be)? (?:corrupt|damaged|broken|truncated|unreadable)",
            rf"\b{_FILE} is (?:not an?|no) (?:valid )?(?:video|mp4|gif)\b",
            r"\bnot a valid (?:video|mp4|gif)\b",
            r"\binvalid (?:video|mp4|gif|media) (?:file|stream|data|container)\b",
            r"\bcorrupt(?:ed)? (?:input|video|clip|mp4|gif|media)\b",
            r"\binvalid data found when processing input\b",
            r"\bmoov atom not found\b",
            r"\bunsupported (?:(?:video |input )?codec|(?:video|input|media|file|pixel|container) format)\b",
            r"\bhas no (?:frame|video track|video stream) that can be decoded\b",
            r"\bno video (?:stream|track)s?\b",
            r"\bno (?:decodable )?frames in the (?:video|clip|input)\b",
            r"\binit_video (?:\d+ )?frames (?:of \d+x\d+ )?are too (?:large|much)\b",
        )
    ),
    re.IGNORECASE,
)
_OTHER_CAUSE = re.compile(
    r"\b(?:https?|url|link|download\w*|fetch\w*|redirect\w*|connect\w*|network|dns|ssl|time[ -]?(?:d )?out|timeout"
    r"|40\d|429|50\d|forbidden|denied|permission|unauthori[sz]ed|expired|memory|oom|cuda|gpu|disk|space|quota|device"
    r"|too many open files|no such file|input/output error|i/o error|queue|redis|database|socket|pipe|storage|bucket"
    r"|model|checkpoint|weights?|lora|vae|latents?|config|output|result|webhook|internal|writer|encod\w*)\b",
    re.IGNORECASE,
)


def blames_clip(text: str) -> bool:
    """Whether the text of a failed job clearly says that the input clip cannot be read."""
    return _BLAMES.search(text) is not None and _OTHER_CAUSE.search(text) is None
