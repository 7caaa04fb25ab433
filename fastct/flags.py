"""Words that say what is doubtful about a study's lungs and lesions, and what each of them means."""

LUNGLESS = "lung_empty"  # of a study of which nothing is known: it is not CT-0
FLAG_MEANINGS = {
    LUNGLESS: "No lung was found: percentages and severity are left empty.",
    "lung_small": "Both lungs together hold less than 1 L, which an adult's do not even breathed out.",
    "lung_large": "Both lungs together hold more than 12 L, which no human's do: check spacing and units of the file.",
    "side_small": "One lung holds less than 15 % of both: it has collapsed, is missing, or was not found.",
    "lung_cut": "A lung reaches the first or the last slice: part of it was not scanned.",
    "sides_merged": "The lungs touch over more than 6 cm: which side the voxels between them belong to is a guess.",
    "hu_floor": "The darkest voxel is not that of air: padding, or HU that are not calibrated.",
    "lesion_outside_lung": "The expert's mask reaches beyond the lung mask, which was extended by it.",
}
INFORMING_FLAGS = ("hu_floor", "lesion_outside_lung")  # they tell of the input and cast no doubt on the figures
