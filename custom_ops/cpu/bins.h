// The bins of one ROI, and a loop over those that have cells.
#pragma once

#include <vector>

#include "../geometry.h"
#include "vectors.h"

namespace fcis {
namespace cpu {

// The cells of every bin of one ROI; the vectors are kept from ROI to ROI.
struct Bins {
  std::vector<Span> y, x;  // (p,) each

  explicit Bins(const Layout& layout) : y(layout.pooled), x(layout.pooled) {}

  FCIS_INLINE void of(const Roi& roi, const Layout& layout) {
    for (int bin = 0; bin < layout.pooled; ++bin) {
      y[bin] = bin_cells(roi.y0, roi.y1, layout.rows, bin, layout);
      x[bin] = bin_cells(roi.x0, roi.x1, layout.columns, bin, layout);
    }
  }
};

// Calls ``use(y span, x span, 1 / cells)`` for each of the bins q x c that has cells, row by row.
template <class Use>
FCIS_INLINE void each_bin(Span q, Span c, const Span* y, const Span* x, Use use) {
  for (int i = q.low; i < q.high; ++i) {
    for (int j = c.low; j < c.high; ++j) {
      const int area = y[i].size() * x[j].size();
      if (area) use(y[i], x[j], 1.0f / area);
    }
  }
}

}  // namespace cpu
}  // namespace fcis
