"""Which files with an mp4's frame are no videos: HEIC and AVIF pictures, M4A music, raw photos.

They all begin with a ``ftyp`` box (ISO/IEC 14496-12, 4.3). It holds a major brand, a version and compatible brands,
four bytes each. The registered brands are listed at https://mp4ra.org/registered-types/brands.
"""

from __future__ import annotations

import struct

__all__ = ["BRAND_BYTES", "describe_non_video"]

BRAND_BYTES = 4096
"""How much of a file is read to look at its brands: room for a thousand of them."""

_HEIF = "a HEIF picture"
_HEIC = "a HEIC picture"
_AVIF = "an AVIF picture"
_AUDIO = "audio without a picture (M4A, M4B)"
_JPEG = "a JPEG 2000 picture"
_NO_VIDEO = {
    **dict.fromkeys((b"heic", b"heix", b"hevc", b"hevx", b"heim", b"heis", b"hevm", b"hevs"), _HEIC),
    **dict.fromkeys((b"mif1", b"mif2", b"msf1", b"miaf", b"MiHA", b"MiHB", b"MiHE", b"MiPr", b"1pic"), _HEIF),
    **dict.fromkeys((b"avci", b"avcs", b"jpeg", b"jpgs", b"vvic", b"vvis", b"j2ki", b"j2is"), _HEIF),
    **dict.fromkeys((b"avif", b"avis", b"avio", b"MA1A", b"MA1B"), _AVIF),
    **dict.fromkeys((b"M4A ", b"M4B ", b"M4P ", b"F4A ", b"F4B ", b"aax ", b"aaxc"), _AUDIO),
    **dict.fromkeys((b"jp2 ", b"jpx ", b"jpm ", b"jph ", b"jpxb", b"jp20"), _JPEG),
    b"jxl ": "a JPEG XL picture",
    b"jxs ": "a JPEG XS picture",
    b"crx ": "a Canon raw photo (CR3)",
}
"""Brands of files that hold no video track."""

_VIDEO = (
    *(b"iso", b"mp4", b"mp7", b"avc1", b"hvc1", b"av01", b"M4V", b"F4V ", b"F4P ", b"3g", b"qt  "),
    *(b"MSNV", b"XAVC", b"dash", b"cmf", b"mmp4"),
)
"""What brands of videos begin with."""


def describe_non_video(start: bytes) -> str | None:
    """What a file with an mp4's frame is instead of a video, by its brands; ``None`` where they do not say so.

    A known major brand decides alone. With an unknown one it is no video if each compatible brand is one of pictures
    or music.

    :param start: the file's first :data:`BRAND_BYTES`; fewer where it is shorter, or not yet read.
    """
    if start[4:8] != b"ftyp" or len(start) < 12:
        return None
    (size,) = struct.unpack(">I", start[:4])
    brands_at = 16 if size == 1 else 8  # a size of 64 bits stands in between
    major = start[brands_at : brands_at + 4]
    if size == 1:
        size = int.from_bytes(start[8:16])
    if major in _NO_VIDEO or major.startswith(_VIDEO):
        return _NO_VIDEO.get(major)
    if len(start) < min(size, BRAND_BYTES):
        return None  # more brands follow
    brands = {start[at : at + 4] for at in range(brands_at + 8, min(size, len(start)) - 3, 4)} - {major, b"\0\0\0\0"}
    if not brands or any(brand not in _NO_VIDEO for brand in brands):
        return None
    return _NO_VIDEO[min(brands)]
