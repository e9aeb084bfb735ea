// How long the CUDA kernels take on a GPU, against a copy of the maps.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <random>
#include <vector>

#include "../cuda/kernels.h"
#include "device.h"

namespace {

using namespace fcis;

// Milliseconds of the median of 20 runs.
template <class Work>
double median_ms(Work work) {
  std::vector<float> times;
  cudaEvent_t start, stop;
  must(cudaEventCreate(&start));
  must(cudaEventCreate(&stop));
  for (int i = 0; i < 23; ++i) {
    must(cudaEventRecord(start));
    work();
    must(cudaEventRecord(stop));
    must(cudaEventSynchronize(stop));
    float ms;
    must(cudaEventElapsedTime(&ms, start, stop));
    if (i >= 3) times.push_back(ms);
  }
  std::sort(times.begin(), times.end());
  return times[times.size() / 2];
}

// The COCO model at 600 x 1000: 300 ROIs, 128 of them active, sides from 32 to 600 pixels.
void bandwidth() {
  const Layout l{1, 38, 63, 7, 21, 16, 162};
  const int rois = 300, bins = 441, K = 81;
  std::mt19937 random(0);
  std::uniform_real_distribution<float> unit(0, 1);
  std::vector<float> maps(l.cells() * l.cell_channels()), boxes;
  std::vector<float> of_classes(rois * K), of_masks(rois * bins * 2);
  for (float& value : maps) value = unit(random);
  double read = 0;  // bytes that the bins of all ROIs touch
  for (int r = 0; r < rois; ++r) {
    const float h = 32 * std::pow(600 / 32.f, unit(random));
    const float w = 32 * std::pow(600 / 32.f, unit(random));
    const float y = unit(random) * (600 - h), x = unit(random) * (1000 - w);
    for (float corner : {y, x, y + h, x + w}) boxes.push_back(corner);
    for (int q = 0; q < 21; ++q) {
      for (int b = 0; b < 21; ++b) {
        const Roi roi = read_roi(boxes.data(), r);
        read += 4.0 * l.depth * bin_cells(roi.y0, roi.y1, l.rows, q, l).size() *
                bin_cells(roi.x0, roi.x1, l.columns, b, l).size();
      }
    }
  }
  for (int i = 0; i < 128 * K; ++i) of_classes[i] = unit(random);
  for (int i = 0; i < 128 * bins * 2; ++i) of_masks[i] = unit(random);
  std::vector<int> none(rois, 0), best(rois, -1);
  Device<float> d_maps(maps), d_boxes(boxes), gradient(maps), logits(std::vector<float>(rois * K));
  Device<float> masks(std::vector<float>(rois * bins * 2));
  Device<float> d_classes(of_classes), d_masks(of_masks);
  Device<float> scratch(std::vector<float>(cuda::assemble_scratch(l, rois)));
  Device<int> index(none), labels(best), chosen(none);
  Device<int> reach(std::vector<int>(cuda::gradient_scratch(rois)));
  const double bytes = maps.size() * 4.0;
  const double copy = median_ms([&] {
    must(cudaMemcpyAsync(gradient.data(), d_maps.data(), bytes, cudaMemcpyDeviceToDevice));
  });
  const Call<float> inputs{l, rois, d_maps.data(), d_boxes.data(), index.data()};
  const Assemble<float> assemble{inputs, labels.data(), logits.data(), masks.data(), chosen.data()};
  const AssembleGradient<float> assemble_gradient{inputs, chosen.data(), d_classes.data(),
                                                  d_masks.data(), gradient.data()};
  const double forward = median_ms([&] { cuda::assemble(assemble, scratch.data(), nullptr); });
  const double backward =
      median_ms([&] { cuda::assemble_gradient(assemble_gradient, reach.data(), nullptr); });
  std::printf("device-to-device copy of the maps  %.3f ms  %.0f GB/s\n", copy, 2e-6 * bytes / copy);
  std::printf("assembly forward, 300 ROIs         %.3f ms  %.0f GB/s read, %.2f of the copy\n",
              forward, 1e-6 * read / forward, forward / copy);
  std::printf("assembly backward, 128 active      %.3f ms  %.2f of the copy\n", backward,
              backward / copy);
}

}  // namespace
