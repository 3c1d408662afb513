// Files that a reader of torch.save must refuse. Used by the test that does, and by the one that
// watches it under strace.
#pragma once

#include <string>
#include <vector>

namespace emulsion::test {

struct HostileFile {
  std::string what;
  std::string bytes;
  std::vector<std::string> said;  // parts of the message
};

void add_hostile_pickles(std::vector<HostileFile>& files);  // names, opcodes, sizes
void add_hostile_tensors(std::vector<HostileFile>& files);  // layouts and storages
void add_hostile_archives(
    std::vector<HostileFile>& files);  // records, directories, the older format

inline std::vector<HostileFile> hostile_files() {
  std::vector<HostileFile> files;
  add_hostile_pickles(files);
  add_hostile_tensors(files);
  add_hostile_archives(files);
  return files;
}

}  // namespace emulsion::test
