#include "io/tensorboard.h"

#include <fcntl.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <bit>
#include <cerrno>
#include <chrono>
#include <cstring>

#include "core/error.h"
#include "io/atomic_file.h"
#include "io/file_error.h"
#include "io/image.h"
#include "io/protobuf.h"

static_assert(std::endian::native == std::endian::little, "records are little-endian");

namespace emulsion::io {
namespace {

constexpr size_t kFlushAt = 64 << 10;
constexpr size_t kFrame = 16;  // bytes around a record: length, its checksum, the data's checksum

// Field numbers of tensorflow/core/util/event.proto and
// framework/{summary,tensor,tensor_shape}.proto.
namespace event {
enum { wall_time = 1, step = 2, file_version = 3, summary = 5, session_log = 7 };
}
namespace session_log {
enum { status = 1 };
constexpr int64_t kStart = 1;
}  // namespace session_log
namespace summary {
enum { value = 1 };
}
namespace value {
enum { tag = 1, simple_value = 2, image = 4, tensor = 8, metadata = 9 };
}
namespace picture {
enum { height = 1, width = 2, colorspace = 3, encoded = 4 };
}
namespace metadata {
enum { plugin_data = 1 };
}
namespace plugin_data {
enum { name = 1 };
}
namespace tensor {
enum { dtype = 1, shape = 2, string_val = 8 };
constexpr int64_t kString = 7;
}  // namespace tensor
namespace shape {
enum { dim = 2 };
}
namespace dim {
enum { size = 1 };
}

constexpr std::array<uint32_t, 256> crc_table() {
  std::array<uint32_t, 256> table{};
  for (uint32_t i = 0; i < 256; ++i) {
    uint32_t value = i;
    for (int bit = 0; bit < 8; ++bit) value = value >> 1 ^ (value & 1 ? 0x82f63b78u : 0u);
    table[i] = value;
  }
  return table;
}

// record_writer.h: so that the sum of data that holds sums stays a good sum.
uint32_t masked_crc(std::string_view bytes) {
  const uint32_t crc = crc32c(bytes);
  return (crc >> 15 | crc << 17) + 0xa282ead8u;
}

template <class T>
std::string_view raw(const T& value) {
  return {reinterpret_cast<const char*>(&value), sizeof(value)};
}

double now() {
  const auto time = std::chrono::system_clock::now().time_since_epoch();
  return std::chrono::duration<double>(time).count();
}

ProtoMessage event_at(int64_t step, double wall_time) {
  ProtoMessage message;
  message.float64(event::wall_time, wall_time < 0 ? now() : wall_time);
  if (step != 0) message.integer(event::step, step);
  return message;
}

std::string summary_event(int64_t step, double wall_time, const ProtoMessage& one_value) {
  ProtoMessage values;
  values.message(summary::value, one_value);
  return event_at(step, wall_time).message(event::summary, values).text();
}

// Bytes of whole, undamaged records at the beginning of `bytes`.
size_t valid_length(std::string_view bytes) {
  size_t begin = 0;
  while (bytes.size() - begin >= kFrame) {
    const std::string_view rest = bytes.substr(begin);
    uint64_t length = 0;
    uint32_t length_crc = 0, data_crc = 0;
    std::memcpy(&length, rest.data(), 8);
    std::memcpy(&length_crc, rest.data() + 8, 4);
    if (length_crc != masked_crc(rest.substr(0, 8)) || length > rest.size() - kFrame) break;
    std::memcpy(&data_crc, rest.data() + 12 + length, 4);
    if (data_crc != masked_crc(rest.substr(12, length))) break;
    begin += kFrame + length;
  }
  return begin;
}

std::string fresh_name() {
  static std::atomic<int> counter{0};
  return fmt::format("events.out.tfevents.{}.emulsion.{}.{}", static_cast<int64_t>(now()),
                     ::getpid(), counter++);
}

}  // namespace

uint32_t crc32c(std::string_view bytes) {
  static constexpr std::array<uint32_t, 256> kTable = crc_table();
  uint32_t crc = 0xffffffffu;
  for (const char c : bytes) crc = kTable[(crc ^ static_cast<uint8_t>(c)) & 0xff] ^ crc >> 8;
  return ~crc;
}

EventWriter::EventWriter(const std::filesystem::path& folder, int64_t purge_step,
                         const std::string& name)
    : path_(folder / (name.empty() ? fresh_name() : name)) {
  EMULSION_CHECK(path_.filename().string().find("tfevents") != std::string::npos, config,
                 "{}: expected 'tfevents' in the name of an event file; TensorBoard ignores others",
                 path_.string());
  create_folders(folder);
  descriptor_ = open_for_writing(path_, O_WRONLY | O_APPEND);
  // A record torn by a crash would hide all that follow it.
  const size_t valid = valid_length(read_file(path_));
  if (::ftruncate(descriptor_, static_cast<off_t>(valid)) != 0) {
    const int code = errno;
    ::close(descriptor_);
    throw_io_error(path_, "shorten", code);
  }
  if (valid == 0) record(event_at(0, -1).bytes(event::file_version, "brain.Event:2").text());
  if (purge_step >= 0) {
    ProtoMessage start;
    start.integer(session_log::status, session_log::kStart);
    record(event_at(purge_step, -1).message(event::session_log, start).text());
  }
}

EventWriter::~EventWriter() {
  try {
    flush();
  } catch (const Error&) {
  }
  ::close(descriptor_);
}

void EventWriter::record(std::string_view event) {
  const uint64_t length = event.size();
  buffer_ += raw(length);
  buffer_ += raw(masked_crc(raw(length)));
  buffer_ += event;
  buffer_ += raw(masked_crc(event));
  if (buffer_.size() >= kFlushAt) flush();
}

void EventWriter::scalar(std::string_view tag, int64_t step, double value, double wall_time) {
  ProtoMessage message;
  message.bytes(value::tag, tag).float32(value::simple_value, static_cast<float>(value));
  record(summary_event(step, wall_time, message));
}

void EventWriter::image(std::string_view tag, int64_t step, const Tensor& image, double wall_time) {
  const std::string png = encode_png(image);
  ProtoMessage body, message;
  body.integer(picture::height, image.size(0)).integer(picture::width, image.size(1));
  body.integer(picture::colorspace, 3).bytes(picture::encoded, png);
  message.bytes(value::tag, tag).message(value::image, body);
  record(summary_event(step, wall_time, message));
}

void EventWriter::text(std::string_view tag, int64_t step, std::string_view text,
                       double wall_time) {
  ProtoMessage plugin, about, size, sizes, body, message;
  plugin.bytes(plugin_data::name, "text");
  about.message(metadata::plugin_data, plugin);
  size.integer(dim::size, 1);
  sizes.message(shape::dim, size);
  body.integer(tensor::dtype, tensor::kString).message(tensor::shape, sizes);
  body.bytes(tensor::string_val, text);
  message.bytes(value::tag, tag).message(value::tensor, body).message(value::metadata, about);
  record(summary_event(step, wall_time, message));
}

void EventWriter::flush() {
  if (buffer_.empty()) return;
  write_fully(descriptor_, path_, buffer_.data(), buffer_.size());
  buffer_.clear();
}

}  // namespace emulsion::io
