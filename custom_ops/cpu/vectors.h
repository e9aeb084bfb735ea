// Vectors of V channels: loads, stores and chunks, without the intrinsics of one processor.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstring>

#include "../bfloat16.h"

#define FCIS_ALWAYS __attribute__((always_inline))
#define FCIS_INLINE inline FCIS_ALWAYS

namespace fcis {
namespace cpu {

// V float32 channels, and as many 32-bit and 16-bit words for conversion.
template <int V>
struct Lanes {
  typedef float Floats __attribute__((vector_size(V * 4)));
  typedef uint32_t Words __attribute__((vector_size(V * 4)));
  typedef uint16_t Halves __attribute__((vector_size(V * 2)));
};

// V neighbouring channels as float32, from any address.
template <int V>
FCIS_INLINE typename Lanes<V>::Floats load(const float* from) {
  typename Lanes<V>::Floats value;
  memcpy(&value, from, sizeof value);
  return value;
}

template <int V>
FCIS_INLINE typename Lanes<V>::Floats load(const BFloat16* from) {
  typename Lanes<V>::Halves halves;
  memcpy(&halves, from, sizeof halves);
  const typename Lanes<V>::Words words =
      __builtin_convertvector(halves, typename Lanes<V>::Words) << 16;
  typename Lanes<V>::Floats value;
  memcpy(&value, &words, sizeof value);
  return value;
}

// Adds V channels to float32 sums in memory.
template <int V>
FCIS_INLINE void add(typename Lanes<V>::Floats value, float* to) {
  value += load<V>(to);
  memcpy(to, &value, sizeof value);
}

// `count` >= V channels in chunks of V lanes; the last chunk overlaps the one before it, so that no
// loop over the rest is needed.
template <int V>
struct Chunks {
  int count;
  FCIS_INLINE int number() const { return (count + V - 1) / V; }
  FCIS_INLINE int first(int chunk) const { return std::min(chunk * V, count - V); }
  // Lanes at the start of a chunk that belong to the one before it.
  FCIS_INLINE int repeated(int chunk) const { return chunk * V - first(chunk); }
};

}  // namespace cpu
}  // namespace fcis
