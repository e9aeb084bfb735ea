// Geometry of position-sensitive assembly (FCIS paper, "Position-sensitive Score Map
// Parameterization"), shared by g++ and nvcc.
//
// A ROI is cut into p x p bins; bin (q, c) covers the whole feature cells it touches, and reads the
// maps of position group (q * k / p, c * k / p), as `psroi_pooling.cu` of the released MXNet
// operator does. Edges are computed in integers: float edges, as there, differ by whole cells
// between compilers.
#pragma once

#include <cstdint>

#include "host_device.h"

namespace fcis {

// Edge arithmetic fits into 32 bits for ROI corners within kFar pixels and sizes within these.
constexpr float kFar = 1e6f;
constexpr int kMostBins = 128;      // p
constexpr int kMostStride = 4096;   // network pixels per feature cell

// Maps (images, rows, columns, group * group * depth), channels (gy, gx, d), and what to read.
struct Layout {
  int images, rows, columns;
  int group;   // k
  int pooled;  // p
  int stride;  // network pixels per feature cell
  int depth;   // channels of one position group: 2 * classes, or D of a plain average

  // Channels of one feature cell, and cells of one image.
  FCIS_BOTH int64_t cell_channels() const { return int64_t(group) * group * depth; }
  FCIS_BOTH int64_t cells() const { return int64_t(rows) * columns; }
};

// Half-open range of feature cells, or of bins.
struct Span {
  int low, high;
  FCIS_BOTH int size() const { return high > low ? high - low : 0; }
};

// A ROI with corners on whole pixels.
struct Roi {
  int y0, x0, y1, x1;
};

// Nearest whole pixel, halves away from zero; NaN is 0.
FCIS_BOTH int round_pixel(float value) {
  if (!(value == value)) return 0;
  float size = value < 0 ? -value : value;
  if (size > kFar) size = kFar;
  int whole = static_cast<int>(size);
  if (size - whole >= 0.5f) ++whole;  // size + 0.5f would itself round up just below a half
  return value < 0 ? -whole : whole;
}

// ROI number `index` of boxes (R, 4), corners (y0, x0, y1, x1) in network pixels.
FCIS_BOTH Roi read_roi(const float* rois, int64_t index) {
  const float* corner = rois + 4 * index;
  return {round_pixel(corner[0]), round_pixel(corner[1]), round_pixel(corner[2]),
          round_pixel(corner[3])};
}

// C++ division rounds to zero; cells left of or above the map have negative numbers.
FCIS_BOTH int floor_divide(int a, int b) { return a >= 0 ? a / b : -((b - 1 - a) / b); }

FCIS_BOTH int clip(int value, int most) { return value < 0 ? 0 : value > most ? most : value; }

// Cells that bin `bin` of an axis touches, from the floor of its start to the ceiling of its end.
// In units of 1 / (5 * p * stride) of a cell everything is an integer; the factor 5 is there for
// the least extent of a ROI, one tenth of a cell as in the released operator.
FCIS_BOTH Span bin_cells(int start, int end, int cells, int bin, const Layout& layout) {
  const int p = layout.pooled;
  // The extent of one bin: 5 for each pixel of the ROI, stride / 2 for a tenth of a cell.
  int extent = 5 * (end - start);
  if (extent < layout.stride / 2) extent = layout.stride / 2;
  const int origin = 5 * p * start + bin * extent;
  const int unit = 5 * p * layout.stride;
  return {clip(floor_divide(origin, unit), cells),
          clip(-floor_divide(-(origin + extent), unit), cells)};
}

// Bins of one axis that read position group `g`: those with b * k / p == g.
FCIS_BOTH Span group_bins(int g, const Layout& layout) {
  const int k = layout.group, p = layout.pooled;
  return {(g * p + k - 1) / k, ((g + 1) * p + k - 1) / k};
}

}  // namespace fcis
