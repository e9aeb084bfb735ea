// Runs a body once for each thread number: on a GPU, or compiled by g++ as a loop on the CPU.
#pragma once

#include <cstdint>

namespace fcis {
namespace cuda {

#ifdef __CUDACC__
#define FCIS_BODY __device__

// A loop with the stride of the grid, as the grid may be smaller than the number of threads.
template <class Body>
__global__ void run(Body body, int64_t threads) {
  const int64_t stride = int64_t(gridDim.x) * blockDim.x;
  const int64_t first = int64_t(blockIdx.x) * blockDim.x + threadIdx.x;
  for (int64_t i = first; i < threads; i += stride) body(i);
}

// Starts `threads` threads on the stream; null, or CUDA's message of what went wrong.
template <class Body>
const char* launch(const Body& body, int64_t threads, void* stream) {
  if (threads == 0) return nullptr;
  const int block = 128;
  const int64_t blocks = (threads + block - 1) / block;
  run<<<static_cast<unsigned>(blocks < (1 << 30) ? blocks : (1 << 30)), block, 0,
        static_cast<cudaStream_t>(stream)>>>(body, threads);
  const cudaError_t status = cudaGetLastError();
  return status == cudaSuccess ? nullptr : cudaGetErrorString(status);
}
#else
#define FCIS_BODY

template <class Body>
const char* launch(const Body& body, int64_t threads, void*) {
  for (int64_t i = 0; i < threads; ++i) body(i);
  return nullptr;
}
#endif

constexpr int kWarp = 32;

// Channels padded to whole warps, so that the threads of a warp work on one ROI.
inline int64_t padded(int64_t channels) { return (channels + kWarp - 1) / kWarp * kWarp; }

}  // namespace cuda
}  // namespace fcis
