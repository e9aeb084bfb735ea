// Position-sensitive assembly on CUDA, without TensorFlow.
//
// Every kernel is a function of one thread number that shares nothing with other threads: the same
// source, compiled by g++, runs as loops on the CPU, where the tests compare it with the reference.
// Classes are the fastest index, so neighbouring threads read neighbouring channels.

#include "ps_assembly_cuda.h"

namespace fcis {
namespace cuda {
namespace {

#ifdef __CUDACC__
#define FCIS_BODY __device__

template <class Body>
__global__ void run(Body body, int64_t threads) {
  const int64_t stride = int64_t(gridDim.x) * blockDim.x;
  for (int64_t i = int64_t(blockIdx.x) * blockDim.x + threadIdx.x; i < threads; i += stride) body(i);
}

template <class Body>
const char* launch(const Body& body, int64_t threads, void* stream) {
  if (threads == 0) return nullptr;
  const int block = 128;
  const int64_t blocks = (threads + block - 1) / block;
  run<<<static_cast<unsigned>(blocks < (1 << 30) ? blocks : (1 << 30)), block, 0,
        static_cast<cudaStream_t>(stream)>>>(body, threads);
  const cudaError_t status = cudaGetLastError();
  return status == cudaSuccess ? nullptr : cudaGetErrorString(status);
}
#else
#define FCIS_BODY

template <class Body>
const char* launch(const Body& body, int64_t threads, void*) {
  for (int64_t i = 0; i < threads; ++i) body(i);
  return nullptr;
}
#endif

constexpr int kWarp = 32;

// Threads of a warp work on one ROI: class numbers are padded to whole warps.
int64_t padded(int64_t channels) { return (channels + kWarp - 1) / kWarp * kWarp; }

FCIS_BOTH bool in_maps(int image, const Layout& l) { return image >= 0 && image < l.images; }

FCIS_BOTH int clip_label(int label, const Layout& l) {
  return label < 0 ? 0 : label < l.depth / 2 ? label : l.depth / 2 - 1;
}

template <class T>
FCIS_BOTH const T* at_cell(const T* maps, int image, int y, int x, const Layout& l) {
  return maps + ((int64_t(image) * l.rows + y) * l.columns + x) * l.cell_channels();
}

// Sum of one channel over the cells of a bin; `channel` counts from the start of a cell.
template <class T>
FCIS_BOTH float sum_bin(const T* maps, int image, Span y, Span x, int channel, const Layout& l) {
  float sum = 0.0f;
  for (int i = y.low; i < y.high; ++i) {
    const T* at = at_cell(maps, image, i, x.low, l) + channel;
    for (int j = x.low; j < x.high; ++j, at += l.cell_channels()) sum += to_float(*at);
  }
  return sum;
}

// Thread (ROI, row of groups, class): evidence of the bins in one row of position groups.
template <class T>
struct ClassRow {
  const T* maps;
  const float* rois;
  const int* image_index;
  float* partial;  // (R, k, K)
  Layout l;
  int64_t lanes;

  FCIS_BODY void operator()(int64_t thread) const {
    const int c = thread % lanes, gy = thread / lanes % l.group;
    const int64_t r = thread / lanes / l.group;
    const int classes = l.depth / 2, image = image_index[r];
    if (c >= classes) return;
    float total = 0.0f;
    if (in_maps(image, l)) {
      const Roi roi = read_roi(rois, r);
      const Span rows = group_bins(gy, l);
      for (int q = rows.low; q < rows.high; ++q) {
        const Span y = bin_cells(roi.y0, roi.y1, l.rows, q, l);
        if (!y.size()) continue;
        for (int b = 0; b < l.pooled; ++b) {
          const Span x = bin_cells(roi.x0, roi.x1, l.columns, b, l);
          if (!x.size()) continue;
          const int channel = (gy * l.group + b * l.group / l.pooled) * l.depth + c;
          const float outside = sum_bin(maps, image, y, x, channel, l);
          const float inside = sum_bin(maps, image, y, x, channel + classes, l);
          total += (inside > outside ? inside : outside) / (y.size() * x.size());
        }
      }
    }
    partial[(r * l.group + gy) * classes + c] = total;
  }
};

// Thread (ROI, class): the mean over all bins.
struct ClassMean {
  const float* partial;
  float* class_logits;
  Layout l;

  FCIS_BODY void operator()(int64_t thread) const {
    const int classes = l.depth / 2;
    const int64_t r = thread / classes, c = thread % classes;
    float total = 0.0f;
    for (int gy = 0; gy < l.group; ++gy) total += partial[(r * l.group + gy) * classes + c];
    class_logits[thread] = total / (l.pooled * l.pooled);
  }
};

// Thread (ROI): the class whose mask is read.
struct Choose {
  const float* class_logits;
  const int* labels;
  int* chosen;
  Layout l;

  FCIS_BODY void operator()(int64_t r) const {
    const int classes = l.depth / 2;
    if (labels[r] >= 0) {
      chosen[r] = clip_label(labels[r], l);
      return;
    }
    int best = classes > 1 ? 1 : 0;
    for (int c = 2; c < classes; ++c) {
      if (class_logits[r * classes + c] > class_logits[r * classes + best]) best = c;
    }
    chosen[r] = best;
  }
};

// Thread (ROI, bin, side): mask logits of the chosen class.
template <class T>
struct Mask {
  const T* maps;
  const float* rois;
  const int* image_index;
  const int* chosen;
  float* mask_logits;
  Layout l;

  FCIS_BODY void operator()(int64_t thread) const {
    const int side = thread % 2, bin = thread / 2 % (l.pooled * l.pooled);
    const int64_t r = thread / 2 / (l.pooled * l.pooled);
    const int image = image_index[r], q = bin / l.pooled, b = bin % l.pooled;
    float mean = 0.0f;
    if (in_maps(image, l)) {
      const Roi roi = read_roi(rois, r);
      const Span y = bin_cells(roi.y0, roi.y1, l.rows, q, l);
      const Span x = bin_cells(roi.x0, roi.x1, l.columns, b, l);
      const int group = q * l.group / l.pooled * l.group + b * l.group / l.pooled;
      const int channel = group * l.depth + side * (l.depth / 2) + chosen[r];
      if (y.size() && x.size()) {
        mean = sum_bin(maps, image, y, x, channel, l) / (y.size() * x.size());
      }
    }
    mask_logits[thread] = mean;
  }
};

// Thread (ROI): whether anything flows back to it, and the cells that its bins span.
struct Reach {
  const float* rois;
  const int* image_index;
  const float* class_gradient;
  int64_t class_count;
  const float* mask_gradient;  // null for averages
  int64_t mask_count;
  int* reach;  // (R, 5): image or -1, first row, last row, first column, last column
  Layout l;

  FCIS_BODY bool any(const float* values, int64_t count) const {
    for (int64_t i = 0; i < count; ++i) {
      if (values[i] != 0.0f) return true;
    }
    return false;
  }

  FCIS_BODY void operator()(int64_t r) const {
    const bool active = any(class_gradient + r * class_count, class_count) ||
                        (mask_gradient && any(mask_gradient + r * mask_count, mask_count));
    const Roi roi = read_roi(rois, r);
    int* to = reach + 5 * r;
    to[0] = active && in_maps(image_index[r], l) ? image_index[r] : -1;
    to[1] = bin_cells(roi.y0, roi.y1, l.rows, 0, l).low;
    to[2] = bin_cells(roi.y0, roi.y1, l.rows, l.pooled - 1, l).high;
    to[3] = bin_cells(roi.x0, roi.x1, l.columns, 0, l).low;
    to[4] = bin_cells(roi.x0, roi.x1, l.columns, l.pooled - 1, l).high;
  }
};

// One cell of one position group: where in the maps it is, and which bins may touch it.
struct Place {
  int image, y, x, group;
  Span rows, columns;  // of bins

  FCIS_BODY Place(int64_t number, const Layout& l) {
    const int k = l.group;
    group = number % (k * k);
    x = number / (k * k) % l.columns;
    y = number / (k * k) / l.columns % l.rows;
    image = number / (k * k) / l.columns / l.rows;
    rows = group_bins(group / k, l);
    columns = group_bins(group % k, l);
  }

  FCIS_BODY bool reached(const int* reach) const {
    return reach[0] == image && reach[1] <= y && y < reach[2] && reach[3] <= x && x < reach[4];
  }
};

FCIS_BOTH bool holds(Span span, int cell) { return span.low <= cell && cell < span.high; }

// Thread (cell, group, class): gathers what every bin that touches the cell sends to both sides.
template <class T>
struct AssembleGradient {
  const T* maps;
  const float* rois;
  const int* chosen;
  const float* class_gradient;
  const float* mask_gradient;
  const int* reach;
  T* maps_gradient;
  int64_t count, lanes;
  Layout l;

  FCIS_BODY void operator()(int64_t thread) const {
    const int c = thread % lanes, classes = l.depth / 2;
    if (c >= classes) return;
    const Place place(thread / lanes, l);
    const int channel = place.group * l.depth + c;
    const float mean = 1.0f / (l.pooled * l.pooled);
    float outside = 0.0f, inside = 0.0f;
    for (int64_t r = 0; r < count; ++r) {
      if (!place.reached(reach + 5 * r)) continue;
      const Roi roi = read_roi(rois, r);
      const float incoming = class_gradient[r * classes + c] * mean;
      const bool masked = chosen[r] == c;
      for (int q = place.rows.low; q < place.rows.high; ++q) {
        const Span y = bin_cells(roi.y0, roi.y1, l.rows, q, l);
        if (!holds(y, place.y)) continue;
        for (int b = place.columns.low; b < place.columns.high; ++b) {
          const Span x = bin_cells(roi.x0, roi.x1, l.columns, b, l);
          if (!holds(x, place.x)) continue;
          const float share = 1.0f / (y.size() * x.size());
          if (incoming != 0.0f) {
            const float out = sum_bin(maps, place.image, y, x, channel, l);
            const float in = sum_bin(maps, place.image, y, x, channel + classes, l);
            (in > out ? inside : outside) += incoming * share;
          }
          if (masked) {
            const float* pair = mask_gradient + 2 * ((r * l.pooled + q) * l.pooled + b);
            outside += pair[0] * share;
            inside += pair[1] * share;
          }
        }
      }
    }
    T* to = maps_gradient + thread / lanes * l.depth + c;
    store(outside, to);
    store(inside, to + classes);
  }
};

// Thread (ROI, channel): the mean over all bins.
template <class T>
struct AverageRoi {
  const T* maps;
  const float* rois;
  const int* image_index;
  float* means;
  Layout l;

  FCIS_BODY void operator()(int64_t thread) const {
    const int d = thread % l.depth;
    const int64_t r = thread / l.depth;
    const int image = image_index[r];
    float total = 0.0f;
    if (in_maps(image, l)) {
      const Roi roi = read_roi(rois, r);
      for (int q = 0; q < l.pooled; ++q) {
        const Span y = bin_cells(roi.y0, roi.y1, l.rows, q, l);
        for (int b = 0; b < l.pooled; ++b) {
          const Span x = bin_cells(roi.x0, roi.x1, l.columns, b, l);
          if (!y.size() || !x.size()) continue;
          const int group = q * l.group / l.pooled * l.group + b * l.group / l.pooled;
          total += sum_bin(maps, image, y, x, group * l.depth + d, l) / (y.size() * x.size());
        }
      }
    }
    means[thread] = total / (l.pooled * l.pooled);
  }
};

// Thread (cell, group, channel).
template <class T>
struct AverageGradient {
  const float* rois;
  const float* gradient;
  const int* reach;
  T* maps_gradient;
  int64_t count;
  Layout l;

  FCIS_BODY void operator()(int64_t thread) const {
    const int d = thread % l.depth;
    const Place place(thread / l.depth, l);
    float total = 0.0f;
    for (int64_t r = 0; r < count; ++r) {
      if (!place.reached(reach + 5 * r)) continue;
      const Roi roi = read_roi(rois, r);
      float weight = 0.0f;
      for (int q = place.rows.low; q < place.rows.high; ++q) {
        const Span y = bin_cells(roi.y0, roi.y1, l.rows, q, l);
        if (!holds(y, place.y)) continue;
        for (int b = place.columns.low; b < place.columns.high; ++b) {
          const Span x = bin_cells(roi.x0, roi.x1, l.columns, b, l);
          if (holds(x, place.x)) weight += 1.0f / (y.size() * x.size());
        }
      }
      total += weight * gradient[r * l.depth + d];
    }
    store(total / (l.pooled * l.pooled), maps_gradient + thread);
  }
};

}  // namespace

int64_t assemble_scratch(const Layout& l, int64_t rois) { return rois * l.group * (l.depth / 2); }

int64_t gradient_scratch(const Layout&, int64_t rois) { return rois * 5; }

template <class T>
const char* assemble(const T* maps, const float* rois, const int* image_index, const int* labels,
                     int64_t count, const Layout& l, float* scratch, float* class_logits,
                     float* mask_logits, int* chosen, void* stream) {
  const int64_t classes = l.depth / 2, lanes = padded(classes);
  const char* fault = launch(ClassRow<T>{maps, rois, image_index, scratch, l, lanes},
                             count * l.group * lanes, stream);
  if (!fault) fault = launch(ClassMean{scratch, class_logits, l}, count * classes, stream);
  if (!fault) fault = launch(Choose{class_logits, labels, chosen, l}, count, stream);
  if (!fault) {
    fault = launch(Mask<T>{maps, rois, image_index, chosen, mask_logits, l},
                   count * l.pooled * l.pooled * 2, stream);
  }
  return fault;
}

template <class T>
const char* assemble_gradient(const T* maps, const float* rois, const int* image_index,
                              const int* chosen, const float* class_gradient,
                              const float* mask_gradient, int64_t count, const Layout& l,
                              int* scratch, T* maps_gradient, void* stream) {
  const int64_t classes = l.depth / 2, lanes = padded(classes);
  const char* fault =
      launch(Reach{rois, image_index, class_gradient, classes, mask_gradient,
                   int64_t(l.pooled) * l.pooled * 2, scratch, l},
             count, stream);
  if (!fault) {
    fault = launch(AssembleGradient<T>{maps, rois, chosen, class_gradient, mask_gradient, scratch,
                                       maps_gradient, count, lanes, l},
                   l.images * l.cells() * l.group * l.group * lanes, stream);
  }
  return fault;
}

template <class T>
const char* average(const T* maps, const float* rois, const int* image_index, int64_t count,
                    const Layout& l, float* means, void* stream) {
  return launch(AverageRoi<T>{maps, rois, image_index, means, l}, count * l.depth, stream);
}

template <class T>
const char* average_gradient(const float* rois, const int* image_index, const float* gradient,
                             int64_t count, const Layout& l, int* scratch, T* maps_gradient,
                             void* stream) {
  const char* fault = launch(Reach{rois, image_index, gradient, l.depth, nullptr, 0, scratch, l},
                             count, stream);
  if (!fault) {
    fault = launch(AverageGradient<T>{rois, gradient, scratch, maps_gradient, count, l},
                   l.images * l.cells() * l.cell_channels(), stream);
  }
  return fault;
}

#define FCIS_INSTANTIATE(T)                                                                       \
  template const char* assemble<T>(const T*, const float*, const int*, const int*, int64_t,       \
                                   const Layout&, float*, float*, float*, int*, void*);           \
  template const char* assemble_gradient<T>(const T*, const float*, const int*, const int*,       \
                                            const float*, const float*, int64_t, const Layout&,   \
                                            int*, T*, void*);                                     \
  template const char* average<T>(const T*, const float*, const int*, int64_t, const Layout&,     \
                                  float*, void*);                                                 \
  template const char* average_gradient<T>(const float*, const int*, const float*, int64_t,       \
                                           const Layout&, int*, T*, void*);

FCIS_INSTANTIATE(float)
FCIS_INSTANTIATE(BFloat16)

}  // namespace cuda
}  // namespace fcis
