"""One study in, one record out: lung mask, lesion percentages and severity of a converted study."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastct.geometry import Geometry
from fastct.lesions import (
    estimated_severity,
    extend_lungs,
    lesion_fraction,
    lesion_profile,
    opacity_mask,
    severity,
)
from fastct.lungs import segment_lungs
from fastct.options import fingerprint
from fastct.pictures import study_pictures
from fastct.publish import checksums, write_labels
from fastct.records import Record, Row, known_record
from fastct.storage import WORK, Place, Storage, open_storage
from fastct.store import Study, holds

PICTURES = f"{WORK}/pictures"
SCORING = 4  # raised whenever masks or numbers change for the same voxels, so that old scores are made anew


@dataclass(frozen=True)
class ScoreTask:
    """A converted study to score. Sent to workers by reference: no voxels in it."""

    study_id: str
    store: Place
    size_bytes: int


def score_settings() -> dict[str, Any]:
    """The settings that decide the labels and numbers of a scored study."""
    return {"scoring": SCORING}


def picture_key(study_id: str) -> str:
    """Where the report's pictures of a study lie in the store."""
    return f"{PICTURES}/{study_id}.json"


def is_scored(task: ScoreTask, storage: Storage) -> bool:
    """Whether an earlier run scored this study with the same settings."""
    record = known_record(storage, task.study_id)
    return (
        record is not None
        and record.status == "done"
        and record.scored == fingerprint(score_settings())
        and storage.exists(picture_key(task.study_id))
        and holds(storage, record)
    )


def score_study(task: ScoreTask) -> Record:
    """Score a converted study, add its labels to the store, and return its record.

    Raises
    ------
    StoreError
        If the study cannot be read, or its labels cannot be written.
    """
    storage = open_storage(task.store)
    study = Study(storage, task.study_id)
    record = study.record or Record(task.study_id)
    hu, geometry = study.hu, study.geometry
    by_expert = record.row.get("lesion_source") == "mask"
    found = segment_lungs(hu, geometry)
    lungs, flags = found.labels, list(found.flags)
    opacity = opacity_mask(hu, lungs, geometry)
    opacity_percent = lesion_fraction(opacity, lungs).percent
    lesion, outside = (study.lesion if by_expert else opacity), 0
    if by_expert:
        lungs, outside = extend_lungs(lungs, lesion, geometry)
        flags += ["lesion_outside_lung"] if outside else []
    source = "mask" if by_expert else "threshold"
    labels = {"lung": lungs} if by_expert else {"lung": lungs, "lesion": lesion}
    written = write_labels(storage, study, labels, {"lung": "fastct", "lesion": source})
    pictures = study_pictures(hu, lungs, lesion, geometry)
    storage.write(picture_key(task.study_id), pictures.to_json().encode())
    row = {**_row(lungs, lesion, geometry, by_expert), **_profile(hu, lungs, lesion, geometry)}
    return replace(
        record,
        status="done",
        error="",
        failed_at="",
        scored=fingerprint(score_settings()),
        keys={**record.keys, **checksums(written)},
        row={
            **record.row,
            **row,
            "lesion_source": source,
            "opacity_percent": opacity_percent,
            "lesion_outside_ml": outside * geometry.voxel_ml,
            "flags": ";".join(flags),
        },
    )


def _row(lungs: NDArray[np.uint8], lesion: NDArray[np.uint8], geometry: Geometry, by_expert: bool) -> Row:
    fraction = lesion_fraction(lesion, lungs)
    return {
        "lung_ml": (fraction.right_voxels + fraction.left_voxels) * geometry.voxel_ml,
        "lung_right_ml": fraction.right_voxels * geometry.voxel_ml,
        "lung_left_ml": fraction.left_voxels * geometry.voxel_ml,
        "lesion_ml": (fraction.lesion_right_voxels + fraction.lesion_left_voxels) * geometry.voxel_ml,
        "lesion_percent": fraction.percent,
        "lesion_percent_right": fraction.percent_right,
        "lesion_percent_left": fraction.percent_left,
        "lesion_percent_max": fraction.percent_max,
        "severity": (severity if by_expert else estimated_severity)(fraction.percent),
    }


def _profile(hu: NDArray[np.int16], lungs: NDArray[np.uint8], lesion: NDArray[np.uint8], geometry: Geometry) -> Row:
    profile = lesion_profile(hu, lesion, lungs, geometry)
    return {
        "lesion_mean_hu": profile.mean_hu if profile.volume_ml else "",
        "lesion_ground_glass_percent": profile.ground_glass_percent,
        "lesion_consolidation_percent": profile.consolidation_percent,
    }
