// Rounding float results to the type of the output, as kernels/cpu/rounding.py does.
#pragma once

// The bits of a float16; CUDA's own type would ask for a header that not every machine has.
struct Half {
  unsigned short bits;
};

#ifdef __CUDACC__
// The float16 nearest to each of two values, ties to even: the first in the low half.
__device__ __forceinline__ unsigned half_pair(float first, float second) {
  unsigned bits;
  asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(bits) : "f"(second), "f"(first));
  return bits;
}
#endif

__device__ __forceinline__ float whole_in(float value, float low, float high) {
  return fminf(fmaxf(rintf(value), low), high);
}

__device__ __forceinline__ void store(float* out, float value) { *out = value; }
__device__ __forceinline__ void store(Half* out, float value) {
  out->bits = (unsigned short)half_pair(value, 0.0f);
}
__device__ __forceinline__ void store(unsigned char* out, float value) {
  *out = (unsigned char)(int)whole_in(value, 0.0f, 255.0f);
}
__device__ __forceinline__ void store(short* out, float value) {
  *out = (short)(int)whole_in(value, -32768.0f, 32767.0f);
}

// Eight results at once, in stores of 16 bytes (8 for bytes).
__device__ __forceinline__ void store_eight(float* out, const float* values) {
  float4* wide = reinterpret_cast<float4*>(out);
  wide[0] = make_float4(values[0], values[1], values[2], values[3]);
  wide[1] = make_float4(values[4], values[5], values[6], values[7]);
}
__device__ __forceinline__ void store_eight(Half* out, const float* values) {
  *reinterpret_cast<uint4*>(out) =
      make_uint4(half_pair(values[0], values[1]), half_pair(values[2], values[3]),
                 half_pair(values[4], values[5]), half_pair(values[6], values[7]));
}
__device__ __forceinline__ unsigned short_pair(float first, float second) {
  const int low = (int)whole_in(first, -32768.0f, 32767.0f), high = (int)whole_in(second, -32768.0f, 32767.0f);
  return ((unsigned)low & 0xffffu) | ((unsigned)high << 16);
}
__device__ __forceinline__ void store_eight(short* out, const float* values) {
  *reinterpret_cast<uint4*>(out) =
      make_uint4(short_pair(values[0], values[1]), short_pair(values[2], values[3]),
                 short_pair(values[4], values[5]), short_pair(values[6], values[7]));
}
__device__ __forceinline__ unsigned byte_four(const float* values) {
  unsigned word = 0;
#pragma unroll
  for (int k = 0; k < 4; ++k) {
    word |= (unsigned)(int)whole_in(values[k], 0.0f, 255.0f) << (8 * k);
  }
  return word;
}
__device__ __forceinline__ void store_eight(unsigned char* out, const float* values) {
  *reinterpret_cast<uint2*>(out) = make_uint2(byte_four(values), byte_four(values + 4));
}

// Eight voxels at once.
__device__ __forceinline__ void load_eight(const short* source, float* values) {
  const uint4 wide = *reinterpret_cast<const uint4*>(source);
  const unsigned words[4] = {wide.x, wide.y, wide.z, wide.w};
#pragma unroll
  for (int k = 0; k < 4; ++k) {
    values[2 * k] = (float)(short)(words[k] & 0xffffu);
    values[2 * k + 1] = (float)(short)(words[k] >> 16);
  }
}
__device__ __forceinline__ void load_eight(const unsigned char* source, float* values) {
  const uint2 wide = *reinterpret_cast<const uint2*>(source);
#pragma unroll
  for (int k = 0; k < 4; ++k) {
    values[k] = (float)((wide.x >> (8 * k)) & 0xffu);
    values[4 + k] = (float)((wide.y >> (8 * k)) & 0xffu);
  }
}
