"""Pictures of one study for people: three planes, MIP and MinIP, lung outlines, lesions, HU histogram."""

import json
from base64 import b64decode, b64encode
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fastct.errors import ArrayError, StoreError
from fastct.geometry import Geometry
from fastct.kernels.views import LungViews, Occupancy, lung_views
from fastct.montage import Panel, Pixels, Plane, draw_montage

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
Place = tuple[int, int, int]
Share = tuple[float, float, float]


@dataclass(frozen=True)
class StudyPictures:
    """Encoded pictures of one study, where each panel lies in them, and the histograms.

    `overlay` (PNG, transparent) lies on `montage` (grey JPEG), both `size_px` wide and high; `lung_histogram`
    counts the voxels of the lungs, `lesion_histogram` those of them that are lesion, in
    the bins of `HISTOGRAM_HU`.
    """

    montage: bytes
    overlay: bytes
    size_px: tuple[int, int]
    panels: tuple[Panel, ...]
    lung_histogram: tuple[int, ...]
    lesion_histogram: tuple[int, ...]

    def to_json(self) -> str:
        """The fields as one line of ASCII."""
        return json.dumps(self.fields(), separators=(",", ":"))

    def fields(self) -> dict[str, Any]:
        """What JSON can hold, and `from_fields` takes."""
        return {**vars(self), **{name: b64encode(getattr(self, name)).decode() for name in _IMAGES}}

    @classmethod
    def from_fields(cls, fields: Mapping[str, Any]) -> "StudyPictures":
        """Pictures out of what `fields` gave, as JSON brings it back; StoreError where it is anything else."""
        try:
            return _from_fields(fields)
        except (ValueError, TypeError, KeyError, OverflowError) as error:
            finding = f"they cannot be read back ({type(error).__name__}: {error})"
            raise StoreError("pictures of a study", finding, "Score the study again") from error


_IMAGES = ("montage", "overlay")


def _from_fields(fields: Mapping[str, Any]) -> StudyPictures:
    def numbers(values: Any, length: int) -> Any:
        if not isinstance(values, list) or len(values) != length or not all(type(n) is int for n in values):
            raise ValueError(f"{length} whole numbers were wanted, {values!r:.80} found")
        return tuple(values)

    bins = len(histogram_edges_hu()) - 1
    montage, overlay = (b64decode(fields[name], validate=True) for name in _IMAGES)
    panels = tuple(
        Panel(str(name), numbers(box, 4), str(place), cross and numbers(cross, 2))
        for name, box, place, cross in fields["panels"]
    )
    size_px = numbers(fields["size_px"], 2)
    counts = numbers(fields["lung_histogram"], bins), numbers(fields["lesion_histogram"], bins)
    return StudyPictures(montage, overlay, size_px, panels, *counts)


def histogram_edges_hu() -> NDArray[np.int64]:
    """Edges of the histograms' bins, in HU."""
    first, last, width = HISTOGRAM_HU
    return np.arange(first, last + 1, width)


class _Chest(NamedTuple):
    """A study with axes along (z, y, x) of the patient, C-contiguous as the kernels like it.

    `steps` (1 or -1 an axis) turn it as it is looked at, to (inferior, posterior, patient left), so that rows and
    columns of every plane run as radiologists hang it: head up, anterior up or left, patient right on the left.
    `names` are the letters of the axes in the stored array.
    """

    hu: NDArray[np.int16]
    lungs: Pixels
    lesion: Pixels
    spacing_mm: tuple[float, float, float]
    steps: tuple[slice, slice, slice]
    names: str

    def looked_at(self) -> list[NDArray[Any]]:
        """Views of HU, lungs and lesion, turned."""
        return [array[self.steps] for array in self[:3]]


def study_pictures(
    hu: NDArray[np.int16],
    lungs: NDArray[np.uint8],
    lesion: NDArray[np.uint8] | None,
    geometry: Geometry,
    share: Share | None = None,
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
    share : planes through this place of the lungs instead, as `place_in_lungs` gives it.

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
    chest = _upright(hu, lungs, lesion, geometry)
    rows, columns = (min(int(RIM_MM / chest.spacing_mm[axis]), chest.hu.shape[axis]) for axis in (1, 2))
    low, high, width = HISTOGRAM_HU
    seen = lung_views(chest.hu, chest.lungs, chest.lesion, (rows, columns), (low, high), LUNG_WINDOW_HU[0])
    inside, ill = _turned(seen.lungs, chest), _turned(seen.lesion, chest)
    frame = _frame(chest, inside)
    most = _at_share(inside, share) or _most(ill) or _most(inside) or _middle(frame)
    planes = _planes(chest, frame, most)
    if inside.slices.any():
        planes += _from_the_front(seen, chest, frame)
    montage, overlay, size_px, panels = draw_montage(planes)
    histograms = seen.counts.reshape(2, -1, width).sum(axis=2)
    return StudyPictures(montage, overlay, size_px, panels, *(tuple(line) for line in histograms.tolist()))


def _upright(hu: NDArray[np.int16], lungs: Pixels, lesion: Pixels | None, geometry: Geometry) -> _Chest:
    for name, array in (("hu", hu), ("lungs", lungs), ("lesion", lungs if lesion is None else lesion)):
        if not isinstance(array, np.ndarray) or array.shape != geometry.shape:
            found = f"it is {type(array).__name__} of shape {getattr(array, 'shape', None)}"
            raise ArrayError(name, f"{found}, the study has {geometry.shape}", "Give NumPy arrays of it")
    if hu.dtype != np.int16 or lungs.dtype != np.uint8:
        found = f"their dtypes are {hu.dtype} and {lungs.dtype}, not int16 and uint8"
        raise ArrayError("hu and lungs", found, "Give Hounsfield units and labels as stored")
    ill = np.zeros_like(lungs) if lesion is None else lesion if lesion.dtype == np.uint8 else lesion.astype(np.uint8)
    axes, (to_superior, to_anterior, to_left) = geometry.anatomical_axes
    steps = slice(None, None, -to_superior), slice(None, None, -to_anterior), slice(None, None, to_left)
    lungs, ill = (np.ascontiguousarray(mask.transpose(axes)) for mask in (lungs, ill))
    names = "".join("zyx"[axis] for axis in axes)
    return _Chest(np.ascontiguousarray(hu.transpose(axes)), lungs, ill, geometry.upright_spacing_mm(), steps, names)


def _turned(found: Occupancy, chest: _Chest) -> Occupancy:
    """Counts along the axes as they are looked at."""
    return Occupancy(*(counts[step] for counts, step in zip(found, chest.steps, strict=True)))


def _frame(chest: _Chest, lungs: Occupancy) -> Box:
    """The rows and columns that hold the lungs and the body around them, and a margin; every slice."""
    tissue = chest.hu[chest.steps][::2, ::BODY_STEP, ::BODY_STEP] > BODY_HU
    columns = np.add.reduce(tissue.view(np.uint8), axis=0, dtype=np.min_scalar_type(len(tissue)))
    box = [slice(0, len(chest.hu))]
    for axis, counts in ((1, lungs.rows), (2, lungs.columns)):
        first, last = _body_ends(columns.sum(axis=2 - axis), np.flatnonzero(counts))
        margin = BODY_STEP + int(BODY_MARGIN_MM / chest.spacing_mm[axis])
        box.append(slice(max(first - margin, 0), min(last + margin + 1, chest.hu.shape[axis])))
    return box[0], box[1], box[2]


def _body_ends(tissue: NDArray[np.unsignedinteger[Any]], lungs: NDArray[np.intp]) -> tuple[int, int]:
    """First and last row of the body: from the lungs (or the fullest row) on, while there is tissue."""
    seeds = (lungs[[0, -1]] // BODY_STEP) if lungs.size else np.repeat(tissue.argmax(), 2)
    gaps = np.flatnonzero(tissue <= BODY_SHARE * tissue.max())
    first = gaps[gaps < seeds[0]].max(initial=-1) + 1
    last = gaps[gaps > seeds[1]].min(initial=len(tissue)) - 1
    return int(first) * BODY_STEP, int(last) * BODY_STEP + BODY_STEP - 1


def _most(found: Occupancy) -> Place | None:
    """Slice, row and column that hold most set voxels, each by itself; None when nothing is set."""
    z, y, x = (int(counts.argmax()) for counts in found)
    return (z, y, x) if found.slices.any() else None


def place_in_lungs(lungs: NDArray[np.uint8], lesion: NDArray[np.uint8], geometry: Geometry) -> Share | None:
    """Where most lesion lies (else most lung): shares of the lungs' height, depth and width, from top, front and
    patient right. None without lungs.

    Parameters
    ----------
    lungs, lesion : uint8 (z, y, x), set where not 0.
    geometry : shape and affine of both.

    Examples
    --------
    >>> lungs = np.zeros((5, 8, 8), np.uint8); lungs[:, 2:7, 1:6] = 1
    >>> place_in_lungs(lungs, np.zeros_like(lungs), Geometry(lungs.shape, np.diag([-1.0, 1.0, 1.0, 1.0])))
    (0.0, 0.0, 0.0)
    """
    inside, ill = (_occupancy(geometry.upright(mask)[::-1, ::-1]) for mask in (lungs, lesion))
    most = _most(ill) or _most(inside)
    if most is None or not inside.slices.any():
        return None
    shares = []
    for counts, place in zip(inside, most, strict=True):
        first, last = np.flatnonzero(counts)[[0, -1]]
        shares.append(float(np.clip((place - first) / max(last - first, 1), 0.0, 1.0)))
    return shares[0], shares[1], shares[2]


def _occupancy(mask: NDArray[np.uint8]) -> Occupancy:
    return Occupancy(*(np.count_nonzero(mask, axis=tuple({0, 1, 2} - {axis})) for axis in range(3)))


def _at_share(lungs: Occupancy, share: Share | None) -> Place | None:
    """The place that lies at these shares of the lungs; None without shares or lungs."""
    if share is None or not lungs.slices.any():
        return None
    places = []
    for counts, part in zip(lungs, share, strict=True):
        first, last = np.flatnonzero(counts)[[0, -1]]
        places.append(int(first + round(part * (last - first))))
    return places[0], places[1], places[2]


def _middle(frame: Box) -> Place:
    z, y, x = ((part.start + part.stop) // 2 for part in frame)
    return z, y, x


def _planes(chest: _Chest, frame: Box, most: Place) -> list[Plane]:
    """The three planes through a place; it is brought into the frame where it lies beside it."""
    at = [min(max(place, part.start), part.stop - 1) for place, part in zip(most, frame, strict=True)]
    looked_at = chest.looked_at()
    planes = []
    for axis, name in enumerate(("axial", "coronal", "sagittal")):
        row, column = (other for other in range(3) if other != axis)
        part = frame[row], frame[column]
        hu, lungs, lesion = (np.moveaxis(array, axis, 0)[at[axis]][part] for array in looked_at)
        spacing_mm = chest.spacing_mm[row], chest.spacing_mm[column]
        stored = range(chest.hu.shape[axis])[chest.steps[axis]][at[axis]]
        cross = at[row] - frame[row].start, at[column] - frame[column].start
        place = f"{chest.names[axis]} {stored}"
        planes.append(Plane(name, hu, LUNG_WINDOW_HU, lungs, lesion != 0, spacing_mm, place, cross))
    return planes


def _from_the_front(seen: LungViews, chest: _Chest, frame: Box) -> list[Plane]:
    """Maximum within the lungs, minimum within and between them."""
    down, _, across = chest.steps
    brightest, darkest = (view[down, across][frame[0], frame[2]] for view in (seen.brightest, seen.darkest))
    sides, shadow = (view[down, across][frame[0], frame[2]] for view in (seen.outline, seen.shadow))
    spacing_mm, nothing = (chest.spacing_mm[0], chest.spacing_mm[2]), np.zeros(shadow.shape, np.bool_)
    return [
        Plane("MIP", brightest, LUNG_WINDOW_HU, sides, shadow != 0, spacing_mm),
        Plane("MinIP", darkest, MINIP_WINDOW_HU, sides, nothing, spacing_mm),
    ]
