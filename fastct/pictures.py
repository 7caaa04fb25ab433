"""Pictures of one study for people: three planes, MIP and MinIP, lung outlines, lesions, HU histogram."""

import json
from base64 import b64decode, b64encode
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fastct.errors import ArrayError, StoreError
from fastct.geometry import Geometry
from fastct.kernels.views import lung_views
from fastct.montage import Mask, Panel, Pixels, Plane, draw_montage, draw_thumbnail

LUNG_WINDOW_HU = (-1350, 150)
"""Black and white of the planes: width 1500 at level -600, the lung window of most viewers (and of many who
train on MosMedData)."""

MINIP_WINDOW_HU = (-1050, -650)
"""Black and white of the minimum projection: narrow, because air in the bronchi (-1000) must part from
aerated lung (-950 to -700) beside it."""

BODY_HU = -300
"""Above it is tissue, below it air, blankets and the foam of the table: only used to crop the pictures."""

BODY_SHARE = 0.15
"""A row is body while it holds this share of the fullest row's tissue: wires, cloth and table do not."""

BODY_STEP = 4
"""The body is looked for on every fourth row and column of every other slice: it need not be exact."""

BODY_MARGIN_MM = 6.0
"""Room left around the body, so that the skin is seen to end."""

RIM_MM = 4.0
"""Rim of the lungs left out of projections: its partial volume would hide the vessels behind it (tried on
three chests: vessels show from 2 mm on, and are as clear at 4 mm as at 6 mm)."""

HISTOGRAM_HU = (-1000, 200, 20)
"""First edge, last edge and width of the bins; voxels beyond count in the first and the last bin."""

Box = tuple[slice, slice, slice]


@dataclass(frozen=True)
class StudyPictures:
    """Encoded pictures of one study: WebP bytes, where each panel lies, and the histograms.

    `overlay` (lossless, transparent) lies on `montage` (grey), both `size_px` wide and high;
    `lung_histogram` counts the voxels of the lungs, `lesion_histogram` those of them that are lesion, in
    the bins of `HISTOGRAM_HU`.
    """

    thumbnail: bytes
    montage: bytes
    overlay: bytes
    size_px: tuple[int, int]
    panels: tuple[Panel, ...]
    lung_histogram: tuple[int, ...]
    lesion_histogram: tuple[int, ...]

    def to_json(self) -> str:
        """One line of ASCII that `from_json` reads back."""
        images = {name: b64encode(getattr(self, name)).decode() for name in _IMAGES}
        return json.dumps({**vars(self), **images}, separators=(",", ":"))

    @classmethod
    def from_json(cls, text: str) -> "StudyPictures":
        """Pictures out of what `to_json` wrote; StoreError where the text is anything else."""
        try:
            return _from_fields(json.loads(text))
        except (ValueError, TypeError, KeyError, OverflowError) as error:
            finding = f"they cannot be read back ({type(error).__name__}: {error})"
            raise StoreError("pictures of a study", finding, "Score the study again") from error


_IMAGES = ("thumbnail", "montage", "overlay")


def _from_fields(fields: dict[str, Any]) -> StudyPictures:
    def numbers(values: Any, length: int) -> Any:
        if not isinstance(values, list) or len(values) != length or not all(type(n) is int for n in values):
            raise ValueError(f"{length} whole numbers were wanted, {values!r:.80} found")
        return tuple(values)

    bins = len(histogram_edges_hu()) - 1
    thumbnail, montage, overlay = (b64decode(fields[name], validate=True) for name in _IMAGES)
    panels = tuple(
        Panel(str(name), numbers(box, 4), str(place), cross and numbers(cross, 2))
        for name, box, place, cross in fields["panels"]
    )
    size_px = numbers(fields["size_px"], 2)
    counts = numbers(fields["lung_histogram"], bins), numbers(fields["lesion_histogram"], bins)
    return StudyPictures(thumbnail, montage, overlay, size_px, panels, *counts)


def histogram_edges_hu() -> NDArray[np.int64]:
    """Edges of the histograms' bins, in HU."""
    first, last, width = HISTOGRAM_HU
    return np.arange(first, last + 1, width)


class _Shown(NamedTuple):
    """A study as it is looked at: axes (to inferior, to posterior, to patient left), so rows and columns of
    every plane run as radiologists hang it: head up, anterior up or left, patient right on the left.

    `stored` holds, for each axis, its letter in the stored array and the stored index of each position.
    """

    hu: NDArray[np.int16]
    lungs: Pixels
    lesion: Mask
    spacing_mm: tuple[float, float, float]
    stored: tuple[tuple[str, NDArray[np.intp]], ...]


def study_pictures(
    hu: NDArray[np.int16], lungs: NDArray[np.uint8], lesion: NDArray[np.uint8] | None, geometry: Geometry
) -> StudyPictures:
    """Three planes, two projections, thumbnail and histograms of one study.

    The planes go through the slice, row and column with most lesion, else with most lung, else through the
    middle. Panels show millimetres alike in both directions; grey is `LUNG_WINDOW_HU`, in the minimum
    projection `MINIP_WINDOW_HU`. Projections run from front to back through the lungs less a rim of
    `RIM_MM`; the minimum also through what lies between the lungs, so that the airways are seen.

    Parameters
    ----------
    hu : int16 (z, y, x), Hounsfield units.
    lungs : uint8 (z, y, x): 0, 1 right, 2 left.
    lesion : uint8 (z, y, x): 0, 1; or None where nothing was looked for.
    geometry : shape and affine of the three.

    Raises
    ------
    ArrayError
        If an array is not NumPy, not of the geometry's shape, or of another dtype.

    Examples
    --------
    >>> import numpy as np
    >>> hu = np.full((5, 32, 32), 40, np.int16); lungs = np.zeros(hu.shape, np.uint8)
    >>> hu[1:4, 8:24, 4:14] = hu[1:4, 8:24, 18:28] = -850
    >>> lungs[1:4, 8:24, 4:14], lungs[1:4, 8:24, 18:28] = 1, 2
    >>> pictures = study_pictures(hu, lungs, None, Geometry(hu.shape, np.diag([-10.0, 10.0, 80.0, 1.0])))
    >>> [panel.name for panel in pictures.panels], sum(pictures.lung_histogram)
    (['axial', 'coronal', 'sagittal', 'MIP', 'MinIP'], 960)
    """
    shown = _around_body(_as_looked_at(hu, lungs, lesion, geometry))
    box = _box_of(shown.lungs)
    planes = _planes(shown, box)
    projections, counts = _from_the_front(shown, box)
    montage, overlay, size_px, panels = draw_montage(planes + projections)
    histograms = (tuple(line) for line in counts.tolist())
    return StudyPictures(draw_thumbnail(planes[0]), montage, overlay, size_px, panels, *histograms)


def _as_looked_at(hu: NDArray[np.int16], lungs: Pixels, lesion: Pixels | None, geometry: Geometry) -> _Shown:
    for name, array in (("hu", hu), ("lungs", lungs), ("lesion", lungs if lesion is None else lesion)):
        if not isinstance(array, np.ndarray) or array.shape != geometry.shape:
            found = f"it is {type(array).__name__} of shape {getattr(array, 'shape', None)}"
            raise ArrayError(name, f"{found}, the study has {geometry.shape}", "Give NumPy arrays of it")
    if hu.dtype != np.int16 or lungs.dtype != np.uint8:
        found = f"their dtypes are {hu.dtype} and {lungs.dtype}, not int16 and uint8"
        raise ArrayError("hu and lungs", found, "Give Hounsfield units and labels as stored")
    ill = np.broadcast_to(np.False_, geometry.shape) if lesion is None else lesion != 0
    axes, signs = geometry.anatomical_axes
    stored = tuple(
        ("zyx"[axis], np.arange(geometry.shape[axis])[::step])
        for axis, step in zip(axes, (-signs[0], -signs[1], signs[2]), strict=True)
    )
    hung_hu, hung_lungs, hung_ill = (geometry.upright(array)[::-1, ::-1] for array in (hu, lungs, ill))
    return _Shown(hung_hu, hung_lungs, hung_ill, geometry.upright_spacing_mm(), stored)


def _around_body(shown: _Shown) -> _Shown:
    """The rows and columns that hold the lungs and the body around them, and a margin; every slice."""
    tissue = _count_down(shown.hu[::2, ::BODY_STEP, ::BODY_STEP] > BODY_HU)
    lungs = shown.lungs.max(axis=0)
    box = [slice(None)]
    for axis in (1, 2):
        first, last = _body_ends(tissue.sum(axis=2 - axis), np.flatnonzero(lungs.any(axis=2 - axis)))
        margin = BODY_STEP + int(BODY_MARGIN_MM / shown.spacing_mm[axis])
        box.append(slice(max(first - margin, 0), last + margin + 1))
    hu, lung, lesion = shown.hu[tuple(box)], shown.lungs[tuple(box)], shown.lesion[tuple(box)]
    stored = tuple((letter, index[part]) for (letter, index), part in zip(shown.stored, box, strict=True))
    return _Shown(hu, lung, lesion, shown.spacing_mm, stored)


def _body_ends(tissue: NDArray[np.unsignedinteger[Any]], lungs: NDArray[np.intp]) -> tuple[int, int]:
    """First and last row of the body: from the lungs (or the fullest row) on, while there is tissue."""
    seeds = (lungs[[0, -1]] // BODY_STEP) if lungs.size else np.repeat(tissue.argmax(), 2)
    gaps = np.flatnonzero(tissue <= BODY_SHARE * tissue.max())
    first = gaps[gaps < seeds[0]].max(initial=-1) + 1
    last = gaps[gaps > seeds[1]].min(initial=len(tissue)) - 1
    return int(first) * BODY_STEP, int(last) * BODY_STEP + BODY_STEP - 1


def _box_of(lungs: Pixels) -> Box:
    """The smallest box that holds all lung voxels; an empty one without any."""
    above = lungs.max(axis=0)
    rows, columns = _ends(above.any(axis=1)), _ends(above.any(axis=0))
    return _ends(np.array([plane.any() for plane in lungs[:, rows, columns]])), rows, columns


def _ends(profile: Mask) -> slice:
    """From the first to the last set place."""
    places = np.flatnonzero(profile)
    return slice(int(places[0]), int(places[-1]) + 1) if places.size else slice(0, 0)


def _count_down(mask: Mask) -> NDArray[np.unsignedinteger[Any]]:
    """Set voxels of each column along the first axis; in the narrowest integer, which adds fastest."""
    counts: NDArray[np.unsignedinteger[Any]]
    counts = np.add.reduce(mask.view(np.uint8), axis=0, dtype=np.min_scalar_type(len(mask)))
    return counts


def _fullest(mask: Mask) -> tuple[int, int, int] | None:
    """Slice, row and column that hold most set voxels, each by itself; None when nothing is set."""
    columns = _count_down(mask)
    if not columns.any():
        return None
    slices = [np.count_nonzero(plane) for plane in mask]
    return int(np.argmax(slices)), int(columns.sum(axis=1).argmax()), int(columns.sum(axis=0).argmax())


def _planes(shown: _Shown, box: Box) -> list[Plane]:
    at = _fullest(shown.lesion)
    if at is None and (within := _fullest(shown.lungs[box] != 0)):
        at = tuple(place + part.start for place, part in zip(within, box, strict=True))
    at = at or tuple(n // 2 for n in shown.hu.shape)
    planes = []
    for axis, name in enumerate(("axial", "coronal", "sagittal")):
        hu, lungs, lesion = (np.moveaxis(array, axis, 0)[at[axis]] for array in shown[:3])
        row, column = (other for other in range(3) if other != axis)
        spacing_mm = shown.spacing_mm[row], shown.spacing_mm[column]
        letter, stored = shown.stored[axis]
        place, cross = f"{letter} {stored[at[axis]]}", (at[row], at[column])
        planes.append(Plane(name, hu, LUNG_WINDOW_HU, lungs, lesion, spacing_mm, place, cross))
    return planes


def _from_the_front(shown: _Shown, box: Box) -> tuple[list[Plane], NDArray[np.int64]]:
    """Maximum within the lungs, minimum within and between them, none without lungs; and the histograms."""
    low, high, width = HISTOGRAM_HU
    black = LUNG_WINDOW_HU[0]
    hu = np.ascontiguousarray(shown.hu[box])
    lungs, lesion = np.ascontiguousarray(shown.lungs[box]), np.ascontiguousarray(shown.lesion[box])
    rows, columns = (min(int(RIM_MM / shown.spacing_mm[n]), hu.shape[n]) for n in (1, 2))
    seen = lung_views(hu, lungs, lesion, (rows, columns), (low, high), black)
    histograms = seen.counts.reshape(2, -1, width).sum(axis=2)
    if not hu.size:
        return [], histograms
    framed = np.zeros((4, len(shown.hu), shown.hu.shape[2]), np.int16)
    framed[:2] = black
    framed[:, box[0], box[2]] = np.stack((seen.brightest, seen.darkest, seen.outline, seen.shadow))
    brightest, darkest, outline, shadow = framed
    sides, spacing_mm = outline.astype(np.uint8), (shown.spacing_mm[0], shown.spacing_mm[2])
    return [
        Plane("MIP", brightest, LUNG_WINDOW_HU, sides, shadow != 0, spacing_mm),
        Plane("MinIP", darkest, MINIP_WINDOW_HU, sides, np.zeros(shadow.shape, np.bool_), spacing_mm),
    ], histograms
