// The CPU kernels for each type of maps, compiled for several processors; without TensorFlow.
#pragma once

#include <vector>

#include "backward.h"
#include "forward.h"

// One body for every processor: the loader picks the widest instructions the machine has.
#if defined(__x86_64__) && defined(__ELF__) && !defined(FCIS_NO_CLONES)
#define FCIS_CLONES __attribute__((target_clones("avx512f", "avx2", "default")))
#else
#define FCIS_CLONES
#endif

namespace fcis {
namespace cpu {

// Calls ``KERNEL<T, V>`` with the widest V that `channels` fill.
#define FCIS_WIDTH(channels, KERNEL, ...)                     \
  do {                                                        \
    const int width_ = (channels);                            \
    if (width_ >= 16) KERNEL<T, 16>(__VA_ARGS__);             \
    else if (width_ >= 4) KERNEL<T, 4>(__VA_ARGS__);          \
    else KERNEL<T, 1>(__VA_ARGS__);                           \
  } while (0)

// ``run(call, first, last)``: ROIs first to last forward, units first to last backward.
#define FCIS_KERNELS(TYPE)                                                                       \
  FCIS_CLONES static void run(const Assemble<TYPE>& call, int64_t first, int64_t last) {         \
    using T = TYPE;                                                                              \
    FCIS_WIDTH(call.layout.depth / 2, assemble, call, first, last);                              \
  }                                                                                              \
  FCIS_CLONES static void run(const AssembleGradient<TYPE>& call,                                \
                              const std::vector<Active>& active, int64_t first, int64_t last) {  \
    using T = TYPE;                                                                              \
    FCIS_WIDTH(call.layout.depth / 2, assemble_gradient, call, active, first, last);             \
  }                                                                                              \
  FCIS_CLONES static void run(const Average<TYPE>& call, int64_t first, int64_t last) {          \
    using T = TYPE;                                                                              \
    FCIS_WIDTH(call.layout.depth, average, call, first, last);                                   \
  }                                                                                              \
  FCIS_CLONES static void run(const AverageGradient<TYPE>& call,                                 \
                              const std::vector<Active>& active, int64_t first, int64_t last) {  \
    using T = TYPE;                                                                              \
    FCIS_WIDTH(call.layout.depth, average_gradient, call, active, first, last);                  \
  }

FCIS_KERNELS(float)
FCIS_KERNELS(BFloat16)

}  // namespace cpu
}  // namespace fcis
