// The operations on the CPU: outputs, and threads over ROIs or position groups.

#include <vector>

#include "arguments.h"
#include "cpu/run.h"
#include "tensorflow/core/lib/core/threadpool.h"

namespace fcis {
namespace {

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

FCIS_REGISTER("FcisPsAssemble", AssembleCpu, tensorflow::DEVICE_CPU);
FCIS_REGISTER("FcisPsAssembleGrad", AssembleGradCpu, tensorflow::DEVICE_CPU);
FCIS_REGISTER("FcisPsAverage", AverageCpu, tensorflow::DEVICE_CPU);
FCIS_REGISTER("FcisPsAverageGrad", AverageGradCpu, tensorflow::DEVICE_CPU);

}  // namespace
}  // namespace fcis
