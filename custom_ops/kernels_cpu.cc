// The operations on the CPU: TensorFlow's threads share the ROIs forward, position groups backward.

#include <vector>

#include "arguments.h"
#include "cpu/run.h"
#include "tensorflow/core/lib/core/threadpool.h"

namespace fcis {
namespace {

// Calls ``work(first, last)`` on threads for ranges of 0..total; `cost` is the cycles of one.
template <class Work>
void share(OpKernelContext* context, int64_t total, int64_t cost, Work work) {
  context->device()->tensorflow_cpu_worker_threads()->workers->ParallelFor(total, cost, work);
}

// Rough cycles that one ROI costs: every bin reads about three cells of all channels.
int64_t roi_cost(const Layout& layout) {
  return int64_t(layout.pooled) * layout.pooled * (3 * layout.depth / 8 + 16);
}

// `passes` over the bins of all active ROIs, then one write of all position groups.
template <class Gradient>
void share_gradient(OpKernelContext* context, const Gradient& call, int passes) {
  const Layout& l = call.layout;
  const std::vector<cpu::Active> active = cpu::active_rois(call);
  const int64_t groups = int64_t(l.group) * l.group;
  const int64_t cost = passes * active.size() * roi_cost(l) / groups + 2 * l.cells() * l.depth;
  share(context, l.images * groups, cost,
        [&](int64_t first, int64_t last) { cpu::run(call, active, first, last); });
}

template <class T>
class AssembleCpu : public AssemblyKernel {
 public:
  using AssemblyKernel::AssemblyKernel;

  void Compute(OpKernelContext* context) override {
    Assemble<Stored<T>> call;
    OP_REQUIRES_OK(context, prepare<T>(context, Memory::kHost, &call));
    share(context, call.rois, roi_cost(call.layout),
          [&](int64_t first, int64_t last) { cpu::run(call, first, last); });
  }
};

template <class T>
class AssembleGradCpu : public AssemblyKernel {
 public:
  using AssemblyKernel::AssemblyKernel;

  void Compute(OpKernelContext* context) override {
    AssembleGradient<Stored<T>> call;
    OP_REQUIRES_OK(context, prepare<T>(context, Memory::kHost, &call));
    share_gradient(context, call, 2);
  }
};

template <class T>
class AverageCpu : public AssemblyKernel {
 public:
  using AssemblyKernel::AssemblyKernel;

  void Compute(OpKernelContext* context) override {
    Average<Stored<T>> call;
    OP_REQUIRES_OK(context, prepare<T>(context, Memory::kHost, &call));
    share(context, call.rois, roi_cost(call.layout),
          [&](int64_t first, int64_t last) { cpu::run(call, first, last); });
  }
};

template <class T>
class AverageGradCpu : public AssemblyKernel {
 public:
  using AssemblyKernel::AssemblyKernel;

  void Compute(OpKernelContext* context) override {
    AverageGradient<Stored<T>> call;
    OP_REQUIRES_OK(context, prepare<T>(context, Memory::kHost, &call));
    share_gradient(context, call, 1);
  }
};

FCIS_REGISTER("FcisPsAssemble", AssembleCpu, tensorflow::DEVICE_CPU);
FCIS_REGISTER("FcisPsAssembleGrad", AssembleGradCpu, tensorflow::DEVICE_CPU);
FCIS_REGISTER("FcisPsAverage", AverageCpu, tensorflow::DEVICE_CPU);
FCIS_REGISTER("FcisPsAverageGrad", AverageGradCpu, tensorflow::DEVICE_CPU);

}  // namespace
}  // namespace fcis
