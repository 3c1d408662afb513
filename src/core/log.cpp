#include "core/log.h"

#include <spdlog/sinks/stdout_color_sinks.h>
#include <spdlog/spdlog.h>

#include <mutex>

namespace emulsion::log {
namespace {

spdlog::level::level_enum to_spdlog(Level level) {
  switch (level) {
    case Level::debug: return spdlog::level::debug;
    case Level::info: return spdlog::level::info;
    case Level::warning: return spdlog::level::warn;
    case Level::error: return spdlog::level::err;
  }
  return spdlog::level::info;
}

spdlog::logger& logger() {
  static const auto instance = [] {
    auto made = std::make_shared<spdlog::logger>(
        "emulsion", std::make_shared<spdlog::sinks::stderr_color_sink_mt>());
    made->set_pattern("%^%l:%$ %v");
    return made;
  }();
  return *instance;
}

std::mutex redirect_mutex;
std::function<void(const std::string&)> redirected;

}  // namespace

Redirect::Redirect(std::function<void(const std::string& line)> write) {
  const std::lock_guard lock(redirect_mutex);
  redirected = std::move(write);
}

Redirect::~Redirect() {
  const std::lock_guard lock(redirect_mutex);
  redirected = nullptr;
}

void set_level(Level level) { logger().set_level(to_spdlog(level)); }

void write(Level level, const std::string& message) {
  const std::lock_guard lock(redirect_mutex);
  if (!redirected) return logger().log(to_spdlog(level), message);
  if (!logger().should_log(to_spdlog(level))) return;
  const auto name = spdlog::level::to_string_view(to_spdlog(level));
  redirected(fmt::format("{}: {}", std::string_view(name.data(), name.size()), message));
}

}  // namespace emulsion::log
