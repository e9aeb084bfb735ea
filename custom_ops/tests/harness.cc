// Checks the kernels without TensorFlow; the same file for g++ and nvcc.
//
//   g++   the CPU kernels, and the CUDA kernels run as loops on the CPU
//   nvcc  the CUDA kernels on a GPU, and the bandwidth they reach against a copy
//
// The reference below is written bin by bin in rational arithmetic on long integers and in double.
// Prints one line for each check and exits with 1 on the first difference, 77 without a GPU.

#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <limits>
#include <random>
#include <thread>
#include <vector>

#include "../cpu/run.h"
#include "../cuda/backward.cu"
#include "../cuda/forward.cu"

namespace {

using namespace fcis;

#ifdef __CUDACC__
void must(cudaError_t status) {
  if (status == cudaSuccess) return;
  std::fprintf(stderr, "CUDA: %s\n", cudaGetErrorString(status));
  std::exit(1);
}

// A copy of host values on the device; `fetch` brings them back.
template <class T>
class Device {
 public:
  explicit Device(const std::vector<T>& host) : size_(host.size()) {
    must(cudaMalloc(&data_, (size_ + 1) * sizeof(T)));
    must(cudaMemcpy(data_, host.data(), size_ * sizeof(T), cudaMemcpyHostToDevice));
  }
  ~Device() { cudaFree(data_); }
  Device(const Device&) = delete;
  T* data() { return data_; }
  std::vector<T> fetch() {
    std::vector<T> host(size_);
    must(cudaDeviceSynchronize());
    must(cudaMemcpy(host.data(), data_, size_ * sizeof(T), cudaMemcpyDeviceToHost));
    return host;
  }

 private:
  T* data_;
  size_t size_;
};
#else
template <class T>
class Device {
 public:
  explicit Device(const std::vector<T>& host) : data_(host) {}
  T* data() { return data_.data(); }
  std::vector<T> fetch() { return data_; }

 private:
  std::vector<T> data_;
};
#endif

struct Case {
  Layout l;
  int rois;
  std::vector<float> boxes;
  std::vector<int> index, labels;
  std::vector<double> maps;
  std::vector<float> class_gradient, mask_gradient, mean_gradient;
};

struct Answers {
  std::vector<double> logits, masks, means, assemble_gradient, average_gradient;
  std::vector<int> chosen;
};

long floor_of(long a, long b) { return a / b - (a % b != 0 && (a < 0) != (b < 0)); }

// Edges of bin `i` in cells, exact: start + i * max(end - start, 1/10 cell) / p.
void exact_edges(double low, double high, int i, int cells, const Layout& l, long* first,
                 long* last) {
  auto pixel = [](double v) -> long {
    if (std::isnan(v)) return 0;
    return std::lround(std::fmax(-1e6, std::fmin(1e6, v)));
  };
  const long start = pixel(low), end = pixel(high), p = l.pooled, s = l.stride;
  // In units of 1 / (10 p s): ten times a pixel is 10 p.
  const long extent = std::max(10 * (end - start), s), unit = 10 * p * s;
  *first = floor_of(10 * p * start + i * extent, unit);
  *last = -floor_of(-(10 * p * start + (i + 1) * extent), unit);
  *first = std::min<long>(std::max<long>(*first, 0), cells);
  *last = std::min<long>(std::max<long>(*last, 0), cells);
}

Answers reference(const Case& c) {
  const Layout& l = c.l;
  const int k = l.group, p = l.pooled, K = l.depth / 2, D = l.depth;
  Answers a;
  a.logits.assign(size_t(c.rois) * K, 0.0);
  a.masks.assign(size_t(c.rois) * p * p * 2, 0.0);
  a.means.assign(size_t(c.rois) * D, 0.0);
  a.assemble_gradient.assign(c.maps.size(), 0.0);
  a.average_gradient.assign(c.maps.size(), 0.0);
  a.chosen = c.labels;
  auto at = [&](int r, long y, long x, int q, int b, int d) {
    const size_t cell = (size_t(c.index[r]) * l.rows + y) * l.columns + x;
    return cell * k * k * D + ((q * k / p) * k + b * k / p) * D + d;
  };
  for (int pass = 0; pass < 2; ++pass) {  // values, then gradients
    for (int r = 0; r < c.rois; ++r) {
      const float* box = &c.boxes[4 * r];
      for (int q = 0; q < p; ++q) {
        for (int b = 0; b < p; ++b) {
          long y0, y1, x0, x1;
          exact_edges(box[0], box[2], q, l.rows, l, &y0, &y1);
          exact_edges(box[1], box[3], b, l.columns, l, &x0, &x1);
          if (y1 <= y0 || x1 <= x0) continue;
          const double count = double(y1 - y0) * (x1 - x0);
          std::vector<double> bin(D, 0.0);
          for (int d = 0; d < D; ++d) {
            for (long y = y0; y < y1; ++y) {
              for (long x = x0; x < x1; ++x) bin[d] += c.maps[at(r, y, x, q, b, d)] / count;
            }
          }
          const size_t mask = ((size_t(r) * p + q) * p + b) * 2;
          if (pass == 0) {
            for (int d = 0; d < D; ++d) a.means[r * D + d] += bin[d] / (p * p);
            for (int o = 0; o < K; ++o) {
              a.logits[r * K + o] += std::max(bin[o], bin[K + o]) / (p * p);
            }
            continue;
          }
          a.masks[mask] = bin[a.chosen[r]];
          a.masks[mask + 1] = bin[K + a.chosen[r]];
          for (long y = y0; y < y1; ++y) {
            for (long x = x0; x < x1; ++x) {
              for (int d = 0; d < D; ++d) {
                a.average_gradient[at(r, y, x, q, b, d)] +=
                    c.mean_gradient[r * D + d] / (count * p * p);
              }
              for (int o = 0; o < K; ++o) {
                const int side = bin[K + o] > bin[o] ? K : 0;
                a.assemble_gradient[at(r, y, x, q, b, side + o)] +=
                    c.class_gradient[r * K + o] / (count * p * p);
              }
              for (int side = 0; side < 2; ++side) {
                a.assemble_gradient[at(r, y, x, q, b, side * K + a.chosen[r])] +=
                    c.mask_gradient[mask + side] / count;
              }
            }
          }
        }
      }
    }
    for (int r = 0; pass == 0 && r < c.rois; ++r) {
      if (a.chosen[r] >= 0) continue;
      a.chosen[r] = K > 1 ? 1 : 0;
      for (int o = 2; o < K; ++o) {
        if (a.logits[r * K + o] > a.logits[r * K + a.chosen[r]]) a.chosen[r] = o;
      }
    }
  }
  return a;
}

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

Case random_case(std::mt19937* random, int k, int p, int classes, int rois) {
  auto below = [&](int n) { return int((*random)() % n); };
  auto normal = [&] { return std::normal_distribution<float>()(*random); };
  Case c;
  const int strides[] = {2, 8, 16};
  c.l = {1 + below(3), 1 + below(12), 1 + below(12), k, p, strides[below(3)], 2 * classes};
  c.rois = rois;
  const float nan = std::nanf(""), infinite = std::numeric_limits<float>::infinity();
  const float odd[] = {nan, infinite, -infinite, 1e30f, -1e30f, 0.5f, -0.5f, 2.5f, 0.49999997f};
  for (int r = 0; r < rois; ++r) {
    for (int corner = 0; corner < 4; ++corner) {
      const float reach = (corner % 2 ? c.l.columns : c.l.rows) * c.l.stride;
      float value = normal() * 0.5f * reach + 0.5f * reach;
      if (below(4) == 0) value = std::floor(value) + 0.5f;
      if (below(12) == 0) value = odd[below(9)];
      c.boxes.push_back(value);
    }
    c.index.push_back(below(c.l.images));
    c.labels.push_back(below(classes + 1) - 1);
  }
  c.maps.resize(c.l.images * c.l.cells() * c.l.cell_channels());
  for (double& value : c.maps) value = normal();
  const bool silent = below(3) == 0;
  auto gradient = [&](std::vector<float>* values, int each) {
    for (int r = 0; r < rois; ++r) {
      const bool zero = silent || below(3) == 0;
      for (int i = 0; i < each; ++i) values->push_back(zero ? 0.0f : normal());
    }
  };
  gradient(&c.class_gradient, classes);
  gradient(&c.mask_gradient, p * p * 2);
  gradient(&c.mean_gradient, 2 * classes);
  return c;
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

#ifdef __CUDACC__
// Milliseconds of the median of 20 runs.
template <class Work>
double median_ms(Work work) {
  std::vector<float> times;
  cudaEvent_t start, stop;
  must(cudaEventCreate(&start));
  must(cudaEventCreate(&stop));
  for (int i = 0; i < 23; ++i) {
    must(cudaEventRecord(start));
    work();
    must(cudaEventRecord(stop));
    must(cudaEventSynchronize(stop));
    float ms;
    must(cudaEventElapsedTime(&ms, start, stop));
    if (i >= 3) times.push_back(ms);
  }
  std::sort(times.begin(), times.end());
  return times[times.size() / 2];
}

// The COCO model at 600 x 1000: 300 ROIs, 128 of them active, sides from 32 to 600 pixels.
void bandwidth() {
  const Layout l{1, 38, 63, 7, 21, 16, 162};
  const int rois = 300, bins = 441, K = 81;
  std::mt19937 random(0);
  std::uniform_real_distribution<float> unit(0, 1);
  std::vector<float> maps(l.cells() * l.cell_channels()), boxes, of_classes(rois * K),
      of_masks(rois * bins * 2), of_means(rois * l.depth);
  for (float& value : maps) value = unit(random);
  double read = 0;  // bytes that the bins of all ROIs touch
  for (int r = 0; r < rois; ++r) {
    const float h = 32 * std::pow(600 / 32.f, unit(random)), w = 32 * std::pow(600 / 32.f, unit(random));
    const float y = unit(random) * (600 - h), x = unit(random) * (1000 - w);
    for (float corner : {y, x, y + h, x + w}) boxes.push_back(corner);
    for (int q = 0; q < 21; ++q) {
      for (int b = 0; b < 21; ++b) {
        const Roi roi = read_roi(boxes.data(), r);
        read += 4.0 * l.depth * bin_cells(roi.y0, roi.y1, l.rows, q, l).size() *
                bin_cells(roi.x0, roi.x1, l.columns, b, l).size();
      }
    }
  }
  for (int i = 0; i < 128 * K; ++i) of_classes[i] = unit(random);
  for (int i = 0; i < 128 * bins * 2; ++i) of_masks[i] = unit(random);
  std::vector<int> none(rois, 0), best(rois, -1);
  Device<float> d_maps(maps), d_boxes(boxes), gradient(maps), logits(std::vector<float>(rois * K));
  Device<float> masks(std::vector<float>(rois * bins * 2)), d_classes(of_classes), d_masks(of_masks);
  Device<float> scratch(std::vector<float>(cuda::assemble_scratch(l, rois)));
  Device<int> index(none), labels(best), chosen(none);
  Device<int> reach(std::vector<int>(cuda::gradient_scratch(l, rois)));
  const double bytes = maps.size() * 4.0;
  const double copy = median_ms([&] {
    must(cudaMemcpyAsync(gradient.data(), d_maps.data(), bytes, cudaMemcpyDeviceToDevice));
  });
  const double forward = median_ms([&] {
    cuda::assemble(d_maps.data(), d_boxes.data(), index.data(), labels.data(), rois, l,
                   scratch.data(), logits.data(), masks.data(), chosen.data(), nullptr);
  });
  const double backward = median_ms([&] {
    cuda::assemble_gradient(d_maps.data(), d_boxes.data(), index.data(), chosen.data(),
                            d_classes.data(), d_masks.data(), rois, l, reach.data(),
                            gradient.data(), nullptr);
  });
  std::printf("device-to-device copy of the maps  %.3f ms  %.0f GB/s\n", copy, 2e-6 * bytes / copy);
  std::printf("assembly forward, 300 ROIs         %.3f ms  %.0f GB/s read, %.2f of the copy\n",
              forward, 1e-6 * read / forward, forward / copy);
  std::printf("assembly backward, 128 active      %.3f ms  %.2f of the copy\n", backward,
              backward / copy);
}
#endif

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
