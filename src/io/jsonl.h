// JSON lines: one flat object a line, appended while a run goes on.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <utility>
#include <variant>
#include <vector>

namespace emulsion::io {

using JsonValue = std::variant<double, int64_t, std::string, bool>;
using JsonFields = std::vector<std::pair<std::string, JsonValue>>;

/// `fields` as one JSON object without a line end, in the given order. Numbers read back exactly;
/// NaN and infinities become null; text that is not UTF-8 gets U+FFFD.
std::string json_line(const JsonFields& fields);

/// Appends lines to a file. Each line reaches the operating system in one write. Not for several
/// threads at once.
class JsonlWriter {
 public:
  enum class Mode { append, truncate };

  /// Throws: Error{io}. Parent folders are created.
  explicit JsonlWriter(std::filesystem::path path, Mode mode = Mode::append);
  ~JsonlWriter();
  JsonlWriter(const JsonlWriter&) = delete;
  JsonlWriter& operator=(const JsonlWriter&) = delete;

  void write(const JsonFields& fields);

  const std::filesystem::path& path() const { return path_; }

 private:
  std::filesystem::path path_;
  int descriptor_ = -1;
};

/// For resuming at `last_step`: removes every line whose "step" is an integer above `last_step`,
/// and a torn last line. Rewrites atomically, and only if something goes. A missing file is left
/// missing. Returns how many lines went. Throws: Error{io}; Error{format} if a line other than the
/// last one is not JSON.
int64_t truncate_jsonl_after(const std::filesystem::path& path, int64_t last_step);

}  // namespace emulsion::io
