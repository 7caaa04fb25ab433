"""The samples of a data set as MONAI and TorchIO have them: thin views, whose affines say where the voxels lie."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastct.dataset import Dataset, Sample


class _View:
    """As many samples as a data set has."""

    def __init__(self, dataset: Dataset) -> None:
        self.dataset = dataset

    def __len__(self) -> int:
        return len(self.dataset)


class MonaiDataset(_View):
    """The samples of a data set as MONAI's dictionary transforms take them.

    `image` and `label` are MetaTensors (1, x, y, z), views of the sample's memory, each with the sample's affine (RAS
    mm) and the study in `meta["filename_or_obj"]`; `study_id` and `origin` stay as they are.

    Parameters
    ----------
    dataset : whose samples.
    """

    def __getitem__(self, index: int | tuple[int, int]) -> Sample:
        import torch
        from monai.data.meta_tensor import MetaTensor

        sample = self.dataset[index]
        affine = torch.from_numpy(sample.pop("affine"))
        for name in ("image", "label"):
            if name in sample:
                meta = {"filename_or_obj": sample["study_id"], "space": "RAS"}
                sample[name] = MetaTensor(torch.from_numpy(_xyz(sample[name])), affine=affine.clone(), meta=meta)
        return sample


class TorchioDataset(_View):
    """The samples of a data set as TorchIO's transforms take them: Subjects of a ScalarImage and a LabelMap.

    Tensors are (1, x, y, z) views of the sample's memory, with the sample's affine (RAS mm); `study_id` and `origin`
    are kept beside them.

    Parameters
    ----------
    dataset : whose samples.
    """

    def __getitem__(self, index: int | tuple[int, int]) -> Any:
        import torch
        import torchio

        sample = self.dataset[index]
        affine = sample.pop("affine")
        for name, kind in (("image", torchio.ScalarImage), ("label", torchio.LabelMap)):
            if name in sample:
                sample[name] = kind(tensor=torch.from_numpy(_xyz(sample[name])), affine=affine)
        return torchio.Subject(**sample)


def _xyz(array: NDArray[Any]) -> NDArray[Any]:
    """A (1, z, y, x) array as (1, x, y, z), as NIfTI counts; not copied."""
    return np.transpose(array, (0, 3, 2, 1))
