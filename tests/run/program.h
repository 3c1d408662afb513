// The emulsion program as a process: started, watched, signalled, waited for.
#pragma once

#include <fcntl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <optional>
#include <stdexcept>
#include <string>
#include <vector>

namespace emulsion::test {

/// How a process ended and what it wrote.
struct Ended {
  int code = -1;    // exit code; -1 if a signal ended it
  int signal = 0;   // that signal
  std::string out;  // standard output and error, together
};

/// One running emulsion, killed at the end of its life if it still runs.
class Program {
 public:
  /// `file_bytes`: no file may grow beyond it; writes then fail much as on a full disk.
  explicit Program(const std::vector<std::string>& arguments, std::optional<uint64_t> file_bytes = {}) {
    const char* binary = std::getenv("EMULSION_BINARY");
    if (binary == nullptr) throw std::runtime_error("EMULSION_BINARY is not set");
    std::string pattern = (std::filesystem::temp_directory_path() / "emulsion-output-XXXXXX").string();
    const int output = ::mkstemp(pattern.data());
    output_ = pattern;
    std::vector<char*> argv = {const_cast<char*>(binary)};
    for (const std::string& argument : arguments) argv.push_back(const_cast<char*>(argument.c_str()));
    argv.push_back(nullptr);
    pid_ = ::fork();
    if (pid_ == 0) {
      ::dup2(output, STDOUT_FILENO);
      ::dup2(output, STDERR_FILENO);
      if (file_bytes) {
        ::signal(SIGXFSZ, SIG_IGN);  // a failing write instead of a signal
        const rlimit limit = {*file_bytes, *file_bytes};
        ::setrlimit(RLIMIT_FSIZE, &limit);
      }
      ::execv(binary, argv.data());
      ::_exit(127);
    }
    ::close(output);
  }
  ~Program() {
    if (running()) {
      signal(SIGKILL);
      wait();
    }
    std::error_code ignored;
    std::filesystem::remove(output_, ignored);
  }
  Program(const Program&) = delete;
  Program& operator=(const Program&) = delete;

  bool running() {
    int status = 0;
    if (!ended_ && ::waitpid(pid_, &status, WNOHANG) == pid_) reap(status);
    return !ended_;
  }

  void signal(int number) {
    if (!ended_) ::kill(pid_, number);
  }

  /// Stops it and returns when it stands still; false if it has ended instead.
  bool pause() {
    int status = 0;
    signal(SIGSTOP);
    if (!ended_ && ::waitpid(pid_, &status, WUNTRACED) == pid_ && !WIFSTOPPED(status)) reap(status);
    return !ended_;
  }

  Ended wait() {
    int status = 0;
    if (!ended_ && ::waitpid(pid_, &status, 0) == pid_) reap(status);
    std::ifstream in(output_, std::ios::binary);
    result_.out.assign(std::istreambuf_iterator<char>(in), {});
    return result_;
  }

 private:
  void reap(int status) {
    ended_ = true;
    if (WIFEXITED(status)) result_.code = WEXITSTATUS(status);
    if (WIFSIGNALED(status)) result_.signal = WTERMSIG(status);
  }

  int pid_ = -1;
  bool ended_ = false;
  Ended result_;
  std::filesystem::path output_;
};

/// Starts it and waits.
inline Ended run_program(const std::vector<std::string>& arguments, std::optional<uint64_t> file_bytes = {}) {
  return Program(arguments, file_bytes).wait();
}

}  // namespace emulsion::test
