"""What `fcis predict` writes: pictures, videos, label maps and COCO results."""

from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

import numpy as np

from fcis_tf import drawing
from fcis_tf.files import write_json
from fcis_tf.instances import Instances
from fcis_tf.prediction.inputs import Picture
from fcis_tf.prediction.video import VideoWriter, frame_rate

RESULTS = "predictions.json"


@dataclass(frozen=True)
class OutputOptions:
    """What is written of each image.

    Args:
        score: least score of what pictures and label maps show.
        pictures: draw the instances over the image; a video becomes a video.
        label_maps: write a 16-bit PNG, whose pixels hold the number of their instance, 1 being the
            best, or 0.
        score_maps: draw the maps behind the best instance; not of videos.
    """

    score: float = 0.5
    pictures: bool = True
    label_maps: bool = False
    score_maps: bool = False


class OutputFolder:
    """A context that writes the results of many images into a folder.

    ``predictions.json`` gets the COCO results of all instances, with the name of the image as its
    id, when the context ends without an exception.

    Args:
        folder: made if needed.
        options: what is written.
    """

    def __init__(self, folder: Path, options: OutputOptions) -> None:
        self.folder, self.options = folder, options
        self.written: list[Path] = []  # pictures and videos
        self.results: list[dict] = []
        self.video: VideoWriter | None = None
        self.source: Path | None = None  # the video whose frames are being written
        folder.mkdir(parents=True, exist_ok=True)

    def __enter__(self) -> "OutputFolder":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        fault: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self.video:
            self.video.__exit__(kind, fault, trace)
        if kind is None:
            write_json(self.folder / RESULTS, self.results, indent=None)

    def write(self, picture: Picture, found: Instances) -> None:
        """Write what was found in an image or in the next frame of a video."""
        self.results += found.to_coco(picture.name)
        shown = found.above(self.options.score)
        if self.options.pictures:
            drawn = np.asarray(shown.draw(picture.image))
            if picture.frame is None:
                self.write_png(f"{picture.file.stem}.png", drawn)
            else:
                self._write_frame(picture.file, drawn)
        if self.options.label_maps:
            number = "" if picture.frame is None else f"_{picture.frame:06d}"
            self.write_png(f"{picture.file.stem}{number}_labels.png", shown.label_map())

    def write_png(self, name: str, pixels: np.ndarray) -> None:
        """Write a PNG into the folder."""
        self.written.append(self.folder / name)
        drawing.save_png(self.written[-1], pixels)

    def _write_frame(self, source: Path, drawn: np.ndarray) -> None:
        if source != self.source:
            if self.video:
                self.video.__exit__(None, None, None)
            self.source = source
            self.written.append(self.folder / f"{source.stem}.mp4")
            self.video = VideoWriter(self.written[-1], frame_rate(source)).__enter__()
        assert self.video is not None
        self.video.write(drawn)
