"""Instance masks as PNG files of 0 and 1, quick to write and quick to inflate.

Most rows of a mask are blank, and deflated blank rows are made once and kept. Rows are stored
without PNG's filters, which cost time on both sides and save nothing on two values. Up to level 3
deflate finds repetitions at a distance, which inflate several times faster than those of the byte
before, which higher levels prefer.
"""

import functools
import struct
import zlib

import numpy as np

SIGNATURE = b"\x89PNG\r\n\x1a\n"
LEVEL = 3
ZLIB_HEADER = b"\x78\x01"
ADLER_MODULUS = 65521
# Bit depth 8, grey, then the only method there is of compression, of filtering, no interlacing.
FORMAT = bytes([8, 0, 0, 0, 0])


def encode_mask(mask: np.ndarray) -> bytes:
    """A PNG file, 8-bit grey, of a mask (H, W) uint8, 0 or 1."""
    height, width = mask.shape
    rows = np.flatnonzero(mask.any(1))
    top, end = (int(rows[0]), int(rows[-1]) + 1) if len(rows) else (0, 0)
    drawn = np.zeros((end - top, 1 + width), np.uint8)  # the first byte names the filter: none
    drawn[:, 1:] = mask[top:end]
    stride = 1 + width
    checksum = zlib.adler32(drawn.data, _adler32_of_zeros(1, top * stride))
    checksum = _adler32_of_zeros(checksum, (height - end) * stride)
    data = b"".join(
        [
            ZLIB_HEADER,
            _deflated_zeros(top * stride, zlib.Z_FULL_FLUSH),
            _deflate(drawn.data, zlib.Z_FULL_FLUSH),
            _deflated_zeros((height - end) * stride, zlib.Z_FINISH),
            struct.pack(">I", checksum),
        ]
    )
    size = struct.pack(">II", width, height)
    return b"".join(
        [SIGNATURE, _chunk(b"IHDR", size + FORMAT), _chunk(b"IDAT", data), _chunk(b"IEND", b"")]
    )


def _chunk(name: bytes, data: bytes) -> bytes:
    check = zlib.crc32(data, zlib.crc32(name))
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", check)


def _deflate(data: bytes | memoryview, flush: int) -> bytes:
    """Raw deflate blocks that refer to nothing before them and end at a whole byte."""
    compressor = zlib.compressobj(LEVEL, zlib.DEFLATED, -zlib.MAX_WBITS)
    return compressor.compress(data) + compressor.flush(flush)


@functools.lru_cache(maxsize=4096)  # some 300 bytes each
def _deflated_zeros(count: int, flush: int) -> bytes:
    return _deflate(bytes(count), flush)


def _adler32_of_zeros(checksum: int, count: int) -> int:
    """The checksum after `count` more bytes of 0: the sum stays, the sum of sums grows by it."""
    total, sums = checksum & 0xFFFF, checksum >> 16
    return (sums + count * total) % ADLER_MODULUS << 16 | total
