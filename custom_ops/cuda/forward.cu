// What ROIs read from the maps, on CUDA, without TensorFlow.
//
// Every kernel is a function of one thread number that shares nothing with other threads: the same
// source, compiled by g++, runs as loops on the CPU, where the tests compare it with the reference.
// Classes are the fastest index, so neighbouring threads read neighbouring channels.

#include "bins.h"
#include "kernels.h"
#include "launch.h"

namespace fcis {
namespace cuda {
namespace {

// Thread (ROI, row of groups, class): the sum over the bins of one row of position groups of the
// larger side. Rows are summed apart, as R * K threads alone would not fill a GPU.
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
          // The larger side is the evidence of the bin for the class.
          total += (inside > outside ? inside : outside) / (y.size() * x.size());
        }
      }
    }
    partial[(r * l.group + gy) * classes + c] = total;
  }
};

// Thread (ROI, class): the mean over all bins.
struct ClassMean {
  const float* partial;  // (R, k, K)
  float* class_logits;   // (R, K)
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
  const float* class_logits;  // (R, K)
  const int* labels;          // (R,) -1 = best foreground class
  int* chosen;                // (R,)
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
  const int* chosen;   // (R,)
  float* mask_logits;  // (R, p, p, 2)
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

// Thread (ROI, channel): the mean over all bins.
template <class T>
struct AverageRoi {
  const T* maps;
  const float* rois;
  const int* image_index;
  float* means;  // (R, D)
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

}  // namespace

int64_t assemble_scratch(const Layout& l, int64_t rois) { return rois * l.group * (l.depth / 2); }

template <class T>
const char* assemble(const Assemble<T>& call, float* scratch, void* stream) {
  const Layout& l = call.layout;
  const int64_t count = call.rois, classes = l.depth / 2, lanes = padded(classes);
  const char* fault =
      launch(ClassRow<T>{call.maps, call.boxes, call.image_index, scratch, l, lanes},
             count * l.group * lanes, stream);
  if (!fault) fault = launch(ClassMean{scratch, call.class_logits, l}, count * classes, stream);
  if (!fault) fault = launch(Choose{call.class_logits, call.labels, call.chosen, l}, count, stream);
  if (!fault) {
    fault = launch(Mask<T>{call.maps, call.boxes, call.image_index, call.chosen,
                           call.mask_logits, l},
                   count * l.pooled * l.pooled * 2, stream);
  }
  return fault;
}

template <class T>
const char* average(const Average<T>& call, void* stream) {
  const Layout& l = call.layout;
  return launch(AverageRoi<T>{call.maps, call.boxes, call.image_index, call.means, l},
                call.rois * l.depth, stream);
}

template const char* assemble(const Assemble<float>&, float*, void*);
template const char* assemble(const Assemble<BFloat16>&, float*, void*);
template const char* average(const Average<float>&, void*);
template const char* average(const Average<BFloat16>&, void*);

}  // namespace cuda
}  // namespace fcis
