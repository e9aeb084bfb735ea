// A mark for functions that g++ and nvcc both compile, for the CPU and inside CUDA kernels.
#pragma once

#if defined(__CUDACC__)
#define FCIS_BOTH __host__ __device__ __forceinline__
#else
#define FCIS_BOTH inline __attribute__((always_inline))
#endif
