// The operations on a GPU: outputs, scratch memory and the stream. Compiled where nvcc is.

#include "arguments.h"
#include "cuda/kernels.h"
#include "tensorflow/core/framework/device_base.h"
#include "xla/stream_executor/stream.h"

namespace fcis {
namespace {

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

}  // namespace
}  // namespace fcis
