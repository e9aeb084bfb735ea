// The operations on a GPU: scratch memory and the stream. Compiled only where nvcc is.

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
class AssembleGpu : public AssemblyKernel {
 public:
  using AssemblyKernel::AssemblyKernel;

  void Compute(OpKernelContext* context) override {
    Assemble<Stored<T>> call;
    OP_REQUIRES_OK(context, prepare<T>(context, Memory::kDevice, &call));
    Tensor scratch;
    const int64_t floats = cuda::assemble_scratch(call.layout, call.rois);
    OP_REQUIRES_OK(context, context->allocate_temp(tensorflow::DT_FLOAT, {floats}, &scratch));
    check(context, cuda::assemble(call, scratch.flat<float>().data(), gpu_stream(context)));
  }
};

template <class T>
class AssembleGradGpu : public AssemblyKernel {
 public:
  using AssemblyKernel::AssemblyKernel;

  void Compute(OpKernelContext* context) override {
    AssembleGradient<Stored<T>> call;
    OP_REQUIRES_OK(context, prepare<T>(context, Memory::kDevice, &call));
    Tensor scratch;
    const int64_t ints = cuda::gradient_scratch(call.rois);
    OP_REQUIRES_OK(context, context->allocate_temp(tensorflow::DT_INT32, {ints}, &scratch));
    check(context, cuda::assemble_gradient(call, scratch.flat<int>().data(), gpu_stream(context)));
  }
};

template <class T>
class AverageGpu : public AssemblyKernel {
 public:
  using AssemblyKernel::AssemblyKernel;

  void Compute(OpKernelContext* context) override {
    Average<Stored<T>> call;
    OP_REQUIRES_OK(context, prepare<T>(context, Memory::kDevice, &call));
    check(context, cuda::average(call, gpu_stream(context)));
  }
};

template <class T>
class AverageGradGpu : public AssemblyKernel {
 public:
  using AssemblyKernel::AssemblyKernel;

  void Compute(OpKernelContext* context) override {
    AverageGradient<Stored<T>> call;
    OP_REQUIRES_OK(context, prepare<T>(context, Memory::kDevice, &call));
    Tensor scratch;
    const int64_t ints = cuda::gradient_scratch(call.rois);
    OP_REQUIRES_OK(context, context->allocate_temp(tensorflow::DT_INT32, {ints}, &scratch));
    check(context, cuda::average_gradient(call, scratch.flat<int>().data(), gpu_stream(context)));
  }
};

FCIS_REGISTER("FcisPsAssemble", AssembleGpu, tensorflow::DEVICE_GPU);
FCIS_REGISTER("FcisPsAssembleGrad", AssembleGradGpu, tensorflow::DEVICE_GPU);
FCIS_REGISTER("FcisPsAverage", AverageGpu, tensorflow::DEVICE_GPU);
FCIS_REGISTER("FcisPsAverageGrad", AverageGradGpu, tensorflow::DEVICE_GPU);

}  // namespace
}  // namespace fcis
