// Gaussian noise of a key and a voxel's number, operation for operation as in kernels/cpu/noise.py.
#pragma once

// Philox4x32-10 of a counter under a key: the word of one of the four voxels that share the counter.
__device__ __forceinline__ unsigned philox(unsigned long long counter, unsigned long long key, int lane) {
  unsigned w0 = (unsigned)counter, w1 = (unsigned)(counter >> 32), w2 = 0, w3 = 0;
  unsigned key_0 = (unsigned)key, key_1 = (unsigned)(key >> 32);
#pragma unroll
  for (int round = 0; round < 10; ++round) {
    const unsigned long long product_0 = 0xD2511F53ull * w0, product_1 = 0xCD9E8D57ull * w2;
    w0 = (unsigned)(product_1 >> 32) ^ w1 ^ key_0;
    w1 = (unsigned)product_1;
    w2 = (unsigned)(product_0 >> 32) ^ w3 ^ key_1;
    w3 = (unsigned)product_0;
    key_0 += 0x9E3779B9u;
    key_1 += 0xBB67AE85u;
  }
  return lane == 0 ? w0 : lane == 1 ? w1 : lane == 2 ? w2 : w3;
}

// Natural logarithm of a positive normal float, in sums and products alone.
__device__ __forceinline__ float log_of(float value) {
  const unsigned moved = __float_as_uint(value) - 0x3F3504F3u;
  const float power = (float)((int)moved >> 23);
  const float x = __uint_as_float((moved & 0x007FFFFFu) + 0x3F3504F3u) - 1.0f;
  const float square = x * x;
  float curve = 7.0376836292e-2f;
  curve = curve * x + -1.1514610310e-1f;
  curve = curve * x + 1.1676998740e-1f;
  curve = curve * x + -1.2420140846e-1f;
  curve = curve * x + 1.4249322787e-1f;
  curve = curve * x + -1.6668057665e-1f;
  curve = curve * x + 2.0000714765e-1f;
  curve = curve * x + -2.4999993993e-1f;
  curve = curve * x + 3.3333331174e-1f;
  curve = curve * x * square;
  curve = curve + -2.12194440e-4f * power - 0.5f * square;
  return x + curve + 0.693359375f * power;
}

__device__ __forceinline__ float quantile_in_centre(float tail) {
  const float middle = 0.5f - tail, x = 0.180625f - middle * middle;
  const float top = ((59.109374720f * x + 159.29113202f) * x + 50.434271938f) * x + 3.3871327179f;
  const float bottom = ((67.187563600f * x + 78.757757664f) * x + 17.895169469f) * x + 1.0f;
  return middle * top / bottom;
}

__device__ __forceinline__ float quantile_in_tail(float tail) {
  const float x = sqrtf(-log_of(tail)) - 1.6f;
  const float top = ((0.17023821103f * x + 1.3067284816f) * x + 2.7568153900f) * x + 1.4234372777f;
  const float bottom = (0.12021132975f * x + 0.73700164250f) * x + 1.0f;
  return top / bottom;
}

// The standard normal quantile of a random word.
__device__ __forceinline__ float normal(unsigned word) {
  const unsigned upper = word >> 31, magnitude = word ^ (0u - upper);
  const float tail = ((float)magnitude + 0.5f) * 2.3283064365386963e-10f;  // 2^-32
  const float quantile = tail < 0.075f ? quantile_in_tail(tail) : quantile_in_centre(tail);
  return upper ? quantile : -quantile;
}

__device__ __forceinline__ float with_noise(float value, long long voxel, float sigma, unsigned long long key) {
  return value + sigma * normal(philox((unsigned long long)voxel >> 2, key, (int)(voxel & 3)));
}
