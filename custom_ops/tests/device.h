// Copies of host values where the kernels run: on a GPU, or in memory when g++ compiles.
#pragma once

#include <cstdio>
#include <cstdlib>
#include <vector>

namespace {

#ifdef __CUDACC__
void must(cudaError_t status) {
  if (status == cudaSuccess) return;
  std::fprintf(stderr, "CUDA: %s\n", cudaGetErrorString(status));
  std::exit(1);
}

// A copy of host values on the device; `fetch` brings them back.
template <class T>
class Device {
 public:
  explicit Device(const std::vector<T>& host) : size_(host.size()) {
    must(cudaMalloc(&data_, (size_ + 1) * sizeof(T)));
    must(cudaMemcpy(data_, host.data(), size_ * sizeof(T), cudaMemcpyHostToDevice));
  }
  ~Device() { cudaFree(data_); }
  Device(const Device&) = delete;
  T* data() { return data_; }
  std::vector<T> fetch() {
    std::vector<T> host(size_);
    must(cudaDeviceSynchronize());
    must(cudaMemcpy(host.data(), data_, size_ * sizeof(T), cudaMemcpyDeviceToHost));
    return host;
  }

 private:
  T* data_;
  size_t size_;
};
#else
// The same without a copy to anywhere.
template <class T>
class Device {
 public:
  explicit Device(const std::vector<T>& host) : data_(host) {}
  T* data() { return data_.data(); }
  std::vector<T> fetch() { return data_; }

 private:
  std::vector<T> data_;
};
#endif

}  // namespace
