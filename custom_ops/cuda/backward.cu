// Gradients of the maps, on CUDA, without TensorFlow; see forward.cu for the form of the kernels.

#include "bins.h"
#include "kernels.h"
#include "launch.h"

namespace fcis {
namespace cuda {
namespace {

// Thread (ROI): whether anything flows back to it, and the cells that its bins span.
struct Reach {
  const float* rois;
  const int* image_index;
  const float* class_gradient;  // (R, class_count)
  int64_t class_count;
  const float* mask_gradient;  // (R, mask_count), null for averages
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
    // From the first cell of the first bin to the last cell of the last bin of each axis.
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

  // Whether an active ROI of this image, `reach` (5,), may have a bin on the cell.
  FCIS_BODY bool reached(const int* reach) const {
    return reach[0] == image && reach[1] <= y && y < reach[2] && reach[3] <= x && x < reach[4];
  }
};

FCIS_BOTH bool holds(Span span, int cell) { return span.low <= cell && cell < span.high; }

// Thread (cell, group, class): gathers what every bin that touches the cell sends to both sides.
template <class T>
struct GatherAssembly {
  const T* maps;
  const float* rois;
  const int* chosen;            // (R,)
  const float* class_gradient;  // (R, K)
  const float* mask_gradient;   // (R, p, p, 2)
  const int* reach;             // (R, 5)
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
          // The larger side is found again from the maps; a tie goes to the outside side.
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

// Thread (cell, group, channel): gathers what every bin that touches the cell sends to a channel.
template <class T>
struct GatherAverage {
  const float* rois;
  const float* gradient;  // (R, D)
  const int* reach;       // (R, 5)
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

int64_t gradient_scratch(int64_t rois) { return rois * 5; }

template <class T>
const char* assemble_gradient(const AssembleGradient<T>& call, int* scratch, void* stream) {
  const Layout& l = call.layout;
  const int64_t classes = l.depth / 2, lanes = padded(classes);
  const char* fault =
      launch(Reach{call.boxes, call.image_index, call.class_gradient, classes, call.mask_gradient,
                   int64_t(l.pooled) * l.pooled * 2, scratch, l},
             call.rois, stream);
  if (!fault) {
    fault = launch(GatherAssembly<T>{call.maps, call.boxes, call.chosen, call.class_gradient,
                                     call.mask_gradient, scratch, call.maps_gradient, call.rois,
                                     lanes, l},
                   l.images * l.cells() * l.group * l.group * lanes, stream);
  }
  return fault;
}

template <class T>
const char* average_gradient(const AverageGradient<T>& call, int* scratch, void* stream) {
  const Layout& l = call.layout;
  const char* fault =
      launch(Reach{call.boxes, call.image_index, call.gradient, l.depth, nullptr, 0, scratch, l},
             call.rois, stream);
  if (!fault) {
    fault = launch(GatherAverage<T>{call.boxes, call.gradient, scratch, call.maps_gradient,
                                    call.rois, l},
                   l.images * l.cells() * l.cell_channels(), stream);
  }
  return fault;
}

template const char* assemble_gradient(const AssembleGradient<float>&, int*, void*);
template const char* assemble_gradient(const AssembleGradient<BFloat16>&, int*, void*);
template const char* average_gradient(const AverageGradient<float>&, int*, void*);
template const char* average_gradient(const AverageGradient<BFloat16>&, int*, void*);

}  // namespace cuda
}  // namespace fcis
