#pragma once

#include <cstddef>
#include <functional>
#include <ostream>
#include <string>
#include <string_view>
#include <vector>

namespace cairn {

// The rules of the house that a program can check, for tidy_test.cc: over a tree of sources that
// may be the project's or made up.

// One file.
struct Source {
  Source(std::string path_in_tree, std::string_view text);

  bool EndsWith(std::string_view suffix) const { return path.ends_with(suffix); }
  bool Under(std::string_view folder) const { return path.starts_with(folder); }
  bool cpp() const { return EndsWith(".cc") || EndsWith(".h"); }

  std::string path;                // From the root of the tree.
  std::vector<std::string> lines;  // As they are.
  // Of C++: without comments and without what is between quotes; then only comments.
  std::vector<std::string> code;
  std::vector<std::string> comments;
};

// All files that are looked at.
struct SourceTree {
  std::vector<Source> sources;
};

// Gets each violation: its line (from 1; 0: the file as a whole) and what to do instead.
using Report = std::function<void(size_t line, const std::string& what)>;

struct TidyRule {
  std::string name;
  std::function<void(const SourceTree&, const Source&, const Report&)> check;

  friend void PrintTo(const TidyRule& rule, std::ostream* out) { *out << rule.name; }
};
const std::vector<TidyRule>& TidyRules();

}  // namespace cairn
