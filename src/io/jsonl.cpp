#include "io/jsonl.h"

#include <fcntl.h>
#include <unistd.h>

#include <cmath>
#include <nlohmann/json.hpp>

#include "core/error.h"
#include "io/atomic_file.h"
#include "io/content.h"
#include "io/file_error.h"

namespace emulsion::io {
namespace {

std::string quoted(const std::string& text) {
  return nlohmann::json(text).dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
}

struct ValueText {
  std::string operator()(double value) const {
    return std::isfinite(value) ? fmt::format("{}", value) : "null";
  }
  std::string operator()(int64_t value) const { return std::to_string(value); }
  std::string operator()(const std::string& value) const { return quoted(value); }
  std::string operator()(bool value) const { return value ? "true" : "false"; }
};

enum class Line { keep, drop, broken };

Line classify(std::string_view line, int64_t last_step) {
  const nlohmann::json object = nlohmann::json::parse(line, nullptr, /*allow_exceptions=*/false);
  if (object.is_discarded()) return Line::broken;
  const auto step = object.is_object() ? object.find("step") : object.end();
  if (step == object.end() || !step->is_number_integer()) return Line::keep;
  return step->get<int64_t>() > last_step ? Line::drop : Line::keep;
}

}  // namespace

std::string json_line(const JsonFields& fields) {
  std::string line = "{";
  for (const auto& [name, value] : fields) {
    if (line.size() > 1) line += ',';
    line += quoted(name) + ':' + std::visit(ValueText{}, value);
  }
  return line + '}';
}

JsonlWriter::JsonlWriter(std::filesystem::path path, Mode mode) : path_(std::move(path)) {
  create_folders(path_.parent_path());
  const int mode_flag = mode == Mode::truncate ? O_TRUNC : 0;
  descriptor_ = open_for_writing(path_, O_WRONLY | O_APPEND | mode_flag);
}

JsonlWriter::~JsonlWriter() { ::close(descriptor_); }

void JsonlWriter::write(const JsonFields& fields) {
  const std::string line = json_line(fields) + '\n';
  write_fully(descriptor_, path_, line.data(), line.size());
}

int64_t truncate_jsonl_after(const std::filesystem::path& path, int64_t last_step) {
  std::error_code error;
  if (!std::filesystem::exists(path, error)) return 0;
  const std::string bytes = read_file(path);
  std::string kept;
  int64_t dropped = 0, number = 0;
  for (size_t begin = 0; begin < bytes.size();) {
    const size_t end = bytes.find('\n', begin);
    const bool torn = end == std::string::npos;
    const size_t next = torn ? bytes.size() : end + 1;
    const std::string_view line = std::string_view(bytes).substr(begin, next - begin);
    const Line kind = torn ? Line::broken : classify(line, last_step);
    ++number;
    EMULSION_CHECK(kind != Line::broken || next == bytes.size(), format,
                   "{}:{}: expected a line of JSON, got '{}'; mend or remove the line",
                   path.string(), number, printable(line, 60));
    if (kind == Line::keep) kept += line;
    dropped += kind == Line::keep ? 0 : 1;
    begin = next;
  }
  if (dropped > 0) write_file_atomic(path, kept);
  return dropped;
}

}  // namespace emulsion::io
