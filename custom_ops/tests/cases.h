// Random inputs of one call, many of them odd.
#pragma once

#include <cmath>
#include <limits>
#include <random>
#include <vector>

#include "../geometry.h"

namespace {

using namespace fcis;

// Inputs of all four operations; shapes as in calls.h.
struct Case {
  Layout l;
  int rois;
  std::vector<float> boxes;        // (R, 4)
  std::vector<int> index, labels;  // (R,)
  std::vector<double> maps;        // (B, H, W, k * k * D)
  std::vector<float> class_gradient, mask_gradient, mean_gradient;  // (R, K), (R, p, p, 2), (R, D)
};

// Maps of N(0, 1) and ROIs about their size, some corners on halves of pixels, not finite or far
// away; gradients with whole ROIs of zeros.
Case random_case(std::mt19937* random, int k, int p, int classes, int rois) {
  auto below = [&](int n) { return int((*random)() % n); };
  auto normal = [&] { return std::normal_distribution<float>()(*random); };
  Case c;
  const int strides[] = {2, 8, 16};
  c.l = {1 + below(3), 1 + below(12), 1 + below(12), k, p, strides[below(3)], 2 * classes};
  c.rois = rois;
  const float nan = std::nanf(""), infinite = std::numeric_limits<float>::infinity();
  const float odd[] = {nan, infinite, -infinite, 1e30f, -1e30f, 0.5f, -0.5f, 2.5f, 0.49999997f};
  for (int r = 0; r < rois; ++r) {
    for (int corner = 0; corner < 4; ++corner) {
      const float reach = (corner % 2 ? c.l.columns : c.l.rows) * c.l.stride;
      float value = normal() * 0.5f * reach + 0.5f * reach;
      if (below(4) == 0) value = std::floor(value) + 0.5f;
      if (below(12) == 0) value = odd[below(9)];
      c.boxes.push_back(value);
    }
    c.index.push_back(below(c.l.images));
    c.labels.push_back(below(classes + 1) - 1);
  }
  c.maps.resize(c.l.images * c.l.cells() * c.l.cell_channels());
  for (double& value : c.maps) value = normal();
  const bool silent = below(3) == 0;
  auto gradient = [&](std::vector<float>* values, int each) {
    for (int r = 0; r < rois; ++r) {
      const bool zero = silent || below(3) == 0;
      for (int i = 0; i < each; ++i) values->push_back(zero ? 0.0f : normal());
    }
  };
  gradient(&c.class_gradient, classes);
  gradient(&c.mask_gradient, p * p * 2);
  gradient(&c.mean_gradient, 2 * classes);
  return c;
}

}  // namespace
