// Gradients of the maps, on the CPU.
//
// Kernels take a range of (image, position group) pairs: each owns its channels, so threads share
// nothing and every sum has one order, that of the ROIs.
#pragma once

#include <algorithm>
#include <vector>

#include "../calls.h"
#include "bins.h"

namespace fcis {
namespace cpu {

// A ROI that something flows back to, with which of its gradients are not zero. After hard example
// mining most ROIs have none.
struct Active {
  int roi;
  bool by_class, by_mask;
};

// Whether one of the values is not zero.
FCIS_INLINE bool any(const float* values, int64_t count) {
  for (int64_t i = 0; i < count; ++i) {
    if (values[i] != 0.0f) return true;  // also for NaN
  }
  return false;
}

// The ROIs whose incoming gradients are not all zero, in their order.
template <class T>
std::vector<Active> active_rois(const AssembleGradient<T>& call) {
  const int64_t classes = call.layout.depth / 2;
  const int64_t mask = int64_t(call.layout.pooled) * call.layout.pooled * 2;
  std::vector<Active> active;
  for (int r = 0; r < call.rois; ++r) {
    const bool by_class = any(call.class_gradient + r * classes, classes);
    const bool by_mask = any(call.mask_gradient + r * mask, mask);
    if (by_class || by_mask) active.push_back({r, by_class, by_mask});
  }
  return active;
}

template <class T>
std::vector<Active> active_rois(const AverageGradient<T>& call) {
  const int64_t depth = call.layout.depth;
  std::vector<Active> active;
  for (int r = 0; r < call.rois; ++r) {
    if (any(call.gradient + r * depth, depth)) active.push_back({r, true, false});
  }
  return active;
}

// Writes one position group of one image (H, W, k * k, D) from its float32 sums (H, W, D).
template <class T>
FCIS_INLINE void write_group(const float* sums, const Layout& layout, int group, T* image) {
  T* to = image + int64_t(group) * layout.depth;
  for (int64_t i = 0; i < layout.cells(); ++i, to += layout.cell_channels()) {
    for (int d = 0; d < layout.depth; ++d) store(*sums++, to + d);
  }
}

// Adds the gradient of one ROI's class logits (K,) to the sums (H, W, 2, K) of one position group.
//
// The larger side of a bin is found again from the maps, `from` (H, W, k * k, 2, K) at this group:
// on a tie the outside side takes the gradient, as in the released code.
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
    // Channels that the chunk before has added are not added again.
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
      // A mean spreads its gradient evenly over the cells of the larger side.
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

// Adds the gradient of one ROI's mask logits (p, p, 2) to both sides of its class in the sums
// (H, W, 2, K) of one position group.
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

// Units first..last - 1, each image * k * k + group; `active` holds the ROIs of every image.
template <class T, int V>
FCIS_INLINE void assemble_gradient(const AssembleGradient<T>& call,
                                   const std::vector<Active>& active, int64_t first,
                                   int64_t last) {
  const Layout& layout = call.layout;
  const int k = layout.group, groups = k * k, classes = layout.depth / 2;
  const int64_t image_size = layout.cells() * layout.cell_channels();
  Bins bins(layout);
  std::vector<float> sums(layout.cells() * layout.depth);
  for (int64_t unit = first; unit < last; ++unit) {
    const int image = unit / groups, g = unit % groups;
    const Span q = group_bins(g / k, layout), c = group_bins(g % k, layout);
    const T* from = call.maps + image * image_size + int64_t(g) * layout.depth;
    std::fill(sums.begin(), sums.end(), 0.0f);
    for (const Active& one : active) {
      const int64_t r = one.roi;
      if (call.image_index[r] != image) continue;
      // Only the bins that read this group.
      const Roi roi = read_roi(call.boxes, r);
      for (int i = q.low; i < q.high; ++i) {
        bins.y[i] = bin_cells(roi.y0, roi.y1, layout.rows, i, layout);
      }
      for (int j = c.low; j < c.high; ++j) {
        bins.x[j] = bin_cells(roi.x0, roi.x1, layout.columns, j, layout);
      }
      if (one.by_class) {
        spread_classes<T, V>(from, layout, q, c, bins.y.data(), bins.x.data(),
                             call.class_gradient + r * classes, sums.data());
      }
      if (one.by_mask) {
        spread_mask(layout, q, c, bins.y.data(), bins.x.data(),
                    call.mask_gradient + r * layout.pooled * layout.pooled * 2, call.chosen[r],
                    sums.data());
      }
    }
    write_group(sums.data(), layout, g, call.maps_gradient + image * image_size);
  }
}

// As `assemble_gradient`, for the mean over all bins.
template <class T, int V>
FCIS_INLINE void average_gradient(const AverageGradient<T>& call, const std::vector<Active>& active,
                                  int64_t first, int64_t last) {
  using Floats = typename Lanes<V>::Floats;
  const Layout& layout = call.layout;
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
      if (call.image_index[r] != image) continue;
      bins.of(read_roi(call.boxes, r), layout);
      for (int chunk = 0; chunk < chunks.number(); ++chunk) {
        const int at = chunks.first(chunk);
        Floats incoming = load<V>(call.gradient + r * depth + at) * bin;
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
                call.maps_gradient + image * layout.cells() * layout.cell_channels());
  }
}

}  // namespace cpu
}  // namespace fcis
