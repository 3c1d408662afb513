#include <unistd.h>
#include <zlib.h>

#include "core/error.h"
#include "io/content.h"
#include "io/file_error.h"
#include "io/image.h"
#include "io/png_chunk.h"

namespace emulsion::io {
namespace {

constexpr size_t kMaxText = 1 << 20;  // bytes of one text, inflated
constexpr size_t kMaxTexts = 1000;

std::string to_utf8(std::string_view latin1) {
  std::string out;
  for (const char c : latin1) {
    const auto byte = static_cast<unsigned char>(c);
    if (byte < 0x80) {
      out += c;
    } else {
      out += static_cast<char>(0xc0 | byte >> 6);
      out += static_cast<char>(0x80 | (byte & 0x3f));
    }
  }
  return out;
}

class TextReader {
 public:
  explicit TextReader(const std::filesystem::path& path)
      : path_(path), descriptor_(open_for_reading(path)) {}

  PngText read() {
    const std::string start = take(kPngMark.size());
    EMULSION_CHECK(start == kPngMark, format, "{}: expected a PNG picture, but this looks like {}",
                   path_.string(), describe_content(start));
    while (read_chunk()) {
    }
    return std::move(text_);
  }

 private:
  std::string take(size_t size) {
    std::string bytes(size, '\0');
    const size_t count = read_fully(descriptor_.get(), path_, bytes.data(), size);
    // Only the mark may be short: describe_content then says what the file is.
    bytes.resize(count);
    EMULSION_CHECK(count == size || !text_started_, format,
                   "{}: the png picture is cut off; fetch it again or remove it", path_.string());
    text_started_ = true;
    return bytes;
  }

  bool read_chunk() {
    const std::string head = take(8);
    const uint32_t size = read_png_number(head);
    const std::string type = head.substr(4);
    if (type == "IEND") return false;
    if (type != "tEXt" && type != "zTXt" && type != "iTXt") {
      EMULSION_CHECK(::lseek(descriptor_.get(), int64_t{size} + 4, SEEK_CUR) >= 0, format,
                     "{}: the png picture is damaged; remove it", path_.string());
      return true;
    }
    EMULSION_CHECK(size <= kMaxText, format, "{}: expected at most {} bytes in a {} chunk, got {}",
                   path_.string(), kMaxText, type, size);
    EMULSION_CHECK(text_.size() < kMaxTexts, format, "{}: expected at most {} texts, got more",
                   path_.string(), kMaxTexts);
    const std::string data = take(size);
    check(png_checksum(type + data) == read_png_number(take(4)), type, "its checksum is wrong");
    add_text(type, data);
    return true;
  }

  void check(bool valid, const std::string& type, const char* problem) const {
    EMULSION_CHECK(valid, format, "{}: a {} chunk is damaged: {}", path_.string(), type, problem);
  }

  // Cuts `rest` behind its first zero byte and returns what was before it.
  std::string_view field(const std::string& type, std::string_view& rest) const {
    const size_t end = rest.find('\0');
    check(end != std::string_view::npos, type, "a field has no end");
    const std::string_view before = rest.substr(0, end);
    rest.remove_prefix(end + 1);
    return before;
  }

  void add_text(const std::string& type, std::string_view rest) {
    const std::string keyword = to_utf8(field(type, rest));
    if (type == "tEXt") {
      text_.emplace_back(keyword, to_utf8(rest));
    } else if (type == "zTXt") {
      check(rest.size() >= 1 && rest[0] == 0, type, "its compression is unknown");
      text_.emplace_back(keyword, to_utf8(inflate(type, rest.substr(1))));
    } else {
      check(rest.size() >= 2 && (rest[0] == 0 || (rest[0] == 1 && rest[1] == 0)), type,
            "its compression is unknown");
      const bool compressed = rest[0] == 1;
      rest.remove_prefix(2);
      field(type, rest);  // language
      field(type, rest);  // translated keyword
      text_.emplace_back(keyword, compressed ? inflate(type, rest) : std::string(rest));
    }
  }

  std::string inflate(const std::string& type, std::string_view bytes) const {
    std::string out(kMaxText + 1, '\0');
    uLongf size = out.size();
    const int status = uncompress(reinterpret_cast<Bytef*>(out.data()), &size,
                                  reinterpret_cast<const Bytef*>(bytes.data()), bytes.size());
    EMULSION_CHECK(
        status != Z_BUF_ERROR && size <= kMaxText, format,
        "{}: expected at most {} bytes of text in a {} chunk, got more, or it is cut off",
        path_.string(), kMaxText, type);
    check(status == Z_OK, type, "it does not inflate");
    out.resize(size);
    return out;
  }

  const std::filesystem::path& path_;
  ScopedDescriptor descriptor_;
  bool text_started_ = false;
  PngText text_;
};

}  // namespace

PngText read_png_text(const std::filesystem::path& path) { return TextReader(path).read(); }

}  // namespace emulsion::io
