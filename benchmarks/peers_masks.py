"""The lung mask, and the whole score of a study, beside the usual recipe made of the fastest parts there are."""

from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

import fastct
from benchmarks.common import Subject
from benchmarks.comparing import Case, Rival, Work
from fastct.geometry import Geometry
from fastct.lesions import lesion_profile
from fastct.lungs import segment_lungs

Volume = NDArray[np.int16]

AIR_HU = -400  # the usual threshold
CLOSE_MM = 5.0  # the usual closing: vessels, and a little of what touches the wall
LUNGS = 2


def cases(subject: Subject) -> Iterator[Case]:
    """What is compared, on the whole CT."""
    hu, geometry = subject.hu, subject.geometry
    parts = partial(_parts, hu, geometry)
    yield Case(
        "lung mask",
        lambda: segment_lungs(hu, geometry),
        [
            Rival("cc3d + OpenCV + fill_voids", parts, "connected-components-3d", wanted=6.0),
            Rival("scipy.ndimage", partial(_scipy, hu, geometry), "scipy", wanted=40.0),
            Rival("memset of the mask", lambda: partial(np.empty(hu.shape, np.uint8).fill, 0)),
        ],
    )
    yield Case(
        "score: lungs, opacity, percentages, density",
        partial(_score, hu, geometry),
        [Rival("cc3d + OpenCV + fill_voids, lung mask alone", parts, "connected-components-3d", wanted=186 / 45)],
    )


def _score(hu: Volume, geometry: Geometry) -> Any:
    lungs = segment_lungs(hu, geometry).labels
    opacity = fastct.opacity_mask(hu, lungs, geometry)
    return fastct.lesion_fraction(opacity, lungs), lesion_profile(hu, opacity, lungs, geometry)


def _parts(hu: Volume, geometry: Geometry) -> Work:
    import cc3d
    import cv2
    import fill_voids

    cv2.setNumThreads(1)
    rows, columns = (2 * round(CLOSE_MM / step) + 1 for step in geometry.spacing_mm[1:])
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (columns, rows))

    def work() -> Any:
        labels, count = cc3d.connected_components(hu < AIR_HU, connectivity=26, return_N=True)
        lungs = _largest_inside(labels, count).view(np.uint8)
        for one in lungs:  # slice by slice, both are several times as fast as in the volume
            fill_voids.fill(cv2.morphologyEx(one, cv2.MORPH_CLOSE, disc, one), in_place=True)
        return lungs

    return work


def _scipy(hu: Volume, geometry: Geometry) -> Work:
    from scipy import ndimage

    reach = [round(CLOSE_MM / step) for step in geometry.spacing_mm[1:]]
    y, x = np.ogrid[-reach[0] : reach[0] + 1, -reach[1] : reach[1] + 1]
    disc = ((y / reach[0]) ** 2 + (x / reach[1]) ** 2 <= 1)[None]

    def work() -> Any:
        labels, count = ndimage.label(hu < AIR_HU, np.ones((3, 3, 3)))
        closed = ndimage.binary_closing(_largest_inside(labels, count), disc)
        return ndimage.binary_fill_holes(closed)

    return work


def _largest_inside(labels: NDArray[Any], count: int) -> NDArray[np.bool_]:
    """The two largest pieces that do not touch the frame of a slice."""
    sizes = np.bincount(labels.ravel(), minlength=count + 1)
    sizes[0] = 0
    for side in (labels[:, 0], labels[:, -1], labels[..., 0], labels[..., -1]):
        sizes[np.unique(side)] = 0
    chosen = [label for label in np.argsort(sizes)[-LUNGS:] if sizes[label]]
    return np.logical_or.reduce([labels == label for label in chosen], axis=0)
