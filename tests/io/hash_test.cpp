#include "io/hash.h"

#include "core/error.h"
#include "io/atomic_file.h"
#include "support/support.h"

namespace emulsion::io {
namespace {

// FIPS 180-4 examples, and the two-block and million-character vectors of NIST.
TEST(Sha256Test, GivesTheDigestsOfTheStandard) {
  EXPECT_EQ(sha256_hex(""), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
  EXPECT_EQ(sha256_hex("abc"), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
  EXPECT_EQ(sha256_hex("abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq"),
            "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1");
  EXPECT_EQ(sha256_hex(std::string(1000000, 'a')),
            "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0");
}

TEST(Sha256Test, TakesPiecesAndFilesAndStartsAnew) {
  Sha256 hash;
  hash.update("a");
  hash.update("bc");
  EXPECT_EQ(hash.finish(), sha256_hex("abc"));
  hash.update("abc");
  EXPECT_EQ(hash.finish(), sha256_hex("abc"));
  test::TempFolder folder;
  write_file_atomic(folder / "x", std::string(3 << 20, 'x'));
  EXPECT_EQ(sha256_file(folder / "x"), sha256_hex(std::string(3 << 20, 'x')));
  EXPECT_THROW(sha256_file(folder / "none"), Error);
}

}  // namespace
}  // namespace emulsion::io
