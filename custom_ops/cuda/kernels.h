// Launchers of the CUDA kernels, without TensorFlow and without CUDA headers.
//
// Each returns null, or CUDA's message of what went wrong. Nothing is atomic and every sum has one
// order, so results are the same from run to run. An image index outside the maps reads nothing; a
// label is clipped: indices in device memory are not checked before.
#pragma once

#include "../bfloat16.h"
#include "../calls.h"

namespace fcis {
namespace cuda {

// Floats of scratch memory that `assemble` needs for `rois` ROIs.
int64_t assemble_scratch(const Layout& layout, int64_t rois);

// Ints of scratch memory that the gradients need.
int64_t gradient_scratch(int64_t rois);

template <class T>
const char* assemble(const Assemble<T>& call, float* scratch, void* stream);

template <class T>
const char* assemble_gradient(const AssembleGradient<T>& call, int* scratch, void* stream);

template <class T>
const char* average(const Average<T>& call, void* stream);

template <class T>
const char* average_gradient(const AverageGradient<T>& call, int* scratch, void* stream);

}  // namespace cuda
}  // namespace fcis
