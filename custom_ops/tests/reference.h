// What the kernels should write: bin by bin, edges in exact long integers, sums in double.
#pragma once

#include <algorithm>
#include <cmath>
#include <vector>

#include "cases.h"

namespace {

using namespace fcis;

// What the kernels should write; gradients have the shape of the maps.
struct Answers {
  std::vector<double> logits, masks, means;  // (R, K), (R, p, p, 2), (R, D)
  std::vector<double> assemble_gradient, average_gradient;
  std::vector<int> chosen;  // (R,)
};

// The floor of a / b for b > 0.
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

// Every bin of every ROI by itself: its mean, then what flows back to its cells.
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
  // Where channel d of the group that bin (q, b) reads stands in the maps.
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
          // The class of the mask is known in the second pass.
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

}  // namespace
