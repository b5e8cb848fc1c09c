"""What would lead a reader elsewhere: playlists, references, names that are addresses, links into the own network."""

from __future__ import annotations

import random
from typing import NamedTuple

from benchmarks.hostile_clips.boxes import FTYP, box, full_box, movie, sample_table, track
from benchmarks.hostile_clips.valid import base

__all__ = ["Canaries", "make_link_inside", "make_name", "make_playlist", "make_reference"]


class Canaries(NamedTuple):
    """What must not be touched: a file, which is a clip, and ports that listen on this machine.

    :param file: its absolute path.
    """

    file: str
    port: int

    @property
    def link(self) -> str:
        """A link to the port."""
        return f"http://127.0.0.1:{self.port}/canary.mp4"

    def any(self, rng: random.Random) -> str:
        """One of the ways to name them."""
        return rng.choice((self.file, f"file:{self.file}", f"file://{self.file}", self.link, f"tcp://{self.link[7:]}"))


def make_playlist(rng: random.Random, canaries: Canaries) -> tuple[bytes, str]:
    """A list of media, as itself or behind the head of a clip."""
    where = canaries.any(rng)
    kind, text = rng.choice(
        (
            ("m3u8", f"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\n{where}\n#EXT-X-ENDLIST\n"),
            ("m3u8 key", f'#EXTM3U\n#EXT-X-KEY:METHOD=AES-128,URI="{where}"\n#EXTINF:1,\n{where}\n#EXT-X-ENDLIST\n'),
            ("concat", f"ffconcat version 1.0\nfile '{where}'\n"),
            ("dash", f'<MPD type="static"><Period><BaseURL>{where}</BaseURL></Period></MPD>'),
            ("sdp", f"v=0\no=- 0 0 IN IP4 127.0.0.1\nc=IN IP4 127.0.0.1\nm=video {canaries.port} RTP/AVP 96\n"),
            ("asx", f'<asx version="3.0"><entry><ref href="{where}"/></entry></asx>'),
            ("svg", f'<svg xmlns="http://www.w3.org/2000/svg"><image href="{where}"/></svg>'),
            ("smil", f'<smil><body><video src="{where}"/></body></smil>'),
            ("rtsp", f"RTSPtext\n{where}"),
        )
    )
    data = text.encode()
    way = rng.choice(("plain", "behind ftyp", "behind GIF89a", "in mdat", "behind a clip"))
    if way == "behind ftyp":
        data = FTYP + data
    elif way == "behind GIF89a":
        data = b"GIF89a" + data
    elif way == "in mdat":
        data = movie(track(sample_table(b"avc1", sizes=(len(data),), offset=600)), media=data)
    elif way == "behind a clip":
        data = base(rng.randrange(1 << 16), rng.choice(("mp4", "gif"))).data + data
    return data, f"{kind} {way}: {where}"


def make_reference(rng: random.Random, canaries: Canaries) -> tuple[bytes, str]:
    """An mp4 that says that its media, or all of it, are in another place."""
    where = canaries.any(rng)
    text = where.encode()
    way = rng.choice(("url", "alis", "urn", "rdrf", "rdrf alis", "tref"))
    if way.startswith("rdrf"):
        kind = b"url " if way == "rdrf" else b"alis"
        body = full_box(b"rdrf", kind, len(text).to_bytes(4), text)
        return FTYP + box(b"moov", box(b"rmra", box(b"rmda", body))), f"{way}: {where}"
    alias = bytes(50) + b"\x00\x02" + len(text).to_bytes(2) + text + b"\xff\xff\0\0"
    entry = {
        "url": full_box(b"url ", text + b"\0"),
        "alis": full_box(b"alis", alias),
        "urn": full_box(b"urn ", b"urn:x\0" + text + b"\0"),
    }.get(way)
    table = sample_table(rng.choice((b"avc1", b"png ", b"mp4v", b"jpeg")), sizes=(500,), offset=rng.randrange(900))
    return movie(track(table, reference=entry), media=bytes(600)), f"{way}: {where}"


def make_name(rng: random.Random, canaries: Canaries) -> tuple[bytes, str, str]:
    """A clip or a text, under the name of something else.

    :returns: its bytes, the name, and what it is.
    """
    file = canaries.file.rpartition("/")[2]
    name = rng.choice(
        (
            f"concat:{file}",
            f"concat:{file}|{file}",
            f"subfile,,start,0,end,900,,:{file}",
            f"file:{file}",
            f"file,,{file}",
            f"crypto:{file}",
            f"async:{file}",
            f"cache:{file}",
            f"data:video;base64,{file}",
            f"tcp:127.0.0.1:{canaries.port}",
            "pipe:0",
            "fd:3",
            "-",
            "-i",
            "%03d.mp4",
            "a\nb.mp4",
            "clip\u202e4pm.exe",
            "a;touch b;.mp4",
            "$(id).mp4",
            "clip mp4 .gif",
            "x" * 200,
        )
    )
    clip = base(rng.randrange(1 << 16), rng.choice(("mp4", "gif")))
    data = clip.data if rng.random() < 0.5 else make_playlist(rng, canaries)[0]
    return data, name, f"named {name!r}"


def make_link_inside(rng: random.Random, canaries: Canaries) -> str:
    """A link to this machine in one of its spellings, or with another scheme, where only public hosts are allowed."""
    port = canaries.port
    return rng.choice(
        (
            f"http://127.0.0.1:{port}/a.mp4",
            f"http://localhost:{port}/a.mp4",
            f"http://0.0.0.0:{port}/a.mp4",
            f"http://127.1:{port}/a.mp4",
            f"http://2130706433:{port}/a.mp4",
            f"http://0x7f000001:{port}/a.mp4",
            f"http://0177.0.0.1:{port}/a.mp4",
            f"http://[::1]:{port}/a.mp4",
            f"http://[::ffff:127.0.0.1]:{port}/a.mp4",
            f"http://[::ffff:7f00:1]:{port}/a.mp4",
            f"http://[64:ff9b::7f00:1]:{port}/a.mp4",
            f"http://user@127.0.0.1:{port}/a.mp4",
            f"http://127.0.0.1:{port}#@example.com/a.mp4",
            f"HTTP://127.0.0.1:{port}/a.mp4",
            f"http://127.0.0.1.:{port}/a.mp4",
            f"http:\\\\127.0.0.1:{port}\\a.mp4",
            f"http://127.0.0.1:{port}\n/a.mp4",
            f"http://\uff11\uff12\uff17.0.0.1:{port}/a.mp4",
            f"ftp://127.0.0.1:{port}/a.mp4",
            f"gopher://127.0.0.1:{port}/a.mp4",
            f"rtmp://127.0.0.1:{port}/a",
            f"tcp://127.0.0.1:{port}",
            f"file://{canaries.file}",
            f"concat:{canaries.link}",
            "http://",
            "http://[::1",
            "http://:80/",
            "https://\0/",
            "http://a" + ".a" * 200,
        )
    )
