// Launchers of the CUDA kernels, without TensorFlow and without CUDA headers.
//
// All pointers are device memory. Nothing is atomic and every sum has one order, so results are the
// same from run to run. An image index outside the maps reads nothing; a label is clipped.
#pragma once

#include "../bfloat16.h"
#include "../geometry.h"

namespace fcis {
namespace cuda {

// Floats of scratch memory that `assemble` needs for `rois` ROIs.
int64_t assemble_scratch(const Layout& layout, int64_t rois);

// As FcisPsAssemble. Each launcher returns null, or what CUDA says went wrong.
template <class T>
const char* assemble(const T* maps, const float* rois, const int* image_index, const int* labels,
                     int64_t count, const Layout& layout, float* scratch, float* class_logits,
                     float* mask_logits, int* chosen, void* stream);

// Ints of scratch memory that the gradients need.
int64_t gradient_scratch(const Layout& layout, int64_t rois);

template <class T>
const char* assemble_gradient(const T* maps, const float* rois, const int* image_index,
                              const int* chosen, const float* class_gradient,
                              const float* mask_gradient, int64_t count, const Layout& layout,
                              int* scratch, T* maps_gradient, void* stream);

template <class T>
const char* average(const T* maps, const float* rois, const int* image_index, int64_t count,
                    const Layout& layout, float* means, void* stream);

template <class T>
const char* average_gradient(const float* rois, const int* image_index, const float* gradient,
                             int64_t count, const Layout& layout, int* scratch, T* maps_gradient,
                             void* stream);

}  // namespace cuda
}  // namespace fcis
