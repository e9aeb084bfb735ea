// The arguments of a running operation: attributes, shapes and values checked, for CPU and GPU.
#pragma once

#include <type_traits>

#include "bfloat16.h"
#include "geometry.h"
#include "tensorflow/core/framework/op_kernel.h"

namespace fcis {

using tensorflow::OpKernel;
using tensorflow::OpKernelConstruction;
using tensorflow::OpKernelContext;
using tensorflow::Tensor;
using tensorflow::TensorShape;
using tensorflow::errors::InvalidArgument;
using Status = absl::Status;

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

class Assembly : public OpKernel {
 public:
  explicit Assembly(OpKernelConstruction* construction) : OpKernel(construction) {
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
  // Everything a kernel reads by is checked here; `host` says whether indices can be looked at.
  Status layout(OpKernelContext* context, bool sides, bool host, Layout* layout) const {
    *layout = geometry_;
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
    const int64_t unit = groups * (sides ? 2 : 1);
    if (maps.dim_size(3) % unit || maps.dim_size(3) == 0) {
      return InvalidArgument("maps: expected a multiple of ", unit, " channels, found ",
                             maps.dim_size(3));
    }
    layout->images = maps.dim_size(0);
    layout->rows = maps.dim_size(1);
    layout->columns = maps.dim_size(2);
    layout->depth = maps.dim_size(3) / groups;
    if (rois.dims() != 2 || rois.dim_size(1) != 4) {
      return InvalidArgument("rois: expected shape [R, 4], found ", rois.shape().DebugString());
    }
    TF_RETURN_IF_ERROR(
        expect_shape(image_index, "image_index", TensorShape({rois.dim_size(0)})));
    if (!host) return absl::OkStatus();
    return in_range(image_index, "image_index", 0, layout->images);
  }

  static Status in_range(const Tensor& tensor, const char* name, int low, int high) {
    const auto flat = tensor.flat<int>();
    for (int64_t i = 0; i < flat.size(); ++i) {
      if (flat(i) < low || flat(i) >= high) {
        return InvalidArgument(name, ": expected values in ", low, "..", high - 1, ", found ",
                               flat(i), " at ", i);
      }
    }
    return absl::OkStatus();
  }

  Layout geometry_{};
};

#define FCIS_REGISTER(NAME, KERNEL, DEVICE)                                            \
  REGISTER_KERNEL_BUILDER(Name(NAME).Device(DEVICE).TypeConstraint<float>("T"),        \
                          KERNEL<float>);                                              \
  REGISTER_KERNEL_BUILDER(Name(NAME).Device(DEVICE).TypeConstraint<Eigen::bfloat16>("T"), \
                          KERNEL<Eigen::bfloat16>)

}  // namespace fcis
