"""What can be wrong with labels and images, and the function that a reader reports it to."""

from collections.abc import Callable

# Reasons that lose data, and on which --strict stops.
MISSING = "image missing on disk"
UNREADABLE = "file is not a readable image"
BAD_LABELS = "label file is missing or not of its kind"
OTHER_SIZE = "image size differs from the labels'"
DUPLICATE_IMAGE = "image appears twice"
DUPLICATE_ANNOTATION = "annotation id appears twice"
UNKNOWN_IMAGE = "annotation of an unknown image"
UNKNOWN_CATEGORY = "annotation of an unknown category"
NOT_THERE = "listed image has no labels"
BAD_BOX = "box is not four finite numbers"
BAD_MASK = "outline or mask is malformed or of another size than the image"
EMPTY_MASK = "mask covers no pixel of the image"
# Reasons for a note only: nothing is lost.
CLIPPED = "box or outline overhangs the image, clipped"
MASK_BOX = "box is empty, taken from the mask"
REENCODED = "not JPEG or 8-bit PNG, stored as PNG"
MISNAMED = "bytes are of another format than the file name says"
STORED = "EXIF rotation ignored: the labels are of the pixels as stored"
TURNED = "EXIF rotation applied: the labels are of the picture as shown"
NO_INSTANCES = "image without instances"
UNLABELLED = "image without labels, left out"
IGNORED = "shape labelled to be ignored, left out"
DRAWN = "line or point, drawn 10 pixels wide as LabelMe does"
MIXED = "pixels of several classes, the most frequent taken"
NOTES = (
    CLIPPED, MASK_BOX, REENCODED, MISNAMED, STORED, TURNED, NO_INSTANCES, UNLABELLED, IGNORED,
    DRAWN, MIXED,
)  # fmt: skip

# Called with one of these reasons and what it happened to, for example "annotation 17 of image 42".
Reporter = Callable[[str, str], None]
