"""Drawing: planes of a study become one grey montage, as JPEG, and its overlay, as PNG."""

import struct
import zlib
from collections.abc import Sequence
from io import BytesIO
from typing import NamedTuple

import deflate
import numpy as np
from numpy.typing import NDArray
from PIL import Image

AXIAL_PX, OTHER_PX = (344, 288), (192, 160)
"""Largest (width, height) of the axial plane, and of each other panel."""

IMAGE_BYTES = 14_800
"""Of montage and overlay together, at most as a rule: 1110 studies come to less than 25 MB in one page, where a byte
takes four thirds."""

QUALITY, BEST_QUALITY, LEAST_QUALITY = 40, 75, 20
"""Of JPEG, which is encoded eight to ten times as fast as WebP, in half as many bytes again for the same error; at 40
the noise of a CT survives, at 20 the blocks begin to show."""

SIZE_POWER = 0.55
"""The bytes of a JPEG of a CT grow with this power of its quality, between 20 and 75 (fitted to three chests)."""

DEFLATE_LEVEL = 6
"""Of the overlay: 9 saves a twentieth and takes four times as long."""

RIGHT, LEFT, LESION, LESION_EDGE = 1, 2, 3, 4
OVERLAY_RGBA = np.array(
    [(0, 0, 0, 0), (86, 180, 233, 255), (0, 200, 160, 255), (255, 150, 0, 76), (255, 150, 0, 255)], np.uint8
)
"""Nothing, outline of the right lung, of the left, inside and outline of a lesion. The hues are near those of
Okabe and Ito (jfly.uni-koeln.de/color), which readers without full colour vision tell apart."""

Pixels = NDArray[np.uint8]
Mask = NDArray[np.bool_]


class Panel(NamedTuple):
    """One picture within the montage.

    `place` says which plane it is as an index of the stored array ("z 23" is `hu[23]`), or is empty;
    `cross_px` is where the other two planes cut this one, from its upper left corner, or None.
    """

    name: str
    box_px: tuple[int, int, int, int]  # left, top, width, height
    place: str
    cross_px: tuple[int, int] | None


class Plane(NamedTuple):
    """One picture before it is drawn: HU to show, masks to outline, millimetres a row and a column.

    `window_hu` is shown from black to white; `place` and `cross` (row, column) are those of `Panel`.
    """

    name: str
    hu: NDArray[np.int16]
    window_hu: tuple[int, int]
    lungs: Pixels
    lesion: Mask
    spacing_mm: tuple[float, float]
    place: str = ""
    cross: tuple[int, int] | None = None


def draw_montage(planes: Sequence[Plane]) -> tuple[bytes, bytes, tuple[int, int], tuple[Panel, ...]]:
    """Grey picture, overlay, their size, and the panels: axial left, the others in two columns beside it."""
    sizes = _sizes_px(planes)
    column_px = max(width for width, _ in sizes[1:])
    row_px = max(height for _, height in sizes[1:])
    corners = [
        (0, 0),
        *((sizes[0][0] + column_px * (n % 2), row_px * (n // 2)) for n in range(len(planes) - 1)),
    ]
    width = max(left + size[0] for (left, _), size in zip(corners, sizes, strict=True))
    height = max(top + size[1] for (_, top), size in zip(corners, sizes, strict=True))
    grey, marks = np.zeros((height, width), np.uint8), np.zeros((height, width), np.uint8)
    panels = []
    for plane, (left, top), size in zip(planes, corners, sizes, strict=True):
        part = slice(top, top + size[1]), slice(left, left + size[0])
        grey[part] = _resized(_windowed(plane.hu, plane.window_hu), size)
        marks[part] = _marks(plane, size)
        panels.append(Panel(plane.name, (left, top, *size), plane.place, _cross_px(plane, size)))
    overlay = _png(marks)
    return _jpeg(grey, IMAGE_BYTES - len(overlay)), overlay, (width, height), tuple(panels)


def _sizes_px(planes: Sequence[Plane]) -> list[tuple[int, int]]:
    """Width and height of each panel: the axial one fills its place, all others share one scale."""
    wide_mm = [plane.hu.shape[1] * plane.spacing_mm[1] for plane in planes]
    high_mm = [plane.hu.shape[0] * plane.spacing_mm[0] for plane in planes]
    axial = min(AXIAL_PX[0] / wide_mm[0], AXIAL_PX[1] / high_mm[0])
    other = min(OTHER_PX[0] / max(wide_mm[1:]), OTHER_PX[1] / max(high_mm[1:]))
    scales = [axial] + [other] * (len(planes) - 1)
    return [
        (max(round(wide * scale), 1), max(round(high * scale), 1))
        for wide, high, scale in zip(wide_mm, high_mm, scales, strict=True)
    ]


def _cross_px(plane: Plane, size: tuple[int, int]) -> tuple[int, int] | None:
    if plane.cross is None:
        return None
    rows, columns = plane.hu.shape
    return int((plane.cross[1] + 0.5) * size[0] / columns), int((plane.cross[0] + 0.5) * size[1] / rows)


def _windowed(hu: NDArray[np.int16], window_hu: tuple[int, int]) -> Pixels:
    low, high = window_hu
    grey = (np.clip(hu, low, high).astype(np.int32) - low) * 255 // (high - low)
    return grey.astype(np.uint8)


def _resized(pixels: Pixels, size: tuple[int, int]) -> Pixels:
    """Antialiased bilinear, pixels as areas, so that the edges of planes stay where they are."""
    return np.asarray(Image.fromarray(np.ascontiguousarray(pixels)).resize(size, Image.Resampling.BILINEAR))


def _marks(plane: Plane, size: tuple[int, int]) -> Pixels:
    """Colour numbers of the overlay; masks are smoothed like the picture, so outlines follow it."""
    marks = np.zeros(size[::-1], np.uint8)
    for side in (RIGHT, LEFT):
        marks[_edge(_smoothed(plane.lungs == side, size))] = side
    if plane.lesion.any():
        lesion = _smoothed(plane.lesion, size)
        marks[lesion] = LESION
        marks[_edge(lesion)] = LESION_EDGE
    return marks


def _smoothed(mask: Mask, size: tuple[int, int]) -> Mask:
    return _resized(mask * np.uint8(255), size) > 127


def _edge(mask: Mask) -> Mask:
    """Set pixels with a neighbour, up, down or aside, that is not."""
    inner = np.pad(mask, 1)
    return mask & ~(inner[:-2, 1:-1] & inner[2:, 1:-1] & inner[1:-1, :-2] & inner[1:-1, 2:])


def _jpeg(pixels: Pixels, most_bytes: int) -> bytes:
    """A grey JPEG of about so many bytes: encoded once to learn what it takes, and again at the quality for it."""
    image = Image.fromarray(pixels)
    first = _encoded(image, QUALITY)
    wanted = QUALITY * (0.97 * most_bytes / len(first)) ** (1 / SIZE_POWER)
    return _encoded(image, round(min(max(wanted, LEAST_QUALITY), BEST_QUALITY)))


def _encoded(image: Image.Image, quality: int) -> bytes:
    file = BytesIO()
    image.save(file, "JPEG", quality=quality, optimize=True)
    return file.getvalue()


def _png(marks: Pixels) -> bytes:
    """Colour numbers as PNG, two pixels a byte; by libdeflate, in a third of the time that Pillow takes."""
    height, width = marks.shape
    even = np.zeros((height, -(-width // 2) * 2), np.uint8)
    even[:, :width] = marks
    lines = np.zeros((height, 1 + even.shape[1] // 2), np.uint8)  # the first byte of a line: it is not filtered
    lines[:, 1:] = even[:, ::2] << 4 | even[:, 1::2]
    header = struct.pack(">IIBBBBB", width, height, 4, 3, 0, 0, 0)
    chunks = (
        (b"IHDR", header),
        (b"PLTE", OVERLAY_RGBA[:, :3].tobytes()),
        (b"tRNS", OVERLAY_RGBA[:, 3].tobytes()),
        (b"IDAT", bytes(deflate.zlib_compress(lines.tobytes(), DEFLATE_LEVEL))),
        (b"IEND", b""),
    )
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(payload)) + name + payload + struct.pack(">I", zlib.crc32(name + payload))
        for name, payload in chunks
    )
