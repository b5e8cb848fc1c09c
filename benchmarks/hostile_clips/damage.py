"""Clips with damage: some that players still play, and many that lie, are cut, or are full of other bytes."""

from __future__ import annotations

import random
import struct
from collections.abc import Callable

from benchmarks.hostile_clips.boxes import Place, box, places
from benchmarks.hostile_clips.valid import Clip, base, frames_that_play

__all__ = ["base", "cut", "lying", "mutated", "noise", "odd_codec", "playing", "spliced"]

_NUMBERS = (0, 1, 2, 7, 0x7F, 0xFF, 0xFFFF, 0x10000, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFE, 0xFFFFFFFF)
_TABLES = (b"stsz", b"stts", b"stsc", b"stco", b"ctts", b"stss", b"stsd", b"elst", b"dref", b"trun", b"sidx")
_ODD_CODECS = (
    *(b"dpx ", b"EXRf", b"DXD3", b"sgi ", b"y41p", b"FPS1", b"icod", b"Hap1", b"M8RG", b"notc", b"pxlt", b"SV3M"),
    *(b"VP80", b"vp08", b"vp09", b"av01", b"hvc1", b"hev1", b"vvc1", b"avc1", b"avc3", b"dvh1", b"encv", b"drac"),
    *(b"mp4v", b"s263", b"vc-1", b"WMV3", b"DIV3", b"jpeg", b"mjpa", b"mjpb", b"mjp2", b"png ", b"gif ", b"tiff"),
    *(b"tga ", b"8BPS", b"rle ", b"rpza", b"smc ", b"cvid", b"SVQ1", b"SVQ3", b"IV32", b"qdrw", b"raw ", b"v210"),
    *(b"apch", b"ap4h", b"aprn", b"AVdn", b"AVdh", b"dvc ", b"dvh5", b"CFHD", b"magy", b"text", b"tx3g", b"\0\0\0\0"),
)


def _base(rng: random.Random) -> Clip:
    return base(rng.randrange(1 << 16), "gif" if rng.random() < 0.25 else "mp4")


def _mp4(rng: random.Random) -> Clip:
    return base(rng.randrange(1 << 16), "mp4")


def playing(rng: random.Random) -> Clip:
    """A damaged clip of which players show at least half of the frames."""
    while True:
        clip = _base(rng)
        kinds = _GIF_DAMAGE if clip.data[:3] == b"GIF" else _MP4_DAMAGE
        damage = rng.choice(kinds)
        data = damage(rng, clip.data)
        if data != clip.data and 2 * frames_that_play(data) >= clip.frames:
            return clip._replace(data=data, label=f"{damage.__name__.strip('_')}: {clip.label}")


def _media(data: bytes) -> Place:
    return next(place for place in places(data) if place.kind == b"mdat")


def _flipped(rng: random.Random, data: bytes) -> bytes:
    media, changed = _media(data), bytearray(data)
    for _ in range(rng.randint(1, 4)):
        changed[rng.randrange(media.start + 8 + media.length // 2, media.start + media.length)] ^= 1 << rng.randrange(8)
    return bytes(changed)


def _zeroed(rng: random.Random, data: bytes) -> bytes:
    media = _media(data)
    start = rng.randrange(media.start + media.length // 2, media.start + media.length)
    length = min(rng.randint(1, 200), media.start + media.length - start)
    return data[:start] + bytes(length) + data[start + length :]


def _cut_at_the_end(rng: random.Random, data: bytes) -> bytes:
    media = _media(data)
    return data[: media.start + media.length - rng.randint(1, max(1, media.length // 3))]


def _with_rubbish(rng: random.Random, data: bytes) -> bytes:
    return data + rng.randbytes(rng.randint(1, 500))


def _wrong_duration(rng: random.Random, data: bytes) -> bytes:
    changed = bytearray(data)
    for place in places(data):
        if place.kind in {b"mvhd", b"mdhd", b"tkhd"}:
            at = place.start + (28 if place.kind == b"tkhd" else 24)
            struct.pack_into(">I", changed, at, rng.choice((0, 1, 0x7FFFFFFF, 0xFFFFFFFF)))
    return bytes(changed)


def _wrong_media_size(rng: random.Random, data: bytes) -> bytes:
    media = _media(data)
    size = rng.choice((0, media.length + 1000, media.length // 2 + 8))
    return data[: media.start] + struct.pack(">I", size) + data[media.start + 4 :]


def _no_picture_size(_: random.Random, data: bytes) -> bytes:
    changed = bytearray(data)
    for place in places(data):
        if place.kind == b"tkhd":
            changed[place.start + place.length - 8 : place.start + place.length] = bytes(8)
    return bytes(changed)


def _lost_handler_name(rng: random.Random, data: bytes) -> bytes:
    changed = bytearray(data)
    for place in places(data):
        if place.kind == b"hdlr":
            changed[place.start + 32 : place.start + place.length] = rng.randbytes(place.length - 32)
    return bytes(changed)


def _no_trailer(_: random.Random, data: bytes) -> bytes:
    return data[:-1]


def _late_cut(rng: random.Random, data: bytes) -> bytes:
    return data[: int(len(data) * rng.uniform(0.75, 0.99))]


def _late_rubbish(rng: random.Random, data: bytes) -> bytes:
    keep = int(len(data) * rng.uniform(0.75, 0.99))
    return data[:keep] + rng.randbytes(50)


def _unknown_extension(rng: random.Random, data: bytes) -> bytes:
    return data[:-1] + b"\x21" + bytes([rng.choice((0x01, 0x42, 0xCE))]) + b"\x04abcd\x00" + b";"


_Damage = Callable[[random.Random, bytes], bytes]
_MP4_DAMAGE: tuple[_Damage, ...] = (
    *(_flipped, _flipped, _zeroed, _cut_at_the_end, _with_rubbish, _wrong_duration, _wrong_media_size),
    *(_no_picture_size, _lost_handler_name),
)
_GIF_DAMAGE: tuple[_Damage, ...] = (_no_trailer, _late_cut, _late_rubbish, _unknown_extension, _with_rubbish)


def lying(rng: random.Random) -> Clip:
    """An mp4 whose boxes say what is not so: sizes, counts, offsets, kinds, or whole boxes twice or gone."""
    clip = _mp4(rng)
    data = bytearray(clip.data)
    said = []
    for _ in range(rng.choice((1, 1, 1, 2, 4))):
        found = list(places(bytes(data)))
        if not found:
            break
        tables = [place for place in found if place.kind in _TABLES]
        place = rng.choice(tables if tables and rng.random() < 0.6 else found)
        way = rng.choice(("size", "count", "count", "number", "number", "kind", "twice", "gone", "inside itself"))
        said.append(f"{way} of {place.kind.decode('latin-1')!r}")
        _lie(rng, data, place, way)
    return clip._replace(data=bytes(data), label=f"lies: {', '.join(said)}: {clip.label}")


def _lie(rng: random.Random, data: bytearray, place: Place, way: str) -> None:
    start, length, kind = place
    end = start + length
    number = rng.choice((*_NUMBERS, rng.getrandbits(32), length - 1, length + 1))
    if way == "size":
        if rng.random() < 0.2:  # a size of 64 bits
            data[start:start] = struct.pack(">I4sQ", 1, kind, rng.choice((0, 8, 16, 1 << 40, (1 << 64) - 1)))
        else:
            struct.pack_into(">I", data, start, number & 0xFFFFFFFF)
    elif way == "count" and length >= 16:
        at = start + (16 if kind == b"stsz" else 12)
        struct.pack_into(">I", data, min(at, end - 4), number & 0xFFFFFFFF)
    elif way == "number" and length > 12:
        struct.pack_into(">I", data, rng.randrange(start + 8, end - 3), number & 0xFFFFFFFF)
    elif way == "kind":
        data[start + 4 : start + 8] = rng.choice((rng.randbytes(4), b"moov", b"stbl", b"mdat", b"cmov", b"uuid"))
    elif way == "twice":
        data[end:end] = data[start:end]
    elif way == "gone":
        del data[start:end]
    elif way == "inside itself":
        data[start + 8 : start + 8] = data[start:end]


def cut(rng: random.Random) -> Clip:
    """The first bytes of a clip."""
    clip = _base(rng)
    length = rng.randrange(len(clip.data)) if rng.random() < 0.7 else rng.randrange(min(200, len(clip.data)))
    return clip._replace(data=clip.data[:length], label=f"cut at {length}: {clip.label}")


def mutated(rng: random.Random) -> Clip:
    """A clip with some bytes changed, mostly in its index."""
    clip = _base(rng)
    data = bytearray(clip.data)
    end = len(data)
    if rng.random() < 0.6:
        index = next((place for place in places(clip.data) if place.kind == b"moov"), None)
        end = index.start + index.length if index else min(end, 900)
    for _ in range(rng.choice((1, 2, 5, 20, 100))):
        at = rng.randrange(12, max(13, end))
        if at < len(data):
            data[at] = rng.choice((0, 1, 0x7F, 0x80, 0xFF, rng.randrange(256)))
    return clip._replace(data=bytes(data), label=f"mutated: {clip.label}")


def spliced(rng: random.Random) -> Clip:
    """The head of one clip and the tail of another."""
    first, second = _base(rng), _base(rng)
    head = first.data[: rng.randrange(12, len(first.data))]
    tail = second.data[rng.randrange(len(second.data)) :]
    return first._replace(data=head + tail, label=f"spliced: {first.label} + {second.label}")


def noise(rng: random.Random) -> Clip:
    """Random bytes, with the start of a clip or without."""
    start = rng.choice((b"", b"\0\0\0\x18ftypisom" + bytes(12), b"GIF89a", b"GIF87a\x10\0\x10\0\xf7\0\0"))
    boxes = b"".join(
        box(rng.choice((b"moov", b"trak", b"mdat", b"free", b"moof", b"stbl")), rng.randbytes(rng.randint(0, 60)))
        for _ in range(rng.randint(0, 6))
    )
    return Clip(start + rng.choice((boxes, rng.randbytes(rng.randint(0, 3000)))), "noise", 0, 0.0)


def odd_codec(rng: random.Random) -> Clip:
    """Frames of one codec that are said to be of another one, known or not."""
    clip = _mp4(rng)
    codec = rng.choice(_ODD_CODECS) if rng.random() < 0.8 else rng.randbytes(4)
    data = bytearray(clip.data)
    for place in places(clip.data):
        if place.kind == b"stsd" and place.length > 24:
            data[place.start + 20 : place.start + 24] = codec
    return clip._replace(data=bytes(data), label=f"said to be {codec!r}: {clip.label}")
