#include "io/hash.h"

#include <openssl/evp.h>

#include <algorithm>
#include <array>
#include <cstring>

#include "core/error.h"
#include "io/file_error.h"

namespace emulsion::io {
namespace {

void check(int status) {
  EMULSION_CHECK(status == 1, internal, "[sha256] OpenSSL refused the digest");
}

}  // namespace

struct Sha256::State {
  State() : context(EVP_MD_CTX_new()) { restart(); }
  ~State() { EVP_MD_CTX_free(context); }
  void restart() { check(EVP_DigestInit_ex(context, EVP_sha256(), nullptr)); }
  EVP_MD_CTX* context;
};

Sha256::Sha256() : state_(std::make_unique<State>()) {}
Sha256::~Sha256() = default;

void Sha256::update(const void* data, size_t size) {
  check(EVP_DigestUpdate(state_->context, data, size));
}

std::string Sha256::finish() {
  std::array<unsigned char, EVP_MAX_MD_SIZE> digest{};
  unsigned int size = 0;
  check(EVP_DigestFinal_ex(state_->context, digest.data(), &size));
  state_->restart();
  std::string hex;
  for (unsigned int i = 0; i < size; ++i) hex += fmt::format("{:02x}", digest[i]);
  return hex;
}

std::string sha256_hex(std::string_view bytes) {
  Sha256 hash;
  hash.update(bytes);
  return hash.finish();
}

std::string sha256_file(const std::filesystem::path& path) {
  const ScopedDescriptor descriptor(open_for_reading(path));
  std::vector<char> piece(1 << 20);
  Sha256 hash;
  while (const size_t count = read_fully(descriptor.get(), path, piece.data(), piece.size())) {
    hash.update(piece.data(), count);
  }
  return hash.finish();
}

uint64_t checksum(std::string_view bytes) {
  uint64_t hash = 0xCBF29CE484222325ULL ^ bytes.size();
  for (size_t i = 0; i < bytes.size(); i += 8) {
    uint64_t word = 0;
    std::memcpy(&word, bytes.data() + i, std::min<size_t>(8, bytes.size() - i));
    hash = (hash ^ word) * 0x100000001B3ULL;
    hash ^= hash >> 32;
  }
  return hash;
}

}  // namespace emulsion::io
