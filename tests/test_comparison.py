"""Two studies of one patient: figures recomputed from the voxels, growth told or left open, the page in its words."""

import json
import subprocess
import sys
from html.parser import HTMLParser

import numpy as np
import pytest
from small_chests import small_chest, write_study

import fastct
from fastct.comparison import Change, _compared, comparison_page, write_comparison
from fastct.errors import StoreError
from fastct.geometry import Geometry
from fastct.pictures import place_in_lungs, study_pictures

ROW = {
    "lung_ml": 4000.0,
    "lung_right_ml": 2100.0,
    "lung_left_ml": 1900.0,
    "lesion_percent": 10.0,
    "lesion_percent_right": 12.0,
    "lesion_percent_left": 8.0,
    "lesion_percent_max": 12.0,
    "lesion_ml": 400.0,
    "lesion_source": "threshold",
    "severity": "CT-1",
    "flags": "",
}


def row(study_id, **changes):
    return {**ROW, "study_id": study_id, **changes}


@pytest.fixture(scope="module")
def two_scans(tmp_path_factory):
    """One patient twice, the lesion grown between the scans; and a third file that cannot be read."""
    root = tmp_path_factory.mktemp("scans")
    for name, seed in (("day1", 1), ("day3", 3)):
        hu, lesion, affine = small_chest(seed)
        write_study(root / f"{name}.nii.gz", hu, affine)
        write_study(root / "masks" / f"{name}_mask.nii.gz", lesion, affine)
    (root / "torn.nii.gz").write_bytes(b"\x1f\x8b nothing")
    store = root.parent / f"{root.name}-store"
    fastct.convert(root, store, workers=1)
    fastct.score(store, workers=1)
    return store


def test_a_study_without_lungs_is_not_one_without_lesions():
    empty = dict.fromkeys(("lesion_percent", "lesion_percent_max", "severity"), "")
    for pair in ((row("a", **empty, flags="lung_empty"), row("b")), (row("b"), row("a", **empty, flags="lung_empty"))):
        found = _compared(*pair)
        assert found.grew is None
        assert found.figures["lesion_percent"].difference is None
        assert any("No lung was found in a:" in note for note in found.notes)
        assert not any("noise floor" in note for note in found.notes)
    assert found.lines()["severity"] == "CT-1 → none"


def test_figures_are_those_of_the_voxels(two_scans):
    found = fastct.compare(two_scans, "day1", "day3")
    opened = fastct.open(two_scans)
    lesion_ml = [float((s.lesion > 0).sum() * s.geometry.voxel_ml) for s in (opened["day1"], opened["day3"])]
    change = found.figures["lesion_ml"]
    assert (change.before, change.after) == pytest.approx(lesion_ml, rel=1e-6)
    assert change.difference == pytest.approx(lesion_ml[1] - lesion_ml[0], rel=1e-6)
    assert change.percent == pytest.approx(100 * (lesion_ml[1] / lesion_ml[0] - 1), rel=1e-6)
    percent = found.figures["lesion_percent"]
    assert percent.difference == pytest.approx(percent.after - percent.before)
    assert found.grew is True
    assert fastct.compare(two_scans, "day3", "day1").grew is False


@pytest.mark.parametrize(("after_ml", "grew"), [(599.9, False), (600.0, True), (100.0, False)])
def test_growth_is_of_volume_and_reached_at_fifty_percent(after_ml, grew):
    assert _compared(row("a"), row("b", lesion_ml=after_ml)).grew is grew


def test_growth_out_of_noise_cannot_be_told():
    for nothing in ({"lesion_percent": 0.0, "lesion_ml": 0.0}, {"lesion_percent": 0.1, "lesion_ml": 4.0}):
        found = _compared(row("a", **nothing), row("b"))
        assert found.grew is None
        assert "noise floor" in " ".join(found.notes)
    by_expert = {"lesion_percent": 0.1, "lesion_ml": 4.0, "lesion_source": "mask"}
    assert _compared(row("a", **by_expert), row("b", lesion_source="mask")).grew is True
    assert _compared(row("a", lesion_ml=""), row("b")).grew is None


def test_what_makes_two_scans_hard_to_compare_is_said():
    assert "depth of breath" in " ".join(_compared(row("a"), row("b", lung_ml=3000.0)).notes)
    assert "expert" in " ".join(_compared(row("a"), row("b", lesion_source="mask")).notes)
    assert len(_compared(row("a"), row("b")).notes) == 1


def test_changes_of_nothing():
    assert Change(0.0, 5.0).percent is None
    assert Change(None, 5.0).difference is None
    assert Change(4.0, 5.0).percent == 25.0


def test_planes_lie_at_the_same_share_of_both_lungs():
    """The second scan is moved and stretched: the same share of its lungs is the same place."""
    geometry = Geometry((20, 40, 40), np.diag([-8.0, 8.0, 16.0, 1.0]))
    near, far = np.zeros((2, 20, 40, 40), np.uint8)
    near[2:10, 10:30, 5:35], far[4:20, 5:25, 5:35] = 1, 1
    lesion = np.zeros_like(near)
    lesion[4, 15, 8] = 1
    share = place_in_lungs(near, lesion, geometry)
    hu = np.zeros(near.shape, np.int16)
    places = {panel.name: panel.place for panel in study_pictures(hu, far, None, geometry, share).panels}
    assert places["axial"] == "z 8"  # 5/7 down from the top of a lung that ends at 19: 19 - round(15 * 5/7)
    assert places["coronal"] == "y 10"
    assert places["sagittal"] == "x 8"
    assert place_in_lungs(np.zeros_like(near), lesion, geometry) is None


class Tags(HTMLParser):
    def __init__(self, text):
        super().__init__()
        self.seen, self.words = [], ""
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.seen.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.words += data


def test_the_page_holds_both_and_asks_for_nothing(two_scans):
    page = comparison_page(two_scans, "day1", "day3")
    tags = Tags(page)
    panels = [attributes["aria-label"] for tag, attributes in tags.seen if tag == "svg"]
    assert [label.split(":")[0] for label in panels] == ["day1", "day3"] * 5
    assert {tag for tag, _ in tags.seen} & {"script", "img", "a"} == set()
    assert all(attributes["href"].startswith("data:") for tag, attributes in tags.seen if tag in ("image", "link"))
    for said in ("Not a medical device", "The lesions grew by 50 % or more", "noise floor", "24 to 48 hours"):
        assert said in tags.words
    faults = fastct.verify(two_scans)
    where = write_comparison(two_scans, "day1", "day3")
    assert where.endswith("comparisons/day1_day3.html")
    assert fastct.verify(two_scans) == faults


def test_studies_without_a_score_are_refused(two_scans):
    with pytest.raises(StoreError, match="no study 'day2'"):
        fastct.compare(two_scans, "day1", "day2")
    with pytest.raises(StoreError, match="torn"):
        fastct.compare(two_scans, "day1", "torn")


def test_command(two_scans):
    command = [sys.executable, "-m", "fastct", "compare", str(two_scans), "day1", "day3"]
    shown = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "growth of 50 % or more  yes" in shown.stdout
    assert "comparisons/day1_day3.html" in shown.stderr
    facts = json.loads(
        subprocess.run([*command, "--json", "-q"], capture_output=True, check=True).stdout.splitlines()[0]
    )
    assert [name[:3] for name in facts["severity"]] == ["CT-", "CT-"]
