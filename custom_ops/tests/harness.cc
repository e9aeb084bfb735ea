// Checks the kernels without TensorFlow; the same file for g++ and nvcc.
//
//   g++   the CPU kernels, and the CUDA kernels run as loops on the CPU
//   nvcc  the CUDA kernels on a GPU, and the bandwidth they reach against a copy
//
// Prints one line for each check and exits with 1 on the first difference, 77 without a GPU.

#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <random>
#include <thread>
#include <vector>

#include "../cpu/run.h"
#include "../cuda/backward.cu"
#include "../cuda/forward.cu"
#include "device.h"
#include "reference.h"
#ifdef __CUDACC__
#include "bandwidth.h"
#endif

namespace {

using namespace fcis;

template <class T>
double widen(T value) {
  return to_float(value);
}

bool close(const char* name, const std::vector<float>& found, const std::vector<double>& expected,
           double tolerance) {
  double largest = 1e-6, worst = 0.0;
  for (double e : expected) largest = std::max(largest, std::fabs(e));
  for (size_t i = 0; i < expected.size(); ++i) {
    const double off = std::fabs(found[i] - expected[i]) / largest;
    if (!(off <= tolerance)) {
      std::printf("%s differs at %zu: %g, expected %g\n", name, i, found[i], expected[i]);
      return false;
    }
    worst = std::max(worst, off);
  }
  return true;
}

template <class T>
std::vector<float> floats(const std::vector<T>& values) {
  std::vector<float> result;
  for (const T& value : values) result.push_back(to_float(value));
  return result;
}

// Calls ``work(first, last)`` on three threads, as TensorFlow would.
template <class Work>
void shared(int64_t total, Work work) {
  std::vector<std::thread> threads;
  for (int t = 0; t < 3; ++t) {
    threads.emplace_back([=] { work(total * t / 3, total * (t + 1) / 3); });
  }
  for (std::thread& thread : threads) thread.join();
}

template <class T>
bool check(const Case& c, bool on_cpu) {
  const Layout& l = c.l;
  const int K = l.depth / 2, bins = l.pooled * l.pooled;
  std::vector<T> maps(c.maps.size());
  for (size_t i = 0; i < maps.size(); ++i) store(c.maps[i], &maps[i]);
  Case exact = c;
  for (size_t i = 0; i < maps.size(); ++i) exact.maps[i] = widen(maps[i]);
  const Answers a = reference(exact);
  std::vector<float> logits(c.rois * K, -1), masks(c.rois * bins * 2, -1), means(c.rois * l.depth, -1);
  std::vector<T> by_assembly(maps.size()), by_average(maps.size());
  std::vector<int> chosen(c.rois, -7);
  if (on_cpu) {
    const cpu::Forward<T> forward{maps.data(), c.boxes.data(), c.index.data(), c.labels.data(),
                                  logits.data(), masks.data(), chosen.data(), l};
    shared(c.rois, [&forward](int64_t f, int64_t e) { cpu::run(forward, f, e); });
    const cpu::Average<T> average{maps.data(), c.boxes.data(), c.index.data(), means.data(), l};
    shared(c.rois, [&average](int64_t f, int64_t e) { cpu::run(average, f, e); });
    std::vector<cpu::Active> active, averaged;
    for (int r = 0; r < c.rois; ++r) {
      const bool by_class = cpu::any(&c.class_gradient[r * K], K);
      const bool by_mask = cpu::any(&c.mask_gradient[r * bins * 2], bins * 2);
      if (by_class || by_mask) active.push_back({r, by_class, by_mask});
      averaged.push_back({r, true, false});
    }
    const int64_t units = int64_t(l.images) * l.group * l.group;
    const cpu::Backward<T> backward{maps.data(), c.boxes.data(), c.index.data(), chosen.data(),
                                    c.class_gradient.data(), c.mask_gradient.data(),
                                    by_assembly.data(), l};
    shared(units, [&](int64_t f, int64_t e) { cpu::run(backward, active, f, e); });
    const cpu::AverageBackward<T> mean_backward{c.boxes.data(), c.index.data(),
                                                c.mean_gradient.data(), by_average.data(), l};
    shared(units, [&](int64_t f, int64_t e) { cpu::run(mean_backward, averaged, f, e); });
  } else {
    Device<T> d_maps(maps), d_by_assembly(by_assembly), d_by_average(by_average);
    Device<float> boxes(c.boxes), d_logits(logits), d_masks(masks), d_means(means);
    Device<float> of_classes(c.class_gradient), of_masks(c.mask_gradient), of_means(c.mean_gradient);
    Device<float> scratch(std::vector<float>(cuda::assemble_scratch(l, c.rois)));
    Device<int> index(c.index), labels(c.labels), d_chosen(chosen);
    Device<int> reach(std::vector<int>(cuda::gradient_scratch(l, c.rois)));
    const char* faults[] = {
        cuda::assemble(d_maps.data(), boxes.data(), index.data(), labels.data(), c.rois, l,
                       scratch.data(), d_logits.data(), d_masks.data(), d_chosen.data(), nullptr),
        cuda::assemble_gradient(d_maps.data(), boxes.data(), index.data(), d_chosen.data(),
                                of_classes.data(), of_masks.data(), c.rois, l, reach.data(),
                                d_by_assembly.data(), nullptr),
        cuda::average(d_maps.data(), boxes.data(), index.data(), c.rois, l, d_means.data(),
                      nullptr),
        cuda::average_gradient(boxes.data(), index.data(), of_means.data(), c.rois, l,
                               reach.data(), d_by_average.data(), nullptr)};
    for (const char* fault : faults) {
      if (fault) {
        std::printf("CUDA: %s\n", fault);
        return false;
      }
    }
    logits = d_logits.fetch(), masks = d_masks.fetch(), means = d_means.fetch();
    chosen = d_chosen.fetch();
    by_assembly = d_by_assembly.fetch(), by_average = d_by_average.fetch();
  }
  if (chosen != a.chosen) {
    std::printf("another class was chosen\n");
    return false;
  }
  const double fine = 1e-5, stored = sizeof(T) == 2 ? 1.0 / 256 : 1e-5;
  return close("class_logits", logits, a.logits, fine) &&
         close("mask_logits", masks, a.masks, fine) && close("means", means, a.means, fine) &&
         close("gradient of assembly", floats(by_assembly), a.assemble_gradient, stored) &&
         close("gradient of average", floats(by_average), a.average_gradient, stored);
}

bool check_all(bool on_cpu, int rounds) {
  std::mt19937 random(7);
  const int geometries[][2] = {{7, 21}, {3, 9}, {1, 5}, {7, 14}, {3, 8}, {5, 7}, {1, 1}, {2, 3}};
  const int class_counts[] = {1, 2, 3, 5, 17, 21, 33, 81};
  for (int round = 0; round < rounds; ++round) {
    const int* g = geometries[random() % 8];
    Case c = random_case(&random, g[0], g[1], class_counts[random() % 8], random() % 7);
    if (!check<float>(c, on_cpu) || !check<BFloat16>(c, on_cpu)) {
      std::printf("case %d: k %d, p %d, %d classes, %d ROIs\n", round, g[0], g[1], c.l.depth / 2,
                  c.rois);
      return false;
    }
  }
  return true;
}

}  // namespace

int main(int count, char** arguments) {
  const int rounds = count > 1 ? std::atoi(arguments[1]) : 300;
#ifdef __CUDACC__
  int devices = 0;
  if (cudaGetDeviceCount(&devices) != cudaSuccess || devices == 0) {
    std::printf("skipped: no GPU here\n");
    return 77;
  }
  if (!check_all(false, rounds)) return 1;
  std::printf("%d random cases agree with the reference on the GPU, float32 and bfloat16\n", rounds);
  bandwidth();
#else
  if (!check_all(true, rounds)) return 1;
  std::printf("CPU kernels: %d random cases agree, float32 and bfloat16\n", rounds);
  if (!check_all(false, rounds)) return 1;
  std::printf("CUDA kernels run as loops: %d random cases agree, float32 and bfloat16\n", rounds);
#endif
  return 0;
}
