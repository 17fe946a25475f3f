"""Usual names of the columns of a table of images."""

from __future__ import annotations

import re

_PATHS = """path file file_name filename file_path filepath filenames files image images img imgs image_path img_path
image_file img_file image_name img_name image_filename img_filename image_file_name image_file_path image_filepath
relative_path rel_path full_path absolute_path fname fpath photo photo_path picture"""
_IDS = """image_id img_id imageid id id_code name uid uuid photo_id isic_id isic_name picture_id file_id key x"""
_LABELS = """label labels class classes class_name class_names class_label class_id classid label_name label_id category
categories category_name category_id target targets target_name species species_name diagnosis dx breed breed_name
disease tag tags y ground_truth gt true_label finding finding_labels variety image_label img_label class_idx label_idx
scientific_name emotion primary_label"""
_SPLITS = """split splits set subset partition dataset_split data_split phase usage fold image_set is_split mode"""

_GROUPS = """patient patient_id patientid subject subject_id subj case_id person person_id participant participant_id
plant plant_id animal animal_id individual individual_id specimen specimen_id lesion_id slide slide_id scan_id study_id
series_id session session_id recording recording_id video video_id clip clip_id sequence sequence_id seq_id burst
burst_id event_id group group_id"""


def normalized_name(name: str) -> str:
    """Return the name of a column without case, spaces and punctuation.

    Example:
        >>> normalized_name(" File_Name")
        'filename'
    """
    return re.sub(r"[\W_]+", "", name).lower()


def _words(*texts: str) -> dict[str, int]:
    """Return the normalized words, each with the number of its text."""
    return {normalized_name(word): rank for rank, text in enumerate(texts) for word in text.split()}


PATH_WORDS = _words(_PATHS, _IDS)
"""Names of columns of paths (0) and of names without suffix (1)."""
LABEL_WORDS = _words(_LABELS)
"""Names of columns of labels."""
SPLIT_WORDS = _words(_SPLITS)
"""Names of columns of splits."""
FLAG_WORDS = _words("is_valid is_val is_validation")
"""Names of columns that say of each image whether it is for validation, as fastai has them."""
GROUP_WORDS = _words(_GROUPS)
"""Names of columns of groups, such as patients, which are used only if asked for."""
