#include "tests/tidy_rules.h"

#include <algorithm>
#include <array>
#include <cctype>
#include <filesystem>
#include <set>
#include <sstream>
#include <utility>

namespace cairn {
namespace {

constexpr size_t kLineLengthMax = 100;
constexpr size_t kFileLinesMax = 400;

// Splits one line of C++ into code and comment. `block` says whether a comment is open.
void SplitLine(const std::string& line, bool& block, std::string& code, std::string& comment) {
  char quote = 0;
  for (size_t i = 0; i < line.size(); ++i) {
    const std::string_view rest = std::string_view(line).substr(i);
    if (block) {
      block = !rest.starts_with("*/");
      comment.push_back(line[i]);
    } else if (quote != 0) {
      if (line[i] == '\\') {
        ++i;
      } else if (line[i] == quote) {
        code.push_back(quote);
        quote = 0;
      }
    } else if (rest.starts_with("//")) {
      comment.append(rest);
      return;
    } else if (rest.starts_with("/*")) {
      block = true;
    } else {
      // A quote between digits groups them.
      const bool groups = line[i] == '\'' && i > 0 && std::isxdigit(line[i - 1]) != 0;
      if ((line[i] == '"' || line[i] == '\'') && !groups) quote = line[i];
      code.push_back(line[i]);
    }
  }
}

const Source* Find(const SourceTree& tree, std::string_view path) {
  const auto found = std::find_if(tree.sources.begin(), tree.sources.end(),
                                  [path](const Source& source) { return source.path == path; });
  return found == tree.sources.end() ? nullptr : &*found;
}

bool IsWordCharacter(char c) {
  return std::isalnum(static_cast<unsigned char>(c)) != 0 || c == '_';
}

// Whether `word` is in the text and no part of a longer word.
bool HasWord(std::string_view text, std::string_view word) {
  for (size_t at = text.find(word); at != text.npos; at = text.find(word, at + 1)) {
    const size_t end = at + word.size();
    const bool begins = at == 0 || !IsWordCharacter(text[at - 1]);
    const bool ends =
        end == text.size() || !IsWordCharacter(text[end]) || !IsWordCharacter(word.back());
    if (begins && ends) return true;
  }
  return false;
}

// ---- What may include what ----

struct Layer {
  std::string_view folder;
  // Of the project's folders. Other libraries are for whoever is not named in kOwners.
  std::vector<std::string_view> may_include;
};

// The first whose folder fits decides.
const std::vector<Layer>& Layers() {
  static const auto& layers = *new std::vector<Layer>{
      {"include/cairn/", {"cairn/", "absl/"}},
      {"src/base/", {"cairn/", "src/base/"}},
      {"io/", {"cairn/", "src/base/", "io/"}},
      {"tiers/", {"cairn/", "src/base/", "io/", "tiers/"}},
      {"src/", {"cairn/", "src/", "io/", "tiers/"}},
      {"tools/", {"cairn/", "src/base/", "io/", "tools/"}},
      // Micro-benchmarks measure the parts of every layer.
      // The simulator runs the store's own policies.
      {"bench/policy", {"cairn/", "src/", "io/", "tools/", "bench/"}},
      {"bench/micro/", {"cairn/", "src/", "io/", "tiers/", "bench/"}},
      {"bench/", {"cairn/", "src/base/", "io/", "tiers/", "tools/", "bench/"}},
      {"tests/", {"cairn/", "src/", "io/", "tiers/", "tools/", "bench/", "tests/"}},
  };
  return layers;
}

// Whether `name` is of another library: below a folder that is none of the project's.
bool IsForeign(std::string_view name) {
  if (name.find('/') == name.npos) return false;
  constexpr std::array<std::string_view, 8> kFolders = {"cairn/", "include/", "src/",   "io/",
                                                        "tiers/", "tools/",   "bench/", "tests/"};
  return std::none_of(kFolders.begin(), kFolders.end(),
                      [name](std::string_view folder) { return name.starts_with(folder); });
}

struct Owner {
  std::string_view header;
  std::string_view files;  // Their paths begin so.
};
constexpr std::array<Owner, 3> kOwners = {{
    {"liburing", "io/uring_io.cc"},
    {"rocksdb/", "io/rocksdb_"},
    {"cuda", "tiers/cuda_device.cc"},
}};

// Cairn's competitors use their own libraries.
constexpr std::string_view kPeersFolder = "bench/peers/";

void CheckInclude(const Source& source, std::string_view name, bool quoted, size_t line,
                  const Report& report) {
  for (const Owner& owner : kOwners) {
    if (name.starts_with(owner.header) && !source.path.starts_with(owner.files) &&
        !source.Under(kPeersFolder)) {
      report(line, "only " + std::string(owner.files) + " may include " + std::string(name));
    }
  }
  if (!quoted) {
    const bool c_standard = name == "stddef.h" || name == "stdint.h";
    if (source.Under("include/") && name.find('.') != name.npos && !c_standard) {
      report(line, "public headers include only std, absl and cairn: move this to a .cc file");
    }
    return;
  }
  for (const Layer& layer : Layers()) {
    if (!source.Under(layer.folder)) continue;
    const bool allowed =
        std::any_of(layer.may_include.begin(), layer.may_include.end(),
                    [name](std::string_view prefix) { return name.starts_with(prefix); });
    if (!allowed && (source.Under("include/") || !IsForeign(name))) {
      report(line, std::string(layer.folder) + " may not include " + std::string(name) +
                       ": depend on a lower layer, and spell the path from the root");
    }
    return;
  }
}

void Includes(const SourceTree&, const Source& source, const Report& report) {
  if (!source.cpp()) return;
  for (size_t i = 0; i < source.lines.size(); ++i) {
    if (!source.code[i].starts_with("#include")) continue;
    const std::string& line = source.lines[i];
    const size_t begin = line.find_first_of("<\"");
    const size_t end = line.find_first_of(">\"", begin + 1);
    if (begin == line.npos || end == line.npos) continue;
    CheckInclude(source, std::string_view(line).substr(begin + 1, end - begin - 1),
                 line[begin] == '"', i + 1, report);
  }
}

// ---- What is not written ----

struct Banned {
  std::string_view word;
  std::string_view instead;
  std::string_view allowed_in;
};
constexpr std::array<Banned, 9> kBanned = {{
    {"std::mutex", "use Mutex of src/base/mutex.h: clang checks it", "src/base/mutex.h"},
    {"std::shared_mutex", "use Mutex of src/base/mutex.h", "bench/micro/measured_locks.h"},
    {"std::condition_variable", "use CondVar of src/base/mutex.h", "src/base/mutex.h"},
    {"absl::Mutex", "use Mutex of src/base/mutex.h: TSan understands it", ""},
    {"throw ", "return an absl::Status", ""},
    {"throw;", "return an absl::Status", ""},
    {"using namespace", "name what you use", ""},
    {"std::endl", "write '\\n'", ""},
    {"std::rand", "use a seeded generator of <random>", ""},
}};

void BannedWords(const SourceTree&, const Source& source, const Report& report) {
  const bool library = source.Under("src/") || source.Under("io/") || source.Under("tiers/") ||
                       source.Under("include/");
  for (size_t i = 0; i < source.code.size(); ++i) {
    for (const Banned& banned : kBanned) {
      if (source.path != banned.allowed_in && HasWord(source.code[i], banned.word)) {
        report(i + 1, std::string(banned.word) + ": " + std::string(banned.instead));
      }
    }
    if (library && HasWord(source.code[i], "std::cout")) {
      report(i + 1, "a library does not print: return a Status, or use StoreOptions::log");
    }
  }
}

void FileNames(const SourceTree&, const Source& source, const Report& report) {
  for (const std::string_view word : {"util", "helper", "manager"}) {
    std::string path = source.path;
    std::transform(path.begin(), path.end(), path.begin(),
                   [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
    if (path.find(word) != path.npos) {
      report(0, "'" + std::string(word) + "' says nothing: name the file by what it holds");
    }
  }
}

void OpenWork(const SourceTree&, const Source& source, const Report& report) {
  for (size_t i = 0; i < source.lines.size(); ++i) {
    std::string_view line = source.lines[i];
    for (const std::string_view word : {"TO"
                                        "DO",
                                        "FIX"
                                        "ME",
                                        "XX"
                                        "X:"}) {
      const size_t at = line.find(word);
      if (at == line.npos) continue;
      const std::string_view rest = line.substr(at + word.size());
      const bool has_issue =
          rest.starts_with("(#") && rest.size() > 2 && rest[2] >= '0' && rest[2] <= '9';
      if (!has_issue) report(i + 1, std::string(word) + " without an issue: (#12), or do it");
    }
  }
}

void MachinePaths(const SourceTree&, const Source& source, const Report& report) {
  for (size_t i = 0; i < source.lines.size(); ++i) {
    for (const std::string_view path : {"/wo"
                                        "rk/",
                                        "/ro"
                                        "ot/",
                                        "/ho"
                                        "me/",
                                        "/Us"
                                        "ers/"}) {
      if (source.lines[i].find(path) != std::string::npos) {
        report(i + 1, std::string(path) + " is a place on one machine: use a relative path");
      }
    }
  }
}

// ---- Form ----

size_t Characters(std::string_view line) {
  // Bytes that go on with a character of UTF-8 do not count.
  return static_cast<size_t>(std::count_if(
      line.begin(), line.end(), [](char c) { return (static_cast<unsigned char>(c) >> 6) != 2; }));
}

void Size(const SourceTree&, const Source& source, const Report& report) {
  if (!source.cpp() && !source.EndsWith(".sh") && !source.EndsWith(".py")) return;
  for (size_t i = 0; i < source.lines.size(); ++i) {
    if (Characters(source.lines[i]) > kLineLengthMax) report(i + 1, "over 100 columns: break it");
  }
  if (source.lines.size() > kFileLinesMax) {
    report(0, std::to_string(source.lines.size()) + " lines: split it by subject, 400 at most");
  }
}

void HeaderGuards(const SourceTree&, const Source& source, const Report& report) {
  if (!source.EndsWith(".h")) return;
  for (const std::string& line : source.code) {
    if (line.find_first_not_of(' ') == line.npos) continue;
    if (!line.starts_with("#pragma once")) report(0, "a header begins with #pragma once");
    return;
  }
}

// ---- What belongs together ----

// The words of the CMakeLists.txt that is nearest above a file, and its folder.
std::set<std::string> ListedNames(const SourceTree& tree, std::string folder,
                                  std::string& list_folder) {
  while (true) {
    const Source* list = Find(tree, folder + "CMakeLists.txt");
    if (list != nullptr || folder.empty()) {
      std::set<std::string> words;
      for (size_t i = 0; list != nullptr && i < list->lines.size(); ++i) {
        std::string line = list->lines[i].substr(0, list->lines[i].find('#'));
        std::replace_if(
            line.begin(), line.end(),
            [](char c) { return std::string_view("()$<>,:;\"").find(c) != std::string_view::npos; },
            ' ');
        std::istringstream stream(line);
        for (std::string word; stream >> word;) words.insert(word);
      }
      list_folder = folder;
      return words;
    }
    folder.pop_back();
    folder.erase(folder.rfind('/') + 1);
  }
}

void Built(const SourceTree& tree, const Source& source, const Report& report) {
  if (!source.EndsWith(".cc")) return;
  std::string list_folder;
  const std::set<std::string> words =
      ListedNames(tree, source.path.substr(0, source.path.rfind('/') + 1), list_folder);
  const std::string name = source.path.substr(list_folder.size());
  // By its name, or as cairn_test(NAME foo_test ...) names foo_test.cc.
  if (words.count(name) == 0 && words.count(name.substr(0, name.size() - 3)) == 0) {
    report(0, "in no CMakeLists.txt: build it or remove it");
  }
}

bool Exists(const SourceTree& tree, const std::string& folder, const std::string& target) {
  const std::string path = std::filesystem::path(folder + target).lexically_normal().string();
  return std::any_of(tree.sources.begin(), tree.sources.end(), [&path](const Source& source) {
    return source.path == path || source.path.starts_with(path.back() == '/' ? path : path + "/");
  });
}

void Links(const SourceTree& tree, const Source& source, const Report& report) {
  const std::string folder = source.path.substr(0, source.path.rfind('/') + 1);
  for (size_t i = 0; i < source.lines.size(); ++i) {
    if (source.EndsWith(".md")) {
      const std::string& line = source.lines[i];
      for (size_t at = line.find("]("); at != line.npos; at = line.find("](", at + 1)) {
        std::string target = line.substr(at + 2, line.find(')', at) - at - 2);
        target = target.substr(0, target.find('#'));
        if (target.empty() || target.find(':') != target.npos) continue;
        if (!Exists(tree, folder, target)) report(i + 1, "leads nowhere: " + target);
      }
    } else if (source.EndsWith(".h")) {
      // Headers that name another file by its path or as a document.
      std::istringstream stream(source.comments[i]);
      for (std::string word; stream >> word;) {
        while (!word.empty() && !IsWordCharacter(word.back())) word.pop_back();
        word.erase(0, word.find_first_not_of("(\"'`"));
        const bool is_path =
            word.ends_with(".md") ||
            (word.find('/') != word.npos && (word.ends_with(".h") || word.ends_with(".cc")));
        if (!is_path || word.front() == '<') continue;
        if (!Exists(tree, folder, word) && !Exists(tree, "", word) &&
            !Exists(tree, "include/", word)) {
          report(i + 1, "names a file that is not there: " + word);
        }
      }
    }
  }
}

}  // namespace

Source::Source(std::string path_in_tree, std::string_view text) : path(std::move(path_in_tree)) {
  std::istringstream stream{std::string(text)};
  bool block = false;
  for (std::string line; std::getline(stream, line);) {
    lines.push_back(line);
    code.emplace_back();
    comments.emplace_back();
    if (cpp()) SplitLine(line, block, code.back(), comments.back());
  }
}

const std::vector<TidyRule>& TidyRules() {
  static const auto& rules = *new std::vector<TidyRule>{
      {"Includes", Includes},
      {"BannedWords", BannedWords},
      {"FileNames", FileNames},
      {"OpenWork", OpenWork},
      {"MachinePaths", MachinePaths},
      {"Size", Size},
      {"HeaderGuards", HeaderGuards},
      {"Built", Built},
      {"Links", Links},
  };
  return rules;
}

}  // namespace cairn
