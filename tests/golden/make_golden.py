"""Write the golden arrays: ``python -m tests.golden.make_golden [stage ...]``.

Needs MXNet, which is not a requirement of the project, in an environment of its own, Python 3.11:

    python3.11 -m venv /tmp/golden
    /tmp/golden/bin/pip install numpy==1.23.5 requests graphviz==0.8.4
    /tmp/golden/bin/pip install --no-deps mxnet==1.9.1 opencv-python-headless==4.8.1.78
    /tmp/golden/bin/python -m tests.golden.make_golden    # in the root of the repository

Every stage is a function of `tests/golden/stages` and a file here; the keys of a file are the
keywords of the `save` that wrote it. Conventions are those of `tests/golden/reference`: inclusive
(x1, y1, x2, y2), NCHW.
"""

import sys

from tests.golden import reference as ref
from tests.golden.stages import maps, params, regions, rois, whole

STAGES = (
    maps.ps_roi_pool, maps.backbone, maps.image, regions.rpn, regions.proposals,
    regions.roi_targets, rois.heads, rois.voting, whole.end_to_end, whole.trajectory, params.params,
)  # fmt: skip

if __name__ == "__main__":
    for stage in STAGES:
        if len(sys.argv) == 1 or stage.__name__ in sys.argv[1:]:
            ref.margins.clear()
            stage()
