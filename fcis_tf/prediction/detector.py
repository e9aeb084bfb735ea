"""From images to detections: networks and views whose proposals are merged and answers averaged.

The paper's horizontal flip and ensemble (section 4.2). One network that sees the image as it is,
which is the default, is an ensemble of one, and then nothing is averaged.
"""

from collections.abc import Iterator, Sequence

import tensorflow as tf

from fcis_tf.errors import FcisError
from fcis_tf.model.fcis import FCIS
from fcis_tf.model.rpn import merge_proposals
from fcis_tf.prediction.postprocess import postprocess
from fcis_tf.prediction.views import View, views
from fcis_tf.prediction.voting import inside_probabilities
from fcis_tf.structures import Candidates, Detections, Heads, ImageInfo, Maps, Proposals, Tensor

LEAST = 1e-7  # probability whose logarithm is still taken


class Detector:
    """One network, or several of the same classes, applied to every view of the image.

    Args:
        members: networks; the first one's `ProposalConfig` and `PredictConfig` count for all.

    Raises:
        FcisError: they differ in the number of classes or of bins.
    """

    def __init__(self, members: Sequence[FCIS]) -> None:
        self.members = tuple(members)
        kinds = sorted({(one.classes, one.geometry["pooled_size"]) for one in members})
        if len(kinds) > 1:
            raise FcisError(
                "ensemble: expected networks of the same model.classes and model.pooled_size, "
                f"found {kinds}"
            )
        first = members[0].config
        self.settings, self.proposals = first.predict, first.proposals
        self.views = views(flip=self.settings.flip, turn=self.settings.turn)

    def compute_maps(self, image: Tensor, image_size: Tensor) -> list[Maps]:
        """The maps of every member and view of image (B, H, W, 3) with `image_size` (B, 2)."""
        return [
            member(view.image(image, image_size), training=False)
            for member, view in self._member_views()
        ]

    def propose(self, all_maps: list[Maps], image_size: Tensor) -> Proposals:
        """ROIs (B, N, 4) in network pixels: those of all members together, best first.

        Only the image as it is proposes; the other views would crowd out more than they find.
        """
        upright = all_maps[:: len(self.views)]
        found = [
            member.propose(maps, image_size)
            for member, maps in zip(self.members, upright, strict=True)
        ]
        if len(found) == 1:
            return found[0]
        return merge_proposals(
            found,
            image_size,
            count=self.proposals.predict_count,
            nms_threshold=self.proposals.nms_threshold,
        )

    def score_rois(self, all_maps: list[Maps], rois: Tensor, image_size: Tensor) -> Heads:
        """What the maps of all members and views say of rois (B, N, 4).

        Class probabilities, box deltas and the inside probabilities of the class that is then the
        best are averaged; the logits returned are those of the averages.
        """
        if len(all_maps) == 1:
            return self.members[0].score_rois(all_maps[0], rois)

        def heads_of_all(labels: Tensor | None) -> list[Heads]:
            return [
                view.heads_back(member.score_rois(maps, view.boxes(rois, image_size), labels))
                for maps, (member, view) in zip(all_maps, self._member_views(), strict=True)
            ]

        first = heads_of_all(None)
        classes = _mean([tf.nn.softmax(heads.class_logits) for heads in first])  # (B, N, K)
        # Members must agree on the class before their masks of it can be averaged.
        labels = 1 + tf.argmax(classes[..., 1:], -1, output_type=tf.int32)  # (B, N)
        masks = [heads.mask_logits for heads in heads_of_all(labels)]
        inside = _mean([inside_probabilities(sides) for sides in masks])  # (B, N, p, p)
        sides = tf.stack([1.0 - inside, inside], -1)  # (B, N, p, p, 2)
        return Heads(
            class_logits=tf.math.log(tf.maximum(classes, LEAST)),
            box_deltas=_mean([heads.box_deltas for heads in first]),
            mask_logits=tf.math.log(tf.maximum(sides, LEAST)),
        )

    def score_rois_twice(
        self, all_maps: list[Maps], rois: Tensor, valid: Tensor, image_size: Tensor
    ) -> Candidates:
        """rois (B, N, 4) and, with two passes, the same moved by their deltas, as (B, 2 N, 4)."""
        heads = self.score_rois(all_maps, rois, image_size)
        if self.settings.iterations == 1:
            return Candidates(rois, valid, heads)
        refined = self.members[0].refine(rois, heads, image_size)
        again = self.score_rois(all_maps, refined, image_size)
        both = Heads(*(tf.concat(pair, 1) for pair in zip(heads, again, strict=True)))
        return Candidates(tf.concat([rois, refined], 1), tf.concat([valid, valid], 1), both)

    def detect(
        self, image: Tensor, image_size: Tensor, scale: Tensor, original_size: Tensor
    ) -> Detections:
        """Instances of each image; the whole of inference in one graph.

        Args:
            image: (B, H, W, 3) float32, padded.
            image_size: (B, 2) float32 height and width without padding.
            scale: (B,) float32 network pixels per original pixel.
            original_size: (B, 2) int32 height and width of the original image.
        """
        maps = self.compute_maps(image, image_size)
        proposals = self.propose(maps, image_size)
        candidates = self.score_rois_twice(maps, proposals.boxes, proposals.valid, image_size)
        return self.postprocess(candidates, ImageInfo(image_size, scale, original_size))

    def postprocess(
        self, candidates: Candidates, info: ImageInfo, frames: Tensor | None = None
    ) -> Detections:
        """Suppression and voting as configured; arguments as in `postprocess.postprocess`."""
        return postprocess(candidates, info, self.settings, frames)

    def _member_views(self) -> Iterator[tuple[FCIS, View]]:
        return ((member, view) for member in self.members for view in self.views)


def _mean(values: list[Tensor]) -> Tensor:
    return tf.add_n(values) / len(values)
