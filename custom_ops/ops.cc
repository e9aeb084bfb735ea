// Signatures of the TensorFlow operations and their shape functions.

#include "tensorflow/core/framework/common_shape_fns.h"
#include "tensorflow/core/framework/op.h"
#include "tensorflow/core/framework/shape_inference.h"

namespace fcis {
namespace {

using tensorflow::errors::InvalidArgument;
using tensorflow::shape_inference::DimensionHandle;
using tensorflow::shape_inference::InferenceContext;
using tensorflow::shape_inference::ShapeHandle;
using Status = absl::Status;

// The shape of an input of known rank, or an error that names it.
Status with_rank(InferenceContext* c, int input, int rank, const char* name, ShapeHandle* shape) {
  if (c->WithRank(c->input(input), rank, shape).ok()) return absl::OkStatus();
  return InvalidArgument(name, ": expected ", rank, " dimensions, found shape ",
                         c->DebugString(c->input(input)));
}

// The number of ROIs, from rois (R, 4) and image_index (R,).
Status rois_of(InferenceContext* c, DimensionHandle* rois) {
  ShapeHandle boxes, index;
  TF_RETURN_IF_ERROR(with_rank(c, 1, 2, "rois", &boxes));
  TF_RETURN_IF_ERROR(with_rank(c, 2, 1, "image_index", &index));
  *rois = c->Dim(boxes, 0);
  return absl::OkStatus();
}

// Channels of one position group, from maps (B, H, W, k * k * D).
Status depth_of(InferenceContext* c, DimensionHandle* depth) {
  ShapeHandle maps;
  TF_RETURN_IF_ERROR(with_rank(c, 0, 4, "maps", &maps));
  int k;
  TF_RETURN_IF_ERROR(c->GetAttr("group_size", &k));
  const DimensionHandle channels = c->Dim(maps, 3);
  if (!c->ValueKnown(channels) || k < 1) {
    *depth = c->UnknownDim();
    return absl::OkStatus();
  }
  if (c->Value(channels) % (int64_t(k) * k)) {
    return InvalidArgument("maps: expected a multiple of ", k * k, " channels, found ",
                           c->Value(channels));
  }
  *depth = c->MakeDim(c->Value(channels) / (k * k));
  return absl::OkStatus();
}

// class_logits (R, K), mask_logits (R, p, p, 2), chosen (R,); D = 2 * K.
Status assemble_shape(InferenceContext* c) {
  DimensionHandle rois, depth, classes;
  TF_RETURN_IF_ERROR(rois_of(c, &rois));
  TF_RETURN_IF_ERROR(depth_of(c, &depth));
  classes = c->ValueKnown(depth) ? c->MakeDim(c->Value(depth) / 2) : c->UnknownDim();
  int p;
  TF_RETURN_IF_ERROR(c->GetAttr("pooled_size", &p));
  c->set_output(0, c->MakeShape({rois, classes}));
  c->set_output(1, c->MakeShape({rois, c->MakeDim(p), c->MakeDim(p), c->MakeDim(2)}));
  c->set_output(2, c->MakeShape({rois}));
  return absl::OkStatus();
}

// means (R, D)
Status average_shape(InferenceContext* c) {
  DimensionHandle rois, depth;
  TF_RETURN_IF_ERROR(rois_of(c, &rois));
  TF_RETURN_IF_ERROR(depth_of(c, &depth));
  c->set_output(0, c->MakeShape({rois, depth}));
  return absl::OkStatus();
}

// A gradient has the shape of the maps.
Status shape_of_first(InferenceContext* c) {
  c->set_output(0, c->input(0));
  return absl::OkStatus();
}

#define FCIS_GEOMETRY                     \
  .Attr("T: {float, bfloat16} = DT_FLOAT") \
      .Attr("group_size: int >= 1")       \
      .Attr("pooled_size: int >= 1")      \
      .Attr("stride: int >= 2")

REGISTER_OP("FcisPsAssemble")
    .Input("maps: T")
    .Input("rois: float")
    .Input("image_index: int32")
    .Input("labels: int32")
    .Output("class_logits: float")
    .Output("mask_logits: float")
    .Output("chosen: int32")
    FCIS_GEOMETRY.SetShapeFn(assemble_shape)
    .Doc("Class logits of each ROI, mask logits of one class: `labels`, or the best for -1.");

REGISTER_OP("FcisPsAssembleGrad")
    .Input("maps: T")
    .Input("rois: float")
    .Input("image_index: int32")
    .Input("chosen: int32")
    .Input("class_gradient: float")
    .Input("mask_gradient: float")
    .Output("maps_gradient: T")
    FCIS_GEOMETRY.SetShapeFn(shape_of_first);

REGISTER_OP("FcisPsAverage")
    .Input("maps: T")
    .Input("rois: float")
    .Input("image_index: int32")
    .Output("means: float")
    FCIS_GEOMETRY.SetShapeFn(average_shape)
    .Doc("Mean over all bins of each ROI.");

REGISTER_OP("FcisPsAverageGrad")
    .Input("maps: T")
    .Input("rois: float")
    .Input("image_index: int32")
    .Input("gradient: float")
    .Output("maps_gradient: T")
    FCIS_GEOMETRY.SetShapeFn(shape_of_first);

#undef FCIS_GEOMETRY

}  // namespace
}  // namespace fcis
