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

// What the kernels write for one case, filled with values that they must replace.
template <class T>
struct Outputs {
  std::vector<float> class_logits, mask_logits, means;
  std::vector<int> chosen;
  std::vector<T> by_assembly, by_average;  // gradients of the maps

  explicit Outputs(const Case& c)
      : class_logits(c.rois * (c.l.depth / 2), -1),
        mask_logits(c.rois * c.l.pooled * c.l.pooled * 2, -1),
        means(c.rois * c.l.depth, -1),
        chosen(c.rois, -7),
        by_assembly(c.maps.size()),
        by_average(c.maps.size()) {}
};

// Calls ``work(first, last)`` on three threads, as TensorFlow would.
template <class Work>
void share(int64_t total, Work work) {
  std::vector<std::thread> threads;
  for (int t = 0; t < 3; ++t) {
    threads.emplace_back([=] { work(total * t / 3, total * (t + 1) / 3); });
  }
  for (std::thread& thread : threads) thread.join();
}

template <class T>
bool run_cpu(const Case& c, const std::vector<T>& maps, Outputs<T>* to) {
  const Call<T> inputs{c.l, c.rois, maps.data(), c.boxes.data(), c.index.data()};
  const int64_t units = int64_t(c.l.images) * c.l.group * c.l.group;
  const Assemble<T> assemble{inputs, c.labels.data(), to->class_logits.data(),
                             to->mask_logits.data(), to->chosen.data()};
  share(c.rois, [&](int64_t first, int64_t last) { cpu::run(assemble, first, last); });
  const AssembleGradient<T> assemble_gradient{inputs, to->chosen.data(), c.class_gradient.data(),
                                              c.mask_gradient.data(), to->by_assembly.data()};
  const std::vector<cpu::Active> active = cpu::active_rois(assemble_gradient);
  share(units, [&](int64_t first, int64_t last) {
    cpu::run(assemble_gradient, active, first, last);
  });
  const Average<T> average{inputs, to->means.data()};
  share(c.rois, [&](int64_t first, int64_t last) { cpu::run(average, first, last); });
  const AverageGradient<T> average_gradient{inputs, c.mean_gradient.data(),
                                            to->by_average.data()};
  const std::vector<cpu::Active> averaged = cpu::active_rois(average_gradient);
  share(units, [&](int64_t first, int64_t last) {
    cpu::run(average_gradient, averaged, first, last);
  });
  return true;
}

template <class T>
bool run_cuda(const Case& c, const std::vector<T>& host_maps, Outputs<T>* to) {
  Device<T> maps(host_maps), by_assembly(to->by_assembly), by_average(to->by_average);
  Device<float> boxes(c.boxes), of_classes(c.class_gradient), of_masks(c.mask_gradient);
  Device<float> of_means(c.mean_gradient);
  Device<float> class_logits(to->class_logits), mask_logits(to->mask_logits), means(to->means);
  Device<int> index(c.index), labels(c.labels), chosen(to->chosen);
  Device<float> scratch(std::vector<float>(cuda::assemble_scratch(c.l, c.rois)));
  Device<int> reach(std::vector<int>(cuda::gradient_scratch(c.rois)));
  const Call<T> inputs{c.l, c.rois, maps.data(), boxes.data(), index.data()};
  const char* faults[] = {
      cuda::assemble(Assemble<T>{inputs, labels.data(), class_logits.data(), mask_logits.data(),
                                 chosen.data()},
                     scratch.data(), nullptr),
      cuda::assemble_gradient(AssembleGradient<T>{inputs, chosen.data(), of_classes.data(),
                                                  of_masks.data(), by_assembly.data()},
                              reach.data(), nullptr),
      cuda::average(Average<T>{inputs, means.data()}, nullptr),
      cuda::average_gradient(AverageGradient<T>{inputs, of_means.data(), by_average.data()},
                             reach.data(), nullptr)};
  for (const char* fault : faults) {
    if (fault) {
      std::printf("CUDA: %s\n", fault);
      return false;
    }
  }
  to->class_logits = class_logits.fetch(), to->mask_logits = mask_logits.fetch();
  to->means = means.fetch(), to->chosen = chosen.fetch();
  to->by_assembly = by_assembly.fetch(), to->by_average = by_average.fetch();
  return true;
}

// Whether all values are equal to `tolerance` of the largest expected one.
template <class T>
bool close(const char* name, const std::vector<T>& found, const std::vector<double>& expected,
           double tolerance) {
  double largest = 1e-6;
  for (double e : expected) largest = std::max(largest, std::fabs(e));
  for (size_t i = 0; i < expected.size(); ++i) {
    const double value = to_float(found[i]);
    if (!(std::fabs(value - expected[i]) <= tolerance * largest)) {
      std::printf("%s differs at %zu: %g, expected %g\n", name, i, value, expected[i]);
      return false;
    }
  }
  return true;
}

// One case with maps of type T, on the CPU or by the CUDA kernels, against the reference.
template <class T>
bool check(const Case& c, bool on_cpu) {
  std::vector<T> maps(c.maps.size());
  for (size_t i = 0; i < maps.size(); ++i) store(c.maps[i], &maps[i]);
  Case rounded = c;  // the reference sees what T holds
  for (size_t i = 0; i < maps.size(); ++i) rounded.maps[i] = to_float(maps[i]);
  const Answers a = reference(rounded);
  Outputs<T> found(c);
  if (!(on_cpu ? run_cpu(c, maps, &found) : run_cuda(c, maps, &found))) return false;
  if (found.chosen != a.chosen) {
    std::printf("another class was chosen\n");
    return false;
  }
  const double fine = 1e-5, stored = sizeof(T) == 2 ? 1.0 / 256 : 1e-5;
  return close("class_logits", found.class_logits, a.logits, fine) &&
         close("mask_logits", found.mask_logits, a.masks, fine) &&
         close("means", found.means, a.means, fine) &&
         close("gradient of assembly", found.by_assembly, a.assemble_gradient, stored) &&
         close("gradient of average", found.by_average, a.average_gradient, stored);
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
  std::printf("CUDA kernels on the GPU: %d random cases agree, float32 and bfloat16\n", rounds);
  bandwidth();
#else
  if (!check_all(true, rounds)) return 1;
  std::printf("CPU kernels: %d random cases agree, float32 and bfloat16\n", rounds);
  if (!check_all(false, rounds)) return 1;
  std::printf("CUDA kernels run as loops: %d random cases agree, float32 and bfloat16\n", rounds);
#endif
  return 0;
}
