"""Pictures of a study: hung as radiologists do, true in millimetres, small; odd input drawn or refused."""

import io
import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from fastct.errors import ArrayError, StoreError
from fastct.geometry import Geometry
from fastct.kernels.views import lung_views
from fastct.montage import LESION_EDGE, OVERLAY_RGBA
from fastct.pictures import StudyPictures, histogram_edges_hu, study_pictures

SHAPE, SPACING_MM = (24, 60, 80), (10.0, 4.0, 4.0)  # z, y, x: 240 x 240 x 320 mm
LAS = np.diag([-SPACING_MM[2], SPACING_MM[1], SPACING_MM[0], 1.0])  # x runs to the left, y to anterior


def chest(lesion_at=None):
    """Body, two lungs (the right one at low x, as x runs to the left) and a lesion box, (z, y, x) LAS."""
    hu = np.full(SHAPE, -1000, np.int16)
    hu[:, 6:54, 6:74] = 40
    lungs = np.zeros(SHAPE, np.uint8)
    lungs[4:20, 14:46, 14:36], lungs[4:20, 14:46, 44:66] = 1, 2
    hu[lungs != 0] = -850
    lesion = np.zeros(SHAPE, np.uint8)
    if lesion_at is not None:
        lesion[lesion_at] = 1
        hu[lesion_at] = -400
    return hu, lungs, lesion


def turned(hu, lungs, lesion, order, signs):
    """The same patient stored with other axes: `order` of (z, y, x), each flipped where its sign is -1."""
    step = tuple(slice(None, None, sign) for sign in signs)
    arrays = [array.transpose(order)[step] for array in (hu, lungs, lesion)]
    matrix = np.eye(4)
    for new, (old, sign) in enumerate(zip(order, signs, strict=True)):
        column = LAS[:, 2 - old]
        matrix[:, 2 - new] = sign * column
        if sign < 0:
            matrix[:3, 3] += column[:3] * (SHAPE[old] - 1)
    return arrays, Geometry(arrays[0].shape, matrix)


def panel_pixels(pictures, name, image="montage"):
    left, top, width, height = next(p for p in pictures.panels if p.name == name).box_px
    whole = np.asarray(Image.open(io.BytesIO(getattr(pictures, image))).convert("RGBA"))
    return whole[top : top + height, left : left + width]


def lesion_centre(pictures, name):
    """Where the lesion lies in a panel, as fractions (down, right)."""
    marks = (panel_pixels(pictures, name, "overlay") == OVERLAY_RGBA[LESION_EDGE]).all(axis=-1)
    return np.argwhere(marks).mean(axis=0) / marks.shape


@given(order=st.permutations(range(3)), signs=st.tuples(*[st.sampled_from((1, -1))] * 3))
@settings(max_examples=30)
def test_the_same_patient_looks_the_same_however_stored(order, signs):
    arrays = chest((slice(8, 12), slice(30, 44), slice(50, 60)))
    first = study_pictures(*arrays, Geometry(SHAPE, LAS))
    again_arrays, geometry = turned(*arrays, order, signs)
    again = study_pictures(*again_arrays, geometry)
    for name in ("montage", "overlay", "size_px", "lung_histogram", "lesion_histogram"):
        assert getattr(first, name) == getattr(again, name), name
    for panel, other in zip(first.panels, again.panels, strict=True):
        assert (panel.name, panel.box_px, panel.cross_px) == (other.name, other.box_px, other.cross_px)
        if panel.place:  # names the plane of the array as stored, whatever its order
            letter, index = other.place.split()
            assert "zyx".index(letter) == list(order).index("zyx".index(panel.place[0]))
            axis = order["zyx".index(letter)]
            old = int(panel.place[2:])
            assert int(index) == (old if signs["zyx".index(letter)] > 0 else SHAPE[axis] - 1 - old)


def test_hung_as_radiologists_do():
    """A lesion in the right lung, high, anterior: left and up in every plane where that side shows."""
    lesion_at = (slice(15, 19), slice(38, 45), slice(16, 26))  # high z, high y (anterior), low x (right)
    pictures = study_pictures(*chest(lesion_at), Geometry(SHAPE, LAS))
    down, right = lesion_centre(pictures, "axial")
    assert down < 0.45, "anterior is up"
    assert right < 0.4, "patient right is on the left"
    down, right = lesion_centre(pictures, "coronal")
    assert (down < 0.4, right < 0.4) == (True, True), "head up, patient right on the left"
    down, right = lesion_centre(pictures, "sagittal")
    assert (down < 0.4, right < 0.45) == (True, True), "head up, anterior on the left"
    down, right = lesion_centre(pictures, "MIP")
    assert (down < 0.4, right < 0.4) == (True, True)


def test_planes_go_through_most_lesion_and_say_which():
    lesion_at = (slice(9, 10), slice(20, 21), slice(50, 51))
    hu, lungs, lesion = chest(lesion_at)
    lesion[9, 20, 48:54] = lesion[9, 18:24, 50] = lesion[7:12, 20, 50] = 1
    places = {p.name: p.place for p in study_pictures(hu, lungs, lesion, Geometry(SHAPE, LAS)).panels}
    assert places == {"axial": "z 9", "coronal": "y 20", "sagittal": "x 50", "MIP": "", "MinIP": ""}


def test_without_lesion_through_most_lung_and_without_lungs_through_the_middle():
    hu, lungs, _ = chest()
    lungs[:, :, :] = 0
    lungs[5, 10:20, 20:30] = lungs[6, 10:20, 20:29] = 1
    panels = study_pictures(hu, lungs, None, Geometry(SHAPE, LAS)).panels
    assert panels[0].place == "z 5"
    pictures = study_pictures(hu, np.zeros_like(lungs), None, Geometry(SHAPE, LAS))
    assert [panel.name for panel in pictures.panels] == ["axial", "coronal", "sagittal"]
    assert sum(pictures.lung_histogram) == 0
    middle = [n // 2 for n in (SHAPE[0], SHAPE[1] - 1, SHAPE[2])]
    for panel, n in zip(pictures.panels, middle, strict=True):
        assert abs(int(panel.place.split()[1]) - n) <= 4


def test_millimetres_are_alike_in_both_directions():
    """The body is cut to 192 mm by 272 mm plus margins; slices reach over 240 mm."""
    pictures = study_pictures(*chest(), Geometry(SHAPE, LAS))
    boxes = {panel.name: panel.box_px for panel in pictures.panels}
    width, height = boxes["coronal"][2:]
    wide_mm = boxes["axial"][2] / boxes["axial"][3] * boxes["sagittal"][2] / height * 240
    assert wide_mm == pytest.approx(width / height * 240, rel=0.03)
    assert 272 <= wide_mm <= 272 + 2 * (6 + 4 * 8)
    assert boxes["MIP"][2:] == boxes["MinIP"][2:] == (width, height)


def test_grey_is_the_lung_window():
    """Middle of the body at 40 HU and of a lung at -850 HU, in the window -1350 to 150 HU."""
    pictures = study_pictures(*chest(), Geometry(SHAPE, LAS))
    axial = panel_pixels(pictures, "axial")[..., 0].astype(int)
    height, width = axial.shape
    assert abs(axial[height // 2, width // 2] - (40 + 1350) * 255 // 1500) <= 6
    assert abs(axial[height // 2, width // 4] - (1350 - 850) * 255 // 1500) <= 6


def test_projections_show_vessels_and_airways_but_not_the_chest_wall():
    hu, lungs, lesion = chest()
    hu[10, 30, 18:32] = 60  # a vessel across the right lung
    hu[8:22, 28:33, 38:42] = -1000  # the trachea, between the lungs
    hu[:, 6:14] = 1000  # ribs
    hu[:, 14] = np.where(lungs[:, 14], 300, hu[:, 14])  # and their partial volume in the lungs' rim
    pictures = study_pictures(hu, lungs, lesion, Geometry(SHAPE, LAS))
    mip = panel_pixels(pictures, "MIP")[..., 0].astype(int)
    height, width = mip.shape
    row = int((24 - 10 - 0.5) / 24 * height)
    assert mip[row, width // 4 : width // 3].max() > 200, "the vessel is bright"
    assert mip[int(0.3 * height), width // 4] < 110, "ribs do not shine through the lung"
    minip = panel_pixels(pictures, "MinIP")[..., 0].astype(int)
    assert minip[int(0.4 * height), width // 2] < 80, "air between the lungs is dark"
    assert minip[int(0.8 * height), width // 2] > 200, "tissue between the lungs is bright"


@given(seed=st.integers(0, 2**32 - 1))
@settings(max_examples=20)
def test_histograms_count_every_lung_voxel_once(seed):
    generator = np.random.default_rng(seed)
    shape = tuple(generator.integers(1, 12, 3))
    hu = generator.integers(-3024, 3072, shape).astype(np.int16)
    lungs = generator.integers(0, 3, shape).astype(np.uint8)
    lesion = generator.integers(0, 2, shape).astype(np.uint8)
    pictures = study_pictures(hu, lungs, lesion, Geometry(shape, np.diag([1.0, 1.0, 5.0, 1.0])))
    edges = histogram_edges_hu()
    for mask, counts in (
        (lungs > 0, pictures.lung_histogram),
        ((lungs > 0) & (lesion > 0), pictures.lesion_histogram),
    ):
        expected, _ = np.histogram(np.clip(hu[mask], edges[0], edges[-1] - 1), edges)
        assert list(counts) == expected.tolist()


def eroded(mask, rim):
    """Voxels whose neighbours `rim` rows and columns away are set, in plain NumPy."""
    kept = mask.copy()
    for axis, far in ((1, rim[0]), (2, rim[1])):
        for way in (far, -far):
            ahead = np.zeros_like(mask)
            inner = [slice(None)] * 3
            inner[axis] = slice(far, mask.shape[axis]) if way > 0 else slice(0, max(mask.shape[axis] - far, 0))
            ahead[tuple(inner)] = np.roll(mask, way, axis)[tuple(inner)]
            kept &= ahead
    return kept


@given(
    shape=st.tuples(*[st.integers(0, 9)] * 3),
    rim=st.tuples(*[st.integers(0, 3)] * 2),
    seed=st.integers(0, 2**32 - 1),
)
def test_views_agree_with_plain_numpy(shape, rim, seed):
    generator = np.random.default_rng(seed)
    hu = generator.integers(-1100, 300, shape).astype(np.int16)
    lungs = (generator.integers(1, 3, shape) * (generator.random(shape) < 0.8)).astype(np.uint8)
    lesion = (generator.integers(1, 4, shape) * (generator.random(shape) < 0.1)).astype(np.uint8)
    rim = tuple(min(far, n) for far, n in zip(rim, shape[1:], strict=True))
    brightest, darkest, outline, shadow, counts, *found = lung_views(hu, lungs, lesion, rim, (-1000, 200), -1350)
    inside = lungs > 0
    between = np.maximum.accumulate(inside, axis=2) & np.maximum.accumulate(inside[..., ::-1], axis=2)[..., ::-1]
    expected = np.max(hu, axis=1, where=eroded(inside, rim), initial=-1350)
    np.testing.assert_array_equal(brightest, expected)
    expected = np.min(hu, axis=1, where=eroded(between, rim), initial=32767)
    np.testing.assert_array_equal(darkest, np.where(expected == 32767, -1350, expected))
    np.testing.assert_array_equal(outline, lungs.max(axis=1, initial=0))
    np.testing.assert_array_equal(shadow, lesion.max(axis=1, initial=0))
    for where, mask in zip(found, (lungs, lesion), strict=True):
        for axis, numbers in enumerate(where):
            np.testing.assert_array_equal(numbers, np.count_nonzero(mask, axis=tuple({0, 1, 2} - {axis})))
    for line, mask in zip(counts, (inside, inside & (lesion > 0)), strict=True):
        np.testing.assert_array_equal(line, np.bincount(np.clip(hu[mask], -1000, 199) + 1000, minlength=1200))


@pytest.mark.parametrize("shape", [(1, 1, 1), (1, 64, 64), (200, 3, 3), (2, 1, 300)])
def test_odd_shapes_are_drawn(shape):
    hu = np.zeros(shape, np.int16)
    ones = np.ones(shape, np.uint8)
    pictures = study_pictures(hu, ones, ones, Geometry(shape, np.diag([0.7, 0.7, 8.0, 1.0])))
    assert Image.open(io.BytesIO(pictures.montage)).size == pictures.size_px
    assert all(min(panel.box_px[2:]) >= 1 for panel in pictures.panels)


def test_json_comes_back():
    pictures = study_pictures(*chest((slice(8, 12), slice(30, 44), slice(50, 60))), Geometry(SHAPE, LAS))
    text = pictures.to_json()
    assert text.isascii()
    assert StudyPictures.from_fields(json.loads(text)) == pictures


@pytest.mark.parametrize(
    "change",
    [
        {"montage": "not base64!"},
        {"montage": 7},
        {"size_px": [1]},
        {"size_px": ["1", "2"]},
        {"panels": [["axial", [0, 0, 1], "z 1", None]]},
        {"panels": [["axial", [0, 0, 1, 1], "z 1", [2]]]},
        {"panels": 4},
        {"lung_histogram": [1, 2]},
        {"lesion_histogram": None},
    ],
)
def test_other_json_is_refused(change):
    fields = json.loads(study_pictures(*chest(), Geometry(SHAPE, LAS)).to_json())
    with pytest.raises(StoreError, match="Score the study again"):
        StudyPictures.from_fields(fields | change)


def test_an_object_without_pictures_is_refused():
    with pytest.raises(StoreError):
        StudyPictures.from_fields({})


def test_arrays_of_another_study_are_refused():
    hu, lungs, lesion = chest()
    geometry = Geometry(SHAPE, LAS)
    with pytest.raises(ArrayError, match="lungs"):
        study_pictures(hu, lungs[1:], lesion, geometry)
    with pytest.raises(ArrayError, match="lesion"):
        study_pictures(hu, lungs, lesion[:, 1:], geometry)
    with pytest.raises(ArrayError, match="hu"):
        study_pictures(hu.tolist(), lungs, lesion, geometry)
    with pytest.raises(ArrayError, match="shape"):
        lung_views(hu, lungs[1:], lesion, (1, 1), (-1000, 200), -1350)
    with pytest.raises(ArrayError, match="int16"):
        study_pictures(hu.astype(np.float32), lungs, lesion, geometry)


@pytest.mark.real
@pytest.mark.parametrize("name", ["lctsc_000", "lctsc_001", "lctsc_007"])
def test_real_chests_are_small_enough_for_a_thousand_in_one_page(real_data, name):
    nibabel = pytest.importorskip("nibabel")
    image = nibabel.load(real_data / "ct" / f"{name}.nii.gz")
    hu = np.ascontiguousarray(np.asarray(image.dataobj).T.astype(np.int16))
    lungs = np.asarray(nibabel.load(real_data / "ct" / f"{name}_lung.nii.gz").dataobj).T.astype(np.uint8)
    lesion = lungs & (hu > -500)
    pictures = study_pictures(hu, lungs, lesion, Geometry(hu.shape, image.affine))
    assert len(pictures.to_json()) <= 25_000_000 // 1110
