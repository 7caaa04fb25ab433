"""Lung mask and lesion estimate of one study from its decoded volume."""

import fastct
from benchmarks.common import per_second, phantom


class Masks:
    """One study of MosMedData's size."""

    def setup(self):
        drawn = phantom()
        self.hu, self.geometry = drawn.hu, drawn.geometry
        self.lungs = fastct.lung_mask(self.hu, self.geometry)
        self.lesion = fastct.opacity_mask(self.hu, self.lungs, self.geometry)
        fastct.lesion_fraction(self.lesion, self.lungs)  # what compiles does so here

    def time_lung_mask(self):
        fastct.lung_mask(self.hu, self.geometry)

    def track_lung_mask_rate(self):
        return per_second(self.time_lung_mask, 1)

    track_lung_mask_rate.unit = "volumes/s"

    def time_opacity_mask(self):
        fastct.opacity_mask(self.hu, self.lungs, self.geometry)

    def time_lesion_fraction(self):
        fastct.lesion_fraction(self.lesion, self.lungs)
