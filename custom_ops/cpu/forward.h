// What ROIs read from the maps, on the CPU.
//
// Kernels take a range of ROIs: what one ROI reads (two hundred kilobytes of a COCO model) stays in
// the cache between its two passes, class logits and then the masks of the best class.
#pragma once

#include <algorithm>
#include <vector>

#include "../calls.h"
#include "bins.h"

namespace fcis {
namespace cpu {

// The mean over bins of the larger side of each class, one ROI.
//
// image (H, W, k * k, 2, K); sums: K floats in chunks, scratch; logits (K,).
template <class T, int V>
FCIS_INLINE void read_classes(const T* image, const Layout& layout, const Bins& bins, float* sums,
                              float* logits) {
  using Floats = typename Lanes<V>::Floats;
  const int k = layout.group, classes = layout.depth / 2;
  const int64_t cell = layout.cell_channels(), row = cell * layout.columns;
  const Chunks<V> chunks{classes};
  std::fill(sums, sums + chunks.number() * V, 0.0f);
  // Group by group, as the channels of one group are neighbours in memory.
  for (int g = 0; g < k * k; ++g) {
    const Span q = group_bins(g / k, layout), c = group_bins(g % k, layout);
    for (int chunk = 0; chunk < chunks.number(); ++chunk) {
      const T* from = image + int64_t(g) * layout.depth + chunks.first(chunk);
      // The sum stays in a register over all bins of the group.
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
  // The mean over p * p bins; channels that two chunks hold have the same sum in both.
  const float bin = 1.0f / (layout.pooled * layout.pooled);
  for (int chunk = 0; chunk < chunks.number(); ++chunk) {
    for (int lane = 0; lane < V; ++lane) {
      logits[chunks.first(chunk) + lane] = sums[chunk * V + lane] * bin;
    }
  }
}

// Both sides of one class in every bin, one ROI: image (H, W, k * k, 2, K), mask (p, p, 2).
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
      // A bin without cells reads 0.
      const int area = y.size() * x.size();
      const float share = area ? 1.0f / area : 0.0f;
      mask[0] = outside * share;
      mask[1] = inside * share;
    }
  }
}

// ROIs first..last - 1 of a call.
template <class T, int V>
FCIS_INLINE void assemble(const Assemble<T>& call, int64_t first, int64_t last) {
  const Layout& layout = call.layout;
  const int classes = layout.depth / 2;
  Bins bins(layout);
  std::vector<float> sums((classes + V - 1) / V * V);
  for (int64_t r = first; r < last; ++r) {
    bins.of(read_roi(call.boxes, r), layout);
    const T* image = call.maps + call.image_index[r] * layout.cells() * layout.cell_channels();
    float* logits = call.class_logits + r * classes;
    read_classes<T, V>(image, layout, bins, sums.data(), logits);
    // The class of the mask: the label, or the best foreground class; class 0 is the background.
    int label = call.labels[r];
    if (label < 0) {
      label = classes > 1 ? 1 : 0;
      for (int c = 2; c < classes; ++c) {
        if (logits[c] > logits[label]) label = c;
      }
    }
    call.chosen[r] = label;
    read_mask(image, layout, bins, label,
              call.mask_logits + r * layout.pooled * layout.pooled * 2);
  }
}

// The mean over all bins of every channel, for ROIs first..last - 1 of a call.
template <class T, int V>
FCIS_INLINE void average(const Average<T>& call, int64_t first, int64_t last) {
  using Floats = typename Lanes<V>::Floats;
  const Layout& layout = call.layout;
  const int k = layout.group, depth = layout.depth;
  const int64_t cell = layout.cell_channels(), row = cell * layout.columns;
  const float bin = 1.0f / (layout.pooled * layout.pooled);
  const Chunks<V> chunks{depth};
  Bins bins(layout);
  for (int64_t r = first; r < last; ++r) {
    bins.of(read_roi(call.boxes, r), layout);
    const T* image = call.maps + call.image_index[r] * layout.cells() * cell;
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
      memcpy(call.means + r * depth + chunks.first(chunk), &total, sizeof total);
    }
  }
}

}  // namespace cpu
}  // namespace fcis
