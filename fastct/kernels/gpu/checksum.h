// CRC-32C (RFC 3720) of whole words, by all threads of a block.
//
// A CRC is linear: that of n words is the sum of each times x^(32 * words that follow and its own), in
// polynomials over GF(2) modulo the CRC's. Each thread adds up the words that lie THREADS apart, so that a warp
// reads whole lines; multiplying by x^(32 * THREADS) is eight look-ups of four bits, in tables that lie in the
// registers of a warp: reading them by shuffles costs no memory and has no bank conflicts.
#pragma once

const int THREADS = 64, WARP = 32, WARPS = THREADS / WARP;
const unsigned EVERY_LANE = 0xffffffffu;
const unsigned POLYNOMIAL = 0x82F63B78u;  // reflected, as registers are: bit 31 is the power 0

__host__ __device__ constexpr unsigned multiplied(unsigned a, unsigned b) {
  unsigned product = 0;
  for (int bit = 31; bit >= 0; --bit) {
    product ^= (a >> bit) & 1 ? b : 0;
    b = (b >> 1) ^ (b & 1 ? POLYNOMIAL : 0);
  }
  return product;
}

struct ChecksumTables {
  unsigned powers[THREADS + 1];   // x^(32 * k)
  unsigned nibbles[4][WARP];      // [k][lane]: nibble 2 * k + lane / 16 of a register, of value lane % 16, moved on
};

__host__ __device__ constexpr ChecksumTables checksum_tables() {
  ChecksumTables tables{};
  unsigned word = 1u << 31;
  for (int k = 0; k < 32; ++k) {
    word = (word >> 1) ^ (word & 1 ? POLYNOMIAL : 0);
  }
  tables.powers[0] = 1u << 31;
  for (int k = 1; k <= THREADS; ++k) {
    tables.powers[k] = multiplied(tables.powers[k - 1], word);
  }
  for (int k = 0; k < 4; ++k) {
    for (unsigned lane = 0; lane < WARP; ++lane) {
      tables.nibbles[k][lane] = multiplied(tables.powers[THREADS], lane % 16 << (8 * k + lane / 16 * 4));
    }
  }
  return tables;
}

__device__ const ChecksumTables CHECKSUM = checksum_tables();

// A register times x^(32 * THREADS); all lanes of the warp must call.
__device__ __forceinline__ unsigned moved_on(unsigned state, const unsigned* nibbles) {
  unsigned moved = 0;
#pragma unroll
  for (int k = 0; k < 4; ++k) {
    const unsigned byte = state >> (8 * k);
    moved ^= __shfl_sync(EVERY_LANE, nibbles[k], byte & 15);
    moved ^= __shfl_sync(EVERY_LANE, nibbles[k], 16 + (byte >> 4 & 15));
  }
  return moved;
}

// The checksum, known to all threads of the block.
__device__ __forceinline__ unsigned checksum_of(const unsigned* __restrict__ words, int count) {
  __shared__ unsigned of_warps[WARPS];
  unsigned nibbles[4];
#pragma unroll
  for (int k = 0; k < 4; ++k) {
    nibbles[k] = CHECKSUM.nibbles[k][threadIdx.x % WARP];
  }
  unsigned state = 0;
  int following = 0;  // words from this thread's last one to the end
#pragma unroll 4
  for (int first = 0; first < count; first += THREADS) {
    const int at = first + (int)threadIdx.x;
    const unsigned moved = moved_on(state, nibbles);
    if (at < count) {
      state = moved ^ words[at] ^ (at == 0 ? ~0u : 0u);
      following = count - at;
    }
  }
  state = multiplied(state, CHECKSUM.powers[following]);
#pragma unroll
  for (int lanes = WARP / 2; lanes > 0; lanes /= 2) {
    state ^= __shfl_xor_sync(EVERY_LANE, state, lanes);
  }
  if (threadIdx.x % WARP == 0) {
    of_warps[threadIdx.x / WARP] = state;
  }
  __syncthreads();
  unsigned sum = ~0u;
#pragma unroll
  for (int warp = 0; warp < WARPS; ++warp) {
    sum ^= of_warps[warp];
  }
  return sum;
}
