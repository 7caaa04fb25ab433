"""Finds the studies, masks and classes of a data set: MosMedData's layout, its relatives, or any folder."""

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from fastct.errors import DataSetError
from fastct.mosmed.objects import scan_url
from fastct.mosmed.registry import Row, read_registry
from fastct.mosmed.scan import Found, Scan, scan_folder
from fastct.nifti import source_state
from fastct.nifti.names import SINGLE_SUFFIXES, pair_of, split_name
from fastct.nifti.sources import AnyFile, as_path, at_url
from fastct.storage import Place, open_storage

Root = Path | Place

MASK_SUFFIX = "_mask"
LABEL_SUFFIXES = ("_lung", "_lungs", "_lesion", "_lesions", "_seg", "_label", "_labels")
_MASK_FOLDERS = ("masks", "mask")
_CLASS_FOLDER = re.compile(r"ct[-_ ]?([0-4])", re.IGNORECASE)  # CT-0 .. CT-4, and ct0 .. ct4 of copies


@dataclass(frozen=True)
class Study:
    """One CT on disk, or at a URL.

    Parameters
    ----------
    study_id : the file's stem, such as study_0001; with its folders where two files share a stem.
    category : the registry's class, else that of the folder ("CT-0" .. "CT-4"), else empty.
    path, mask_path : the volume, and the expert's lesion mask if there is one.
    source : posix path of the volume relative to the root.
    size_bytes : of the volume on disk.
    """

    study_id: str
    category: str
    path: Path | Place
    mask_path: Path | Place | None
    source: str
    size_bytes: int


@dataclass(frozen=True)
class Listing:
    """What a data set holds, and where registry and disk disagree; all names are posix, below the root.

    Parameters
    ----------
    root : the folder of the data set.
    studies : sorted by `study_id`.
    missing : volumes that the registry names and the disk lacks.
    unlisted : volumes on disk that the registry does not name; they are studies all the same.
    orphan_masks : masks without a study.
    notes : whatever else was settled, in words.
    """

    root: Path | Place
    studies: tuple[Study, ...]
    missing: tuple[str, ...] = ()
    unlisted: tuple[str, ...] = ()
    orphan_masks: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def told(self) -> dict[str, tuple[str, ...]]:
        """What a report says of it."""
        return {"missing": self.missing, "unlisted": self.unlisted, "notes": self.notes}


@dataclass
class _Match:
    """Which volume on disk belongs to which row, by source of the volume; and what is left over."""

    rows: dict[str, Row] = field(default_factory=dict)
    missing: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def find_studies(src: AnyFile, storage_options: Mapping[str, Any] | None = None) -> Listing:
    """List the studies of a MosMedData root, of any folder of NIfTI files, or of one file; by path or URL.

    Raises
    ------
    DataSetError
        If nothing is found (naming what was looked for), the registry is unusable, or one of its paths
        leaves the root.
    FileError
        If `src` is a file of another kind, or half a pair.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     for name in ("ct0/study_0001.nii.gz", "ct1/study_0002.nii.gz", "masks/study_0002_mask.nii.gz"):
    ...         Path(folder, name).parent.mkdir(exist_ok=True)
    ...         _ = Path(folder, name).write_bytes(bytes(400))
    ...     listing = find_studies(folder)
    >>> [(study.study_id, study.category, study.mask_path is not None) for study in listing.studies]
    [('study_0001', 'CT-0', False), ('study_0002', 'CT-1', True)]
    """
    place = at_url(src, storage_options)
    if place is not None:
        return _single_url(place) if split_name(place.name)[1] else _listing(place, scan_url(place))
    root = as_path(src)
    if not _is_folder(root):
        return _single_file(root)
    return _listing(root, scan_folder(root))


def _listing(root: Root, scan: Scan) -> Listing:
    """The studies among the files that were found."""
    rows = read_registry(scan.registry) if scan.registry else ()
    volumes, masks, labels = _by_role(scan.files, rows)
    match = _match_rows(root, rows, volumes)
    if not volumes:
        raise _nothing_found(root, rows, masks)
    mask_of, orphans, mask_notes = _match_masks(volumes, masks, match)
    identity = _study_ids(volumes, match)
    studies = (_study(root, found, identity, match, mask_of) for found in volumes)
    return Listing(
        root,
        tuple(sorted(studies, key=lambda study: study.study_id)),
        tuple(match.missing),
        tuple(found.source for found in volumes if rows and found.source not in match.rows),
        orphans,
        (*scan.notes, *match.notes, *mask_notes, *_label_notes(labels)),
    )


def _is_folder(src: Path) -> bool:
    try:
        if not src.exists():
            raise DataSetError(src, "there is no such file or folder", "Check the path")
        return src.is_dir()
    except (OSError, ValueError) as error:  # ValueError: a NUL in the path
        raise DataSetError(src, f"it cannot be looked at ({error})", "Check path and permissions") from error


def _single_file(path: Path) -> Listing:
    """One volume, with its mask beside it or in masks/, whatever it is called."""
    header, image = pair_of(path)
    stem, _ = split_name(header.name)
    names = [
        (MASK_SUFFIX, header.parent),
        (MASK_SUFFIX, header.parent / "masks"),
        ("", header.parent / "masks"),
    ]
    masks = [folder / (stem + end + suffix) for end, folder in names for suffix in SINGLE_SUFFIXES]
    mask = next((candidate for candidate in masks if candidate.is_file()), None)
    size_bytes = header.stat().st_size + (image.stat().st_size if image else 0)
    category = _class_of(header.absolute().parent.parts[-1:])
    return Listing(header.parent, (Study(stem, category, header, mask, header.name, size_bytes),))


def _single_url(place: Place) -> Listing:
    """One volume at a URL, with its mask beside it or in masks/ there."""
    state = source_state(place)
    stem, _ = split_name(place.name)
    folder = open_storage(place.parent)
    masks = [f"{start}{stem}{MASK_SUFFIX}{suffix}" for start in ("", "masks/") for suffix in SINGLE_SUFFIXES]
    mask = next((place.parent / key for key in masks if folder.exists(key)), None)
    study = Study(stem, _class_of((place.parent.name,)), place, mask, place.name, state["size_bytes"])
    return Listing(place.parent, (study,))


def _by_role(files: tuple[Found, ...], rows: tuple[Row, ...]) -> tuple[list[Found], list[Found], list[Found]]:
    """(volumes, lesion masks, other labels): as the registry says, else by name and folder."""
    listed = {row.study_file: "volume" for row in rows} | {row.mask_file: "mask" for row in rows}
    stems = {(found.folder, found.stem) for found in files}
    roles: dict[str, list[Found]] = {"volume": [], "mask": [], "label": []}
    for found in files:
        base, ending = _base(found.stem)
        if found.source in listed:
            role = listed[found.source]
        elif any(part.lower() in _MASK_FOLDERS for part in found.folder.split("/")):
            role = "mask" if ending in ("", MASK_SUFFIX) else "label"
        elif ending == MASK_SUFFIX:
            role = "mask"
        else:
            role = "label" if ending and (found.folder, base) in stems else "volume"
        roles[role].append(found)
    return roles["volume"], roles["mask"], roles["label"]


def _base(stem: str) -> tuple[str, str]:
    """The stem of the volume that a label belongs to, and the ending that says it is one."""
    for ending in (MASK_SUFFIX, *LABEL_SUFFIXES):
        if stem.lower().endswith(ending) and len(stem) > len(ending):
            return stem[: -len(ending)], ending
    return stem, ""


def _match_rows(root: Root, rows: tuple[Row, ...], volumes: list[Found]) -> _Match:
    """Rows to volumes: by the very path, then by stem, as copies of the data set move its files."""
    match = _Match()
    by_source = {found.source: found for found in volumes}
    by_stem: dict[str, list[Found]] = defaultdict(list)
    for found in volumes:
        by_stem[found.stem].append(found)
    elsewhere: list[Row] = []
    for row in rows:
        there = by_source.get(row.study_file)
        if there is None:
            elsewhere.append(row)
            continue
        _check_inside(root, row, there)
        match.rows[there.source] = row
    moved = list(_moved(elsewhere, by_stem, match))
    if moved:
        row, found = moved[0]
        match.notes.append(
            f"{len(moved)} studies stand elsewhere than the registry says "
            f"(the first: {found.source}, not {row.study_file})"
        )
    return match


def _moved(rows: Iterable[Row], by_stem: dict[str, list[Found]], match: _Match) -> Iterator[tuple[Row, Found]]:
    """Rows whose file lies elsewhere, each with it, entered into `match`; the others are missing."""
    for row in rows:
        stem, _ = split_name(PurePosixPath(row.study_file).name)
        free = [found for found in by_stem.get(stem, ()) if found.source not in match.rows]
        if free:
            match.rows[free[0].source] = row
            yield row, free[0]
        else:
            match.missing.append(row.study_file)


def _check_inside(root: Root, row: Row, found: Found) -> None:
    if found.leaves_root:
        raise DataSetError(
            f"{root}, row {row.number} of the registry",
            f"{found.source} leads out of the data set by a link",
            "Copy the file into the data set, or take the registry away to go by the folders alone",
        )


def _nothing_found(root: Root, rows: tuple[Row, ...], masks: list[Found]) -> DataSetError:
    there = f", though {len(masks)} masks are" if masks else ""
    if rows:
        finding = (
            f"the registry names {len(rows)} studies, and none of them is there{there}; "
            f"the first would be {root / rows[0].study_file}"
        )
        return DataSetError(root, finding, "Put the volumes of the data set beside its registry")
    finding = f"no volume is there (.nii, .nii.gz or .hdr/.img, in any folder below){there}"
    return DataSetError(root, finding, "Name a folder of chest CTs, or one file")


def _match_masks(
    volumes: list[Found], masks: list[Found], match: _Match
) -> tuple[dict[str, Found], tuple[str, ...], list[str]]:
    """(mask by source of its volume, masks without a volume, notes)."""
    by_source = {found.source: found for found in masks}
    by_stem: dict[str, list[Found]] = defaultdict(list)
    for found in volumes:
        by_stem[found.stem].append(found)
    chosen: dict[str, Found] = {}
    for source, row in match.rows.items():
        if row.mask_file in by_source:
            chosen[source] = by_source[row.mask_file]
    taken = {mask.source for mask in chosen.values()}
    orphans, spare = [], []
    for mask in masks:
        owner = None if mask.source in taken else _owner(mask, by_stem.get(_base(mask.stem)[0], []))
        if owner is not None and owner.source not in chosen:
            chosen[owner.source] = mask
        elif owner is not None:
            spare.append(mask.source)
        elif mask.source not in taken:
            orphans.append(mask.source)
    lacking = [row.mask_file for source, row in match.rows.items() if row.mask_file and source not in chosen]
    notes = [f"{source} left aside: its study has another mask" for source in spare]
    if lacking:
        notes.append(f"{len(lacking)} masks of the registry are missing (the first: {min(lacking)})")
    return chosen, tuple(orphans), notes


def _owner(mask: Found, namesakes: list[Found]) -> Found | None:
    """The volume of the mask's stem; of several, the one below the folder that the mask or masks/ is in."""
    if len(namesakes) == 1:
        return namesakes[0]
    folder = mask.folder
    while folder.rpartition("/")[2].lower() in _MASK_FOLDERS:
        folder = folder.rpartition("/")[0]
    near = [found for found in namesakes if not folder or f"{found.folder}/".startswith(f"{folder}/")]
    return near[0] if len(near) == 1 else None


def _study_ids(volumes: list[Found], match: _Match) -> dict[str, str]:
    """A name of its own for each volume, by source: its stem, or its path where stems repeat."""
    stems = Counter(found.stem for found in volumes)
    listed = Counter(found.stem for found in volumes if found.source in match.rows)
    ids: dict[str, str] = {}
    for found in volumes:
        alone = stems[found.stem] == 1 or (found.source in match.rows and listed[found.stem] == 1)
        if alone:
            ids[found.source] = found.stem
    used = set(ids.values())
    for found in volumes:
        if found.source not in ids:
            name = "-".join([*filter(None, found.folder.split("/")), found.stem])
            count = 1
            while (unique := name if count == 1 else f"{name}-{count}") in used:
                count += 1
            ids[found.source] = unique
            used.add(unique)
    renamed = [found for found in volumes if ids[found.source] != found.stem]
    if renamed:
        first = renamed[0]
        match.notes.append(
            f"{len(renamed)} studies are named by their folders too, as files share a name "
            f"(the first: {ids[first.source]} for {first.source})"
        )
    return ids


def _study(root: Root, found: Found, identity: dict[str, str], match: _Match, mask_of: dict[str, Found]) -> Study:
    row, mask = match.rows.get(found.source), mask_of.get(found.source)
    if row is not None and mask is not None and mask.source == row.mask_file:
        _check_inside(root, row, mask)
    category = row.category if row is not None else _class_of((_name_of(root), *found.folder.split("/")))
    return Study(
        identity[found.source],
        category,
        root / found.source,
        None if mask is None else root / mask.source,
        found.source,
        found.size_bytes,
    )


def _name_of(root: Root) -> str:
    return root.name if isinstance(root, Place) else root.absolute().name


def _class_of(folders: Iterable[str]) -> str:
    """CT-0 .. CT-4 of the innermost folder that is called so."""
    classes = [found[1] for folder in folders if (found := _CLASS_FOLDER.fullmatch(folder))]
    return f"CT-{classes[-1]}" if classes else ""


def _label_notes(labels: list[Found]) -> list[str]:
    if not labels:
        return []
    return [
        f"{len(labels)} label files left aside (the first: {labels[0].source}): "
        f"lesion masks are called NAME{MASK_SUFFIX}.nii.gz"
    ]
