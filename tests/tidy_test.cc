// The rules of the house, held against the source tree. Each rule is tried on text that breaks it
// first: a rule that finds nothing there would hold for everything.

#include <filesystem>
#include <fstream>
#include <set>
#include <sstream>
#include <string>
#include <string_view>
#include <vector>

#include "gtest/gtest.h"
#include "tests/tidy_rules.h"

namespace cairn {
namespace {

namespace fs = std::filesystem;

struct Example {
  std::string rule;
  std::string path;
  std::string text;
};

std::string Repeat(const std::string& text, size_t count) {
  std::string all;
  for (size_t i = 0; i < count; ++i) all += text;
  return all;
}

std::vector<Example> Bad() {
  return {
      {"Includes", "include/cairn/x.h", "#include \"src/base/check.h\"\n"},
      {"Includes", "include/cairn/x.h", "#include <sys/mman.h>\n"},
      {"Includes", "include/cairn/x.h", "#include \"nlohmann/json.hpp\"\n"},
      {"Includes", "src/base/x.h", "#include \"io/index.h\"\n"},
      {"Includes", "io/x.cc", "#include \"tiers/arena.h\"\n"},
      {"Includes", "io/x.cc", "#include \"src/directory.h\"\n"},
      {"Includes", "tiers/x.cc", "#include \"src/directory.h\"\n"},
      {"Includes", "tools/x.cc", "#include \"tiers/arena.h\"\n"},
      {"Includes", "tools/x.cc", "#include \"src/directory.h\"\n"},
      {"Includes", "bench/x.cc", "#include \"src/directory.h\"\n"},
      {"Includes", "tiers/x.cc", "#include \"arena.h\"\n"},
      {"Includes", "io/x.cc", "#include <liburing.h>\n"},
      {"Includes", "tests/x.cc", "#include <rocksdb/db.h>\n"},
      {"Includes", "bench/x.cc", "#include <rocksdb/db.h>\n"},
      {"Includes", "src/x.cc", "#include <cuda_runtime_api.h>\n"},
      {"BannedWords", "tests/x.cc", "std::mutex mutex;\n"},
      {"BannedWords", "src/base/mutex.h", "std::shared_mutex mutex;\n"},
      {"BannedWords", "src/x.h", "  absl::Mutex mutex_;\n"},
      {"BannedWords", "src/x.cc", "if (bad) throw Bad();\n"},
      {"BannedWords", "src/x.cc", "using namespace std;\n"},
      {"BannedWords", "tiers/x.cc", "std::cout << 1'000;\n"},
      {"FileNames", "src/string_util.h", ""},
      {"FileNames", "tests/TestHelpers.cc", ""},
      {"FileNames", "src/manager/x.cc", ""},
      {"OpenWork", "src/x.cc",
       "// TO"
       "DO: later\n"},
      {"OpenWork", "tools/x.sh",
       "# FIX"
       "ME(somebody): now\n"},
      {"MachinePaths", "README.md",
       "See /ho"
       "me/someone/notes.\n"},
      {"Size", "src/x.cc", std::string(101, 'x') + "\n"},
      {"Size", "src/x.cc", Repeat("\n", 401)},
      {"HeaderGuards", "src/x.h", "// A comment.\n#include <string>\n"},
      {"Built", "io/forgotten.cc", ""},
      {"Built", "tests/forgotten_test.cc", ""},
      {"Links", "README.md", "[the design](src/MISSING.md)\n"},
      {"Links", "src/x.h", "// As src/missing.cc has it.\n"},
      {"Links", "src/x.h", "int x;  // See MISSING.md.\n"},
  };
}

std::vector<Example> Good() {
  return {
      {"Includes", "include/cairn/x.h", "#include <vector>\n#include \"absl/status/status.h\"\n"},
      {"Includes", "io/uring_io.cc", "#include <liburing.h>\n#include \"io/index.h\"\n"},
      {"Includes", "tools/x.cc", "#include \"nlohmann/json.hpp\"\n"},
      {"Includes", "tests/x.cc", "#include \"src/directory.h\"\n"},
      {"Includes", "bench/peers/x.cc", "#include <rocksdb/db.h>\n"},
      {"BannedWords", "src/base/mutex.h", "std::mutex mutex_;\n"},
      {"BannedWords", "src/x.cc", "// Not std::mutex; nothing here can throw at all.\n"},
      {"BannedWords", "src/x.cc",
       "Say(\"throw \\\" using namespace\");  /* std::cout\n throw */\n"},
      {"BannedWords", "tools/x.cc", "std::cout << 1'000 << 'x'; my_std::mutexes();\n"},
      {"OpenWork", "src/x.cc",
       "// TO"
       "DO(#12): later\n"},
      {"Size", "src/x.cc", Repeat("\xc3\xa4", 100) + "\n"},
      {"Size", "README.md", std::string(101, 'x') + "\n"},
      {"HeaderGuards", "src/x.h", "// A comment.\n\n#pragma once\n"},
      {"Built", "io/index.cc", ""},
      {"Built", "io/deep/index.cc", ""},
      {"Built", "tests/index_test.cc", ""},
      {"Links", "README.md", "[a](src/x.h#here) [b](https://example.org/x.md) [c](#d) [e](src/)\n"},
      {"Links", "src/x.h", "// As in README.md, io/index.cc and ratios a/b.\n"},
  };
}

// A tree of its own for each example: what the rules look for beside it, and the example.
SourceTree TreeOf(const Example& example) {
  SourceTree tree;
  tree.sources.emplace_back("README.md", "");
  tree.sources.emplace_back("io/CMakeLists.txt", "add_library(io\n  index.cc deep/index.cc)\n");
  tree.sources.emplace_back("tests/CMakeLists.txt",
                            "cairn_test(NAME index_test LAYER io)\n"
                            "# forgotten_test\n");
  tree.sources.emplace_back("io/index.cc", "");
  tree.sources.emplace_back("src/x.h", "#pragma once\n");
  tree.sources.emplace_back(example.path, example.text);
  return tree;
}

// "path:line: what" for each violation in the sources.
std::vector<std::string> Check(const TidyRule& rule, const SourceTree& tree,
                               const std::vector<Source>& sources) {
  std::vector<std::string> found;
  for (const Source& source : sources) {
    rule.check(tree, source, [&](size_t line, const std::string& what) {
      const std::string place = line == 0 ? source.path : source.path + ":" + std::to_string(line);
      found.push_back(place + ": " + what);
    });
  }
  return found;
}

// Every text file of the project; not what a build, a tool or an editor leaves behind.
SourceTree ReadProject() {
  static const auto& skipped = *new std::set<std::string>{".git", ".cache", "build", "__pycache__"};
  const fs::path root = CAIRN_SOURCE_DIR;
  SourceTree tree;
  for (auto entry = fs::recursive_directory_iterator(root);
       entry != fs::recursive_directory_iterator(); ++entry) {
    const std::string name = entry->path().filename().string();
    if (entry->is_directory() && skipped.count(name) != 0) entry.disable_recursion_pending();
    if (!entry->is_regular_file()) continue;
    std::ifstream file(entry->path(), std::ios::binary);
    std::stringstream text;
    text << file.rdbuf();
    if (text.str().find('\0') != std::string::npos) continue;
    tree.sources.emplace_back(entry->path().lexically_relative(root).generic_string(), text.str());
  }
  return tree;
}

class TidyTest : public testing::TestWithParam<TidyRule> {};

TEST_P(TidyTest, FindsWhatBreaksIt) {
  int tried = 0;
  for (const Example& example : Bad()) {
    if (example.rule != GetParam().name) continue;
    ++tried;
    const SourceTree tree = TreeOf(example);
    EXPECT_FALSE(Check(GetParam(), tree, {tree.sources.back()}).empty()) << example.path << "\n"
                                                                         << example.text;
  }
  EXPECT_GT(tried, 0) << "no example breaks this rule";
}

TEST_P(TidyTest, LeavesAloneWhatIsRight) {
  for (const Example& example : Good()) {
    if (example.rule != GetParam().name) continue;
    const SourceTree tree = TreeOf(example);
    EXPECT_EQ(Check(GetParam(), tree, {tree.sources.back()}), std::vector<std::string>())
        << example.path << "\n"
        << example.text;
  }
}

TEST_P(TidyTest, HoldsInTheProject) {
  const SourceTree tree = ReadProject();
  ASSERT_GT(tree.sources.size(), 50u) << "this is not the source tree: " << CAIRN_SOURCE_DIR;
  std::string all;
  for (const std::string& violation : Check(GetParam(), tree, tree.sources)) {
    all += violation + "\n";
  }
  if (!all.empty()) FAIL() << all;
}

INSTANTIATE_TEST_SUITE_P(Rules, TidyTest, testing::ValuesIn(TidyRules()),
                         [](const auto& rule) { return rule.param.name; });

}  // namespace
}  // namespace cairn
