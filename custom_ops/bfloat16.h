// bfloat16 as its bits, and its conversions; float32 has the same functions for templates.
#pragma once

#include <cstdint>
#include <cstring>

#include "host_device.h"

namespace fcis {

// bfloat16 as its bits.
struct BFloat16 {
  uint16_t bits;
};

FCIS_BOTH float to_float(float value) { return value; }

// bfloat16 is the upper half of a float32.
FCIS_BOTH float to_float(BFloat16 value) {
  const uint32_t bits = uint32_t(value.bits) << 16;
  float result;
  memcpy(&result, &bits, sizeof result);
  return result;
}

FCIS_BOTH void store(float value, float* to) { *to = value; }

// Nearest bfloat16, halves to even; NaN stays NaN.
FCIS_BOTH void store(float value, BFloat16* to) {
  uint32_t bits;
  memcpy(&bits, &value, sizeof bits);
  if (value == value) {
    // Just below one half of the last bit kept, and the whole half where that bit is odd.
    bits += 0x7fff + ((bits >> 16) & 1);
  } else {
    bits |= 0x400000;  // a payload in the lower half alone would become infinity
  }
  to->bits = static_cast<uint16_t>(bits >> 16);
}

}  // namespace fcis
