"""The process that decodes pictures, in a sandbox: JPEGs come in one by one, pixels go out.

    in    number of bytes (uint64), the picture
    out   DECODED: height, width (uint32), processor seconds that this process has had (float64);
          then the pixels, height x width x 3 bytes. Or REFUSED: those seconds alone

Answers are as in confined_pipes.py. docs/decisions/0026.
"""

from __future__ import annotations

import io
import struct
import time
from contextlib import suppress

from emotrace_models.picture_decoding import PictureUnreadable, decode_picture
from emotrace_service.confined_pipes import READY, answer, read, serve, write

SIZE = struct.Struct("<Q")
PICTURE = struct.Struct("<IId")
DECODED, REFUSED = READY + 1, READY + 2


def decode() -> None:
    while True:
        (size,) = SIZE.unpack(read(SIZE.size))
        try:
            pixels = decode_picture(read(size))
        except PictureUnreadable:
            answer(REFUSED, PICTURE.pack(0, 0, time.process_time()))
        else:
            height, width, _ = pixels.shape
            answer(DECODED, PICTURE.pack(height, width, time.process_time()))
            write(pixels.data.cast("B"))


def rehearse() -> None:
    from PIL import Image  # who asks reads this file too, and needs no Pillow

    lying = Image.Exif()
    lying[0x0112] = 6  # its orientation
    frame = Image.new("RGB", (32, 24))
    for kind, mode, options in (
        ("JPEG", "RGB", {"exif": lying, "progressive": True}),
        ("JPEG", "L", {}),
        ("JPEG", "CMYK", {}),
        ("MPO", "RGB", {"save_all": True, "append_images": [frame]}),
        ("PNG", "RGB", {}),
    ):
        file = io.BytesIO()
        frame.convert(mode).save(file, kind, **options)
        decode_picture(file.getvalue()).data.cast("B")
        for broken in (file.getvalue()[: len(file.getvalue()) // 2], b"no picture"):
            with suppress(PictureUnreadable):
                decode_picture(broken)


if __name__ == "__main__":
    serve(rehearse, decode)
