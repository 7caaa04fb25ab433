"""Data sets of patches of the scored store, as the tests of Dataset and Loader want them."""

import fastct
from fastct.transforms import (
    Intensity,
    Noise,
    Rotate,
    Scale,
    Shift,
    Uniform,
)

PATCH = (6, 40, 50)
TURNS = (Rotate((Uniform(-20, 20), 0, 0)), Scale(Uniform(0.9, 1.1)), Shift((0, Uniform(-9, 9), 3.0)))
TONES = (Intensity(Uniform(0.9, 1.1), Uniform(-0.1, 0.1)), Noise(Uniform(0, 0.1)))


def dataset(store, **options):
    return fastct.Dataset(store, **{"patch": PATCH, "samples_per_study": 5, **options})


def whole(store, study_id):
    return store[study_id].hu, store[study_id].geometry
