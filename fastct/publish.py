"""Writing studies into a store: built whole in memory, then put in place at once, root metadata last."""

import base64
import json
from collections.abc import Iterable, Iterator, Mapping
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastct import __version__, ome, shards
from fastct._ext.shard import crc32c
from fastct.foreground import as_file, foreground_key, foreground_of
from fastct.geometry import Geometry
from fastct.nifti import Volume
from fastct.options import ConvertOptions, fingerprint
from fastct.sealed import SCHEMA, seal
from fastct.shards import SHARD
from fastct.storage import Bytes, Storage
from fastct.store import IMAGE, MANIFEST, ROOT, STUDIES, Study

EXTENSIONS_KEPT_BYTES = 1 << 20  # of header extensions, which stand in the study's metadata; CTs carry a few KB
STUDIES_GROUP = f"{STUDIES}/{ROOT}"
AIR_HU = -1024  # fill value of images: what a reader sees where there is nothing
Files = dict[str, Bytes]
Sums = dict[str, tuple[int, int]]  # size and CRC-32C of files, by key


def convert_settings(options: ConvertOptions) -> dict[str, Any]:
    """The settings that decide the bytes of a converted study, as JSON takes them."""
    return {"schema": SCHEMA, "codec": options.codec, "chunk_shape": list(shards.CHUNK_SHAPE)}


def create_store(storage: Storage, settings: Mapping[str, Any]) -> None:
    """Write the manifest, which marks the place as a store, and the group of studies; studies that are there stay."""
    manifest = {"fastct": __version__, "settings": dict(settings), "fingerprint": fingerprint(settings)}
    storage.keep(MANIFEST, seal(manifest))
    storage.keep(STUDIES_GROUP, studies_group())


def studies_group() -> bytes:
    """The document of the group that all studies lie in."""
    return as_json(ome.group({}))


def study_files(
    study_id: str, volume: Volume, lesion: NDArray[np.uint8] | None, options: ConvertOptions, sums: Sums
) -> Iterator[tuple[str, Bytes]]:
    """The files of a converted study in pieces, by key inside its group, each made when it is asked for.

    Pieces of one file follow one another, the root document comes last. They may lie in this thread's kept memory:
    see `fastct.kept`.

    Parameters
    ----------
    study_id : name of the study.
    volume : what was read.
    lesion : (z, y, x) uint8 expert mask, or None.
    options : codec.
    sums : takes up size and CRC-32C of each file, as its pieces go by.
    """
    for key, piece in _study_pieces(study_id, volume, lesion, options, sums):
        size, crc = sums.get(key, (0, 0))
        sums[key] = (size + len(piece), crc32c(piece, before=crc))
        yield key, piece


def _study_pieces(
    study_id: str, volume: Volume, lesion: NDArray[np.uint8] | None, options: ConvertOptions, sums: Sums
) -> Iterator[tuple[str, Bytes]]:
    image = _array_document(volume.hu, options.codec, AIR_HU)
    yield from _shard_pieces(IMAGE, volume.hu, image)
    header = ome.nifti_header(volume.header, volume.geometry)
    yield "nifti/c/0", header + crc32c(header).to_bytes(4, "little")
    arrays = {IMAGE: image, "nifti": ome.nifti_array(header, volume.geometry)}
    if lesion is not None:
        documents = _label_documents(ome.LESION, lesion, volume.geometry, "mask", options.codec)
        arrays |= {**documents, "labels": ome.group(ome.labels_attributes(["lesion"]))}
        yield from _shard_pieces("labels/lesion/0", lesion, documents["labels/lesion/0"])
    source = {
        "codec": options.codec,
        "source_dtype": volume.source_dtype,
        "source_header": base64.b64encode(volume.header).decode(),
        "source_extensions": base64.b64encode(volume.extensions[:EXTENSIONS_KEPT_BYTES]).decode(),
        "notes": list(volume.notes),
        "shards": _shards(sums),
    }
    root = ome.group(ome.image_attributes(study_id, volume.geometry, source))
    yield from _documents(root, arrays).items()


@dataclass(frozen=True)
class LabelFiles:
    """Files that add label images to a study, by key: `before` those that go there first, so that the study's root
    never names a shard that does not lie there; `files` of the labels; `after` the root; `beside` what is derived."""

    before: Files
    files: Files
    after: Files
    beside: Files

    @property
    def of_study(self) -> Files:
        """All that stays in the study's group."""
        return self.files | self.after


def label_files(study: Study, labels: Mapping[str, NDArray[np.uint8]], sources: Mapping[str, str]) -> LabelFiles:
    """What `store_labels` writes. Shards lie in this thread's kept memory: see `fastct.kept`."""
    root = deepcopy(study.metadata)
    members = root.pop("consolidated_metadata")["metadata"]
    kept = root["attributes"]["fastct"]
    before: Files = {}
    if any(f"labels/{name}" in members for name in labels):
        _drop_labels(members, kept["shards"], labels)
        before[ROOT] = _root_document(root, members)
    files: Files = {}
    for name, voxels in labels.items():
        path = f"labels/{name}/0"
        documents = _label_documents(ome.LABELS[name], voxels, study.geometry, sources[name], kept["codec"])
        members |= documents
        files[f"{path}/{SHARD}"] = shards.write_shard(voxels, documents[path], use=f"shard of {path}")
    members["labels"] = _labels_group(members)
    kept["shards"] |= _shards(sums := checksums(files))
    written = {f"labels/{name}" for name in labels} | {f"labels/{name}/0" for name in labels} | {"labels"}
    texts = _documents(root, members)
    files |= {key: text for key, text in texts.items() if key.rpartition("/")[0] in written}
    beside: Files = {
        foreground_key(name, study.study_id): as_file(foreground_of(voxels), sums[f"labels/{name}/0/{SHARD}"])
        for name, voxels in labels.items()
    }
    return LabelFiles(before, files, {ROOT: texts[ROOT]}, beside)


def store_labels(storage: Storage, study: Study, labels: LabelFiles) -> None:
    """Add or replace label images of a published study.

    Labels that are replaced leave the root group's metadata first. Then go voxels, and the root's new metadata last:
    a reader sees no label before it is whole.
    """
    for files in (labels.before, labels.files, labels.after):
        named = {f"{study.folder}/{key}": payload for key, payload in files.items()}
        storage.write_all(named | labels.beside if files is labels.files else named)


def _drop_labels(members: dict[str, Any], shards_named: dict[str, Any], names: Iterable[str]) -> None:
    for name in names:
        for path in (f"labels/{name}", f"labels/{name}/0"):
            members.pop(path, None)
            shards_named.pop(path, None)
    members["labels"] = _labels_group(members)


def _labels_group(members: Mapping[str, Any]) -> dict[str, Any]:
    """The document of the group that lists the labels which a study has."""
    return ome.group(ome.labels_attributes([name for name in ome.LABELS if f"labels/{name}" in members]))


def _shards(sums: Sums) -> dict[str, list[int]]:
    """Size and CRC-32C of the shard of each array, by the array's path: what the root document says of them."""
    return {key.removesuffix(f"/{SHARD}"): list(facts) for key, facts in sums.items() if key.endswith(f"/{SHARD}")}


def checksums(files: Mapping[str, Bytes]) -> Sums:
    """Size and CRC-32C of each file."""
    return {key: (len(payload), crc32c(payload)) for key, payload in files.items()}


def as_json(document: Mapping[str, Any]) -> bytes:
    """A document's bytes, each of its own members on a line: with an indent, json leaves its encoder in C."""
    lines = [f"{json.dumps(name)}: {json.dumps(member)}" for name, member in document.items()]
    return ("{\n" + ",\n".join(lines) + "\n}").encode()


def _array_document(voxels: NDArray[Any], codec: str, fill_value: int) -> dict[str, Any]:
    return shards.array_metadata(voxels.shape, voxels.dtype, codec, fill_value, ome.AXES)


def _shard_pieces(path: str, voxels: NDArray[Any], document: dict[str, Any]) -> Iterator[tuple[str, Bytes]]:
    for piece in shards.shard_pieces(voxels, document, use=f"shard of {path}"):
        yield f"{path}/{SHARD}", piece


def _label_documents(
    style: ome.LabelStyle, voxels: NDArray[np.uint8], geometry: Geometry, source: str, codec: str
) -> dict[str, dict[str, Any]]:
    """Metadata of a label image and of its array, by path."""
    folder = f"labels/{style.name}"
    group = ome.group(ome.label_attributes(style, geometry, {"source": source}))
    return {f"{folder}/0": _array_document(voxels, codec, 0), folder: group}


def _documents(root: dict[str, Any], members: Mapping[str, dict[str, Any]]) -> Files:
    """The zarr.json of every member, deepest first, the root's last."""
    deepest_first = sorted(members, key=lambda path: (-path.count("/"), path))
    documents: Files = {f"{path}/zarr.json": as_json(members[path]) for path in deepest_first}
    return documents | {ROOT: _root_document(root, members)}


def _root_document(root: dict[str, Any], members: Mapping[str, dict[str, Any]]) -> bytes:
    """The root's zarr.json, with copies of its members' in it."""
    named = root["attributes"]["fastct"]["shards"]
    root["attributes"]["fastct"]["shards"] = {path: named[path] for path in sorted(named)}
    return as_json(ome.consolidated(root, {path: members[path] for path in sorted(members)}))
