// The counter-based generator under all of our own noise, and under CUDA's.
#pragma once

#include <array>
#include <cstdint>

namespace emulsion {

/// Philox4x32 with ten rounds: 128 random bits for each (key, counter).
/// Source: Salmon et al. 2011, "Parallel Random Numbers: As Easy as 1, 2, 3",
/// doi:10.1145/2063384.2063405.
inline std::array<uint32_t, 4> philox(const std::array<uint32_t, 2>& key_in,
                                      const std::array<uint32_t, 4>& counter) {
  constexpr uint32_t kMultiplier0 = 0xD2511F53, kMultiplier1 = 0xCD9E8D57;
  constexpr uint32_t kWeyl0 = 0x9E3779B9, kWeyl1 = 0xBB67AE85;
  auto [key0, key1] = key_in;
  auto [c0, c1, c2, c3] = counter;
  for (int round = 0; round < 10; ++round) {
    const uint64_t product0 = uint64_t{kMultiplier0} * c0;
    const uint64_t product1 = uint64_t{kMultiplier1} * c2;
    const uint32_t next0 = static_cast<uint32_t>(product1 >> 32) ^ c1 ^ key0;
    const uint32_t next2 = static_cast<uint32_t>(product0 >> 32) ^ c3 ^ key1;
    c1 = static_cast<uint32_t>(product1);
    c3 = static_cast<uint32_t>(product0);
    c0 = next0;
    c2 = next2;
    key0 += kWeyl0;
    key1 += kWeyl1;
  }
  return {c0, c1, c2, c3};
}

/// The low and high half of a 64-bit number.
inline std::array<uint32_t, 2> halves(uint64_t x) {
  return {static_cast<uint32_t>(x), static_cast<uint32_t>(x >> 32)};
}

}  // namespace emulsion
