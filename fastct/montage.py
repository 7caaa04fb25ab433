"""Drawing: planes of a study become one grey montage, its overlay and a thumbnail, as WebP."""

from collections.abc import Sequence
from io import BytesIO
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

AXIAL_PX, OTHER_PX, THUMBNAIL_PX = (344, 288), (192, 160), (160, 96)
"""Largest (width, height) of the axial plane, of each other panel, and of the thumbnail."""

QUALITY, EFFORT = 45, 2
"""Of WebP: effort 2 takes half the bytes of 0 at twice its time; 3 saves another tenth and doubles again.
At quality 45 a study of 512 x 512 x 50 comes to about 12 KB, and 25 still looks much the same."""

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
    overlay = _webp(OVERLAY_RGBA[marks], lossless=True, quality=0, method=EFFORT)
    return _webp(grey, quality=QUALITY, method=EFFORT), overlay, (width, height), tuple(panels)


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


def draw_thumbnail(axial: Plane) -> bytes:
    high_mm, wide_mm = (n * mm for n, mm in zip(axial.hu.shape, axial.spacing_mm, strict=True))
    scale = min(THUMBNAIL_PX[0] / wide_mm, THUMBNAIL_PX[1] / high_mm)
    size = max(round(wide_mm * scale), 1), max(round(high_mm * scale), 1)
    grey = _resized(_windowed(axial.hu, axial.window_hu), size)[..., np.newaxis].astype(np.float32)
    tint = _resized(axial.lesion * np.uint8(255), size)[..., np.newaxis] * np.float32(0.5 / 255)
    mixed = grey + tint * (OVERLAY_RGBA[LESION_EDGE, :3] - grey)
    return _webp(mixed.astype(np.uint8), quality=QUALITY, method=EFFORT)


def _webp(pixels: Pixels, **options: Any) -> bytes:
    file = BytesIO()
    Image.fromarray(pixels).save(file, "WEBP", **options)
    return file.getvalue()
