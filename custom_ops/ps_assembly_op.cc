// TensorFlow operations over the kernels: shapes, checks, threads.

#include <type_traits>

#include "cpu/run.h"
#include "tensorflow/core/framework/common_shape_fns.h"
#include "tensorflow/core/framework/op.h"
#include "tensorflow/core/framework/op_kernel.h"
#include "tensorflow/core/framework/shape_inference.h"
#include "tensorflow/core/lib/core/threadpool.h"
#ifdef FCIS_CUDA
#include "cuda/kernels.h"
#include "tensorflow/core/framework/device_base.h"
#include "xla/stream_executor/stream.h"
#endif

namespace fcis {
namespace {

using tensorflow::OpKernel;
using tensorflow::OpKernelConstruction;
using tensorflow::OpKernelContext;
using tensorflow::Tensor;
using tensorflow::TensorShape;
using tensorflow::errors::InvalidArgument;
using tensorflow::shape_inference::DimensionHandle;
using tensorflow::shape_inference::InferenceContext;
using tensorflow::shape_inference::ShapeHandle;
using Status = absl::Status;

// ---- signatures

Status with_rank(InferenceContext* c, int input, int rank, const char* name, ShapeHandle* shape) {
  if (c->WithRank(c->input(input), rank, shape).ok()) return absl::OkStatus();
  return InvalidArgument(name, ": expected ", rank, " dimensions, found shape ",
                         c->DebugString(c->input(input)));
}

// Checks what is known of maps, rois and image_index; `depth` becomes channels / k^2.
Status common_shapes(InferenceContext* c, int rois_at, DimensionHandle* rois) {
  ShapeHandle boxes, index;
  TF_RETURN_IF_ERROR(with_rank(c, rois_at, 2, "rois", &boxes));
  TF_RETURN_IF_ERROR(with_rank(c, rois_at + 1, 1, "image_index", &index));
  *rois = c->Dim(boxes, 0);
  return absl::OkStatus();
}

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

Status assemble_shape(InferenceContext* c) {
  DimensionHandle rois, depth, classes;
  TF_RETURN_IF_ERROR(common_shapes(c, 1, &rois));
  TF_RETURN_IF_ERROR(depth_of(c, &depth));
  classes = c->ValueKnown(depth) ? c->MakeDim(c->Value(depth) / 2) : c->UnknownDim();
  int p;
  TF_RETURN_IF_ERROR(c->GetAttr("pooled_size", &p));
  c->set_output(0, c->MakeShape({rois, classes}));
  c->set_output(1, c->MakeShape({rois, c->MakeDim(p), c->MakeDim(p), c->MakeDim(2)}));
  c->set_output(2, c->MakeShape({rois}));
  return absl::OkStatus();
}

Status average_shape(InferenceContext* c) {
  DimensionHandle rois, depth;
  TF_RETURN_IF_ERROR(common_shapes(c, 1, &rois));
  TF_RETURN_IF_ERROR(depth_of(c, &depth));
  c->set_output(0, c->MakeShape({rois, depth}));
  return absl::OkStatus();
}

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
    .Doc("Class logits of each ROI and the mask logits of one class: `labels`, or the best for -1.");

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

// ---- checks

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

Status expect_shape(const Tensor& tensor, const char* name, const TensorShape& shape) {
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

// ---- processor

template <class Work>
void shard(OpKernelContext* context, int64_t total, int64_t cost, Work work) {
  context->device()->tensorflow_cpu_worker_threads()->workers->ParallelFor(total, cost, work);
}

// Rough cycles that one ROI costs: every bin reads about three cells of all channels.
int64_t roi_cost(const Layout& layout) {
  return int64_t(layout.pooled) * layout.pooled * (3 * layout.depth / 8 + 16);
}

template <class T>
class AssembleCpu : public Assembly {
 public:
  using Assembly::Assembly;

  void Compute(OpKernelContext* context) override {
    Layout l;
    OP_REQUIRES_OK(context, layout(context, true, true, &l));
    const Tensor& labels = context->input(3);
    const int64_t rois = context->input(1).dim_size(0);
    const int classes = l.depth / 2;
    OP_REQUIRES_OK(context, expect_shape(labels, "labels", TensorShape({rois})));
    OP_REQUIRES_OK(context, in_range(labels, "labels", -1, classes));
    Tensor *class_logits, *mask_logits, *chosen;
    OP_REQUIRES_OK(context, context->allocate_output(0, {rois, classes}, &class_logits));
    OP_REQUIRES_OK(context,
                   context->allocate_output(1, {rois, l.pooled, l.pooled, 2}, &mask_logits));
    OP_REQUIRES_OK(context, context->allocate_output(2, {rois}, &chosen));
    const cpu::Forward<Stored<T>> task{values<T>(context->input(0)),
                                       context->input(1).flat<float>().data(),
                                       context->input(2).flat<int>().data(),
                                       labels.flat<int>().data(),
                                       class_logits->flat<float>().data(),
                                       mask_logits->flat<float>().data(),
                                       chosen->flat<int>().data(),
                                       l};
    shard(context, rois, roi_cost(l),
          [&](int64_t first, int64_t last) { cpu::run(task, first, last); });
  }
};

template <class T>
class AssembleGradCpu : public Assembly {
 public:
  using Assembly::Assembly;

  void Compute(OpKernelContext* context) override {
    Layout l;
    OP_REQUIRES_OK(context, layout(context, true, true, &l));
    const int64_t rois = context->input(1).dim_size(0), bins = int64_t(l.pooled) * l.pooled;
    const int classes = l.depth / 2;
    OP_REQUIRES_OK(context, expect_shape(context->input(3), "chosen", TensorShape({rois})));
    OP_REQUIRES_OK(context, in_range(context->input(3), "chosen", 0, classes));
    OP_REQUIRES_OK(context, expect_shape(context->input(4), "class_gradient",
                                         TensorShape({rois, classes})));
    OP_REQUIRES_OK(context, expect_shape(context->input(5), "mask_gradient",
                                         TensorShape({rois, l.pooled, l.pooled, 2})));
    Tensor* maps_gradient;
    OP_REQUIRES_OK(context,
                   context->allocate_output(0, context->input(0).shape(), &maps_gradient));
    const cpu::Backward<Stored<T>> task{values<T>(context->input(0)),
                                        context->input(1).flat<float>().data(),
                                        context->input(2).flat<int>().data(),
                                        context->input(3).flat<int>().data(),
                                        context->input(4).flat<float>().data(),
                                        context->input(5).flat<float>().data(),
                                        values<T>(maps_gradient),
                                        l};
    std::vector<cpu::Active> active;
    for (int r = 0; r < rois; ++r) {
      const bool by_class = cpu::any(task.class_gradient + int64_t(r) * classes, classes);
      const bool by_mask = cpu::any(task.mask_gradient + r * bins * 2, bins * 2);
      if (by_class || by_mask) active.push_back({r, by_class, by_mask});
    }
    const int64_t groups = int64_t(l.group) * l.group;
    const int64_t cost = (2 * active.size() * roi_cost(l)) / groups + 2 * l.cells() * l.depth;
    shard(context, l.images * groups, cost,
          [&](int64_t first, int64_t last) { cpu::run(task, active, first, last); });
  }
};

template <class T>
class AverageCpu : public Assembly {
 public:
  using Assembly::Assembly;

  void Compute(OpKernelContext* context) override {
    Layout l;
    OP_REQUIRES_OK(context, layout(context, false, true, &l));
    const int64_t rois = context->input(1).dim_size(0);
    Tensor* means;
    OP_REQUIRES_OK(context, context->allocate_output(0, {rois, l.depth}, &means));
    const cpu::Average<Stored<T>> task{
        values<T>(context->input(0)), context->input(1).flat<float>().data(),
        context->input(2).flat<int>().data(), means->flat<float>().data(), l};
    shard(context, rois, roi_cost(l),
          [&](int64_t first, int64_t last) { cpu::run(task, first, last); });
  }
};

template <class T>
class AverageGradCpu : public Assembly {
 public:
  using Assembly::Assembly;

  void Compute(OpKernelContext* context) override {
    Layout l;
    OP_REQUIRES_OK(context, layout(context, false, true, &l));
    const int64_t rois = context->input(1).dim_size(0);
    OP_REQUIRES_OK(context,
                   expect_shape(context->input(3), "gradient", TensorShape({rois, l.depth})));
    Tensor* maps_gradient;
    OP_REQUIRES_OK(context,
                   context->allocate_output(0, context->input(0).shape(), &maps_gradient));
    const cpu::AverageBackward<Stored<T>> task{
        context->input(1).flat<float>().data(), context->input(2).flat<int>().data(),
        context->input(3).flat<float>().data(), values<T>(maps_gradient), l};
    std::vector<cpu::Active> active;
    for (int r = 0; r < rois; ++r) {
      if (cpu::any(task.gradient + int64_t(r) * l.depth, l.depth)) active.push_back({r, true, false});
    }
    const int64_t groups = int64_t(l.group) * l.group;
    const int64_t cost = active.size() * roi_cost(l) / groups + 2 * l.cells() * l.depth;
    shard(context, l.images * groups, cost,
          [&](int64_t first, int64_t last) { cpu::run(task, active, first, last); });
  }
};

#define FCIS_REGISTER(NAME, KERNEL, DEVICE)                                            \
  REGISTER_KERNEL_BUILDER(Name(NAME).Device(DEVICE).TypeConstraint<float>("T"),        \
                          KERNEL<float>);                                              \
  REGISTER_KERNEL_BUILDER(Name(NAME).Device(DEVICE).TypeConstraint<Eigen::bfloat16>("T"), \
                          KERNEL<Eigen::bfloat16>)

FCIS_REGISTER("FcisPsAssemble", AssembleCpu, tensorflow::DEVICE_CPU);
FCIS_REGISTER("FcisPsAssembleGrad", AssembleGradCpu, tensorflow::DEVICE_CPU);
FCIS_REGISTER("FcisPsAverage", AverageCpu, tensorflow::DEVICE_CPU);
FCIS_REGISTER("FcisPsAverageGrad", AverageGradCpu, tensorflow::DEVICE_CPU);

#ifdef FCIS_CUDA
// ---- GPU

void* gpu_stream(OpKernelContext* context) {
  return context->op_device_context()->stream()->platform_specific_handle().stream;
}

void check(OpKernelContext* context, const char* fault) {
  OP_REQUIRES(context, fault == nullptr, tensorflow::errors::Internal("CUDA: ", fault));
}

template <class T>
class AssembleGpu : public Assembly {
 public:
  using Assembly::Assembly;

  void Compute(OpKernelContext* context) override {
    Layout l;
    OP_REQUIRES_OK(context, layout(context, true, false, &l));
    const int64_t rois = context->input(1).dim_size(0);
    const int classes = l.depth / 2;
    OP_REQUIRES_OK(context, expect_shape(context->input(3), "labels", TensorShape({rois})));
    Tensor *class_logits, *mask_logits, *chosen, scratch;
    OP_REQUIRES_OK(context, context->allocate_output(0, {rois, classes}, &class_logits));
    OP_REQUIRES_OK(context,
                   context->allocate_output(1, {rois, l.pooled, l.pooled, 2}, &mask_logits));
    OP_REQUIRES_OK(context, context->allocate_output(2, {rois}, &chosen));
    OP_REQUIRES_OK(context, context->allocate_temp(tensorflow::DT_FLOAT,
                                                   {cuda::assemble_scratch(l, rois)}, &scratch));
    check(context,
          cuda::assemble(values<T>(context->input(0)), context->input(1).flat<float>().data(),
                         context->input(2).flat<int>().data(),
                         context->input(3).flat<int>().data(), rois, l,
                         scratch.flat<float>().data(), class_logits->flat<float>().data(),
                         mask_logits->flat<float>().data(), chosen->flat<int>().data(),
                         gpu_stream(context)));
  }
};

template <class T>
class AssembleGradGpu : public Assembly {
 public:
  using Assembly::Assembly;

  void Compute(OpKernelContext* context) override {
    Layout l;
    OP_REQUIRES_OK(context, layout(context, true, false, &l));
    const int64_t rois = context->input(1).dim_size(0);
    OP_REQUIRES_OK(context, expect_shape(context->input(3), "chosen", TensorShape({rois})));
    OP_REQUIRES_OK(context, expect_shape(context->input(4), "class_gradient",
                                         TensorShape({rois, l.depth / 2})));
    OP_REQUIRES_OK(context, expect_shape(context->input(5), "mask_gradient",
                                         TensorShape({rois, l.pooled, l.pooled, 2})));
    Tensor *maps_gradient, scratch;
    OP_REQUIRES_OK(context,
                   context->allocate_output(0, context->input(0).shape(), &maps_gradient));
    OP_REQUIRES_OK(context, context->allocate_temp(tensorflow::DT_INT32,
                                                   {cuda::gradient_scratch(l, rois)}, &scratch));
    check(context, cuda::assemble_gradient(
                       values<T>(context->input(0)), context->input(1).flat<float>().data(),
                       context->input(2).flat<int>().data(), context->input(3).flat<int>().data(),
                       context->input(4).flat<float>().data(),
                       context->input(5).flat<float>().data(), rois, l,
                       scratch.flat<int>().data(), values<T>(maps_gradient), gpu_stream(context)));
  }
};

template <class T>
class AverageGpu : public Assembly {
 public:
  using Assembly::Assembly;

  void Compute(OpKernelContext* context) override {
    Layout l;
    OP_REQUIRES_OK(context, layout(context, false, false, &l));
    const int64_t rois = context->input(1).dim_size(0);
    Tensor* means;
    OP_REQUIRES_OK(context, context->allocate_output(0, {rois, l.depth}, &means));
    check(context,
          cuda::average(values<T>(context->input(0)), context->input(1).flat<float>().data(),
                        context->input(2).flat<int>().data(), rois, l,
                        means->flat<float>().data(), gpu_stream(context)));
  }
};

template <class T>
class AverageGradGpu : public Assembly {
 public:
  using Assembly::Assembly;

  void Compute(OpKernelContext* context) override {
    Layout l;
    OP_REQUIRES_OK(context, layout(context, false, false, &l));
    const int64_t rois = context->input(1).dim_size(0);
    OP_REQUIRES_OK(context,
                   expect_shape(context->input(3), "gradient", TensorShape({rois, l.depth})));
    Tensor *maps_gradient, scratch;
    OP_REQUIRES_OK(context,
                   context->allocate_output(0, context->input(0).shape(), &maps_gradient));
    OP_REQUIRES_OK(context, context->allocate_temp(tensorflow::DT_INT32,
                                                   {cuda::gradient_scratch(l, rois)}, &scratch));
    check(context, cuda::average_gradient(
                       context->input(1).flat<float>().data(),
                       context->input(2).flat<int>().data(),
                       context->input(3).flat<float>().data(), rois, l,
                       scratch.flat<int>().data(), values<T>(maps_gradient), gpu_stream(context)));
  }
};

FCIS_REGISTER("FcisPsAssemble", AssembleGpu, tensorflow::DEVICE_GPU);
FCIS_REGISTER("FcisPsAssembleGrad", AssembleGradGpu, tensorflow::DEVICE_GPU);
FCIS_REGISTER("FcisPsAverage", AverageGpu, tensorflow::DEVICE_GPU);
FCIS_REGISTER("FcisPsAverageGrad", AverageGradGpu, tensorflow::DEVICE_GPU);
#endif  // FCIS_CUDA

}  // namespace
}  // namespace fcis
