"""What can be wrong with labels and images, and what a reader calls to say so."""

from collections.abc import Callable

# Reasons that lose data, and on which --strict stops.
MISSING = "image missing on disk"
UNREADABLE = "file is not a readable image"
OTHER_SIZE = "image size differs from the labels'"
DUPLICATE_IMAGE = "image id appears twice"
DUPLICATE_ANNOTATION = "annotation id appears twice"
UNKNOWN_IMAGE = "annotation of an unknown image"
UNKNOWN_CATEGORY = "annotation of an unknown category"
BAD_BOX = "box is not four finite numbers"
BAD_MASK = "segmentation is not polygons or RLE of the image's size"
EMPTY_MASK = "segmentation covers no pixel of the image"
# Reasons for a note only: nothing is lost.
CLIPPED = "box overhangs the image, clipped"
MASK_BOX = "box is empty, taken from the mask"
REENCODED = "not JPEG or 8-bit PNG, stored as PNG"
MISNAMED = "bytes are of another format than the file name says"
STORED = "EXIF rotation ignored: the labels are of the pixels as stored"
TURNED = "EXIF rotation applied: the labels are of the picture as shown"
NO_INSTANCES = "image without instances"
NOTES = (CLIPPED, MASK_BOX, REENCODED, MISNAMED, STORED, TURNED, NO_INSTANCES)

# Called with a reason and what it happened to, for example "annotation 17 of image 42".
Tell = Callable[[str, str], None]
