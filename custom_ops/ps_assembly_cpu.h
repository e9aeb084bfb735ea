// Position-sensitive assembly on the CPU, without TensorFlow.
//
// Forward kernels take a range of ROIs: what one ROI reads (two hundred kilobytes of a COCO model)
// stays in the cache between its two passes, class logits and then the masks of the best class.
// Backward kernels take a range of (image, position group) pairs: each owns its channels, so
// threads share nothing and every sum has one order, that of the ROIs.
#pragma once

#include <algorithm>
#include <vector>

#include "bfloat16.h"
#include "geometry.h"

// One body for every processor: the loader picks the widest instructions the machine has.
#if defined(__x86_64__) && defined(__ELF__) && !defined(FCIS_NO_CLONES)
#define FCIS_CLONES __attribute__((target_clones("avx512f", "avx2", "default")))
#else
#define FCIS_CLONES
#endif
#define FCIS_ALWAYS __attribute__((always_inline))
#define FCIS_INLINE inline FCIS_ALWAYS

namespace fcis {
namespace cpu {

template <int V>
struct Lanes {
  typedef float Floats __attribute__((vector_size(V * 4)));
  typedef uint32_t Words __attribute__((vector_size(V * 4)));
  typedef uint16_t Halves __attribute__((vector_size(V * 2)));
};

template <int V>
FCIS_INLINE typename Lanes<V>::Floats load(const float* from) {
  typename Lanes<V>::Floats value;
  memcpy(&value, from, sizeof value);
  return value;
}

template <int V>
FCIS_INLINE typename Lanes<V>::Floats load(const BFloat16* from) {
  typename Lanes<V>::Halves halves;
  memcpy(&halves, from, sizeof halves);
  const typename Lanes<V>::Words words =
      __builtin_convertvector(halves, typename Lanes<V>::Words) << 16;
  typename Lanes<V>::Floats value;
  memcpy(&value, &words, sizeof value);
  return value;
}

template <int V>
FCIS_INLINE void add(typename Lanes<V>::Floats value, float* to) {
  value += load<V>(to);
  memcpy(to, &value, sizeof value);
}

// `count` channels in chunks of V lanes; the last chunk overlaps the one before it.
template <int V>
struct Chunks {
  int count;
  FCIS_INLINE int number() const { return (count + V - 1) / V; }
  FCIS_INLINE int first(int chunk) const { return std::min(chunk * V, count - V); }
  // Lanes at the start of a chunk that belong to the one before it.
  FCIS_INLINE int repeated(int chunk) const { return chunk * V - first(chunk); }
};

// The cells of every bin of one ROI.
struct Bins {
  std::vector<Span> y, x;

  explicit Bins(const Layout& layout) : y(layout.pooled), x(layout.pooled) {}

  FCIS_INLINE void of(const Roi& roi, const Layout& layout) {
    for (int bin = 0; bin < layout.pooled; ++bin) {
      y[bin] = bin_cells(roi.y0, roi.y1, layout.rows, bin, layout);
      x[bin] = bin_cells(roi.x0, roi.x1, layout.columns, bin, layout);
    }
  }
};

// Calls ``use(y span, x span, 1 / cells)`` for each bin that has cells.
template <class Use>
FCIS_INLINE void each_bin(Span q, Span c, const Span* y, const Span* x, Use use) {
  for (int i = q.low; i < q.high; ++i) {
    for (int j = c.low; j < c.high; ++j) {
      const int area = y[i].size() * x[j].size();
      if (area) use(y[i], x[j], 1.0f / area);
    }
  }
}

template <class T>
struct Forward {
  const T* maps;
  const float* rois;         // (R, 4)
  const int* image_index;    // (R,)
  const int* labels;         // (R,) class of the mask, -1 = best foreground class
  float* class_logits;       // (R, K)
  float* mask_logits;        // (R, p, p, 2)
  int* chosen;               // (R,) class whose mask was written
  Layout layout;
};

// The mean over bins of the larger side of each class, one ROI.
template <class T, int V>
FCIS_INLINE void read_classes(const T* image, const Layout& layout, const Bins& bins, float* sums,
                              float* logits) {
  using Floats = typename Lanes<V>::Floats;
  const int k = layout.group, classes = layout.depth / 2;
  const int64_t cell = layout.cell_channels(), row = cell * layout.columns;
  const Chunks<V> chunks{classes};
  std::fill(sums, sums + chunks.number() * V, 0.0f);
  for (int g = 0; g < k * k; ++g) {
    const Span q = group_bins(g / k, layout), c = group_bins(g % k, layout);
    for (int chunk = 0; chunk < chunks.number(); ++chunk) {
      const T* from = image + int64_t(g) * layout.depth + chunks.first(chunk);
      Floats sum = load<V>(sums + chunk * V);
      each_bin(q, c, bins.y.data(), bins.x.data(), [&](Span y, Span x, float share) FCIS_ALWAYS {
        Floats outside{}, inside{};
        for (int i = y.low; i < y.high; ++i) {
          const T* at = from + i * row + x.low * cell;
          for (int j = x.low; j < x.high; ++j, at += cell) {
            outside += load<V>(at);
            inside += load<V>(at + classes);
          }
        }
        sum += (inside > outside ? inside : outside) * share;
      });
      memcpy(sums + chunk * V, &sum, sizeof sum);
    }
  }
  const float bin = 1.0f / (layout.pooled * layout.pooled);
  for (int chunk = 0; chunk < chunks.number(); ++chunk) {
    for (int lane = 0; lane < V; ++lane) {
      logits[chunks.first(chunk) + lane] = sums[chunk * V + lane] * bin;
    }
  }
}

// Both sides of one class in every bin, one ROI.
template <class T>
FCIS_INLINE void read_mask(const T* image, const Layout& layout, const Bins& bins, int label,
                           float* mask) {
  const int k = layout.group, p = layout.pooled, classes = layout.depth / 2;
  const int64_t cell = layout.cell_channels(), row = cell * layout.columns;
  for (int i = 0; i < p; ++i) {
    for (int j = 0; j < p; ++j, mask += 2) {
      const Span y = bins.y[i], x = bins.x[j];
      const int g = (i * k / p) * k + j * k / p;
      const T* from = image + int64_t(g) * layout.depth + label;
      float outside = 0.0f, inside = 0.0f;
      for (int r = y.low; r < y.high; ++r) {
        for (int s = x.low; s < x.high; ++s) {
          const T* at = from + r * row + s * cell;
          outside += to_float(at[0]);
          inside += to_float(at[classes]);
        }
      }
      const int area = y.size() * x.size();
      const float share = area ? 1.0f / area : 0.0f;
      mask[0] = outside * share;
      mask[1] = inside * share;
    }
  }
}

template <class T, int V>
FCIS_INLINE void assemble(const Forward<T>& task, int64_t first, int64_t last) {
  const Layout& layout = task.layout;
  const int classes = layout.depth / 2;
  Bins bins(layout);
  std::vector<float> sums((classes + V - 1) / V * V);
  for (int64_t r = first; r < last; ++r) {
    bins.of(read_roi(task.rois, r), layout);
    const T* image = task.maps + task.image_index[r] * layout.cells() * layout.cell_channels();
    float* logits = task.class_logits + r * classes;
    read_classes<T, V>(image, layout, bins, sums.data(), logits);
    int label = task.labels[r];
    if (label < 0) {
      label = classes > 1 ? 1 : 0;
      for (int c = 2; c < classes; ++c) {
        if (logits[c] > logits[label]) label = c;
      }
    }
    task.chosen[r] = label;
    read_mask(image, layout, bins, label,
              task.mask_logits + r * layout.pooled * layout.pooled * 2);
  }
}

template <class T>
struct Backward {
  const T* maps;
  const float* rois;
  const int* image_index;
  const int* chosen;           // (R,)
  const float* class_gradient;  // (R, K)
  const float* mask_gradient;   // (R, p, p, 2)
  T* maps_gradient;
  Layout layout;
};

// ROIs that something flows back to, with which of their gradients are not zero.
struct Active {
  int roi;
  bool by_class, by_mask;
};

FCIS_INLINE bool any(const float* values, int64_t count) {
  for (int64_t i = 0; i < count; ++i) {
    if (values[i] != 0.0f) return true;  // also for NaN
  }
  return false;
}

// Writes one position group of one image from its float32 sums (cells, depth).
template <class T>
FCIS_INLINE void write_group(const float* sums, const Layout& layout, int group, T* image) {
  T* to = image + int64_t(group) * layout.depth;
  for (int64_t i = 0; i < layout.cells(); ++i, to += layout.cell_channels()) {
    for (int d = 0; d < layout.depth; ++d) store(*sums++, to + d);
  }
}

// The winner of a bin is found again from the maps: on a tie the outside side takes the gradient.
template <class T, int V>
FCIS_INLINE void spread_classes(const T* from, const Layout& layout, Span q, Span c,
                                const Span* bins_y, const Span* bins_x, const float* gradient,
                                float* sums) {
  using Floats = typename Lanes<V>::Floats;
  const int classes = layout.depth / 2;
  const int64_t cell = layout.cell_channels();
  const Chunks<V> chunks{classes};
  const float bin = 1.0f / (layout.pooled * layout.pooled);
  for (int chunk = 0; chunk < chunks.number(); ++chunk) {
    const int first = chunks.first(chunk);
    Floats incoming = load<V>(gradient + first) * bin;
    for (int lane = 0; lane < chunks.repeated(chunk); ++lane) incoming[lane] = 0.0f;
    each_bin(q, c, bins_y, bins_x, [&](Span y, Span x, float share) FCIS_ALWAYS {
      Floats outside{}, inside{};
      for (int i = y.low; i < y.high; ++i) {
        for (int j = x.low; j < x.high; ++j) {
          const T* at = from + (int64_t(i) * layout.columns + j) * cell + first;
          outside += load<V>(at);
          inside += load<V>(at + classes);
        }
      }
      const Floats none{}, part = incoming * share;
      const Floats to_inside = inside > outside ? part : none;
      const Floats to_outside = inside > outside ? none : part;
      for (int i = y.low; i < y.high; ++i) {
        for (int j = x.low; j < x.high; ++j) {
          float* at = sums + (int64_t(i) * layout.columns + j) * layout.depth + first;
          add<V>(to_outside, at);
          add<V>(to_inside, at + classes);
        }
      }
    });
  }
}

FCIS_INLINE void spread_mask(const Layout& layout, Span q, Span c, const Span* bins_y,
                             const Span* bins_x, const float* gradient, int label, float* sums) {
  for (int i = q.low; i < q.high; ++i) {
    for (int j = c.low; j < c.high; ++j) {
      const Span y = bins_y[i], x = bins_x[j];
      const int area = y.size() * x.size();
      if (!area) continue;
      const float* pair = gradient + 2 * (i * layout.pooled + j);
      const float outside = pair[0] / area, inside = pair[1] / area;
      for (int r = y.low; r < y.high; ++r) {
        for (int s = x.low; s < x.high; ++s) {
          float* at = sums + (int64_t(r) * layout.columns + s) * layout.depth + label;
          at[0] += outside;
          at[layout.depth / 2] += inside;
        }
      }
    }
  }
}

// `active` holds the ROIs of every image; units are image * k * k + group.
template <class T, int V>
FCIS_INLINE void assemble_gradient(const Backward<T>& task, const std::vector<Active>& active,
                                   int64_t first, int64_t last) {
  const Layout& layout = task.layout;
  const int k = layout.group, groups = k * k, classes = layout.depth / 2;
  const int64_t image_size = layout.cells() * layout.cell_channels();
  Bins bins(layout);
  std::vector<float> sums(layout.cells() * layout.depth);
  for (int64_t unit = first; unit < last; ++unit) {
    const int image = unit / groups, g = unit % groups;
    const Span q = group_bins(g / k, layout), c = group_bins(g % k, layout);
    const T* from = task.maps + image * image_size + int64_t(g) * layout.depth;
    std::fill(sums.begin(), sums.end(), 0.0f);
    for (const Active& one : active) {
      const int64_t r = one.roi;
      if (task.image_index[r] != image) continue;
      const Roi roi = read_roi(task.rois, r);
      for (int i = q.low; i < q.high; ++i) {
        bins.y[i] = bin_cells(roi.y0, roi.y1, layout.rows, i, layout);
      }
      for (int j = c.low; j < c.high; ++j) {
        bins.x[j] = bin_cells(roi.x0, roi.x1, layout.columns, j, layout);
      }
      if (one.by_class) {
        spread_classes<T, V>(from, layout, q, c, bins.y.data(), bins.x.data(),
                             task.class_gradient + r * classes, sums.data());
      }
      if (one.by_mask) {
        spread_mask(layout, q, c, bins.y.data(), bins.x.data(),
                    task.mask_gradient + r * layout.pooled * layout.pooled * 2, task.chosen[r],
                    sums.data());
      }
    }
    write_group(sums.data(), layout, g, task.maps_gradient + image * image_size);
  }
}

template <class T>
struct Average {
  const T* maps;
  const float* rois;
  const int* image_index;
  float* means;  // (R, D)
  Layout layout;
};

template <class T, int V>
FCIS_INLINE void average(const Average<T>& task, int64_t first, int64_t last) {
  using Floats = typename Lanes<V>::Floats;
  const Layout& layout = task.layout;
  const int k = layout.group, depth = layout.depth;
  const int64_t cell = layout.cell_channels(), row = cell * layout.columns;
  const float bin = 1.0f / (layout.pooled * layout.pooled);
  const Chunks<V> chunks{depth};
  Bins bins(layout);
  for (int64_t r = first; r < last; ++r) {
    bins.of(read_roi(task.rois, r), layout);
    const T* image = task.maps + task.image_index[r] * layout.cells() * cell;
    for (int chunk = 0; chunk < chunks.number(); ++chunk) {
      Floats total{};
      for (int g = 0; g < k * k; ++g) {
        const Span q = group_bins(g / k, layout), c = group_bins(g % k, layout);
        const T* from = image + int64_t(g) * depth + chunks.first(chunk);
        each_bin(q, c, bins.y.data(), bins.x.data(), [&](Span y, Span x, float share) FCIS_ALWAYS {
          Floats sum{};
          for (int i = y.low; i < y.high; ++i) {
            const T* at = from + i * row + x.low * cell;
            for (int j = x.low; j < x.high; ++j, at += cell) sum += load<V>(at);
          }
          total += sum * share;
        });
      }
      total *= bin;
      memcpy(task.means + r * depth + chunks.first(chunk), &total, sizeof total);
    }
  }
}

template <class T>
struct AverageBackward {
  const float* rois;
  const int* image_index;
  const float* gradient;  // (R, D)
  T* maps_gradient;
  Layout layout;
};

template <class T, int V>
FCIS_INLINE void average_gradient(const AverageBackward<T>& task, const std::vector<Active>& active,
                                  int64_t first, int64_t last) {
  using Floats = typename Lanes<V>::Floats;
  const Layout& layout = task.layout;
  const int k = layout.group, groups = k * k, depth = layout.depth;
  const float bin = 1.0f / (layout.pooled * layout.pooled);
  const Chunks<V> chunks{depth};
  Bins bins(layout);
  std::vector<float> sums(layout.cells() * depth);
  for (int64_t unit = first; unit < last; ++unit) {
    const int image = unit / groups, g = unit % groups;
    const Span q = group_bins(g / k, layout), c = group_bins(g % k, layout);
    std::fill(sums.begin(), sums.end(), 0.0f);
    for (const Active& one : active) {
      const int64_t r = one.roi;
      if (task.image_index[r] != image) continue;
      bins.of(read_roi(task.rois, r), layout);
      for (int chunk = 0; chunk < chunks.number(); ++chunk) {
        const int at = chunks.first(chunk);
        Floats incoming = load<V>(task.gradient + r * depth + at) * bin;
        for (int lane = 0; lane < chunks.repeated(chunk); ++lane) incoming[lane] = 0.0f;
        each_bin(q, c, bins.y.data(), bins.x.data(), [&](Span y, Span x, float share) FCIS_ALWAYS {
          for (int i = y.low; i < y.high; ++i) {
            for (int j = x.low; j < x.high; ++j) {
              add<V>(incoming * share,
                     sums.data() + (int64_t(i) * layout.columns + j) * depth + at);
            }
          }
        });
      }
    }
    write_group(sums.data(), layout, g,
                task.maps_gradient + image * layout.cells() * layout.cell_channels());
  }
}

// Calls ``KERNEL<T, V>`` with the widest V that `channels` fill.
#define FCIS_WIDTH(channels, KERNEL, ...)                     \
  do {                                                        \
    const int width_ = (channels);                            \
    if (width_ >= 16) KERNEL<T, 16>(__VA_ARGS__);             \
    else if (width_ >= 4) KERNEL<T, 4>(__VA_ARGS__);          \
    else KERNEL<T, 1>(__VA_ARGS__);                           \
  } while (0)

#define FCIS_KERNELS(TYPE)                                                                       \
  FCIS_CLONES static void run(const Forward<TYPE>& task, int64_t first, int64_t last) {          \
    using T = TYPE;                                                                              \
    FCIS_WIDTH(task.layout.depth / 2, assemble, task, first, last);                              \
  }                                                                                              \
  FCIS_CLONES static void run(const Backward<TYPE>& task, const std::vector<Active>& active,     \
                              int64_t first, int64_t last) {                                     \
    using T = TYPE;                                                                              \
    FCIS_WIDTH(task.layout.depth / 2, assemble_gradient, task, active, first, last);             \
  }                                                                                              \
  FCIS_CLONES static void run(const Average<TYPE>& task, int64_t first, int64_t last) {          \
    using T = TYPE;                                                                              \
    FCIS_WIDTH(task.layout.depth, average, task, first, last);                                   \
  }                                                                                              \
  FCIS_CLONES static void run(const AverageBackward<TYPE>& task,                                 \
                              const std::vector<Active>& active, int64_t first, int64_t last) {  \
    using T = TYPE;                                                                              \
    FCIS_WIDTH(task.layout.depth, average_gradient, task, active, first, last);                  \
  }

FCIS_KERNELS(float)
FCIS_KERNELS(BFloat16)

}  // namespace cpu
}  // namespace fcis
