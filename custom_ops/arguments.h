// The arguments of a running operation, for CPU and GPU: attributes, shapes and values are checked,
// outputs allocated, and what the kernels read and write is filled in.
#pragma once

#include <type_traits>

#include "bfloat16.h"
#include "calls.h"
#include "tensorflow/core/framework/op_kernel.h"

namespace fcis {

using tensorflow::OpKernel;
using tensorflow::OpKernelConstruction;
using tensorflow::OpKernelContext;
using tensorflow::Tensor;
using tensorflow::TensorShape;
using tensorflow::errors::InvalidArgument;
using Status = absl::Status;

// The kernels' own type of TensorFlow's float or bfloat16.
template <class T>
using Stored = std::conditional_t<std::is_same_v<T, float>, float, BFloat16>;

template <class T>
const Stored<T>* values(const Tensor& tensor) {
  return reinterpret_cast<const Stored<T>*>(tensor.flat<T>().data());
}

template <class T>
Stored<T>* values(Tensor* tensor) {
  return reinterpret_cast<Stored<T>*>(tensor->flat<T>().data());
}

inline Status expect_shape(const Tensor& tensor, const char* name, const TensorShape& shape) {
  if (tensor.shape() == shape) return absl::OkStatus();
  return InvalidArgument(name, ": expected shape ", shape.DebugString(), ", found ",
                         tensor.shape().DebugString());
}

inline Status expect_range(const Tensor& tensor, const char* name, int low, int high) {
  const auto flat = tensor.flat<int>();
  for (int64_t i = 0; i < flat.size(); ++i) {
    if (flat(i) < low || flat(i) >= high) {
      return InvalidArgument(name, ": expected values in ", low, "..", high - 1, ", found ",
                             flat(i), " at ", i);
    }
  }
  return absl::OkStatus();
}

// Where the inputs are. Indices in device memory cannot be read here: the CUDA kernels clip them.
enum class Memory { kHost, kDevice };

// The base of all kernels: holds the attributes, and prepares each kind of call.
class AssemblyKernel : public OpKernel {
 public:
  explicit AssemblyKernel(OpKernelConstruction* construction) : OpKernel(construction) {
    OP_REQUIRES_OK(construction, construction->GetAttr("group_size", &geometry_.group));
    OP_REQUIRES_OK(construction, construction->GetAttr("pooled_size", &geometry_.pooled));
    OP_REQUIRES_OK(construction, construction->GetAttr("stride", &geometry_.stride));
    OP_REQUIRES(construction, geometry_.pooled <= kMostBins,
                InvalidArgument("pooled_size: expected at most ", kMostBins, ", found ",
                                geometry_.pooled));
    OP_REQUIRES(construction, geometry_.group <= geometry_.pooled,
                InvalidArgument("group_size: expected at most pooled_size ", geometry_.pooled,
                                ", found ", geometry_.group));
    OP_REQUIRES(construction, geometry_.stride <= kMostStride && geometry_.stride % 2 == 0,
                InvalidArgument("stride: expected an even number up to ", kMostStride, ", found ",
                                geometry_.stride));
  }

 protected:
  // Inputs: maps, rois, image_index, labels. Outputs: class_logits, mask_logits, chosen.
  template <class T>
  Status prepare(OpKernelContext* context, Memory memory, Assemble<Stored<T>>* call) const {
    TF_RETURN_IF_ERROR(prepare_common<T>(context, memory, 2, call));
    const Tensor& labels = context->input(3);
    const int64_t rois = call->rois;
    const int p = call->layout.pooled, classes = call->layout.depth / 2;
    TF_RETURN_IF_ERROR(expect_shape(labels, "labels", TensorShape({rois})));
    if (memory == Memory::kHost) TF_RETURN_IF_ERROR(expect_range(labels, "labels", -1, classes));
    Tensor *class_logits, *mask_logits, *chosen;
    TF_RETURN_IF_ERROR(context->allocate_output(0, {rois, classes}, &class_logits));
    TF_RETURN_IF_ERROR(context->allocate_output(1, {rois, p, p, 2}, &mask_logits));
    TF_RETURN_IF_ERROR(context->allocate_output(2, {rois}, &chosen));
    call->labels = labels.flat<int>().data();
    call->class_logits = class_logits->flat<float>().data();
    call->mask_logits = mask_logits->flat<float>().data();
    call->chosen = chosen->flat<int>().data();
    return absl::OkStatus();
  }

  // Inputs: maps, rois, image_index, chosen, class_gradient, mask_gradient. Output: maps_gradient.
  template <class T>
  Status prepare(OpKernelContext* context, Memory memory, AssembleGradient<Stored<T>>* call) const {
    TF_RETURN_IF_ERROR(prepare_common<T>(context, memory, 2, call));
    const Tensor& chosen = context->input(3);
    const Tensor& class_gradient = context->input(4);
    const Tensor& mask_gradient = context->input(5);
    const int64_t rois = call->rois;
    const int p = call->layout.pooled, classes = call->layout.depth / 2;
    TF_RETURN_IF_ERROR(expect_shape(chosen, "chosen", TensorShape({rois})));
    if (memory == Memory::kHost) TF_RETURN_IF_ERROR(expect_range(chosen, "chosen", 0, classes));
    TF_RETURN_IF_ERROR(
        expect_shape(class_gradient, "class_gradient", TensorShape({rois, classes})));
    TF_RETURN_IF_ERROR(expect_shape(mask_gradient, "mask_gradient", TensorShape({rois, p, p, 2})));
    Tensor* maps_gradient;
    TF_RETURN_IF_ERROR(context->allocate_output(0, context->input(0).shape(), &maps_gradient));
    call->chosen = chosen.flat<int>().data();
    call->class_gradient = class_gradient.flat<float>().data();
    call->mask_gradient = mask_gradient.flat<float>().data();
    call->maps_gradient = values<T>(maps_gradient);
    return absl::OkStatus();
  }

  // Inputs: maps, rois, image_index. Output: means.
  template <class T>
  Status prepare(OpKernelContext* context, Memory memory, Average<Stored<T>>* call) const {
    TF_RETURN_IF_ERROR(prepare_common<T>(context, memory, 1, call));
    Tensor* means;
    TF_RETURN_IF_ERROR(context->allocate_output(0, {call->rois, call->layout.depth}, &means));
    call->means = means->flat<float>().data();
    return absl::OkStatus();
  }

  // Inputs: maps, rois, image_index, gradient. Output: maps_gradient.
  template <class T>
  Status prepare(OpKernelContext* context, Memory memory, AverageGradient<Stored<T>>* call) const {
    TF_RETURN_IF_ERROR(prepare_common<T>(context, memory, 1, call));
    const Tensor& gradient = context->input(3);
    TF_RETURN_IF_ERROR(
        expect_shape(gradient, "gradient", TensorShape({call->rois, call->layout.depth})));
    Tensor* maps_gradient;
    TF_RETURN_IF_ERROR(context->allocate_output(0, context->input(0).shape(), &maps_gradient));
    call->gradient = gradient.flat<float>().data();
    call->maps_gradient = values<T>(maps_gradient);
    return absl::OkStatus();
  }

 private:
  // Maps (B, H, W, k * k * sides * n), rois (R, 4) and image_index (R,): what kernels index by.
  template <class T>
  Status prepare_common(OpKernelContext* context, Memory memory, int sides,
                        Call<Stored<T>>* call) const {
    const Tensor& maps = context->input(0);
    const Tensor& rois = context->input(1);
    const Tensor& image_index = context->input(2);
    if (maps.dims() != 4) {
      return InvalidArgument("maps: expected 4 dimensions, found shape ",
                             maps.shape().DebugString());
    }
    for (int axis = 0; axis < 4; ++axis) {
      if (maps.dim_size(axis) > (1 << 24)) {
        return InvalidArgument("maps: dimension ", axis, " of ", maps.dim_size(axis),
                               " is too large");
      }
    }
    const int64_t groups = int64_t(geometry_.group) * geometry_.group;
    const int64_t unit = groups * sides;
    if (maps.dim_size(3) % unit || maps.dim_size(3) == 0) {
      return InvalidArgument("maps: expected a multiple of ", unit, " channels, found ",
                             maps.dim_size(3));
    }
    Layout* layout = &call->layout;
    *layout = geometry_;
    layout->images = maps.dim_size(0);
    layout->rows = maps.dim_size(1);
    layout->columns = maps.dim_size(2);
    layout->depth = maps.dim_size(3) / groups;
    if (rois.dims() != 2 || rois.dim_size(1) != 4) {
      return InvalidArgument("rois: expected shape [R, 4], found ", rois.shape().DebugString());
    }
    TF_RETURN_IF_ERROR(expect_shape(image_index, "image_index", TensorShape({rois.dim_size(0)})));
    if (memory == Memory::kHost) {
      TF_RETURN_IF_ERROR(expect_range(image_index, "image_index", 0, layout->images));
    }
    call->rois = rois.dim_size(0);
    call->maps = values<T>(maps);
    call->boxes = rois.flat<float>().data();
    call->image_index = image_index.flat<int>().data();
    return absl::OkStatus();
  }

  Layout geometry_{};  // the attributes; the sizes of the maps are those of each call
};

// Registers KERNEL<T> for both types of maps.
#define FCIS_REGISTER(NAME, KERNEL, DEVICE)                                               \
  REGISTER_KERNEL_BUILDER(Name(NAME).Device(DEVICE).TypeConstraint<float>("T"),           \
                          KERNEL<float>);                                                 \
  REGISTER_KERNEL_BUILDER(Name(NAME).Device(DEVICE).TypeConstraint<Eigen::bfloat16>("T"), \
                          KERNEL<Eigen::bfloat16>)

}  // namespace fcis
