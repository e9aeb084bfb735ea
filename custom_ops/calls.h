// What one call of each operation reads and writes; all pointers are memory of one device.
//
// B images of H x W feature cells, R ROIs, K classes, D channels of one position group.
#pragma once

#include <cstdint>

#include "geometry.h"

namespace fcis {

// Inputs that every operation has.
template <class T>
struct Call {
  Layout layout;
  int64_t rois;            // R
  const T* maps;           // (B, H, W, k * k * D)
  const float* boxes;      // (R, 4), corners (y0, x0, y1, x1) in network pixels
  const int* image_index;  // (R,), the image of each ROI
};

// Class logits of every ROI, and the mask logits of one class; D = 2 * K, channels (side, class).
template <class T>
struct Assemble : Call<T> {
  const int* labels;    // (R,) class of the mask, -1 = best foreground class
  float* class_logits;  // (R, K)
  float* mask_logits;   // (R, p, p, 2)
  int* chosen;          // (R,) class whose mask was written
};

template <class T>
struct AssembleGradient : Call<T> {
  const int* chosen;            // (R,)
  const float* class_gradient;  // (R, K)
  const float* mask_gradient;   // (R, p, p, 2)
  T* maps_gradient;             // as maps
};

// The mean over all bins of every ROI.
template <class T>
struct Average : Call<T> {
  float* means;  // (R, D)
};

template <class T>
struct AverageGradient : Call<T> {
  const float* gradient;  // (R, D)
  T* maps_gradient;       // as maps
};

}  // namespace fcis
