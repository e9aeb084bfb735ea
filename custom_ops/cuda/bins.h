// What every CUDA kernel reads: one channel over the cells of a bin.
#pragma once

#include "../bfloat16.h"
#include "../geometry.h"

namespace fcis {
namespace cuda {

// Indices in device memory are not checked on the host: one outside reads nothing.
FCIS_BOTH bool in_maps(int image, const Layout& l) { return image >= 0 && image < l.images; }

FCIS_BOTH int clip_label(int label, const Layout& l) {
  return label < 0 ? 0 : label < l.depth / 2 ? label : l.depth / 2 - 1;
}

// The channels of one cell of maps (B, H, W, k * k * D).
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

}  // namespace cuda
}  // namespace fcis
