// A fuzz target without libFuzzer: replays the target's seeds, the files of its corpus, and
// mutations of both that follow from a printed seed.
//
//   fuzz_NAME_replay CORPUS_DIRECTORY [MUTATIONS [SEED]]
//   fuzz_NAME_replay --write-seeds DIRECTORY     the seeds as files, for libFuzzer
//   fuzz_NAME_replay --input FILE                one input, such as a reproducer
//
// When an input ends the process, it lies in fuzz_NAME_replay.input beside the program. Exit
// status 1: a seed that no decoder takes, so that nothing would be tried; 2: wrong use.

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <random>
#include <sstream>
#include <string>
#include <vector>

#include "src/base/check.h"
#include "tests/fuzz/mutation.h"
#include "tests/fuzz/target.h"

// No decoder may be talked into a huge allocation; AddressSanitizer then says where.
extern "C" const char* __asan_default_options();
extern "C" const char* __asan_default_options() { return "max_allocation_size_mb=64"; }

namespace cairn::fuzz {
namespace {

namespace fs = std::filesystem;

// The input that is being examined, in a file that outlives the process.
class LastInput {
 public:
  explicit LastInput(const std::string& path)
      : path_(path), fd_(open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600)) {
    CAIRN_CHECK(fd_ >= 0);
  }
  ~LastInput() {
    close(fd_);
    fs::remove(path_);
  }
  LastInput(const LastInput&) = delete;
  LastInput& operator=(const LastInput&) = delete;

  void Set(const std::string& input) {
    CAIRN_CHECK(ftruncate(fd_, static_cast<off_t>(input.size())) == 0);
    CAIRN_CHECK(pwrite(fd_, input.data(), input.size(), 0) == static_cast<ssize_t>(input.size()));
  }

 private:
  const std::string path_;
  const int fd_;
};

std::string FileBytes(const fs::path& path) {
  std::ifstream file(path, std::ios::binary);
  std::ostringstream bytes;
  bytes << file.rdbuf();
  return bytes.str();
}

// In the order of their names, so that the mutations are the same everywhere.
std::vector<std::string> CorpusFiles(const std::string& directory) {
  std::vector<fs::path> paths;
  std::error_code error;
  for (const auto& entry : fs::directory_iterator(directory, error)) paths.push_back(entry.path());
  std::sort(paths.begin(), paths.end());
  std::vector<std::string> inputs;
  inputs.reserve(paths.size());
  for (const fs::path& path : paths) inputs.push_back(FileBytes(path));
  return inputs;
}

int WriteSeeds(const std::string& directory) {
  fs::create_directories(directory);
  const std::vector<std::string> seeds = Seeds();
  for (size_t i = 0; i < seeds.size(); ++i) {
    std::ofstream file(directory + "/seed-" + std::to_string(i), std::ios::binary);
    file << seeds[i];
    if (!file.flush()) return 1;
  }
  return 0;
}

int Replay(const std::string& program, const std::string& corpus, uint64_t mutations,
           uint64_t seed) {
  LastInput last(program + ".input");
  std::vector<std::string> inputs = Seeds();
  const size_t seed_count = inputs.size();
  for (std::string& input : CorpusFiles(corpus)) inputs.push_back(std::move(input));
  uint64_t decoded = 0;
  for (size_t i = 0; i < inputs.size(); ++i) {
    last.Set(inputs[i]);
    const bool taken = Examine(inputs[i]);
    if (taken) ++decoded;
    if (!taken && i < seed_count) {
      std::fprintf(stderr, "seed %zu is refused: the target no longer makes what it decodes\n", i);
      return 1;
    }
  }
  if (decoded == 0) {
    std::fprintf(stderr, "nothing was decoded: no seeds, and none in %s\n", corpus.c_str());
    return 1;
  }
  std::printf("%zu seeds and files, %llu of them decoded; %llu mutations of them, seed %llu\n",
              inputs.size(), static_cast<unsigned long long>(decoded),
              static_cast<unsigned long long>(mutations), static_cast<unsigned long long>(seed));
  std::fflush(stdout);  // An input may end the process.
  std::mt19937_64 random(seed);
  decoded = 0;
  for (uint64_t i = 0; i < mutations; ++i) {
    const std::string input = Mutated(inputs, random);
    last.Set(input);
    if (Examine(input)) ++decoded;
  }
  std::printf("%llu mutations decoded\n", static_cast<unsigned long long>(decoded));
  return 0;
}

int Usage() {
  std::fputs(
      "fuzz_NAME_replay CORPUS_DIRECTORY [MUTATIONS [SEED]] | --write-seeds DIRECTORY | --input "
      "FILE\n",
      stderr);
  return 2;
}

int Main(const std::vector<std::string>& words) {
  if (words.size() < 2 || words.size() > 4) return Usage();
  if (words[1].starts_with("--")) {
    if (words.size() != 3) return Usage();
    if (words[1] == "--write-seeds") return WriteSeeds(words[2]);
    if (words[1] != "--input") return Usage();
    std::puts(Examine(FileBytes(words[2])) ? "decoded" : "refused");
    return 0;
  }
  const auto number = [&words](size_t i, uint64_t otherwise) {
    return words.size() > i ? std::strtoull(words[i].c_str(), nullptr, 10) : otherwise;
  };
  return Replay(words[0], words[1], number(2, 0), number(3, 1));
}

}  // namespace
}  // namespace cairn::fuzz

int main(int argc, char** argv) { return cairn::fuzz::Main({argv, argv + argc}); }
