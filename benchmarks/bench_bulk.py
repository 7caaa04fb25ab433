"""What many studies cost beside their voxels: pictures, batches, agreement, the page of the report."""

import numpy as np

import fastct
from benchmarks.common import phantom
from fastct.agreement import agreement
from fastct.batches import in_batches
from fastct.pictures import study_pictures
from fastct.report import ReportFacts, render_report
from fastct.scoring import ScoreTask
from fastct.storage import as_place

STUDIES = 1110


class Pictures:
    """Planes, projections and histograms of one study."""

    def setup(self):
        drawn = phantom()
        self.study = drawn.hu, fastct.lung_mask(drawn.hu, drawn.geometry), drawn.lesion, drawn.geometry

    def time_pictures(self):
        study_pictures(*self.study)

    def track_bytes(self):
        return len(study_pictures(*self.study).to_json())

    track_bytes.unit = "bytes of JSON a study; 20 KB make 25 MB of 1110"


class Many:
    """A data set of MosMedData's size, without its voxels."""

    def setup(self):
        percents = np.random.default_rng(1).gamma(1.0, 12.0, STUDIES).clip(0, 99).round(1)
        classes = np.digitize(percents, (1.5, 25, 50, 75))
        self.rows = [
            {"study_id": f"study_{n:04d}", "status": "done", "category": f"CT-{c}", "severity": f"CT-{c}"}
            | {"lesion_percent": float(p), "flags": "", "lesion_source": "threshold"}
            for n, (p, c) in enumerate(zip(percents, classes, strict=True))
        ]
        self.tasks = [ScoreTask(row["study_id"], as_place("store", None), 8_000_000) for row in self.rows]

    def time_batches(self):
        list(in_batches(self.tasks, lambda: 8))

    def time_agreement(self):
        agreement(self.rows)

    def time_page(self):
        for _ in render_report(self.rows, {}, ReportFacts("trial", "0", "the rule", 1.5)):
            pass
