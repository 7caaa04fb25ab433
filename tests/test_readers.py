"""Stores as others see them: validators and readers of OME-Zarr and of NIfTI-Zarr, where they are installed."""

import subprocess
import sys

import nibabel as nib
import numpy as np
import pytest
import zarr

import fastct
from fastct.exporting import export_study
from fastct.options import CODECS

ARCHIVES = ("blosc", "zstd")
MASKED = "study_0002"


@pytest.fixture(scope="module", params=CODECS)
def study(request, chests, tmp_path_factory):
    """The folder of a scored study with an expert's mask, in each codec."""
    store = tmp_path_factory.mktemp("readers") / "store"
    fastct.convert(chests, store, codec=request.param, workers=1)
    fastct.score(store, workers=1)
    return store / f"studies/{MASKED}.nii.zarr"


@pytest.fixture
def archive(study):
    """The same, in a codec that is read without fastct."""
    if fastct.open(study.parents[1]).manifest["settings"]["codec"] not in ARCHIVES:
        pytest.skip("ctpack is read where fastct is installed")
    return study


@pytest.fixture(scope="module")
def source(chests):
    return nib.load(chests / f"studies/CT-1/{MASKED}.nii.gz")


def voxels(study, array):
    kept = fastct.open(study.parents[1])[MASKED]
    return {"0": kept.hu, "labels/lung/0": kept.lungs, "labels/lesion/0": kept.lesion}[array]


ARRAYS = ("0", "labels/lung/0", "labels/lesion/0")


def test_yaozarrs_validates_image_and_labels(study):
    yaozarrs = pytest.importorskip("yaozarrs")
    for folder in (study, study / "labels/lung", study / "labels/lesion"):
        yaozarrs.validate_zarr_store(str(folder))


def test_ome_zarr_models_validate_image_and_labels(study):
    v05 = pytest.importorskip("ome_zarr_models.v05")
    v05.Image.from_zarr(zarr.open_group(study, mode="r"))
    for label in ("lung", "lesion"):
        v05.ImageLabel.from_zarr(zarr.open_group(study / "labels" / label, mode="r"))


@pytest.mark.parametrize("array", ARRAYS)
def test_zarr_python_reads_it_in_a_process_that_never_imported_fastct(study, array):
    program = (
        "import sys, zarr; assert 'fastct' not in sys.modules; "
        "sys.stdout.buffer.write(zarr.open_group(sys.argv[1], mode='r')[sys.argv[2]][...].tobytes())"
    )
    done = subprocess.run([sys.executable, "-c", program, str(study), array], capture_output=True, check=True)
    assert done.stdout == voxels(study, array).tobytes()


@pytest.mark.parametrize("array", ARRAYS)
def test_tensorstore_reads_the_same_voxels(archive, array):
    tensorstore = pytest.importorskip("tensorstore")
    spec = {"driver": "zarr3", "kvstore": {"driver": "file", "path": str(archive / array)}}
    np.testing.assert_array_equal(tensorstore.open(spec).result().read().result(), voxels(archive, array))


@pytest.mark.parametrize("array", ARRAYS)
def test_zarrs_reads_the_same_voxels(archive, array):
    pytest.importorskip("zarrs")
    with zarr.config.set({"codec_pipeline.path": "zarrs.ZarrsCodecPipeline"}):
        np.testing.assert_array_equal(zarr.open_array(archive / array, mode="r")[...], voxels(archive, array))


def test_ngff_zarr_reads_the_same_voxels_and_scale(archive):
    ngff_zarr = pytest.importorskip("ngff_zarr")
    image = ngff_zarr.from_ngff_zarr(str(archive)).images[0]
    np.testing.assert_array_equal(np.asarray(image.data), voxels(archive, "0"))
    spacing_mm = fastct.open(archive.parents[1])[MASKED].geometry.spacing_mm
    assert [image.scale[axis] for axis in "zyx"] == pytest.approx(spacing_mm)


def test_ome_zarr_py_reads_the_same_voxels(archive):
    pytest.importorskip("ome_zarr")
    from ome_zarr.io import parse_url
    from ome_zarr.reader import Reader

    nodes = list(Reader(parse_url(str(archive)))())
    np.testing.assert_array_equal(np.asarray(nodes[0].data[0]), voxels(archive, "0"))


def test_niizarr_makes_the_source_of_it_again(archive, source):
    niizarr = pytest.importorskip("niizarr")
    image = niizarr.zarr2nii(str(archive))
    np.testing.assert_array_equal(np.asarray(image.dataobj).squeeze(), np.asarray(source.dataobj))
    assert image.get_data_dtype() == source.get_data_dtype()
    np.testing.assert_array_equal(image.header.get_best_affine(), source.affine)  # it leaves the image's own empty


def test_an_export_is_the_source(study, source, tmp_path):
    export_study(fastct.open(study.parents[1])[MASKED], tmp_path / "again.nii.gz")
    again = nib.load(tmp_path / "again.nii.gz")
    np.testing.assert_array_equal(np.asarray(again.dataobj), np.asarray(source.dataobj))
    np.testing.assert_array_equal(again.affine, source.affine)
    assert again.get_data_dtype() == source.get_data_dtype()


@pytest.mark.real
@pytest.mark.parametrize("codec", CODECS)
def test_exports_of_real_cts_are_their_sources(real_data, tmp_path, codec):
    (tmp_path / "source").mkdir()
    paths = [path for path in sorted((real_data / "ct").glob("*.nii.gz")) if "_lung" not in path.name]
    for path in paths:
        (tmp_path / "source" / path.name).symlink_to(path)
    fastct.convert(tmp_path / "source", tmp_path / "store", codec=codec, workers=1)
    store = fastct.open(tmp_path / "store")
    assert len(store) == len(paths) > 0
    for path in paths:
        source = nib.load(path)
        export_study(store[path.name.removesuffix(".nii.gz")], tmp_path / path.name)
        again = nib.load(tmp_path / path.name)
        np.testing.assert_array_equal(np.asarray(again.dataobj), np.asarray(source.dataobj))
        np.testing.assert_array_equal(again.affine, source.affine)
        assert again.get_data_dtype() == source.get_data_dtype()
        assert bytes(again.header.binaryblock) == bytes(source.header.binaryblock)
