"""One study in, one record out: lung mask, lesion percentages and severity of a converted study."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastct.device import to_gpu, to_host, working_beside
from fastct.errors import StoreError
from fastct.flags import LUNGLESS
from fastct.geometry import Geometry
from fastct.gpu_scoring import Examined, examine_study
from fastct.kept import work_memory
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
from fastct.pictures import StudyPictures, study_pictures
from fastct.publish import checksums, label_files, store_labels
from fastct.records import Record, Row, known_record
from fastct.sealed import seal, unseal
from fastct.storage import WORK, Place, Storage, open_storage
from fastct.store import Study, holds

PICTURES = f"{WORK}/pictures"
SCORING = 12  # raised whenever masks or numbers change for the same voxels, so that old scores are made anew


@dataclass(frozen=True)
class ScoreTask:
    """A converted study to score. Sent to workers by reference: no voxels in it."""

    study_id: str
    store: Place
    size_bytes: int
    gpu: int | None = None  # its number; None for the CPU


def score_settings() -> dict[str, Any]:
    """The settings that decide the labels and numbers of a scored study."""
    return {"scoring": SCORING}


def picture_key(study_id: str) -> str:
    """Where the report's pictures of a study lie in the store."""
    return f"{PICTURES}/{study_id}.json"


def write_pictures(storage: Storage, study_id: str, pictures: StudyPictures) -> None:
    """Keep a study's pictures for the report."""
    storage.write(picture_key(study_id), seal({"study_id": study_id, **pictures.fields()}))


def read_pictures(storage: Storage, study_id: str) -> StudyPictures | None:
    """A study's pictures, or None where none are kept.

    Raises
    ------
    StoreError
        If they are damaged, or of another study.
    """
    key = picture_key(study_id)
    text = storage.find(key)
    if text is None:
        return None
    try:
        fields = unseal(text)
        if fields.get("study_id") != study_id:
            raise ValueError(f"they are of study {fields.get('study_id')!r:.80}")
    except ValueError as error:
        cure = "Run `fastct verify --repair` on the store"
        raise StoreError(f"{storage}/{key}", f"these are no pictures ({error})", cure) from error
    return StudyPictures.from_fields(fields)


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
    with work_memory():  # the voxels and labels of one study lie where those of the last one lay
        return _score(open_storage(task.store), task)


def _score(storage: Storage, task: ScoreTask) -> Record:
    study = Study(storage, task.study_id)
    record = study.record or Record(task.study_id)
    by_expert = record.row.get("lesion_source") == "mask"
    seen = _look_at(study, task.gpu)
    hu, geometry = seen.hu, study.geometry
    found = _examine(seen, study.lesion if by_expert else None, geometry)
    labels = {"lung": found.lungs} if by_expert else {"lung": found.lungs, "lesion": found.lesion}
    files = label_files(study, labels, {"lung": "fastct", "lesion": found.row["lesion_source"]})
    with ThreadPoolExecutor(1, "fastct-labels") as disk:  # which has its time while pictures are drawn
        stored = disk.submit(store_labels, storage, study, files)
        pictures = study_pictures(hu, found.lungs, found.lesion, geometry)
        stored.result()
    write_pictures(storage, task.study_id, pictures)
    return replace(
        record,
        status="done",
        error="",
        failed_at="",
        scored=fingerprint(score_settings()),
        keys={**record.keys, **checksums(files.of_study)},
        row={**record.row, **found.row},
    )


@dataclass(frozen=True, eq=False)
class _Findings:
    """Labels of a study, on the host, and its part of the table's row."""

    lungs: NDArray[np.uint8]
    lesion: NDArray[np.uint8]
    row: Row


def _look_at(study: Study, gpu: int | None) -> Examined:
    """A study's voxels, lungs and opacities, found on a GPU if one is named."""
    if gpu is not None and study.metadata["attributes"]["fastct"]["codec"] == "ctpack":
        return examine_study(study.storage, study.study_id, gpu)
    hu = study.hu if gpu is None else to_gpu(study.hu, gpu)
    found = segment_lungs(hu, study.geometry)
    opacity = opacity_mask(hu, found.labels, study.geometry)
    return Examined(study.hu, to_host(found.labels), to_host(opacity), found.flags)


def _examine(seen: Examined, expert: NDArray[np.uint8] | None, geometry: Geometry) -> _Findings:
    """Lungs and lesions of a study, these by an expert's mask if there is one, and what they measure."""
    hu, lungs, opacity, flags = seen.hu, seen.lungs, seen.opacity, list(seen.flags)
    with working_beside(hu):
        opacity_percent = lesion_fraction(opacity, lungs).percent
        lesion, outside = opacity, 0
        if expert is not None:
            lesion = expert
            lungs, outside = extend_lungs(lungs, lesion, geometry)
            flags += ["lesion_outside_lung"] if outside else []
        row = {
            **measured_row(lungs, lesion, geometry, by_expert=expert is not None, flags=flags),
            **_profile(hu, lungs, lesion, geometry),
            "lesion_source": "threshold" if expert is None else "mask",
            "opacity_percent": "" if LUNGLESS in flags else opacity_percent,
            "lesion_outside_ml": outside * geometry.voxel_ml,
            "flags": ";".join(flags),
        }
        return _Findings(lungs, lesion, row)


def measured_row(
    lungs: NDArray[np.uint8], lesion: NDArray[np.uint8], geometry: Geometry, *, by_expert: bool, flags: Sequence[str]
) -> Row:
    """What the labels of a study say: volumes in mL, percentages, severity; these empty where no lung was found."""
    fraction = lesion_fraction(lesion, lungs)
    shares = {
        "lesion_percent": fraction.percent,
        "lesion_percent_right": fraction.percent_right,
        "lesion_percent_left": fraction.percent_left,
        "lesion_percent_max": fraction.percent_max,
        "severity": (severity if by_expert else estimated_severity)(fraction.percent),
    }
    return {
        "lung_ml": (fraction.right_voxels + fraction.left_voxels) * geometry.voxel_ml,
        "lung_right_ml": fraction.right_voxels * geometry.voxel_ml,
        "lung_left_ml": fraction.left_voxels * geometry.voxel_ml,
        "lesion_ml": (fraction.lesion_right_voxels + fraction.lesion_left_voxels) * geometry.voxel_ml,
        **(dict.fromkeys(shares, "") if LUNGLESS in flags else shares),
    }


def _profile(hu: NDArray[np.int16], lungs: NDArray[np.uint8], lesion: NDArray[np.uint8], geometry: Geometry) -> Row:
    profile = lesion_profile(hu, lesion, lungs, geometry)
    return {
        "lesion_mean_hu": profile.mean_hu if profile.volume_ml else "",
        "lesion_ground_glass_percent": profile.ground_glass_percent,
        "lesion_consolidation_percent": profile.consolidation_percent,
    }
