// SHA-256 (FIPS 180-4) of bytes, files and streams, and a checksum that is quick.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>
#include <string_view>

namespace emulsion::io {

class Sha256 {
 public:
  Sha256();
  ~Sha256();
  Sha256(const Sha256&) = delete;
  Sha256& operator=(const Sha256&) = delete;

  void update(const void* data, size_t size);
  void update(std::string_view bytes) { update(bytes.data(), bytes.size()); }

  /// 64 lower-case hexadecimal digits. The object starts anew.
  std::string finish();

 private:
  struct State;
  std::unique_ptr<State> state_;
};

std::string sha256_hex(std::string_view bytes);

/// Reads in pieces. Throws: Error{io}.
std::string sha256_file(const std::filesystem::path& path);

/// FNV-1a over 64-bit words, the last one padded with zeros, and the length: finds damage, not intent.
uint64_t checksum(std::string_view bytes);

}  // namespace emulsion::io
